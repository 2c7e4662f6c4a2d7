"""Made-up judges of known properties, and what they are asked in a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from harness.core.records import Message, Order, Prompt
from harness.judging.check.check import Ask, CheckPlan, HumanLabel, Report, check, read_pairs
from harness.judging.check.perturbation import sentences
from harness.judging.protocol import BOTH_ORDERS, Answer, Arrived, Judge, Question

PAIRS = read_pairs()
BETTER = {pair.prompt_id: {pair.better, " ".join(sentences(pair.better))} for pair in PAIRS}
WORSE = {pair.worse for pair in PAIRS}
Rule = Callable[[Question], Answer]


@dataclass
class Made(Judge):
    """A judge by a rule that gives an answer to a question."""

    rule: Rule
    orders: tuple[Order, ...] = BOTH_ORDERS
    measures: tuple[str, ...] = ()
    name: str = "made-up"
    summary: str = ""
    asked: int = 0

    @property
    def setup(self) -> dict[str, str]:
        return {"model": "none"}

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    def ask(self, questions: Iterable[Question]) -> Iterable[tuple[Question, Answer]]:
        for question in questions:
            self.asked += 1
            yield question, self.rule(question)

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        for question, answer in self.ask(questions):
            arrived(question, answer)


def first(rule: Callable[[str, str, Question], float]) -> Rule:
    """A rule of the two texts as shown (in a judge without orders: candidate, reference)."""
    return lambda question: Answer("ok", question.for_candidate(rule(*question.texts_in_order, question)))


def chance(question: Question, purpose: str) -> float:
    """A number in 0..1 that depends on what is asked alone."""
    text = f"{purpose}/{question.comparison.prompt.id}/{question.order}"
    return int.from_bytes(sha256(text.encode()).digest()[:6], "big") / 2**48


def good(question: Question) -> set[str]:
    """The good response to what is asked: that of another prompt is off-topic."""
    return BETTER[question.comparison.prompt.id.split("/")[0]]


def truth(one: str, two: str, question: Question) -> float:
    """1 where the first is good and the second is not."""
    return 0.5 + ((one in good(question)) - (two in good(question))) / 2


def only_labels(one: str, two: str, question: Question) -> float:
    return truth(one, two, question) if WORSE & {one, two} else 0.5


def longer(one: str, two: str, _: Question) -> float:
    return 0.5 if len(one) == len(two) else float(len(one) > len(two))


def in_place(one: str, two: str, question: Question) -> float:
    """An oracle whose preference for a damaged text falls with the share of its sentences out of place."""
    if WORSE & {one, two}:
        return truth(one, two, question)
    a, b = (sentences(text) for text in ((one, two) if one in good(question) else (two, one)))
    place = sum(x == y for x, y in zip(a, b, strict=False)) / max(len(a), len(b))
    return 0.5 + (1 - place) / 2 * (1 if one in good(question) else -1)


oracle = first(truth)
coin = first(lambda _, __, question: float(chance(question, "coin") < 0.5))


def failing(question: Question) -> Answer:
    failed = chance(question, "failing") < 0.3
    return Answer("failed" if chance(question, "how") < 0.5 else "unparsable") if failed else oracle(question)


def report_of(rule: Rule, orders: tuple[Order, ...] = BOTH_ORDERS, ask_again: Ask | None = None) -> Report:
    judge = Made(rule, orders)
    return check(judge, judge.ask, CheckPlan(PAIRS), ask_again)


def humans(labels: str) -> tuple[HumanLabel, ...]:
    """The better response as a, the label as given: `a`, `b` or `t`ie, a letter a pair."""
    words = {"a": "a", "b": "b", "t": "tie"}
    return tuple(
        HumanLabel.model_validate(
            {
                "prompt_id": pair.prompt_id,
                "prompt": Prompt(id=pair.prompt_id, messages=(Message(role="user", content=pair.prompt),)),
                "response_a": pair.better,
                "response_b": pair.worse,
                "label": words[letter],
            }
        )
        for pair, letter in zip(PAIRS, labels, strict=False)
    )
