"""What a judge is: (prompt, candidate, reference, order) → verdict, with a typed status.

A judge never sees which system wrote what. Nothing is dropped: every comparison gives one verdict for each
order the judge sees, and one that could not be had says so in its status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from harness.methods import sources
from harness.progress import Tick
from harness.records import Order, Prompt, Response, Status, Verdict
from harness.registry import Registry
from harness.store import canonical_hash

BOTH_ORDERS: tuple[Order, ...] = ("candidate_first", "reference_first")
NO_ORDER: tuple[Order, ...] = ("none",)


@dataclass(frozen=True)
class Measurement:
    """One measure of a comparison's responses: candidate and reference [d], the teacher's samples [m, d]."""

    candidate: NDArray[Any]
    reference: NDArray[Any]
    samples: NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """`samples` and `measured` are there for judges that ask for measures (see Judge.measures)."""

    prompt: Prompt
    candidate: Response
    reference: Response
    measured: dict[str, Measurement] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """preference: 0..1 for the candidate, whichever order it was shown in; None unless the status is ok."""

    status: Status
    preference: float | None = None
    detail: str = ""


class Judge(Protocol):
    """A judge.

    orders: the orders each comparison is judged in; a judge that reads the two texts takes both.
    measures: per-response measurements that it needs (`teacher_nll`, `embedding`), made and cached by stages
        of their own, and with them the teacher's further samples on the prompt.
    members: names of the judges that this one combines, each shown on the board alone as well.
    misses: for a proxy, what it cannot see; shown in every table. Empty for a judge that reads.
    """

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def misses(self) -> str: ...

    @property
    def orders(self) -> tuple[Order, ...]: ...

    @property
    def measures(self) -> tuple[str, ...]: ...

    @property
    def members(self) -> tuple[str, ...]: ...

    def answers(self, comparisons: Sequence[tuple[Comparison, Order]]) -> Iterable[Answer]:
        """One answer for each comparison in its order, in turn."""
        ...


def collect_verdicts(
    judge: Judge,
    comparisons: Sequence[Comparison],
    prompt_set: str,
    candidate: str,
    reference: str,
    tick: Tick,
) -> list[Verdict]:
    """Every verdict of a judge: each comparison in each of its orders.

    Raises:
        RuntimeError: the judge gave fewer or more answers than it was asked for.
    """
    asked = [(comparison, order) for comparison in comparisons for order in judge.orders]
    verdicts: list[Verdict] = []
    answers = iter(judge.answers(asked))
    for comparison, order in asked:
        answer = next(answers, None)
        if answer is None:
            raise RuntimeError(f"judge {judge.name} gave {len(verdicts)} answers to {len(asked)} questions")
        verdicts.append(
            Verdict(
                prompt_set=prompt_set,
                prompt_id=comparison.prompt.id,
                candidate=candidate,
                reference=reference,
                order=order,
                status=answer.status,
                preference=answer.preference if answer.status == "ok" else None,
                judge=judge.name,
                candidate_tokens=len(comparison.candidate.token_ids),
                reference_tokens=len(comparison.reference.token_ids),
                detail=answer.detail,
            )
        )
        tick(len(verdicts), len(asked))
    if next(answers, None) is not None:
        raise RuntimeError(f"judge {judge.name} gave more than the {len(asked)} answers that it was asked for")
    return verdicts


def source_digest(judge: Judge) -> str:
    """A digest of what defines a judge (a dataclass): its fields and the files they come from. An edited judge judges
    anew."""
    whole: object = judge
    if not is_dataclass(whole):
        raise TypeError(f"judge '{judge.name}' must be a dataclass, so that its settings are part of a verdict's key")
    return _digest(judge)


def _digest(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, bool | int | float | None):
        return repr(part)
    if isinstance(part, dict):
        return _digest(tuple(sorted((key, _digest(value)) for key, value in part.items())))
    if isinstance(part, tuple | list):
        return canonical_hash([_digest(item) for item in part])
    inside = [_digest(getattr(part, f.name)) for f in fields(part)] if is_dataclass(part) else []
    return canonical_hash([inside, sources(part)])


def _load_judges() -> dict[str, Judge]:
    from harness.judging import proxies

    return {judge.name: judge for judge in proxies.JUDGES}


judges: Registry[Judge] = Registry("judge", _load_judges)
