"""Judges that need no download. They are proxies: no one reads the text.

Both compare a response with further samples of the teacher on the same prompt, drawn for judging alone. The
reference is one more sample of the teacher, so a student distributed as its teacher scores 0 in expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from harness.core.records import Order
from harness.judging.protocol import NO_ORDER, Answer, Arrived, Comparison, Judge, Measurement, Question
from harness.measures import measures
from harness.measures.embedding import EMBEDDING as EMBEDDING_MEASURE
from harness.measures.teacher_nll import TEACHER_NLL


def prefer(candidate: float, reference: float) -> float:
    """1, 0 or 0.5 for equal values.

    Raises:
        ValueError: one of them is not a number.
    """
    if isnan(candidate) or isnan(reference):
        raise ValueError("a measure of a response is not a number")
    return 0.5 if candidate == reference else float(candidate > reference)


def unmeasured(measured: Measurement) -> bool:
    """Whether a measure says nothing of what is to be compared, as of a response without words."""
    return not all(len(values) for values in (measured.candidate, measured.reference, measured.samples))


def plain_preference(comparison: Comparison) -> float | None:
    """What needs no measure: equal responses tie, an empty one loses; None elsewhere."""
    if comparison.candidate.text == comparison.reference.text:
        return 0.5
    candidate, reference = (bool(r.text.strip()) for r in (comparison.candidate, comparison.reference))
    return None if candidate and reference else prefer(candidate, reference)


def typicality(measured: Measurement) -> float:
    """Preference for the candidate by typicality: minus the distance between a response's value, such as its mean
    negative log-prob a token under the teacher, and the mean of the teacher's further samples on the prompt."""
    centre = float(measured.samples.mean())
    return prefer(-abs(float(measured.candidate[0]) - centre), -abs(float(measured.reference[0]) - centre))


def similarity(measured: Measurement) -> float:
    """Preference for the candidate by its mean cosine similarity to the teacher's further samples; the
    embeddings have unit length."""
    candidate = float((measured.samples @ measured.candidate).mean())
    reference = float((measured.samples @ measured.reference).mean())
    return prefer(candidate, reference)


@dataclass(frozen=True)
class MeasureJudge(Judge):
    """A proxy of one measure, of those that single responses have (Measure.reads: responses, log_probs, embedding).

    decide: a preference for the candidate, 0 to 1, from the measure's values of both responses and of the teacher's
    further samples. version: raised by hand when `decide`, or what is said without a measure, changes what it says."""

    name: str
    summary: str
    misses: str = field()  # to be given, other than Judge's
    measure: str
    decide: Callable[[Measurement], float]
    orders: tuple[Order, ...] = NO_ORDER
    version: int = 1

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measure": [self.measure, measures.get(self.measure).digest if self.measure in measures else ""],
            "orders": self.orders,
            "members": self.members,
            "version": self.version,
        }

    @property
    def measures(self) -> tuple[str, ...]:
        return (self.measure,)

    def preference(self, comparison: Comparison) -> float | None:
        """None where its measure says nothing of what is compared."""
        plain = plain_preference(comparison)
        if plain is not None:
            return plain
        measured = comparison.measured[self.measure]
        return None if unmeasured(measured) else self.decide(measured)

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        for question in questions:
            found = self.preference(question.comparison)
            arrived(question, _unsaid(self.measure) if found is None else Answer("ok", found))


def _unsaid(measure: str) -> Answer:
    return Answer("unparsable", detail=f"the measure '{measure}' says nothing of one of the responses")


@dataclass(frozen=True)
class Unanimous(Judge):
    """A win when every part prefers the candidate, a loss when every part prefers the reference, else a tie.

    version: raised by hand when the code of this class changes what it says; each part has its own."""

    name: str
    summary: str
    misses: str = field()  # to be given, other than Judge's
    parts: tuple[MeasureJudge, ...]
    orders: tuple[Order, ...] = NO_ORDER
    version: int = 1

    def identity(self) -> dict[str, Any]:
        parts = [part.digest for part in self.parts]
        return {"name": self.name, "parts": parts, "orders": self.orders, "version": self.version}

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(part.measure for part in self.parts)

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        for question in questions:
            preferences = {part.measure: part.preference(question.comparison) for part in self.parts}
            silent = [measure for measure, preference in preferences.items() if preference is None]
            unanimous = next((side for side in (0.0, 1.0) if set(preferences.values()) == {side}), 0.5)
            arrived(question, _unsaid(silent[0]) if silent else Answer("ok", unanimous))


TYPICALITY = MeasureJudge(
    name="typicality",
    version=1,
    summary="whose mean log-prob a token under the teacher is nearer to that of the teacher's own samples",
    misses="whether the response answers the prompt (a part of a response passes), facts, and style; "
    "it reads the distribution that KD and daDPO are trained on",
    measure=TEACHER_NLL.name,
    decide=typicality,
)
EMBEDDING = MeasureJudge(
    name="embedding",
    version=1,
    summary="whose all-MiniLM-L6-v2 embedding is nearer to those of the teacher's own samples",
    misses="grammar, facts, order and style (it sees the topic; the first half of a response passes, and a low "
    "temperature is rewarded), and what follows the first 256 word pieces",
    measure=EMBEDDING_MEASURE.name,
    decide=similarity,
)
PROXY = Unanimous(
    name="proxy",
    version=1,
    summary="typicality and embedding together: a win or a loss only where both say so, else a tie",
    misses="whatever both parts miss: no one reads the text; it rewards being like the teacher, not being good",
    parts=(TYPICALITY, EMBEDDING),
)
JUDGES: tuple[Judge, ...] = (TYPICALITY, EMBEDDING, PROXY)
