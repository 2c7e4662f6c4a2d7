"""How figures are said: cells, findings, warnings, and the order of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.reports import cells
from harness.results.schema import ContrastFigures, LengthFigures, MeasureContrast, MeasureFacts, MeasureRow, Row
from harness.statistics.agreement import agreement
from tests.harness.results_made import (
    as_results,
    contrast,
    control,
    judging,
    make_run,
    measure_contrast,
    measure_facts,
    measure_row,
    refused,
)

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


def test_a_checkpoint_s_dropout_is_said_with_the_trainings_that_it_was_on_in() -> None:
    run = make_run()
    assert "dropout" not in dict(cells.facts(as_results(run)))
    names = [method["name"] for method in run["methods"]]
    for method in run["methods"]:
        method["facts"] |= {"dropout": {"attention_dropout": 0.1}, "dropout_on": method["name"] == names[0]}
    said = f"on while {names[0]} trained; off for {', '.join(names[1:])}"
    found = dict(cells.facts(as_results(run)))["dropout"]
    assert found == f"the student's checkpoint has attention_dropout 0.1: {said}"


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


def test_a_judge_that_is_related_to_the_teacher_is_named_with_what_is_known_of_leakage() -> None:
    run = make_run(200)
    assert "Judge and teacher are related." not in warned(run)  # records of before say nothing of it
    proxy, family = "the judge is the teacher itself, as it reads the teacher's log-probs", "judge and teacher are one"
    run["judges"][0]["relation"] = proxy
    name = run["judges"][0]["name"]
    assert warned(run)["Judge and teacher are related."] == f"{name}: {proxy}."  # no one reads: nothing leaks
    run = make_run(200, proxy=False)
    run["judges"][0]["relation"] = family
    said = warned(run)["Judge and teacher are related."]
    assert said == f"{run['judges'][0]['name']}: {family}. {cells.LEAKAGE}"
    page = " ".join((Path(__file__).parents[3] / "docs" / "judges.md").read_text(encoding="utf-8").split())
    for percent in re.findall(r"(\d+)%", cells.LEAKAGE):  # as the page has them, rounded
        assert any(round(float(known)) == int(percent) for known in re.findall(r"(\d+\.\d)%", page)), percent


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


# ---- measures


@pytest.mark.parametrize(
    ("value", "interval", "unit", "said"),
    [
        (0.3519, (0.3214, 0.3826), "nats a token", "0.352 [0.321, 0.383]"),
        (3.541, (3.37, 3.72), "nats a token", "3.541 [3.370, 3.720]"),
        (0.0025, (0.0014, 0.0036), "nats a token", "0.0025 [0.0014, 0.0036]"),
        (0.0, (0.0, 0.0), "nats a token", "0.000 [0.000, 0.000]"),
        (0.8421, (0.8214, 0.8629), "share of tokens", "84.2% [82.1, 86.3]"),
        (1.0, (1.0, 1.0), "share of tokens", "100.0% [100.0, 100.0]"),
        (61.4, (57.1, 65.2), "tokens a response", "61.4 [57.1, 65.2]"),
        (2.914, (2.852, 2.971), "tokens of 4 drafted", "2.91 [2.85, 2.97]"),
        (1e-9, (-1e-9, 3e-9), "nats a token", "0.000 [0.000, 0.000]"),
        (8.000000000002, (8.0, 8.000000000004), "tokens a response", "8.0 [8.0, 8.0]"),
        (61.42, (61.41, 61.43), "tokens a response", "61.4 [61.4, 61.4]"),
        (0.0, (0.0, 0.0000004), "tokens of 4 drafted", "0.0 [0.0, 0.0]"),
        (0.352, None, "nats a token", "0.352"),
    ],
)
def test_a_measure_has_the_digits_that_its_interval_needs(
    value: float, interval: tuple[float, float] | None, unit: str, said: str
) -> None:
    assert cells.measure_value(value, interval, unit) == said


def test_a_difference_of_shares_is_in_points_with_a_sign() -> None:
    assert cells.measure_value(-0.0712, (-0.0934, -0.0490), "share of tokens", "+") == "-7.1 [-9.3, -4.9]"
    assert cells.measure_value(0.0, (-0.01, 0.01), "nats a token", "+") == "+0.000 [-0.010, +0.010]"


def test_the_digits_of_a_column_are_those_that_one_of_its_intervals_needs() -> None:
    assert cells.measure_digits([(0.32, 0.38), (0.4001, 0.4013), None, (1.0, 1.0)], "nats a token") == 4
    assert cells.measure_value(0.35, (0.32, 0.38), "nats a token", digits=4) == "0.3500 [0.3200, 0.3800]"
    assert cells.measure_value(0.0, (0.0, 0.0), "nats a token", digits=6) == "0.000 [0.000, 0.000]"


def facts_of(name: str = "forward_kl", **values: Any) -> MeasureFacts:
    return MeasureFacts.model_validate(measure_facts(name, **values))


def test_bounds_and_own_losses_are_marked_and_the_teacher_s_own_value_has_a_bound_of_its_own() -> None:
    row = MeasureRow.model_validate(measure_row("forward_kl", "kd", "method", "near", 0.4, own_loss=True))
    assert cells.measure_cell(row, facts_of(bound="lower")) == "≥ 0.400 [0.380, 0.420] †"
    assert cells.measure_cell(row, facts_of(), ends=False) == "0.400 †"
    teacher = row.model_copy(update={"kind": "teacher", "own_loss": False})
    assert cells.measure_cell(teacher, facts_of(bound="lower")) == "0.400 [0.380, 0.420]"
    assert cells.measure_cell(teacher, facts_of(teacher_bound="lower")) == "≥ 0.400 [0.380, 0.420]"
    assert cells.measure_cell(row, facts_of(teacher_bound="lower")) == "0.400 [0.380, 0.420] †"
    assert cells.measure_cell(None, facts_of()) == ""
    assert cells.measure_cell(row.model_copy(update={"value": None, "interval": None}), facts_of()) == ""


@pytest.mark.parametrize(
    ("measure", "values", "said"),
    [
        ("forward_kl", {}, "kd is nearer to the teacher"),
        ("margin_accuracy", {}, "kd is better"),
        ("repetition", {}, "kd is better"),
        ("length", {"better": ""}, "dadpo has more"),
        ("length", {"better": "", "difference": -3.0}, "kd has more"),
        ("forward_kl", {"p_holm": 0.2, "better": ""}, "not told apart"),
        (
            "forward_kl",
            dict.fromkeys(("difference", "interval", "p", "p_holm")) | {"better": ""},
            "no prompt was measured for both",
        ),
    ],
)
def test_a_finding_of_a_measure_is_said_in_words(measure: str, values: Data, said: str) -> None:
    found = MeasureContrast.model_validate(measure_contrast(measure, **values))
    assert cells.measure_words(found, facts_of(measure)) == said


def test_a_finding_on_a_row_s_own_loss_or_by_a_bound_says_so() -> None:
    found = MeasureContrast.model_validate(measure_contrast())
    assert cells.measure_words(found, facts_of(), {"kd"}) == "kd is nearer to the teacher (†)"
    assert cells.measure_words(found, facts_of(), {"dadpo"}) == "kd is nearer to the teacher"
    assert cells.measure_words(found, facts_of(bound="lower")) == "kd is nearer to the teacher by the bound"
    alike = MeasureContrast.model_validate(measure_contrast(p_holm=0.2, better=""))
    assert cells.measure_words(alike, facts_of(bound="lower"), {"kd"}) == "not told apart by the bound"
    assert cells.difference_short(found, facts_of(), {"kd"}) == "**+0.0025** †"
    assert cells.difference_short(alike, facts_of(), {"kd"}) == "+0.0025"


def test_a_direction_is_said_in_the_words_of_the_list_of_measures() -> None:
    assert cells.measure_terms(facts_of()) == "nats a token; lower is better"
    assert cells.measure_terms(facts_of("length")) == "tokens a response; to be held against the teacher's own"
    served = facts_of("acceptance", bound="upper")
    assert cells.measure_terms(served) == "share of tokens; higher is better; here an upper bound"
    assert cells.measure_terms(served, bound=False) == "share of tokens; higher is better"
    assert cells.measure_terms(facts_of(unit="")) == "lower is better"


def test_pairs_are_read_at_temperature_1_and_texts_at_none() -> None:
    results = as_results(make_run())
    kl, pairs, length = facts_of(), facts_of("margin_accuracy"), facts_of("length")
    assert cells.temperatures([kl, length], results) == "both at temperature 0.8"
    assert cells.temperatures([kl, pairs], results) == "both at temperature 0.8, pairs ranked right at temperature 1"
    assert cells.temperatures([pairs], results) == "pairs ranked right at temperature 1"
    assert cells.temperatures([length], results) == ""


def test_contrasts_are_of_checkpoints_where_there_is_one_seed() -> None:
    run = make_run()
    assert cells.whom(as_results(run)) == "One seed: these are checkpoints, not methods."
    run["runs"] = [{**run["runs"][0], "seed": seed} for seed in (4, 5, 6)]
    assert cells.whom(as_results(run)) == "What is found is of these 3 seeds, which the test holds fixed."


def test_a_spread_between_runs_has_two_figures() -> None:
    row = MeasureRow.model_validate(measure_row("top1", "kd", "method", "near", 0.8, by_run=[0.8, None, 0.9]))
    assert cells.spread_words(row, facts_of("top1")) == "(2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.0123}), facts_of("top1")) == "1.2 (2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.000123}), facts_of()) == "0.00012 (2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.0}), facts_of()) == "0.0 (2 runs)"
