"""A made-up judge, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.records import Message, Order, Prompt, Response, Verdict
from harness.judging import Answer, Comparison, Judge, Prices, Question
from harness.judging.cache import VerdictCache
from harness.judging.collect import Place, Tally, ask_for_verdicts
from harness.judging.protocol import BOTH_ORDERS, Arrived

NAMES = Place("a-set", "student-system", "teacher-system")


@dataclass
class FakeJudge(Judge):
    """Answers by a rule, one by one, and remembers what it was shown."""

    rule: Callable[[Question], Answer]
    orders: tuple[Order, ...] = BOTH_ORDERS
    name: str = "fake"
    summary: str = "a made-up judge"
    measures: tuple[str, ...] = ()
    model: str = "some-model"
    prices: Prices | None = None
    seen: list[Question] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "model": self.model}

    @property
    def setup(self) -> dict[str, str]:
        return {"model": self.model}

    @property
    def asked(self) -> list[tuple[str, Order]]:
        return [(question.comparison.prompt.id, question.order) for question in self.seen]

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        for question in questions:
            self.seen.append(question)
            arrived(question, self.rule(question))


def response(prompt_id: str, text: str, tokens: int) -> Response:
    return Response(prompt_id=prompt_id, token_ids=tuple(range(tokens)), text=text, finish="stop")


def comparison(prompt_id: str, prompt: str = "Why?", candidate: str = "Because.", reference: str = "So.") -> Comparison:
    return Comparison(
        Prompt(id=prompt_id, messages=(Message(role="user", content=prompt),)),
        response(prompt_id, candidate, 5),
        response(prompt_id, reference, 7),
    )


def numbered(count: int) -> list[Comparison]:
    return [comparison(f"p{i}", f"Question {i}?", f"Candidate {i}.", f"Reference {i}.") for i in range(count)]


def quiet(done: int, total: int, note: str = "") -> None:
    """No progress to show."""


def verdicts_of(
    judge: Judge, comparisons: Sequence[Comparison], cache: VerdictCache | None = None, refresh: bool = False
) -> list[Verdict]:
    """Every verdict, as it arrived."""
    return asked_for(judge, comparisons, cache, refresh)[0]


def asked_for(
    judge: Judge, comparisons: Sequence[Comparison], cache: VerdictCache | None = None, refresh: bool = False
) -> tuple[list[Verdict], Tally]:
    found: list[Verdict] = []
    return found, ask_for_verdicts(judge, comparisons, NAMES, cache, found.append, quiet, refresh)
