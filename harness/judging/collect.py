"""Every verdict of a judge on a set of comparisons: what needs no asking, what was asked before, and the rest.

Verdicts are handed over as they arrive, so that nothing that was paid for waits in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from harness.core.progress import Tick
from harness.core.records import IDENTICAL, SHORT, Verdict
from harness.judging.cache import VerdictCache, question_key
from harness.judging.protocol import Answer, Arrived, Comparison, Judge, Question
from harness.judging.settings import Prices

LOOKED_UP_AT_ONCE = 256
_TIE = Answer("ok", 0.5, IDENTICAL)


@dataclass
class Tally:
    """Verdicts by how they came, and what those that were asked for now took.

    identical: ties without a call. cached: answers of earlier runs. asked: answers and failures of this one.
    prices: None for a judge that is not paid by tokens.
    """

    verdicts: int = 0
    ok: int = 0
    unanswered: int = 0
    identical: int = 0
    cached: int = 0
    asked: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prices: Prices | None = None

    @property
    def spent(self) -> str:
        """Tokens and money of this run in a few words; empty where nothing was asked for money."""
        if self.prices is None or not self.input_tokens:
            return ""
        tokens = f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out"
        return f"{tokens}, {self.prices.in_words(self.input_tokens, self.output_tokens)}"


@dataclass(frozen=True)
class Place:
    """What a verdict says of where it belongs."""

    prompt_set: str
    candidate: str
    reference: str


def ask(
    judge: Judge,
    questions: Iterable[Question],
    total: int,
    cache: VerdictCache | None,
    arrived: Arrived,
    tick: Tick,
    refresh: bool = False,
) -> Tally:
    """The answer to every question, handed to `arrived` in any order.

    Identical responses are a tie without a call. A judge that reads texts alone is not asked twice: its answers come
    from the cache, unless `refresh` is set.

    Raises:
        RuntimeError: the judge answered a question twice, or left one without an answer.
    """
    cache = None if judge.measures else cache  # what it measured is no part of a cache's key
    digest = judge.digest if cache else ""
    tally = Tally(prices=judge.prices)
    waiting: dict[int, bytes] = {}  # questions that the judge has taken, by identity, with their keys
    twins: dict[bytes, list[Question]] = {}  # of a question that the judge has taken, those that are equal to it

    def deliver(question: Question, answer: Answer) -> None:
        tally.verdicts += 1
        tally.ok += answer.status == "ok"
        tally.unanswered += answer.status in ("failed", "skipped")
        arrived(question, answer)
        tick(tally.verdicts, total, tally.spent)

    def answered(question: Question, answer: Answer) -> None:
        if id(question) not in waiting:
            raise RuntimeError(f"judge {judge.name} gave an answer that it was not asked for, or gave one twice")
        key = waiting.pop(id(question))
        if cache:
            cache.put(key, judge.name, answer)
        tally.asked += 1
        tally.input_tokens += answer.input_tokens
        tally.output_tokens += answer.output_tokens
        deliver(question, answer)
        for twin in twins.pop(key, ()):
            tally.cached += 1
            deliver(twin, answer)

    def to_ask() -> Iterator[Question]:
        left = iter(questions)
        while chunk := list(islice(left, LOOKED_UP_AT_ONCE)):
            keyed = []
            for question in chunk:
                if question.comparison.candidate.text == question.comparison.reference.text:
                    tally.identical += 1
                    deliver(question, _TIE)
                else:
                    keyed.append((question, question_key(digest, question) if cache else b""))
            found = cache.get([key for _, key in keyed]) if cache and not refresh else {}
            for question, key in keyed:
                if key in found and judge.still_reads(question, found[key]):
                    tally.cached += 1
                    deliver(question, found[key])
                elif key in twins:
                    twins[key].append(question)
                else:
                    if cache:
                        twins[key] = []
                    waiting[id(question)] = key
                    yield question

    judge.answer(to_ask(), answered)
    if waiting or tally.verdicts < total:
        raise RuntimeError(f"judge {judge.name} gave {tally.verdicts} answers to {total} questions")
    return tally


def ask_for_verdicts(
    judge: Judge,
    comparisons: Collection[Comparison],
    place: Place,
    cache: VerdictCache | None,
    arrived: Callable[[Verdict], None],
    tick: Tick,
    refresh: bool = False,
) -> Tally:
    """Every verdict of a judge: each comparison in each of its orders; see `ask`. Both orders are questions of their
    own here; statistics count a comparison only where it has both."""
    questions = (Question(comparison, order) for comparison in comparisons for order in judge.orders)
    total = len(comparisons) * len(judge.orders)

    who = judge.name, judge.digest[:SHORT]

    def as_verdict(question: Question, answer: Answer) -> None:
        arrived(_verdict(who, place, question, answer))

    return ask(judge, questions, total, cache, as_verdict, tick, refresh)


def _verdict(judge: tuple[str, str], place: Place, question: Question, answer: Answer) -> Verdict:
    """judge: its name and its digest."""
    comparison = question.comparison
    return Verdict(
        prompt_set=place.prompt_set,
        prompt_id=comparison.prompt.id,
        candidate=place.candidate,
        reference=place.reference,
        order=question.order,
        status=answer.status,
        preference=answer.preference if answer.status == "ok" else None,
        judge=judge[0],
        candidate_tokens=len(comparison.candidate.token_ids) or None,
        reference_tokens=len(comparison.reference.token_ids) or None,
        candidate_characters=len(comparison.candidate.text),
        reference_characters=len(comparison.reference.text),
        detail=answer.detail,
        raw=answer.raw,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        seconds=answer.seconds,
        form=answer.form,
        truncated=answer.truncated,
        judge_digest=judge[1],
        prompt_digest=comparison.prompt.digest,
        sample=comparison.candidate.sample,
    )
