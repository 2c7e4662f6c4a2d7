"""Made-up judges of known properties, and what they are asked in a check."""

from __future__ import annotations

from collections import Counter
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


def drawn(*what: object) -> float:
    """A number in 0..1 that depends on `what` alone."""
    return int.from_bytes(sha256("/".join(map(str, what)).encode()).digest()[:6], "big") / 2**48


def _by_position(share: float) -> Callable[[int], Rule]:
    """Right, but for a share of the pairs, in which the first wins, whatever it is."""

    def made(seed: int) -> Rule:
        def rule(one: str, two: str, question: Question) -> float:
            placed = drawn(seed, question.comparison.prompt.id) < share
            return 1.0 if placed else truth(one, two, question)

        return first(rule)

    return made


def _guessing(share: float) -> Callable[[int], Rule]:
    """Right, but for a share of the pairs, in which a coin answers each question."""

    def made(seed: int) -> Rule:
        def rule(one: str, two: str, question: Question) -> float:
            name = question.comparison.prompt.id
            guessed = float(drawn(seed, name, question.order) < 0.5)
            return guessed if drawn(seed, name) < share else truth(one, two, question)

        return first(rule)

    return made


def _changing(share: float) -> Callable[[int], Rule]:
    """Right, but for a tie in a share of the pairs, which are others at each asking."""

    def made(seed: int) -> Rule:
        asked: Counter[tuple[str, str]] = Counter()

        def rule(one: str, two: str, question: Question) -> float:
            name = question.comparison.prompt.id
            asked[name, question.order] += 1
            tied = drawn(seed, name, asked[name, question.order]) < share
            return 0.5 if tied else truth(one, two, question)

        return first(rule)

    return made


# What each does, and its rule by a seed: docs/judges.md says what becomes of them.
ERRING: dict[str, Callable[[int], Rule]] = {
    "right": lambda _: oracle,
    "right, 5% at random": _guessing(0.05),
    "5% by position": _by_position(0.05),
    "10% by position": _by_position(0.10),
    "22% by position": _by_position(0.22),
    "always for the first": lambda _: first(lambda one, two, question: 1.0),
    "for the longer": lambda _: first(longer),
    "a coin": _guessing(1.0),
    "right, 12% tied, others each time": _changing(0.12),
}


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
