"""Verdicts as columns: what is read, what is refused, and outcomes against the rule written down prompt by prompt."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.records import Order, Status, Verdict, write_jsonl
from harness.statistics.outcomes import (
    Outcomes,
    comparisons,
    from_records,
    from_runs,
    outcomes,
    outcomes_by_prompt,
    read_verdicts,
)
from tests.harness.tabular import BOTH, verdict


def table(verdicts: list[Verdict]) -> Outcomes:
    return outcomes(from_records(verdicts))


def by_prompt(found: Outcomes) -> dict[str, str]:
    return dict(zip(found.prompt_ids, found.words, strict=True))


def pair(prompt_id: str, first: float | None, second: float | None) -> list[Verdict]:
    """Verdicts of one prompt: the preference with the candidate shown first, and with it shown second."""
    return [verdict(prompt_id, order, value) for order, value in zip(BOTH, (first, second), strict=True)]


def by_rule(verdicts: list[Verdict]) -> str:
    """The outcome of one prompt of a comparison in which some prompt has both orders."""
    whole = sorted(one.order for one in verdicts) in (["none"], sorted(BOTH))
    if not whole or any(one.preference is None for one in verdicts):
        return "missing"
    sides = {(one.preference or 0) - 0.5 for one in verdicts}
    return "win" if min(sides) > 0 else "loss" if max(sides) < 0 else "tie"


def line(**fields: Any) -> dict[str, Any]:
    return verdict("p").model_dump(mode="json") | fields


# ---- the outcome of one prompt


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1.0, 1.0, "win"),
        (0.51, 0.99, "win"),
        (0.0, 0.0, "loss"),
        (0.49, 0.01, "loss"),
        (1.0, 0.0, "tie"),
        (0.0, 1.0, "tie"),
        (0.9, 0.4, "tie"),  # preferred on average, but not in both orders
        (0.5, 0.5, "tie"),
        (1.0, 0.5, "tie"),
        (0.5, 0.0, "tie"),
    ],
)
def test_a_win_or_a_loss_needs_both_orders_and_all_else_is_a_tie(first: float, second: float, expected: str) -> None:
    assert outcomes_by_prompt(pair("a", first, second)) == {"a": expected}


@pytest.mark.parametrize(("preference", "expected"), [(0.6, "win"), (0.5, "tie"), (0.4, "loss")])
def test_a_judge_without_orders_needs_one_verdict(preference: float, expected: str) -> None:
    assert outcomes_by_prompt([verdict("a", "none", preference)]) == {"a": expected}


@pytest.mark.parametrize("order", BOTH)
def test_half_a_pair_is_missing_where_another_prompt_has_both(order: Order) -> None:
    assert outcomes_by_prompt([verdict("a", order), *pair("b", 1.0, 1.0)]) == {"a": "missing", "b": "win"}


@pytest.mark.parametrize("order", [*BOTH, "unknown"])
def test_one_order_is_all_where_no_prompt_has_both(order: Order) -> None:
    assert outcomes_by_prompt([verdict("a", order), verdict("b", order, 0.1)]) == {"a": "win", "b": "loss"}


@pytest.mark.parametrize("status", ["unparsable", "failed", "skipped"])
def test_a_pair_with_a_verdict_that_could_not_be_had_is_missing(status: Status) -> None:
    rows = [verdict("a", BOTH[0]), verdict("a", BOTH[1], None, status=status)]
    assert outcomes_by_prompt(rows) == {"a": "missing"}


@pytest.mark.parametrize(
    "orders",
    [
        ("none", "none"),
        (BOTH[0], BOTH[0]),
        (BOTH[0], BOTH[0], BOTH[1]),
        (*BOTH, "none"),
        (BOTH[0], "none"),
        ("unknown", "unknown"),
    ],
)
def test_orders_that_are_repeated_or_mixed_are_missing(orders: tuple[Order, ...]) -> None:
    assert outcomes_by_prompt(verdict("a", order) for order in orders) == {"a": "missing"}


def test_verdicts_are_joined_on_the_prompts_id_wherever_they_stand() -> None:
    a, b = pair("a", 1.0, 1.0), pair("b", 0.0, 0.0)
    assert outcomes_by_prompt([a[0], b[1], b[0], a[1]]) == {"a": "win", "b": "loss"}


# ---- those of a comparison


def test_outcomes_are_those_of_the_rule_for_every_combination_of_orders_and_preferences() -> None:
    """All multisets of at most three verdicts on a prompt, beside a prompt that has both orders."""
    orders: tuple[Order, ...] = (*BOTH, "none")
    said = list(itertools.product(orders, (0.9, 0.5, 0.1, None)))
    rows = [verdict("whole", order) for order in BOTH]
    for size in (1, 2, 3):
        for number, picked in enumerate(itertools.combinations_with_replacement(said, size)):
            rows += [verdict(f"{size}-{number}", order, preference) for order, preference in picked]
    found = table(rows)
    assert found.orders_seen == "both"
    grouped: dict[str, list[Verdict]] = {}
    for row in rows:
        grouped.setdefault(row.prompt_id, []).append(row)
    assert by_prompt(found) == {name: by_rule(mine) for name, mine in grouped.items()} == outcomes_by_prompt(rows)


def test_one_order_is_whole_where_no_prompt_has_the_other() -> None:
    rows = [verdict("a", BOTH[0], 0.9), verdict("b", BOTH[1], 0.2), verdict("c", BOTH[0], None)]
    found = table(rows)
    assert by_prompt(found) == {"a": "win", "b": "loss", "c": "missing"}
    assert found.orders_seen == "one"
    more = table([*rows, verdict("d", BOTH[0]), verdict("d", BOTH[1])])
    assert by_prompt(more) == {"a": "missing", "b": "missing", "c": "missing", "d": "win"}
    assert more.orders_seen == "both"


def test_orders_are_those_of_each_comparison() -> None:
    rows = [verdict("p", BOTH[0]), *(verdict("p", order, candidate="b") for order in BOTH), verdict("p", judge="j")]
    found = table(rows)
    assert [found.where(**name).orders_seen for name in ({"candidate": "b"}, {"judge": "j"})] == ["both", "none"]
    assert found.where(candidate="a", judge="judge").orders_seen == "one"
    assert found.orders_seen == "mixed"
    assert len(found.where(candidate="unknown")) == 0


def test_what_is_apart_stays_apart_whatever_its_place() -> None:
    names = ("prompt_set", "candidate", "reference", "judge")
    rows = [
        verdict(prompt, order, preference, **dict(zip(names, cell, strict=True)))
        for number, cell in enumerate(itertools.product("xy", repeat=4))
        for prompt, preference in (("p", number / 16), ("q", 1 - number / 16))
        for order in BOTH
    ]
    found = table([rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    known = {
        key: dict(
            zip([found.names.prompt[code][1] for code in found.prompt[places]], found.preference[places], strict=True)
        )
        for key, places in comparisons(found)
    }
    assert len(known) == 16
    for number, cell in enumerate(itertools.product("xy", repeat=4)):
        assert known[cell] == {"p": number / 16, "q": 1 - number / 16}


def test_means_lengths_failures() -> None:
    sizes = {"candidate_tokens": 10, "reference_tokens": 4, "candidate_characters": 50, "reference_characters": 20}
    rows = [
        *(verdict("a", order, preference, **sizes) for order, preference in zip(BOTH, (0.9, 0.6), strict=True)),
        *(verdict("b", order, None, candidate_characters=7, reference_characters=9) for order in BOTH),
        *(verdict("c", order, candidate_tokens=7) for order in BOTH),
    ]
    found = table(rows)
    np.testing.assert_allclose(found.preference, [0.75, np.nan, 1.0])
    np.testing.assert_array_equal(found.candidate_length, [10, 7, np.nan])
    np.testing.assert_array_equal(found.reference_length, [4, 9, np.nan])
    assert found.in_tokens.tolist() == [True, False, False]
    assert found.failed.tolist() == [0, 2, 0]


def test_nothing_is_an_empty_table() -> None:
    assert len(table([])) == 0
    assert list(comparisons(table([]))) == []


# ---- files


def test_files_are_runs_and_read_as_records_are(tmp_path: Path) -> None:
    rows = [verdict(f"p{i}", order, i / 8, candidate_tokens=i, reference_tokens=2) for i in range(8) for order in BOTH]
    for name in "ab":
        write_jsonl(tmp_path / name, rows)
    found = read_verdicts({"seed 0": tmp_path / "a", "seed 1": tmp_path / "b"})
    alone = from_records(rows)
    for column in ("prompt", "order", "status", "preference", "candidate_length", "reference_length", "in_tokens"):
        for run in ("seed 0", "seed 1"):
            np.testing.assert_array_equal(getattr(found.where(run=run), column), getattr(alone, column))
    assert len(outcomes(found)) == 16
    assert read_verdicts([tmp_path / "a"]).names.run == (str(tmp_path / "a"),)


def test_blank_lines_white_space_and_line_separators_inside_strings_are_legal(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    odd = json.dumps(line(prompt_id="a\u2028b"), ensure_ascii=False)
    path.write_text(f"\n  {json.dumps(line())}  \r\n \n{odd}", encoding="utf-8")
    assert read_verdicts([path]).names.prompt == (("set", "p", ""), ("set", "a\u2028b", ""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        (json.dumps(line()) + json.dumps(line()), "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        ("null", "expected a JSON object, found NoneType"),
        ("{}", "no, or unknown: prompt_set"),
        (json.dumps(line(status="fine")), "no, or unknown: fine"),
        (json.dumps(line(order="first")), "no, or unknown: first"),
        (json.dumps(line(preference=1.5)), "from 0 to 1"),
        (json.dumps(line(preference=float("nan"))), "from 0 to 1"),
        (json.dumps(line(preference=True)), "from 0 to 1"),
        (json.dumps(line(preference="1")), "from 0 to 1"),
        (json.dumps(line(preference=None)), "only if, its status is ok"),
        (json.dumps(line(status="failed")), "only if, its status is ok"),
        (json.dumps(line(prompt_id=3)), "names and ids are text"),
        (json.dumps(line(candidate=["a"])), "unhashable"),
        (json.dumps(line(judge=None)), "names and ids are text"),
        (json.dumps(line(prompt_id="\ud800")), "surrogate"),
        (json.dumps(line(candidate_tokens=-1, reference_tokens=2)), "lengths in tokens"),
        (json.dumps(line(candidate_tokens=1.5, reference_tokens=2)), "lengths in tokens"),
    ],
)
def test_what_is_no_verdict_is_refused_by_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(line(prompt_id="good")) + "\n" + text + "\n")
    with pytest.raises(UserError) as caught:
        read_verdicts([path])
    assert str(caught.value).startswith(f"{path}:2: ") and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(UserError, match="v:1: not valid JSON in UTF-8"):
        read_verdicts([tmp_path / "v"])
    with pytest.raises(UserError, match="cannot be read"):
        read_verdicts([tmp_path / "none"])


# ---- who judged, and what


def test_two_judges_of_one_name_are_two_and_one_alone_has_its_name() -> None:
    one, other = "a1b2c3d4" * 2, "a1b2ffff" * 2
    rows = [verdict("p", judge_digest=digest, preference=p) for digest, p in ((one, 1.0), (other, 0.0), ("", 0.5))]
    assert table(rows).names.judge == ("judge (a1b2c3)", "judge (a1b2ff)", "judge (unknown)")
    assert table(rows).words == ["win", "loss", "tie"]
    assert table(rows[:1]).names.judge == table(rows[2:]).names.judge == ("judge",)
    close = [verdict("p", judge_digest=f"a1b2c3{end}") for end in ("00", "01")]
    assert table(close).names.judge == ("judge (a1b2c300)", "judge (a1b2c301)")


def test_one_id_of_two_texts_is_two_prompts_and_one_of_an_unknown_text_the_one_that_is_known() -> None:
    known, other = (verdict("p", prompt_digest=digest) for digest in ("one", "other"))
    assert len(np.unique(table([known, other]).prompt)) == 2
    for rows in ([verdict("p"), known], [known, verdict("p")]):
        merged = outcomes(from_runs({"a": rows[:1], "b": rows[1:]}))
        assert len(merged) == 2 and len(np.unique(merged.prompt)) == 1
    assert len(np.unique(table([known, other, verdict("p")]).prompt)) == 3
    assert len(np.unique(table([known, verdict("p", prompt_set="another")]).prompt)) == 2


def test_repeats_are_samples_of_one_prompt_and_turns_are_outcomes_of_it() -> None:
    rows = [verdict("p", order, 1.0, repeat=time) for time in range(3) for order in BOTH]
    found = table(rows)
    assert (found.words, len(np.unique(found.prompt)), len(np.unique(found.sample))) == (["win"] * 3, 1, 3)
    found = table([verdict("p", turn=turn, preference=p) for turn, p in ((1, 1.0), (2, 0.0))])
    assert (found.words, found.turn.tolist(), len(np.unique(found.prompt))) == (["win", "loss"], [1, 2], 1)


def asked(*ids: str, **fields: Any) -> list[Verdict]:
    """Won in both orders, of each id."""
    return [verdict(name, order, 1.0, **fields) for name in ids for order in BOTH]


def clusters(rows: list[Verdict]) -> list[list[str]]:
    """The ids of each prompt; every outcome is there, and none of them is missing."""
    found = table(rows)
    assert found.words == ["win"] * (len(rows) // 2)
    of_prompt: dict[int, list[str]] = {}
    for prompt, name in zip(found.prompt.tolist(), found.prompt_ids, strict=True):
        of_prompt.setdefault(prompt, []).append(name)
    return sorted(sorted(names) for names in of_prompt.values())


@pytest.mark.parametrize(
    ("ids", "prompts"),
    [
        (["q", "q#2", "q#3"], [["q", "q#2", "q#3"]]),
        (["q#3", "q#2", "q"], [["q", "q#2", "q#3"]]),
        (["q", "q#3"], [["q"], ["q#3"]]),
        (["q#2", "q#3"], [["q#2"], ["q#3"]]),
        (["q", "q#1", "q#02", "q#2x", "#2", "q#"], [["#2"], ["q"], ["q#"], ["q#02"], ["q#1"], ["q#2x"]]),
        (["q#2", "q#2#2", "q"], [["q", "q#2"], ["q#2#2"]]),
        (["q", f"q#{10**30}"], [["q"], [f"q#{10**30}"]]),
    ],
)
def test_what_an_older_version_numbered_in_its_id_is_one_prompt_asked_again(
    ids: list[str], prompts: list[list[str]]
) -> None:
    assert clusters(asked(*ids)) == prompts


def test_a_number_in_an_id_is_of_one_set_and_text() -> None:
    assert clusters([*asked("q"), *asked("q#2", prompt_set="other")]) == [["q"], ["q#2"]]
    assert clusters([*asked("q", prompt_digest="one"), *asked("q#2", prompt_digest="other")]) == [["q"], ["q#2"]]
    again = [*asked("q", "q#2", repeat=0), *asked("q", "q#2", repeat=1)]
    assert clusters(again) == [["q", "q", "q#2", "q#2"]]


def test_an_older_version_s_turns_are_of_one_prompt() -> None:
    rows = asked("81-turn-1", "81-turn-2", "81-turn-1#2", "82-turn-1", prompt_set="fastchat")
    assert clusters(rows) == [["81-turn-1", "81-turn-1#2", "81-turn-2"], ["82-turn-1"]]
    assert sorted(table(rows).turn.tolist()) == [1, 1, 1, 2]
    assert clusters([*asked("81-turn-2", prompt_set="fastchat"), *asked("81", turn=1, prompt_set="fastchat")]) == [
        ["81", "81-turn-2"]
    ]
    assert len(clusters(asked("81-turn-1", "81-turn-2"))) == 2  # of another set they are ids as any other


def test_several_ids_of_one_text_are_one_prompt_asked_several_times() -> None:
    one, other = {"prompt_digest": "one"}, {"prompt_digest": "other"}
    rows = [*asked("a", "b", **one), *asked("c", **other), *asked("d", prompt_set="another", **one), *asked("e", "f")]
    assert clusters(rows) == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
    times = [*asked("a", "a#2", "b", **one), *asked("a", "b", repeat=1, **one)]
    assert clusters(times) == [["a", "a", "a#2", "b", "b"]]
    found = outcomes(from_runs({"known": asked("a", "b", **one), "unknown": asked("b")}))
    assert found.words == ["win"] * 3 and len(np.unique(found.prompt)) == 1
    assert found.prompt_ids == ["a", "b", "b"]


@pytest.mark.parametrize("name", ["repeat", "turn"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "1", None])
def test_repeats_and_turns_are_whole_numbers(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(line(**{name: value})))
    with pytest.raises(UserError, match=rf"verdicts\.jsonl:1: not a verdict \({name} is a whole number"):
        read_verdicts([path])
