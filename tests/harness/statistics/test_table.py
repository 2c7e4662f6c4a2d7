"""Verdicts as columns: what is read, what is refused, and outcomes against the rule of `rates.outcomes`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UserError
from harness.records import Order, Verdict, write_jsonl
from harness.statistics.rates import outcomes as outcomes_by_rule
from harness.statistics.table import Outcomes, comparisons, from_records, outcomes, read_verdicts
from tests.harness.tabular import BOTH, verdict

WORDS = {1.0: "win", 0.0: "tie", -1.0: "loss"}


def table(verdicts: list[Verdict]) -> Outcomes:
    return outcomes(from_records(verdicts))


def by_prompt(found: Outcomes) -> dict[str, str]:
    names = [found.names.prompt[code][1] for code in found.prompt]
    return {name: WORDS.get(value, "missing") for name, value in zip(names, found.value.tolist(), strict=True)}


def line(**fields: Any) -> dict[str, Any]:
    return verdict("p").model_dump(mode="json") | fields


# ---- outcomes


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
    assert by_prompt(found) == outcomes_by_rule(rows)


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
    assert read_verdicts([path]).names.prompt == (("set", "p"), ("set", "a\u2028b"))


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
