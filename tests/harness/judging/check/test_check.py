"""The judge's own report, on made-up judges of known properties: each gets exactly its verdict."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.judging.check.check import (
    FLIP_LIMIT,
    LEAST_CONSISTENT,
    LEAST_KAPPA,
    POSITION_LIMIT,
    Case,
    CheckPlan,
    Report,
    check,
    questions_of,
    read_labels,
)
from harness.judging.check.perturbation import DOSES
from harness.judging.protocol import NO_ORDER, Answer, Question
from harness.statistics.agreement import share
from tests.harness.checking import (
    ERRING,
    PAIRS,
    WORSE,
    Made,
    chance,
    coin,
    failing,
    first,
    humans,
    in_place,
    longer,
    only_labels,
    oracle,
    report_of,
    truth,
)

JUDGES = (Path(__file__).parents[4] / "docs" / "judges.md").read_text(encoding="utf-8")
COLUMNS = ("chance", "weak", "flips", "position-biased", "length-biased", "inconsistent")


def names(report: Report) -> set[str]:
    return {finding.name for finding in report.findings}


# ---- verdicts


def test_an_oracle_is_usable() -> None:
    report = report_of(oracle)
    assert (report.verdict, report.usable) == ("usable", True)
    assert (report.labels.right, report.labels.tied, report.labels.wrong, report.labels.missing) == (60, 0, 0, 0)
    assert {kind: score.accuracy for kind, score in report.kinds.items()} == {k: share(6, 6) for k in report.kinds}
    assert len(report.kinds) == 10
    assert report.position is not None
    assert (report.position.flips.share, report.position.first.mean) == (0.0, 0.5)
    assert report.length.bias == 0
    assert report.verdicts == 2 * (60 + 24 * 12)
    assert report.statuses == {"ok": report.verdicts}
    assert report.humans is None
    # the interval of an accuracy of 100% is not a point
    assert report.labels.accuracy.interval is not None
    assert report.labels.accuracy.interval[0] < 0.95


def test_an_oracle_that_sees_how_much_is_damaged_has_falling_curves() -> None:
    report = report_of(first(in_place))
    assert report.verdict == "usable"
    for curve in report.damage:
        levels = [value.mean for value in curve.preferences if value.mean is not None]
        assert levels == sorted(levels, reverse=True)
        assert curve.monotone
        assert levels[0] < 0.5
        assert curve.slope.mean is not None
        assert curve.slope.mean < 0


def test_a_judge_that_takes_the_first_in_nine_of_ten() -> None:
    report = report_of(first(lambda _, __, question: float(chance(question, "first") < 0.9)))
    assert names(report) == {"position-biased", "flips", "chance", "insensitive to damage"}
    assert "position-biased: towards the first response" in report.verdict
    assert report.position is not None
    assert report.position.first.mean == pytest.approx(0.9, abs=0.06)
    assert report.position.flips.share == pytest.approx(0.82, abs=0.1)


def test_a_judge_that_reads_but_leans_to_a_side_is_position_biased_alone() -> None:
    """1 and 0 become spread + low and low: their mean is how the first fares."""

    def leaning(low: float, spread: float) -> Report:
        return report_of(first(lambda one, two, question: low + spread * truth(one, two, question)))

    assert leaning(0.25, 0.6).verdict == "usable"  # 0.55, within the limit
    assert leaning(0.3, 0.7).verdict == "position-biased: towards the first response"  # 0.65
    assert leaning(0.0, 0.7).verdict == "position-biased: towards the second response"  # 0.35
    # 0.95 and 0.55: every pair is a flip, and so a tie, but the mean of both orders still sees damage
    assert names(leaning(0.55, 0.4)) == {"position-biased", "flips", "chance"}


def test_a_judge_of_length_alone() -> None:
    report = report_of(first(longer))
    assert names(report) == {"length-biased", "chance", "insensitive to damage"}
    assert "length-biased: towards the longer" in report.verdict
    assert (report.length.longer.mean, report.length.shorter.mean, report.length.bias) == (1.0, 0.0, 1.0)
    seen = {curve.kind for curve in report.damage if curve.seen}
    assert seen == {"truncated"}


def test_a_judge_that_prefers_short_responses() -> None:
    report = report_of(first(lambda one, two, q: 1 - longer(one, two, q)))
    assert "length-biased: towards the shorter" in report.verdict
    assert {curve.kind for curve in report.damage if curve.seen} == {"repeated"}


def test_a_judge_that_reads_but_is_swayed_by_length_is_length_biased_and_errs() -> None:
    def swayed(one: str, two: str, question: Question) -> float:
        swayed_here = WORSE & {one, two} and hash_of(one, two) > 0.65
        return (longer if swayed_here else truth)(one, two, question)

    report = report_of(first(swayed))
    assert names(report) == {"length-biased", "weak"}


def hash_of(one: str, two: str) -> float:
    return int.from_bytes(sha256("/".join(sorted((one, two))).encode()).digest()[:6], "big") / 2**48


def test_a_coin() -> None:
    report = report_of(coin)
    assert names(report) == {"chance", "flips", "position-biased", "insensitive to damage"}
    assert "position-biased: perhaps, towards the" in report.verdict  # its interval holds 0.5
    assert "insensitive to damage: shuffled, truncated, off-topic, repeated" in report.verdict
    assert report.position is not None
    assert report.position.flips.share == pytest.approx(0.5, abs=0.15)


def test_a_judge_that_is_right_in_half_of_the_pairs_is_weak() -> None:
    def half(one: str, two: str, question: Question) -> float:
        return 0.5 if WORSE & {one, two} and hash_of(one, two) < 0.5 else truth(one, two, question)

    report = report_of(first(half))
    assert names(report) == {"weak"}


def test_a_judge_that_fails_in_three_of_ten() -> None:
    report = report_of(failing)
    missing = sum(count for status, count in report.statuses.items() if status != "ok")
    assert report.verdict == f"unusable: {missing / report.verdicts:.0%} of verdicts missing"
    assert missing / report.verdicts == pytest.approx(0.3, abs=0.04)
    assert {"failed", "unparsable"} < set(report.statuses)
    # half of the pairs have both verdicts; the rest are counted, and none is wrong
    assert report.labels.right + report.labels.missing == report.labels.pairs == 60
    assert report.labels.missing == pytest.approx(60 * 0.51, abs=10)
    assert all(curve.missing > 0 for curve in report.damage)


def test_a_judge_that_never_answers_has_no_number() -> None:
    report = report_of(lambda _: Answer("failed", detail="no route"))
    assert report.verdict == "unusable: 100% of verdicts missing"
    assert report.labels.accuracy.share is None


def test_a_judge_that_does_not_see_damage() -> None:
    report = report_of(first(only_labels))
    assert report.verdict == "insensitive to damage: shuffled, truncated, off-topic, repeated"
    assert {curve.p for curve in report.damage} == {1.0}


def test_a_judge_that_does_not_see_order_is_told_so_alone() -> None:
    def bag(one: str, two: str, question: Question) -> float:
        return 0.5 if Counter(one.split()) == Counter(two.split()) else truth(one, two, question)

    assert report_of(first(bag)).verdict == "insensitive to damage: shuffled"


def test_a_judge_without_orders_has_no_position() -> None:
    report = report_of(oracle, NO_ORDER)
    assert (report.verdict, report.position) == ("usable", None)
    assert report.verdicts == 60 + 24 * 12


def test_a_judge_without_orders_gains_nothing_by_preferring_the_candidate() -> None:
    report = report_of(lambda _: Answer("ok", 1.0), NO_ORDER)
    assert (report.labels.right, report.labels.wrong) == (30, 30)
    assert names(report) == {"chance", "insensitive to damage"}


# ---- limits


def test_kappa_is_of_what_the_judge_was_asked() -> None:
    """With the better response as the candidate throughout, what is known would be one outcome."""

    def rule(one: str, two: str, question: Question) -> float:
        place = int(question.comparison.prompt.id.removeprefix("check-"))
        return 0.5 if place <= 6 else 1 - truth(one, two, question) if place <= 9 else truth(one, two, question)

    judge = Made(first(rule))
    plan = CheckPlan(PAIRS, damaged=0)
    report = check(judge, judge.ask, plan)
    swapped = {key for key, case in plan.labelled.items() if case.swapped}
    assert len(swapped) == 30
    assert [sum(row[i] for row in report.known.table) for i in range(3)] == [30, 0, 30]
    assert (report.labels.right, report.labels.tied, report.labels.wrong) == (51, 6, 3)
    # 51 of 60 agree; by chance, were the two independent: half of the decided ones
    said = [sum(row) for row in report.known.table]
    chance_of_both = (said[0] * 30 + said[2] * 30) / 60**2
    assert report.known.kappa == pytest.approx((51 / 60 - chance_of_both) / (1 - chance_of_both), abs=1e-12)
    assert sum(said) == 60 and said[1] == 6 and report.known.missing == 0


def always(kind: str, seed: int = 0, pairs: int = 60) -> Report:
    judge = Made(ERRING[kind](seed))
    return check(judge, judge.ask, CheckPlan(PAIRS[:pairs], damaged=0), judge.ask)


def test_a_judge_that_decides_two_in_nine_pairs_by_position_is_not_usable() -> None:
    """Its flips alone were no finding, and its pull mostly below the limit."""
    reports = [always("22% by position", seed) for seed in range(10)]
    assert all({"flips"} <= names(report) for report in reports)
    pulls = [report.position.first.mean for report in reports if report.position and report.position.first.mean]
    assert len(pulls) == 10 and sum(pull - 0.5 <= 0.1 for pull in pulls) >= 2  # by the figure itself these would pass
    assert sum("position-biased" in names(report) for report in reports) >= 8


@pytest.mark.parametrize("pairs", [30, 60])
def test_a_good_judge_passes_with_few_pairs(pairs: int) -> None:
    assert always("right", pairs=pairs).verdict == "usable"


def test_a_judge_is_held_to_its_limits_by_the_end_of_an_interval() -> None:
    """Of 60 pairs the last count that is within a limit, and the first that is not (Wilson's ends by hand)."""

    def wilson_ends(count: int, n: int) -> tuple[float, float]:
        z, p = 1.959963984540054, count / n
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)

    places = {pair.prompt_id: place for place, pair in enumerate(PAIRS)}

    def flipping(count: int) -> Report:
        def rule(one: str, two: str, question: Question) -> float:
            place = places[question.comparison.prompt.id]
            return float(place % 2) if place < count else truth(one, two, question)

        judge = Made(first(rule))
        return check(judge, judge.ask, CheckPlan(PAIRS, damaged=0), judge.ask)

    def changing(count: int) -> Report:
        changed = {pair.prompt_id for pair in PAIRS[:count]}
        judge = Made(oracle)

        def again(question: Question) -> Answer:
            return Answer("ok", 0.5) if question.comparison.prompt.id in changed else oracle(question)

        return check(judge, judge.ask, CheckPlan(PAIRS, damaged=0), Made(again).ask)

    for count in (4, 5, 6, 7):
        assert ("flips" in names(flipping(count))) is (wilson_ends(count, 60)[1] > FLIP_LIMIT)
        assert ("inconsistent" in names(changing(count))) is (wilson_ends(60 - count, 60)[0] < LEAST_CONSISTENT)
    assert not flipping(5).findings and not changing(5).findings
    assert "flips: 10% of plain pairs, perhaps 20%" in flipping(6).verdict
    assert changing(6).verdict == "inconsistent: 90% the same when asked again, perhaps 80%"


ROWS = re.findall(r"^\| ([^|]+?) +\| +(\d+)% +\|((?: +\d+% +\|)+)$", JUDGES, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "usable", "rest"), ROWS, ids=[row[0] for row in ROWS])
def test_the_page_says_what_becomes_of_judges_that_err(kind: str, usable: str, rest: str) -> None:
    """Shares of many checks there; of 60 here, within what chance allows (four standard deviations)."""
    reports = [always(kind, 10_000 + seed) for seed in range(60)]
    said = dict(zip(("", *COLUMNS), [int(usable), *map(int, re.findall(r"(\d+)%", rest))], strict=True))
    for name, percent in said.items():
        found = sum(name in names(report) if name else report.usable for report in reports) / len(reports)
        p = percent / 100
        assert abs(found - p) <= 4 * math.sqrt(max(p * (1 - p), 0.02) / len(reports)), (name, found)


def test_the_page_has_every_simulated_judge_and_every_limit() -> None:
    assert [row[0] for row in ROWS] == list(ERRING)
    head = next(line for line in JUDGES.splitlines() if line.startswith("| judge that is"))
    assert [cell.strip(" *") for cell in head.strip("|").split("|")][2:] == list(COLUMNS)
    limits = (f"{LEAST_KAPPA:.2f}", f"{FLIP_LIMIT:.0%}", f"{POSITION_LIMIT:g}", f"{LEAST_CONSISTENT:.0%}")
    for limit in limits:
        assert f"**{limit}**" in JUDGES


# ---- asking


def test_questions_have_an_id_each_and_no_answers() -> None:
    judge = Made(oracle)
    plan = CheckPlan(PAIRS)
    questions = questions_of(judge, plan.cases)
    keys = {(question.comparison.prompt.id, question.order) for question in questions}
    assert len(keys) == len(questions) == 2 * (60 + 24 * 12)
    assert not any(question.comparison.prompt.answer for question in questions)


def test_a_judge_of_measures_is_refused() -> None:
    judge = Made(oracle, NO_ORDER, measures=("embedding",))
    with pytest.raises(UserError, match="only a judge that reads"):
        check(judge, judge.ask, CheckPlan(PAIRS))


def test_answers_that_are_left_out_repeated_or_not_asked_for_are_errors() -> None:
    judge = Made(oracle)
    with pytest.raises(RuntimeError, match="left 1 of"):
        check(judge, lambda questions: list(judge.ask(questions))[1:], CheckPlan(PAIRS))
    with pytest.raises(RuntimeError, match="answered before"):
        check(judge, lambda questions: [*(known := list(judge.ask(questions))), known[0]], CheckPlan(PAIRS))


def test_answers_may_come_in_any_order() -> None:
    judge = Made(coin)
    backwards = check(judge, lambda questions: list(judge.ask(questions))[::-1], CheckPlan(PAIRS))
    straight = check(judge, judge.ask, CheckPlan(PAIRS))
    assert backwards.labels.right == straight.labels.right
    assert [curve.slope.mean for curve in backwards.damage] == pytest.approx(
        [curve.slope.mean for curve in straight.damage]
    )
    assert straight == check(judge, judge.ask, CheckPlan(PAIRS))


def test_fewer_pairs_without_damage() -> None:
    judge = Made(oracle)
    report = check(judge, judge.ask, CheckPlan(PAIRS[:30], damaged=0))
    assert (report.verdicts, report.damage, report.verdict) == (60, (), "usable")


# ---- self-consistency


def test_a_judge_that_answers_the_same_is_consistent() -> None:
    judge = Made(coin)
    report = check(judge, judge.ask, CheckPlan(PAIRS, damaged=2), judge.ask)
    assert report.consistency is not None
    assert report.consistency.same == share(60, 60)
    assert (report.consistency.apart.mean, report.consistency.missing) == (0.0, 0)
    assert judge.asked == 2 * (60 + 2 * 12) + 2 * 60


def test_another_answer_is_seen_and_a_missing_one_counted() -> None:
    judge = Made(oracle)
    odd = {pair.prompt_id for pair in PAIRS[:15]}

    def again(question: Question) -> Answer:
        preference = oracle(question).preference or 0.0
        if question.comparison.prompt.id == PAIRS[20].prompt_id and question.order == "candidate_first":
            return Answer("failed")
        return Answer("ok", 1 - preference if question.comparison.prompt.id in odd else preference)

    found = check(judge, judge.ask, CheckPlan(PAIRS, damaged=0), Made(again).ask).consistency
    assert found is not None
    assert (found.same, found.missing) == (share(44, 59), 1)
    assert found.apart.mean == pytest.approx(15 / 59)


# ---- people's labels


def test_agreement_with_people() -> None:
    judge = Made(oracle)
    # the judge says a 20 times; people say a 12 times, tie 5 times, b 3 times
    found = check(judge, judge.ask, CheckPlan(PAIRS, humans("a" * 12 + "t" * 5 + "b" * 3), damaged=0)).humans
    assert found is not None
    assert found.agreement.table == ((12, 5, 3), (0, 0, 0), (0, 0, 0))
    assert found.agreement.agreement == share(12, 20)
    assert found.agreement.kappa == pytest.approx(0)
    assert found.agreement.kappa_interval is None
    assert (found.decided, found.human_ties) == (share(12, 15), share(5, 20))


def test_kappa_with_people() -> None:
    rows = humans("a" * 20)
    turned = [row.model_copy(update={"response_a": row.response_b, "response_b": row.response_a}) for row in rows[:10]]
    labelled = [row.model_copy(update={"label": "b"}) for row in turned[:8]] + turned[8:]
    judge = Made(oracle)
    # the judge: b 10 times, a 10 times; people: b 8 times, a 12 times
    report = check(judge, judge.ask, CheckPlan(PAIRS, (*labelled, *rows[10:]), damaged=0))
    found = report.humans
    assert found is not None
    assert found.agreement.table == ((10, 0, 0), (0, 0, 0), (2, 0, 8))
    assert found.agreement.kappa == pytest.approx((0.9 - 0.5) / 0.5)


def test_labels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "human.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    rows = [
        {"prompt_id": "1", "prompt": "Why?", "response_a": "So.", "response_b": "", "label": "a"},
        {
            "prompt_id": "2",
            "messages": [*turns, {"role": "user", "content": "Go"}],
            "response_a": "x",
            "response_b": "y",
            "label": "tie",
        },
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    one, two = read_labels(path)
    assert one.prompt.messages == (Message(role="user", content="Why?"),)
    assert [message.role for message in two.prompt.messages] == ["user", "assistant", "user"]
    rows[0] |= {"system": "Be brief.", "answer": 42}
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    prompt = read_labels(path)[0].prompt
    assert [m.content for m in prompt.messages] == ["Be brief.", "Why?"] and prompt.answer == "42"


ROW = {"prompt_id": "1", "prompt": "Why?", "response_a": "So.", "response_b": "No.", "label": "a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "A"}, "human.jsonl:2: 'label': Input should be 'a', 'b' or 'tie'"),
        ({"label": None}, "'label'"),
        ({"response_b": 3}, "'response_b'"),
        ({"extra": 1}, "'extra'"),
        ({"prompt": 3}, "the prompt is no text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "both 'prompt' and 'messages'"),
        ({"prompt_id": "0"}, "a second label under the prompt_id '0'"),
        ({"prompt_id": 1}, "'prompt_id'"),
    ],
)
def test_a_label_of_another_shape_is_an_error_by_file_and_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "human.jsonl"
    rows = [{**ROW, "prompt_id": "0"}, {**ROW, **change}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_labels(path)
    assert message in str(error.value)
    assert "human.jsonl:2" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_without_a_prompt_and_an_empty_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "human.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(UserError, match="no labels in the file"):
        read_labels(path)
    path.write_text(json.dumps({key: value for key, value in ROW.items() if key != "prompt"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"human.jsonl:1: neither 'prompt' nor 'messages'"):
        read_labels(path)


def test_what_is_asked_depends_on_the_seed_alone() -> None:
    def texts(seed: int) -> list[str]:
        return [case.ours for case in CheckPlan(PAIRS, seed=seed).doses.values()]

    assert texts(0) == texts(0) != texts(1)
    assert len(texts(0)) == 24 * 12
    assert all(case.ours != case.theirs for case in CheckPlan(PAIRS).doses.values())


def test_roles_are_alternated_and_turned_back() -> None:
    prompt = Prompt(id="x", messages=(Message(role="user", content="Why?"),))
    straight, swapped = Case(prompt, "good", "bad", False), Case(prompt, "good", "bad", True)
    assert straight.comparison.candidate.text == swapped.comparison.reference.text == "good"
    verdict = swapped.verdict("j", "candidate_first", Answer("ok", 0.2))
    assert (verdict.order, verdict.preference) == ("reference_first", 0.8)
    assert swapped.verdict("j", "none", Answer("failed")).preference is None


def test_a_report_is_plain_json() -> None:
    judge = Made(failing)
    report = check(judge, judge.ask, CheckPlan(PAIRS, humans("aabt" * 5)), judge.ask)
    plain = json.loads(TypeAdapter(Report).dump_json(report))
    assert [curve["kind"] for curve in plain["damage"]] == list(DOSES)
