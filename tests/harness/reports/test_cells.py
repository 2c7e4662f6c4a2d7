"""How figures are said: cells, findings, warnings, and the order of rows."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports import cells
from harness.results.schema import ContrastFigures, LengthFigures, Row
from harness.statistics.agreement import agreement
from tests.harness.results_made import as_results, contrast, control, judging, make_run, refused

Data = dict[str, Any]


def row_of(**values: Any) -> Row:
    return as_results(make_run()).rows[0].model_copy(update=values)


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (None, ""),
        (0.0, "< 0.001"),
        (0.0009999, "< 0.001"),
        (0.001, "0.001"),
        (0.0499, "0.050"),
        (0.25, "0.250"),
        (1.0, "1.000"),
    ],
)
def test_a_p_is_never_nought(p: float | None, said: str) -> None:
    assert cells.p_cell(p) == said


@pytest.mark.parametrize(("rank", "said"), [(None, ""), ([1, 1], "1"), ([2, 4], "2–4")])
def test_a_rank_is_a_place_or_a_range(rank: list[int] | None, said: str) -> None:
    assert cells.rank_cell(row_of(rank=rank)) == said


@pytest.mark.parametrize(
    ("by_run", "spread", "said"),
    [
        ([0.1, 0.2, 0.3], 0.1, "10.0 (3 runs)"),
        ([0.1, None, 0.3], 0.1414, "14.1 (2 runs)"),
        ([0.1, 0.1], 0.0, "0.0 (2 runs)"),
        ([0.1], None, "(1 run)"),
        ([None, 0.1], None, "(1 run)"),
        ([None, None], None, "(0 runs)"),
    ],
)
def test_a_spread_says_between_how_many_runs(by_run: list[float | None], spread: float | None, said: str) -> None:
    assert cells.spread_cell(row_of(by_run=by_run, spread=spread)) == said


def test_rates_and_differences_have_their_signs_and_intervals() -> None:
    assert cells.rate_cell(0.125, (0.0, 0.25)) == "12.5% [0.0, 25.0]"
    assert cells.rate_cell(0.125, (0.0, 0.25), signed=True) == "+12.5% [+0.0, +25.0]"
    assert cells.rate_cell(-0.125, (-0.25, 0.0), signed=True) == "-12.5% [-25.0, +0.0]"
    assert cells.points_cell(-0.25, (-0.5, 0.01)) == "-25.0 [-50.0, +1.0]"
    assert cells.rate_cell(None, None) == cells.points_cell(None, None) == "none judged"


def test_a_kappa_says_where_there_is_none() -> None:
    known = agreement({"a": "win"}, {"a": "win"})
    for kappa, interval, said in (
        (None, None, "undefined"),
        (0.0, None, "0.00"),
        (0.848, (0.5, 1.0), "0.85 [0.50, 1.00]"),
    ):
        pair = known.model_copy(update={"kappa": kappa, "kappa_interval": interval})
        assert cells.kappa_cell(pair) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "dadpo is better"),
        ({"difference": -0.2}, "kd is better"),
        ({"p_holm": 0.05}, "dadpo is better"),
        ({"p_holm": 0.0501}, "not told apart"),
        ({"difference": None, "interval": None, "p": None, "p_holm": None}, "no prompt was judged for both"),
    ],
)
def test_a_contrast_says_who_is_better_only_where_that_was_found(values: Data, said: str) -> None:
    assert cells.contrast_words(ContrastFigures.model_validate(contrast(**values))) == said


# ---- length


def test_reasons_are_said_once_with_where_they_hold() -> None:
    several = [
        control(),
        refused("few", "kd"),
        refused("alike", prompt_set="far"),
        refused("few", "kd", "far"),
    ]
    known, *others = map(LengthFigures.model_validate, several)
    assert cells.lengths([known, *others]) == ([known], ["kd on near; kd on far: few", "dadpo on far: alike"])


def test_a_reason_that_holds_everywhere_says_so() -> None:
    known, *others = map(LengthFigures.model_validate, [control(), refused("few"), refused("few", "kd")])
    assert cells.lengths(others) == ([], ["everywhere: few"])
    assert cells.lengths([]) == ([], [])
    assert cells.lengths([known]) == ([known], [])


# ---- warnings and facts


def warned(run: Data) -> dict[str, str]:
    return dict(cells.warnings(as_results(run)))


@pytest.mark.parametrize(("n", "small"), [(1, True), (79, True), (80, False)])
def test_a_run_that_is_too_small_to_rank_says_so(n: int, small: bool) -> None:
    found = warned(make_run(n, proxy=False))
    assert list(found) == (["Too small to rank."] if small else [])
    assert not small or f"The smallest set has {n} judged prompts and there is one seed:" in found["Too small to rank."]


def test_a_run_with_one_small_set_says_which_rows_have_no_order() -> None:
    run = make_run(200, proxy=False)
    run["prompt_sets"][1]["unranked"] = "60 judged prompts"
    for row in run["rows"]:
        row["prompts"] = 60 if row["prompt_set"] == "far" else 200
    (text,) = warned(run).values()
    assert "smallest set has 60 judged prompts" in text and "rows of sets below 80 stand in a fixed order" in text


def test_seeds_are_counted_and_runs_of_one_seed_are_not() -> None:
    run = make_run()
    run["runs"] = [{**run["runs"][0], "seed": seed} for seed in (4, 4, 5)]
    assert "there are 2 seeds:" in warned(run)["Too small to rank."]


def test_missing_verdicts_are_counted_by_what_became_of_them() -> None:
    counts = [judging("one", 10, unparsable=7, failed=3), judging("two", 10, unparsable=7)]
    run = {**make_run(200, proxy=False), "judging": counts}
    text = "Of 200: 14 unparsable, 3 failed. Their prompts are in no rate."
    assert warned(run) == {"Verdicts are missing.": text}


def test_a_set_that_is_large_but_not_ranked_says_why() -> None:
    run = make_run(200, proxy=False)
    run["prompt_sets"][1]["unranked"] = "12% of kd's prompts are missing"
    assert warned(run) == {"far is not ranked.": "12% of kd's prompts are missing."}


def test_what_is_known_of_training_data_is_said() -> None:
    run = make_run()
    assert not {"prompts cut", "tokenizers"} & dict(cells.facts(as_results(run))).keys()
    run["methods"][0]["facts"] |= {"prompts_cut": 3, "retokenised": True}
    run["methods"][1]["facts"] |= {"prompts_cut": 5}
    run["config"]["max_prompt_tokens"] = 64
    found = dict(cells.facts(as_results(run)))
    assert found["prompts cut"] == "5 training prompts lost their beginning: max_prompt_tokens = 64"
    assert "two" in found["tokenizers"]


def test_every_run_of_a_board_is_listed() -> None:
    run = make_run()
    assert dict(cells.facts(as_results(run)))["run"] == "seed 4, 2025-02-03, harness 0.1.0, small-seed4-abc"
    run["runs"] = [{**run["runs"][0], "seed": seed, "name": f"r{seed}"} for seed in (4, 5)]
    found = dict(cells.facts(as_results(run)))
    assert "run" not in found
    assert [found[f"run {number}"][-2:] for number in (1, 2)] == ["r4", "r5"]


def test_a_student_that_is_not_pruned_comes_as_it_is() -> None:
    assert dict(cells.facts(as_results(make_run())))["student"] == (
        "small, pruned from 1,000 to 800 parameters (-20.0%) before training"
    )
    assert dict(cells.facts(as_results({**make_run(), "pruning": None})))["student"] == "small, as it comes"


def test_prompts_without_an_answer_are_said_before_any_figure() -> None:
    run = make_run()
    run["prompt_sets"][0].update(prompts=142, left_out={f"p{n}": f"reason {n}" for n in range(2)})
    run["training"].update(prompts=639, left_out={"t7": "refused by its moderator (400: no)"})
    results = as_results(run)
    assert (
        "Prompts are left out.",
        "2 of 144 prompts of near got no answer from the teacher's server and are left out of every row: p0, p1 "
        "(the first reason 0).",
    ) in cells.warnings(results)
    assert (
        "prompts left out",
        "1 of 640 prompts of everyday got no answer from the teacher's server and are left out of every training: t7 "
        "(refused by its moderator (400: no))",
    ) in cells.facts(results)
    many = {f"p{n}": "why" for n in range(9)}
    assert "p0, p1, p2, p3, p4 and 4 more" in cells.left_out_text(many, 1, "near", "row")
    plain = as_results(make_run())
    assert "left out" not in str([*cells.warnings(plain), *cells.facts(plain)])
