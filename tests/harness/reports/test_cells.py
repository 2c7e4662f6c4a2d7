"""How figures are said: cells, findings, warnings, and the order of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.reports import cells
from harness.reports.cells import harm_words
from harness.results.labelled import LabelFigures, LabelledResults
from harness.results.schema import LengthFigures, MeasureFacts, MeasureRow, Row
from harness.statistics.agreement import agreement
from harness.statistics.effects import Components
from harness.statistics.panel import MAJORITY
from tests.harness.results_made import (
    as_results,
    components,
    control,
    harm,
    judging,
    luck,
    make_run,
    measure_facts,
    measure_row,
    of_seeds,
    refused,
    with_measures,
    with_rows,
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


# ---- what variance is made of


def test_components_are_in_points_and_one_that_was_not_seen_is_no_nought() -> None:
    rows = [Components.model_validate(components(seed=seed, residual=0.594)) for seed in (0.0, 1.3e-9, 0.0123, None)]
    parts = cells.parts_of(rows)
    assert parts == ["prompt", "seed", "residual"]
    said = [cells.components_cell(row, parts) for row in rows]
    assert said[:3] == ["61 / not seen / 59", "61 / not seen / 59", "61 / 1.2 / 59"]
    assert cells.components_cell(rows[2], parts, facts_of()) == "0.61 / 0.012 / 0.59"
    assert cells.components_cell(rows[2], parts, facts_of("top1")) == "61 / 1.2 / 59"


def test_what_one_seed_has_of_prompts_does_not_stand_beside_what_several_share() -> None:
    one = Components.model_validate(components(within=0.3))  # 0.61 of prompts, the rest with it
    several = Components.model_validate(components(seed=0.0123, residual=0.594, within=0.3))
    parts = cells.parts_of([one, several])
    assert [cells.components_cell(row, parts) for row in (one, several)] == ["– / – / – / 30", "61 / 1.2 / 59 / 30"]
    assert cells.components_cell(one, parts, facts_of()) == "– / – / – / 0.30"
    assert cells.components_cell(one, cells.parts_of([one])) == "61 / 30"
    ((head, said),) = cells.spread_legend([as_results(with_rows(make_run(), "kd", components=dict(one)))])
    assert head == "SD: prompt / seed / rest"
    assert "where all rows have one seed, all in which prompts differ" in said


def test_what_stands_beside_figures_of_several_runs_is_said_where_it_is_there() -> None:
    run = make_run()
    assert cells.spread_legend([as_results(run)]) == []
    both = cells.spread_legend([as_results(run), as_results(of_seeds(run, 4, 5))])
    assert [head for head, _ in both] == ["SD of runs"]
    assert "its square being about seed² + rest² / prompts" in both[0][1]


def test_of_one_seed_and_one_sample_there_is_nothing_to_take_apart() -> None:
    assert cells.parts_of([Components.model_validate(components())]) == cells.parts_of([]) == []
    assert cells.parts_of([Components.model_validate(components(within=0.3))]) == ["prompt", "within"]


def test_a_size_has_two_figures_and_its_unit() -> None:
    assert [cells.in_points(size) for size in (0.1437, 0.00923, 1.204)] == ["14 points", "0.92 points", "120 points"]
    assert cells.in_unit(0.04621, facts_of()) == "0.046 nats a token"
    assert cells.in_unit(0.04621, facts_of("top1")) == "4.6 points"


# ---- warnings and facts


def warned(run: Data) -> dict[str, str]:
    return dict(cells.warnings(as_results(run)))


def test_a_run_says_where_it_tells_no_row_from_the_next_and_what_it_can_tell() -> None:
    assert warned(make_run(proxy=False)) == {
        "No row is told from the next on near, far.": "On near 32 prompts and one seed tell neighbours apart from 21 "
        "points on (80% power). The rows stand in no order of rates."
    }
    assert warned(make_run(proxy=False, ranked=True)) == {}
    run = make_run(proxy=False)
    run["prompt_sets"][0]["unranked"] = ""
    assert warned(run) == {
        "No row is told from the next on far.": "There 32 prompts and one seed tell neighbours apart from 9.4 points "
        "on (80% power). The rows stand in no order of rates."
    }


def test_what_nothing_says_of_neighbours_is_not_said() -> None:
    run = make_run(proxy=False)
    run["prompt_sets"][0]["detectable"], run["prompt_sets"][1]["detectable"] = None, 2.3
    results = as_results(run)
    assert cells.resolution(results, results.prompt_sets[0]) == ""
    said = "32 prompts and one seed tell neighbours apart at no difference (80% power)"
    assert cells.resolution(results, results.prompt_sets[1]) == said
    run["prompt_sets"][1]["detectable"] = None
    (text,) = warned(run).values()
    assert text == "The rows stand in no order of rates."


def test_seeds_are_those_of_the_rows_and_runs_of_one_seed_are_one() -> None:
    run = make_run()
    run["runs"] = [{**run["runs"][0], "seed": seed} for seed in (4, 4, 5)]
    for row in run["rows"]:
        row["by_run"] = [0.1, 0.2, 0.3]
    results = as_results(run)
    assert "32 prompts and 2 seeds tell" in cells.resolution(results, results.prompt_sets[0])
    results = as_results(with_rows(run, "kd", by_run=[None, 0.2, None]))
    assert "32 prompts and 1 to 2 seeds tell" in cells.resolution(results, results.prompt_sets[0])
    assert cells.seeds_words(1) == "one seed"


def test_missing_verdicts_are_counted_by_what_became_of_them() -> None:
    counts = [judging("one", 10, unparsable=7, failed=3), judging("two", 10, unparsable=7)]
    run = {**make_run(200, proxy=False, ranked=True), "judging": counts}
    text = "Of 200: 14 unparsable, 3 failed. Their prompts are in no rate."
    assert warned(run) == {"Verdicts are missing.": text}


def test_a_set_that_is_large_but_not_ranked_says_why() -> None:
    run = make_run(200, proxy=False, ranked=True)
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


def test_when_contrasts_were_declared_is_said_run_by_run() -> None:
    run = make_run()
    assert not [name for name, _ in cells.facts(as_results(run)) if name.startswith("contrasts")]
    stamp = {"run": "r5", "prompt_set": "near", "first": "dadpo", "second": "kd"}
    stamp |= {"time": "2025-02-03T10:00:00.123456Z", "family": "0123456789abcdef"}
    stamp |= {"primary": False, "margin": None}
    run["stamps"] = [{**stamp, "began": "2025-02-03T11:00:00Z"}, {**stamp, "began": ""}]
    said = "stamped 2025-02-03T10:00:00Z, family 0123456789ab"
    first = "; the first verdict or measure of one of their rows is of 2025-02-03T11:00:00Z"
    assert dict(cells.facts(as_results(run)))["contrasts"] == said + first
    run["runs"] = [{**run["runs"][0], "seed": seed, "name": f"r{seed}"} for seed in (4, 5)]
    run["stamps"] = [{**stamp, "began": ""}]
    assert dict(cells.facts(as_results(run)))["contrasts of run 2"] == said
    for dropped, lacking in ((3, "3 of it left out since"), (None, "not known")):
        run["stamps"] = [{**stamp, "began": "", "dropped": dropped}]
        assert dict(cells.facts(as_results(run)))["contrasts of run 2"] == f"{said} ({lacking})"


def test_what_several_runs_name_differently_is_said() -> None:
    run = make_run()
    assert not {"primary contrast", "margin"} & dict(cells.facts(as_results(run))).keys()
    found = dict(cells.facts(as_results({**run, "differing": ["primary", "margin"]})))
    assert found["primary contrast"].startswith("none: the runs that have its rows name different ones")
    assert found["margin"].startswith("none: the runs name different ones")
    runs = [{**run["runs"][0], "point": {"training.epochs": epochs}} for epochs in (1, 2)]
    found = dict(cells.facts(as_results({**run, "runs": runs, "differing": ["primary", "training"]})))
    assert found["primary contrast"].endswith("each point has a primary contrast of its own")
    assert "of run 1" in found["other training prompts"]
    assert "seed 4, training.epochs=2, " in found["run 2"]


def test_a_command_that_made_several_runs_is_there_once() -> None:
    run = make_run()
    made = [{**run["runs"][0], "command": command} for command in ("a", "b", "a", "a", "a")]
    assert cells.commands(as_results({**run, "runs": made[:1]})) == [("", "a")]
    assert cells.commands(as_results({**run, "runs": made[2:]})) == [("", "a")]
    assert cells.commands(as_results({**run, "runs": made})) == [("runs 1, 3–5", "a"), ("run 2", "b")]


def test_contrasts_that_were_declared_together_are_one_line() -> None:
    run = make_run()
    run["runs"] = [{**run["runs"][0], "name": f"r{place}"} for place in range(4)]
    stamp = {"prompt_set": "near", "first": "dadpo", "second": "kd", "time": "2025-02-03T04:05:06+00:00"}
    stamp |= {"family": "f" * 64, "primary": False, "margin": None}
    begins = ("2025-02-03T05:00:00+00:00", "2025-02-03T04:30:00+00:00", "")
    run["stamps"] = [{**stamp, "run": f"r{place}", "began": began} for place, began in enumerate(begins)]
    found = {head: text for head, text in cells.facts(as_results(run)) if head.startswith("contrasts")}
    assert list(found) == ["contrasts of runs 1–3"]
    assert found["contrasts of runs 1–3"].endswith("is of 2025-02-03T04:30:00+00:00")


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
    assert warned(run)["Judge and teacher are related."] == f"{name}: {proxy}. {cells.LEAKAGE}{cells.OF_READERS}"
    run = make_run(200, proxy=False)
    run["judges"][0]["relation"] = family
    said = warned(run)["Judge and teacher are related."]
    assert said == f"{run['judges'][0]['name']}: {family}. {cells.LEAKAGE}"
    page = " ".join((Path(__file__).parents[3] / "docs" / "judges.md").read_text(encoding="utf-8").split())
    for percent in re.findall(r"(\d+)%", cells.LEAKAGE):  # as the page has them, rounded
        assert any(round(float(known)) == int(percent) for known in re.findall(r"(\d+\.\d)%", page)), percent


def test_who_reads_the_responses_is_said_truly() -> None:
    run = make_run()
    resembles = "how much a student's responses resemble its teacher's, not how good they are."
    unread = "No one, human or model, has read these responses."
    assert (
        warned(run)["The judges are declared proxies (both, part-one, part-two)."] == f"{unread} They say {resembles}"
    )
    run["judges"], panel = (
        run["judges"][:1],
        {**run["judges"][1], "name": MAJORITY, "setup": {"judges": "both, reader"}},
    )
    assert warned(run)["The judge is a declared proxy (both)."] == f"{unread} It says {resembles}"
    labels = dict.fromkeys(("runs", "people", "rates", "contrasts", "between"), ()) | {"labels": 62}
    found = LabelFigures.model_construct(**labels)
    people = LabelledResults.model_construct(**dict(as_results(run)), labels=found)
    by_people = "people read those of 62 outcomes, and their labels have a table below"
    assert dict(cells.warnings(people))["The judge is a declared proxy (both)."] == (
        f"No model has read these responses; {by_people}. It says {resembles}"
    )
    # a panel of which one reads; the panel itself is no judge
    run["judges"] += [panel, {**panel, "name": "reader", "misses": "", "setup": {}}]
    title = "Not all judges read: both is a declared proxy."
    assert warned(run)[title] == f"It says {resembles} reader reads the responses."
    people = LabelledResults.model_construct(**dict(as_results(run)), labels=found)
    assert dict(cells.warnings(people))[title] == f"It says {resembles} reader reads the responses; {by_people}."
    assert not [title for title in warned(make_run(proxy=False)) if "proxy" in title]


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


def test_a_spread_between_runs_has_two_figures() -> None:
    row = MeasureRow.model_validate(measure_row("top1", "kd", "method", "near", 0.8, by_run=[0.8, None, 0.9]))
    assert cells.spread_words(row, facts_of("top1")) == "(2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.0123}), facts_of("top1")) == "1.2 (2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.000123}), facts_of()) == "0.00012 (2 runs)"
    assert cells.spread_words(row.model_copy(update={"spread": 0.0}), facts_of()) == "0.0 (2 runs)"


def test_every_row_that_is_harmed_is_named_before_any_is_twice() -> None:
    found = [harm("kd", measure, scope) for measure in ("reverse_kl", "forward_kl") for scope in ("near", "far")]
    found += [harm("dadpo", "nll"), harm("ddpo-beta0.15", "nll"), harm("dadpo", "acceptance"), harm("dadpo", "top1")]
    said = harm_words(as_results(with_measures(make_run(), harms=found))).split("; ")
    assert [" by ".join(one.split(",")[0].split(" of ")[1].split(" by ")) for one in said[:-1]] == [
        "kd by forward KL on near",  # the measure that was declared to be the first
        "dadpo by NLL on near",
        "ddpo-beta0.15 by NLL on near",
        "kd by forward KL on far",
        "dadpo by acceptance on near",
        "kd by reverse KL on near",
    ]
    assert said[-1] == "and 2 more, which ⚠ marks in the tables"
    assert harm_words(as_results(make_run())) == ""


def test_harm_is_a_method_s_where_what_a_seed_moves_is_in_its_test() -> None:
    run = with_measures(make_run(), harms=[harm(seeds=3)])
    assert harm_words(as_results(run)).startswith("these checkpoints of dadpo by forward KL")
    told = {**run, "luck": [luck("forward_kl")]}
    assert harm_words(as_results(told)).startswith("dadpo by forward KL on near, +0.120")
    served = [facts | {"bound": "lower"} for facts in run["measured"]]
    assert "forward KL (bounds) on near" in harm_words(as_results({**run, "measured": served}))


def test_a_harm_on_a_domain_is_always_named_as_no_table_marks_it() -> None:
    found = [harm("kd", measure, scope) for measure in ("reverse_kl", "forward_kl", "nll") for scope in ("near", "far")]
    found += [harm("kd", "top1"), harm("kd", "acceptance"), harm("kd", "acceptance", "in-domain")]
    said = harm_words(as_results(with_measures(make_run(), harms=found)))
    assert "kd by acceptance on in-domain" in said
    assert said.endswith("and 2 more, which ⚠ marks in the tables")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], None),
        (["dadpo"], "every row takes as many tokens as dadpo, both with those of their start"),
        (
            ["dadpo (beta_teacher=0)", "dadpo (beta_teacher=0.1)"],
            "every row takes as many tokens as that of its own run (dadpo (beta_teacher=0), dadpo (beta_teacher=0.1)), "
            "both with those of their start",
        ),
    ],
)
def test_a_budget_is_that_of_the_rows_that_give_it(named: list[str], said: str | None) -> None:
    results = as_results(make_run())
    rows = [one.model_copy(update={"match": name}) for one, name in zip(results.methods, named, strict=False)]
    made = results.model_copy(update={"methods": (*rows, *results.methods[len(rows) :])})
    assert dict(cells.facts(made)).get("budget") == said
