"""What a judge is asked: nothing that is cached or identical; what arrived is kept; every question has an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.records import Status
from harness.judging import Answer, Question
from harness.judging.cache import VerdictCache
from harness.judging.collect import LOOKED_UP_AT_ONCE, Tally, ask, ask_for_verdicts
from harness.judging.protocol import BOTH_ORDERS, Arrived
from harness.judging.settings import Prices
from harness.statistics.outcomes import outcomes_by_prompt
from tests.harness.asking import NAMES, FakeJudge, asked_for, comparison, numbered, quiet, verdicts_of


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VerdictCache]:
    with VerdictCache(tmp_path / "verdicts.sqlite") as made:
        yield made


def wins(question: Question) -> Answer:
    return Answer("ok", 1.0, input_tokens=100, output_tokens=1)


def both(*ids: str) -> list[tuple[str, str]]:
    return [(prompt_id, order) for prompt_id in ids for order in BOTH_ORDERS]


THREE = numbered(3)
SAME = comparison("same", candidate="Yes.", reference="Yes.")


# ---- identical responses


def test_identical_responses_are_a_tie_without_a_call(cache: VerdictCache) -> None:
    judge = FakeJudge(wins)
    verdicts, tally = asked_for(judge, [THREE[0], SAME, THREE[1]], cache)
    assert judge.asked == both("p0", "p1")
    assert outcomes_by_prompt(verdicts) == {"p0": "win", "same": "tie", "p1": "win"}
    assert {v.detail for v in verdicts if v.prompt_id == "same"} == {"identical responses"}
    assert (tally.verdicts, tally.ok, tally.identical, tally.cached, tally.asked) == (6, 6, 2, 0, 4)


def test_identical_responses_take_nothing_out_of_the_cache_and_put_nothing_in(cache: VerdictCache) -> None:
    for _ in range(2):
        assert asked_for(FakeJudge(wins), [SAME], cache)[1] == Tally(verdicts=2, ok=2, identical=2)


@pytest.mark.parametrize("other", ["Yes", "Yes. ", "yes."])
def test_responses_that_differ_in_one_character_are_asked_about(other: str) -> None:
    judge = FakeJudge(wins)
    verdicts_of(judge, [comparison("a", candidate="Yes.", reference=other)])
    assert judge.asked == both("a")


# ---- the cache


def test_what_was_answered_is_not_asked_again(cache: VerdictCache) -> None:
    first = verdicts_of(FakeJudge(wins), THREE, cache)
    judge = FakeJudge(wins)
    again, tally = asked_for(judge, THREE, cache)
    assert judge.seen == [] and again == first
    assert (tally.cached, tally.asked, tally.input_tokens, tally.output_tokens) == (6, 0, 0, 0)


def test_only_what_is_new_is_asked(cache: VerdictCache) -> None:
    verdicts_of(FakeJudge(wins), THREE[:2], cache)
    judge = FakeJudge(wins)
    verdicts, tally = asked_for(judge, THREE, cache)
    assert judge.asked == both("p2")
    assert sorted((v.prompt_id, v.order) for v in verdicts) == both("p0", "p1", "p2")
    assert (tally.cached, tally.asked) == (4, 2)


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_what_was_not_answered_is_asked_again(cache: VerdictCache, status: Status) -> None:
    def fails(question: Question) -> Answer:
        return Answer(status) if question.comparison.prompt.id == "p1" else wins(question)

    _, tally = asked_for(FakeJudge(fails), THREE, cache)
    assert (tally.ok, tally.unanswered, tally.asked) == (4, 2, 6)
    judge = FakeJudge(wins)
    verdicts_of(judge, THREE, cache)
    assert judge.asked == both("p1")


def test_an_answer_without_a_verdict_is_an_answer(cache: VerdictCache) -> None:
    _, tally = asked_for(FakeJudge(lambda _: Answer("unparsable", raw="Hm.")), THREE, cache)
    assert (tally.ok, tally.unanswered) == (0, 0)
    judge = FakeJudge(wins)
    assert {(v.status, v.raw) for v in verdicts_of(judge, THREE, cache)} == {("unparsable", "Hm.")}
    assert judge.seen == []


def test_refresh_asks_anew_and_what_it_hears_takes_the_old_answers_place(cache: VerdictCache) -> None:
    verdicts_of(FakeJudge(wins), THREE, cache)
    judge = FakeJudge(lambda _: Answer("ok", 0.0))
    verdicts, tally = asked_for(judge, THREE, cache, refresh=True)
    assert judge.asked == both("p0", "p1", "p2") and {v.preference for v in verdicts} == {0.0}
    assert (tally.cached, tally.asked) == (0, 6)
    assert {v.preference for v in verdicts_of(FakeJudge(wins), THREE, cache)} == {0.0}


def test_a_refresh_that_fails_leaves_the_old_answer(cache: VerdictCache) -> None:
    verdicts_of(FakeJudge(wins), THREE, cache)
    verdicts_of(FakeJudge(lambda _: Answer("failed")), THREE, cache, refresh=True)
    assert {v.preference for v in verdicts_of(FakeJudge(wins), THREE, cache)} == {1.0}


def test_another_judge_is_asked_for_itself(cache: VerdictCache) -> None:
    verdicts_of(FakeJudge(wins), THREE, cache)
    judge = FakeJudge(wins, model="another-model")
    verdicts_of(judge, THREE, cache)
    assert judge.asked == both("p0", "p1", "p2")


def test_a_judge_that_measures_neither_reads_the_cache_nor_fills_it(cache: VerdictCache) -> None:
    judge = FakeJudge(wins, measures=("embedding",))
    for _ in range(2):
        _, tally = asked_for(judge, THREE, cache)
        assert (tally.cached, tally.asked) == (0, 6)
    assert len(judge.seen) == 12
    assert cache._base.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_without_a_cache_a_judge_is_asked_each_time() -> None:
    judge = FakeJudge(wins)
    for _ in range(2):
        verdicts_of(judge, THREE)
    assert len(judge.seen) == 12


def test_the_same_question_twice_in_one_run_has_both_its_verdicts(cache: VerdictCache) -> None:
    twice = [THREE[0], replace(THREE[0], prompt=THREE[0].prompt.model_copy(update={"id": "again"}))]
    verdicts = verdicts_of(FakeJudge(wins), twice, cache)
    assert sorted((v.prompt_id, v.order) for v in verdicts) == sorted(both("p0", "again"))


@pytest.mark.parametrize("arrived_before", [0, 1, 4])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_never_asks_again_for_what_arrived(
    cache: VerdictCache, arrived_before: int, interruption: type[BaseException]
) -> None:
    judge = FakeJudge(wins)

    def interrupted(question: Question) -> Answer:
        if len(judge.seen) > arrived_before:
            raise interruption
        return wins(question)

    judge.rule = interrupted
    with pytest.raises(interruption):
        verdicts_of(judge, THREE, cache)
    again = FakeJudge(wins)
    verdicts, tally = asked_for(again, THREE, cache)
    assert again.asked == both("p0", "p1", "p2")[arrived_before:]
    assert (len(verdicts), tally.cached) == (6, arrived_before)


def test_what_arrives_is_handed_over_and_kept_at_once(cache: VerdictCache, tmp_path: Path) -> None:
    judge, seen_by_other = FakeJudge(wins), []

    def arrived(_: object) -> None:
        with VerdictCache(tmp_path / "verdicts.sqlite") as other:
            seen_by_other.append(other._base.execute("SELECT count(*) FROM answers").fetchone()[0])

    ask_for_verdicts(judge, THREE, NAMES, cache, arrived, quiet)
    assert seen_by_other == [1, 2, 3, 4, 5, 6]


# ---- questions one by one


def test_questions_are_pulled_as_they_are_worked_on(cache: VerdictCache) -> None:
    pulled = 0

    def questions(count: int) -> Iterator[Question]:
        nonlocal pulled
        for shown in numbered(count):
            pulled += 1
            yield Question(shown, "candidate_first")

    class Lazy(FakeJudge):
        def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
            for number, question in enumerate(questions):
                most.append(pulled - number)
                arrived(question, self.rule(question))

    for kept in (cache, None):
        most: list[int] = []
        pulled, count = 0, 4 * LOOKED_UP_AT_ONCE
        ask(Lazy(wins), questions(count), count, kept, lambda *_: None, quiet)
        assert len(most) == pulled == count and max(most) <= LOOKED_UP_AT_ONCE


def test_more_questions_than_are_looked_up_at_once_are_all_found(cache: VerdictCache) -> None:
    many = numbered(LOOKED_UP_AT_ONCE + 3)
    verdicts_of(FakeJudge(wins), many, cache)
    judge = FakeJudge(wins)
    assert len(verdicts_of(judge, many, cache)) == 2 * len(many) and judge.seen == []


def test_answers_may_come_in_any_order_and_all_at_the_end(cache: VerdictCache) -> None:
    class Backwards(FakeJudge):
        def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
            for question in reversed(list(questions)):
                arrived(question, Answer("ok", float(question.comparison.prompt.id == "p1")))

    verdicts = verdicts_of(Backwards(wins), THREE, cache)
    assert [(v.prompt_id, v.order) for v in verdicts] == both("p0", "p1", "p2")[::-1]
    assert outcomes_by_prompt(verdicts) == {"p0": "loss", "p1": "win", "p2": "loss"}


# ---- judges that miscount

Miscount = Callable[[list[Question], Arrived], None]


def _all(questions: list[Question], arrived: Arrived) -> None:
    for question in questions:
        arrived(question, Answer("ok", 1.0))


MISCOUNTS: dict[str, Miscount] = {
    "none": lambda questions, arrived: None,
    "one too few": lambda questions, arrived: _all(questions[1:], arrived),
    "one twice": lambda questions, arrived: _all([*questions, questions[0]], arrived),
    "one of its own": lambda questions, arrived: _all([*questions, Question(THREE[0], "none")], arrived),
    "a copy": lambda questions, arrived: _all([replace(question) for question in questions], arrived),
}


@pytest.mark.parametrize("miscount", MISCOUNTS.values(), ids=MISCOUNTS)
@pytest.mark.parametrize("with_cache", [True, False])
def test_a_judge_that_gives_fewer_or_more_answers_than_asked_is_an_error(
    cache: VerdictCache, miscount: Miscount, with_cache: bool
) -> None:
    class Miscounts(FakeJudge):
        def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
            miscount(list(questions), arrived)

    with pytest.raises(RuntimeError, match="judge fake gave"):
        verdicts_of(Miscounts(wins), THREE, cache if with_cache else None)


@pytest.mark.parametrize("shown", [[SAME], THREE], ids=["nothing to ask", "something"])
def test_a_judge_that_takes_no_questions_is_an_error(shown: list[object]) -> None:
    class Idle(FakeJudge):
        def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
            pass

    with pytest.raises(RuntimeError, match=f"judge fake gave 0 answers to {2 * len(shown)} questions"):
        verdicts_of(Idle(wins), shown)  # type: ignore[arg-type]


def test_nothing_to_compare_gives_no_verdict() -> None:
    assert asked_for(FakeJudge(wins), []) == ([], Tally())


# ---- what is counted and shown


def test_progress_ends_at_the_number_of_verdicts_with_what_was_spent(cache: VerdictCache) -> None:
    ticks: list[tuple[int, int, str]] = []

    def tick(done: int, total: int, note: str = "") -> None:
        ticks.append((done, total, note))

    judge = FakeJudge(wins, prices=Prices(input=2.0, output=10.0))
    ask_for_verdicts(judge, [SAME, *THREE], NAMES, cache, lambda _: None, tick)
    assert [done for done, _, _ in ticks] == list(range(1, 9)) and {total for _, total, _ in ticks} == {8}
    assert [note for _, _, note in ticks][:3] == ["", "", "100 tokens in, 1 out, cost 0.00021"]
    assert ticks[-1][2] == "600 tokens in, 6 out, cost 0.00126"
    ticks.clear()
    ask_for_verdicts(judge, [SAME, *THREE], NAMES, cache, lambda _: None, tick)
    assert ticks[-1] == (8, 8, "")


def test_a_failure_counts_what_was_charged_for_it(cache: VerdictCache) -> None:
    _, tally = asked_for(FakeJudge(lambda _: Answer("failed", input_tokens=40, output_tokens=2)), THREE[:1], cache)
    assert tally == Tally(verdicts=2, unanswered=2, asked=2, input_tokens=80, output_tokens=4)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (Prices(), "1,234,567 tokens in, 89 out, cost unknown"),
        (Prices(input=1.0), "1,234,567 tokens in, 89 out, cost unknown"),
        (Prices(input=0.0, output=0.0), "1,234,567 tokens in, 89 out, cost 0"),
        (Prices(input=1.0, output=2.0), "1,234,567 tokens in, 89 out, cost 1.235"),
    ],
)
def test_what_was_spent_is_said_in_tokens_and_money(prices: Prices, expected: str) -> None:
    assert Tally(input_tokens=1_234_567, output_tokens=89, prices=prices).spent == expected
    assert Tally(cached=3, prices=prices).spent == ""


def test_a_judge_that_is_not_paid_by_tokens_spends_nothing() -> None:
    assert Tally(input_tokens=5, output_tokens=5).spent == ""
