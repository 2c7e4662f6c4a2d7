"""What a judge is: (prompt, candidate, reference, order) → verdict, with a typed status.

A judge never sees which system wrote what. Nothing is dropped: every comparison gives one verdict for each
order the judge sees, and one that could not be had says so in its status.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from harness.core.files import canonical_hash
from harness.core.records import Message, Order, Prompt, Response, Status
from harness.judging.settings import Prices
from harness.models.shapes import Shape

BOTH_ORDERS: tuple[Order, ...] = ("candidate_first", "reference_first")
NO_ORDER: tuple[Order, ...] = ("none",)
REFUSED = "refused: "  # begins the detail of a failed answer that would fail again


@dataclass(frozen=True)
class Measurement:
    """One measure of a comparison's responses: candidate and reference [d], the teacher's samples [m, d]."""

    candidate: NDArray[Any]
    reference: NDArray[Any]
    samples: NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """measured: by name, for a judge that asks for measures (see Judge.measures)."""

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
    def texts_in_order(self) -> tuple[str, str]:
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


class Judge(ABC):
    """A judge. What stands here holds for one that reads both texts in both orders and is not paid.

    name, summary: as `list judges` and every table have them.
    misses: for a proxy, what it cannot see; shown in every table. Empty for a judge that reads.
    orders: the orders each comparison is judged in; a judge that reads the two texts takes both.
    """

    name: str
    summary: str
    misses: str = ""
    orders: tuple[Order, ...] = BOTH_ORDERS

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures (harness.measures) that it needs of each response, made and kept by stages of their
        own, and with them the teacher's further samples on the prompt."""
        return ()

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the judges that this one combines, each shown on the board alone as well. They read no measure
        that it does not, and one that reads a checkpoint has to be named in the run too."""
        return ()

    @property
    def setup(self) -> dict[str, str]:
        """What a table's header says of it beside its name: model, server, template."""
        return {}

    @property
    def prices(self) -> Prices | None:
        """Of a judge that is paid by tokens; None for any other."""
        return None

    @property
    def reply_tokens(self) -> tuple[int, int] | None:
        """About how many tokens a judge that is paid by tokens writes a question, as a rule and if it has to write
        more; None for any other."""
        return None

    def memory(self, shape: Shape) -> int | None:
        """Bytes of its device that a model of that shape takes while it judges; None where it is not this process that
        holds it, or nothing is known of it."""
        return None

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that its answers depend on, in numbers, texts, and sequences and mappings of them: what verdicts are kept
        under and runs are pooled by. Always the same names in the same order.

        With a `version` in it, which is raised by hand when the judge's code changes what it answers: verdicts that
        were paid for survive an edit, and runs before it and after it share a board. Where a folder lies and how fast
        a judge may ask are no part of it.
        """

    @abstractmethod
    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        """Call `arrived` with each question and its answer, as soon as there is one; the order is free.

        Questions are to be taken one by one, as many as are worked on: there may be more than fit in memory.
        """

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Refuse prompts that it cannot be asked about, before anything is.

        Raises:
            UserError: the first such prompt, by its id.
        """
        return

    def notes(self, prompts: Iterable[Prompt]) -> list[str]:
        """What people are told of prompts that it is asked about without something that they have, one line each."""
        return []

    def conversation(self, prompt: Prompt) -> list[Message]:
        """The messages that ask about a prompt, with made-up responses, where the chat template of the judge's own
        checkpoint renders them; none where it does not.

        Raises:
            UserError: as `check`.
        """
        return []

    def require_key(self) -> None:
        """Refuse to be asked where a key is lacking.

        Raises:
            UserError: saying which.
        """
        return

    def still_reads(self, question: Question, answer: Answer) -> bool:
        """Whether an answer that was kept is what its words (`raw`) are read as today; one that is not is asked for
        anew."""
        return True

    @property
    def digest(self) -> str:
        """Of the values in `identity`."""
        # the empty list stands where the sources of a judge without a version stood: what was paid for is kept under it
        return canonical_hash([[_digest(value) for value in self.identity().values()], []])


def _digest(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | None):
        return repr(value)
    if isinstance(value, dict):
        return _digest(sorted((key, _digest(item)) for key, item in value.items()))
    if isinstance(value, tuple | list):
        return canonical_hash([_digest(item) for item in value])
    raise TypeError(f"a judge's identity holds a {type(value).__name__}, which is no plain data")
