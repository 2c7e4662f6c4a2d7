"""What a judge is: (prompt, candidate, reference, order) → verdict, with a typed status.

A judge never sees which system wrote what. Nothing is dropped: every comparison gives one verdict for each
order the judge sees, and one that could not be had says so in its status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from harness.core.files import canonical_hash
from harness.core.records import Order, Prompt, Response, Status
from harness.core.sources import sources

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
class Question:
    """One comparison in one order: what a judge is asked once."""

    comparison: Comparison
    order: Order

    @property
    def shown(self) -> tuple[str, str]:
        """The two responses' texts, the first shown first."""
        texts = self.comparison.candidate.text, self.comparison.reference.text
        return texts[::-1] if self.order == "reference_first" else texts

    def for_candidate(self, first: float) -> float:
        """A preference for the response shown first, as a preference for the candidate."""
        return 1 - first if self.order == "reference_first" else first


@dataclass(frozen=True)
class Answer:
    """What a judge said to one question.

    preference: 0..1 for the candidate, whichever order it was shown in; None unless the status is ok.
    detail: in a few words, why it is not ok, or what the preference was read from.
    form: how a judge that has several ways was asked. truncated: whether it read less than there was.
    raw: the judge's own words. input_tokens, output_tokens: what the call was charged for, 0 where none was made.
    seconds: from asking to the answer, waits and further tries included.
    """

    status: Status
    preference: float | None = None
    detail: str = ""
    raw: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    form: str = ""
    truncated: bool = False


Arrived = Callable[[Question, Answer], None]


class Judge(Protocol):
    """A judge.

    orders: the orders each comparison is judged in; a judge that reads the two texts takes both.
    measures: per-response measurements that it needs (`teacher_nll`, `embedding`), made and cached by stages
        of their own, and with them the teacher's further samples on the prompt.
    members: names of the judges that this one combines, each shown on the board alone as well.
    misses: for a proxy, what it cannot see; shown in every table. Empty for a judge that reads.
    setup: what a table's header says of it beside its name: model, server, template.
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

    @property
    def setup(self) -> dict[str, str]: ...

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        """Call `arrived` with each question and its answer, as soon as there is one; the order is free.

        Questions are to be taken one by one, as many as are worked on: there may be more than fit in memory.
        """
        ...


def source_digest(judge: Judge) -> str:
    """A digest of what defines a judge (a dataclass): its fields, and the files they come from.

    A field with `compare=False` is no part of it: a path, how fast it may ask, the code of a rule. Nor are the files of
    a judge with a `version`, which is raised by hand when its code changes what it answers: verdicts that were paid for
    survive an edit, and runs before it and after it share a board. All of the harness's own have one.
    """
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
    inside = [_digest(getattr(part, f.name)) for f in fields(part) if f.compare] if is_dataclass(part) else []
    return canonical_hash([inside, [] if hasattr(part, "version") else sources(part)])
