"""The tables of a report: which columns they have, what cells say, sort by and draw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.reports import tables
from harness.reports.columns import Cell
from harness.reports.tables import Table
from tests.harness.results_made import (
    MEASURES,
    as_results,
    components,
    contrast,
    control,
    cost_facts,
    luck,
    make_run,
    measure_contrast,
    refused,
    retention,
    versus,
    with_measures,
)


def board(run: dict[str, Any], place: int = 0) -> Table:
    results = as_results(run)
    return tables.board(results, results.prompt_sets[place])


def changed(**values: Any) -> dict[str, Any]:
    """A run with these values in every row."""
    run = make_run()
    for row in run["rows"]:
        row |= values
    return run


def column(table: Table, head: str) -> list[Cell]:
    return [row[table.columns.index(head)] for row in table.rows]


def said(table: Table, head: str) -> list[str]:
    return [cell.grouped for cell in column(table, head)]


def test_the_first_column_names_the_system_in_its_colour() -> None:
    cells = column(board(make_run()), "method")
    assert {cell.text: cell.swatch for cell in cells} == {
        "kd": "c0",
        "dadpo": "c1",
        "ddpo-beta0.15": "c2",
        "untrained": "start",
        "teacher (second sample)": "ceiling",
    }


def test_ranks_are_ranges_that_sort_by_their_first_place() -> None:
    run = make_run()
    for row in run["rows"]:
        row["rank"] = None
    assert "rank" not in board(run).columns
    ranks = {"dadpo": [1, 3], "kd": [4, 4]}
    for row in run["rows"]:
        row["rank"] = ranks.get(row["method"])
    found = {(cell.text, cell.sort) for cell in column(board(run), "rank")}
    assert found == {("1–3", 1.0), ("4", 4.0), ("", "")}


def test_the_spread_between_seeds_has_a_column_where_there_are_several() -> None:
    run = changed(spread=0.0312, by_run=[0.1, None, 0.2])
    run["runs"] = run["runs"][:1]
    assert "SD of runs" not in board(run).columns
    run["runs"] = run["runs"] * 3
    assert set(said(board(run), "SD of runs")) == {"3.1 (2 runs)"}
    run = changed(spread=None, by_run=[0.1, None])
    run["runs"] = run["runs"][:1] * 2
    assert set(said(board(run), "SD of runs")) == {"(1 run)"}


def test_what_variance_is_made_of_has_a_column_that_stays_on_one_line() -> None:
    assert not [head for head in board(make_run()).columns if head.startswith("SD:")]
    cells = column(board(changed(components=components(seed=0.0, residual=0.49))), "SD: prompt / seed / rest")
    assert {(cell.text, cell.line) for cell in cells} == {("61 / not seen / 49", True)}


def test_what_a_board_can_tell_is_in_its_note() -> None:
    assert board(make_run()).note.endswith(
        "; 32 prompts and one seed tell neighbours apart from 21 points on (80% power)"
    )


def test_a_pooled_row_says_on_how_many_prompts_its_outcomes_are() -> None:
    assert "prompts" not in board(changed(n=100, prompts=100)).columns
    assert said(board(changed(n=300, prompts=100)), "prompts") == ["100"] * 5


def test_further_rates_are_written_and_not_drawn() -> None:
    run = changed(
        half_tie_rate=0.4, half_tie_interval=[0.3, 0.5], mean_preference=0.45, mean_preference_interval=[0.4, 0.5]
    )
    found = board(run)
    assert said(found, "half-tie win rate")[0] == "40.0% [30.0, 50.0]"
    assert said(found, "mean preference")[0] == "45.0% [40.0, 50.0]"
    assert not any(cell.drawn for cell in column(found, "mean preference"))
    assert all(cell.drawn for cell in column(found, "win rate"))


def test_how_the_judge_is_related_to_the_teacher_is_in_the_note() -> None:
    run = make_run()
    run["judges"][0]["relation"] = "judge and teacher are one model (m)"
    assert "; judge both (a proxy); judge and teacher are one model (m); " in board(run).note


def test_orders_are_in_the_note_or_where_they_differ_in_a_column() -> None:
    assert "a taste for the first place is in the figures" in board(changed(orders="one")).note
    run = changed(orders="both")
    assert "each pair judged in both orders" in board(run).note
    assert "orders" not in board(run).columns
    for row in run["rows"][:3]:
        row["orders"] = "one"
    assert sorted(set(said(board(run), "orders"))) == ["both", "one"]
    assert "both orders" not in board(run).note
    panel = json.loads(json.dumps(changed(orders="none")).replace('"both"', '"panel (majority)"'))
    assert "order" not in board(panel).note  # its judges may see one


def test_why_a_set_has_no_order_is_said_with_its_table() -> None:
    run = make_run()
    for prompt_set, reason in zip(run["prompt_sets"], ("", "12% of kd's prompts are missing"), strict=True):
        prompt_set["unranked"] = reason
    assert [board(run, place).remark for place in (0, 1)] == [
        "",
        "Not ranked: 12% of kd's prompts are missing.",
    ]


def test_flips_and_identical_have_columns_where_they_are_counted() -> None:
    none = {"count": 0, "n": 0, "share": None, "interval": None}
    assert not {"flips", "identical"} & set(board(changed(flips=none, identical=0)).columns)
    found = board(changed(flips={"n": 30, "count": 4, "share": 4 / 30, "interval": [0.05, 0.3]}, identical=3))
    assert said(found, "flips")[0] == "4 of 30"
    assert said(found, "identical")[0] == "3"


def test_what_is_missing_and_how_much_of_all() -> None:
    assert said(board(changed(missing=3, missing_share=0.021)), "missing")[0] == "3 (2%)"
    assert said(board(changed(missing=0, missing_share=0.0)), "missing")[0] == "0"


def test_lengths_that_are_not_known_are_blank() -> None:
    run = changed(mean_tokens=None, cut_share=None)
    run["prompt_sets"][0]["teacher"] = {"mean_tokens": None, "cut_share": None}
    found = board(run)
    assert set(said(found, "tokens")) == set(said(found, "cut")) == {""}
    assert "teacher" not in found.note


def test_a_method_that_nobody_judged_draws_nothing() -> None:
    rates = ("preference", "win", "half_tie", "mean_preference")
    empty = {f"{name}_interval": None for name in rates} | {f"{name}_rate": None for name in rates[:3]}
    run = changed(n=0, prompts=0, wins=0, ties=0, losses=0, mean_preference=None, **empty)
    for prompt_set in run["prompt_sets"]:
        prompt_set["unranked"] = "0 judged prompts"
    assert set(said(board(run), "preference rate")) == {"none judged"}
    assert [bar.cell.drawn for bar in tables.bars(as_results(run), "near")] == [None] * 5


def test_bars_are_shares_that_fill_the_whole() -> None:
    (bar, *_) = tables.bars(as_results(changed(wins=1, ties=1, losses=2, n=4)), "near")
    assert bar.parts == [("win", 1, 0.0, 25.0), ("tie", 1, 25.0, 25.0), ("loss", 2, 50.0, 50.0)]


def test_contrasts_say_what_was_tested_and_found() -> None:
    pooled = contrast("in-domain", difference=-0.01, interval=[-0.1, 0.08], p_holm=0.8, distinguishable=False)
    (found,) = tables.contrasts(as_results({**make_run(), "contrasts": [contrast(), pooled]}))
    assert found.columns[:3] == ["first − second", "on", "difference, points"]
    assert [cell.grouped for cell in found.rows[0]] == [
        "dadpo − kd",
        "near",
        "+20.0 [+5.0, +35.0]",
        "0.004",
        "0.012",
        "21 points",
        "this checkpoint of dadpo is better than that of kd",
        "140",
        "4",
    ]
    assert said(found, "in words")[1] == "not told apart"  # from where on it would be is beside it
    assert said(found, "on")[1] == "in-domain, sets pooled"
    assert found.note == "judge both; a family of its own; drawn from −50 to +50 points"


def test_each_family_is_a_table_with_a_scale_of_its_own() -> None:
    small = {"margin": 0.05, "interval": [-0.041, 0.02], "finding": "equivalent"}
    made = [
        contrast(declared=False),
        contrast(family="anchors", second="untrained", interval=[0.4, 1.3], detectable=3.0),
        contrast(family="primary", equivalence=small),
    ]
    primary, methods, anchors = tables.contrasts(as_results({**make_run(), "contrasts": made}))
    assert primary.caption == "The primary contrast" and primary.note.startswith("judge both; corrected for no other;")
    assert "p (Holm)" not in primary.columns and "p (Holm)" in methods.columns
    assert said(primary, "by the 90% interval") == ["equivalent within ±5 [-4.1, +2.0]"]
    assert "by the 90% interval" not in methods.columns
    assert said(methods, "when") == ["chosen afterwards"] and said(primary, "when") == ["declared before the run"]
    drawn = [column(table, "difference, points")[0] for table in (methods, anchors)]
    assert [cell.span for cell in drawn] == [(-0.5, 0.5), (-2.0, 2.0)]
    assert [cell.band for cell in drawn] == [0.214, 2.0]  # what could not be told, within the drawing
    assert drawn[0].share(2 * 0.214) == "42.80%"
    assert said(anchors, "in words") == ["this checkpoint of dadpo is better than untrained"]


def test_what_another_seed_moves_is_a_table_of_the_rates_and_every_measure() -> None:
    moves = [luck(), luck("forward_kl", own=0.0, shared=0.021), luck("top1", own_degrees=0, own=0.0, rows=1)]
    found = tables.moved(measured(luck=moves))
    assert found.folded and tables.moved(as_results(make_run())).rows == []
    assert said(found, "figure") == ["preference rate", "forward KL", "same top token"]
    assert said(found, "in each trained row for itself") == [
        "2.9 points (8 degrees of freedom)",
        "not seen (8 degrees of freedom)",
        "",
    ]
    assert said(found, "in all trained rows alike")[1] == "0.021 nats a token (2 degrees of freedom)"
    assert said(found, "seeds") == ["3"] * 3


def test_rows_that_were_judged_against_each_other_have_a_table() -> None:
    run = {**make_run(), "contrasts": [contrast()], "versus": [versus(), versus(prompt_set="far", prompts=11)]}
    found = tables.versus(as_results(run))
    assert said(found, "first against second") == ["dadpo against kd"] * 2 and said(found, "prompts") == ["32", "11"]
    assert said(found, "against the teacher, points") == ["+20.0 [+5.0, +35.0]", "+20.3"]
    assert said(found, "finding there")[0] == "this checkpoint of dadpo is better than that of kd"
    assert [cell.drawn is None for cell in column(found, "against the teacher, points")] == [False, True]
    assert "prompts" not in tables.versus(as_results({**run, "versus": [versus()]})).columns
    assert tables.versus(as_results(make_run())).rows == []


@pytest.mark.parametrize(("end", "most"), [(0.2, 0.25), (0.25, 0.25), (0.6, 1.0), (2.0, 2.0)])
def test_differences_are_drawn_on_one_scale_that_holds_them_all(end: float, most: float) -> None:
    made = [contrast(interval=[-end, 0.1], difference=0.0), contrast()]
    (found,) = tables.contrasts(as_results({**make_run(), "contrasts": made}))
    spans = {cell.span for cell in column(found, "difference, points")}
    assert spans == {(-max(most, 0.5), max(most, 0.5))}  # the other's end is at 0.35
    cell = found.rows[0][2]
    assert cell.place(0.0) == "50.00%"
    assert 0 <= float(cell.place(-end).rstrip("%")) <= 50


def test_a_contrast_without_common_prompts_has_no_figures() -> None:
    none = dict.fromkeys(("difference", "interval", "p", "p_holm", "error", "degrees", "detectable"))
    empty = contrast(n=0, **none)
    (found,) = tables.contrasts(as_results({**make_run(), "contrasts": [empty]}))
    assert [cell.grouped for cell in found.rows[0]][2:6] == ["none judged", "", "", ""]
    assert tables.contrasts(as_results({**make_run(), "contrasts": []})) == []


def test_a_rate_at_equal_length_stands_beside_the_plain_one() -> None:
    found = tables.length_controls(as_results({**make_run(), "length": [control(), refused("too few", "kd")]}))
    assert [cell.grouped for cell in found.rows[0]] == [
        "dadpo",
        "near",
        "-20.0%",
        "-30.0% [-40.0, -20.0]",
        "84 tokens",
        "72 tokens",
        "from the others",
        "+0.50 [+0.25, +0.75] for 30 tokens",
        "140",
    ]
    rest = ["-20.0%", "too few", "84 tokens", "72 tokens", "", "", "140"]
    assert [cell.grouped for cell in found.rows[1]][2:] == rest
    assert "not AlpacaEval's" in found.remark
    assert not found.folded
    assert found.numeric(2)
    assert not found.numeric(3)


def test_the_judge_of_a_length_control_is_named_where_there_are_several() -> None:
    found = tables.length_controls(as_results({**make_run(), "length": [control(), control(judge="part-one")]}))
    assert said(found, "judge") == ["both", "part-one"]


def test_one_reason_for_all_is_a_sentence_and_several_are_folded() -> None:
    run = {**make_run(), "length": [refused("too few"), refused("too few", "kd")]}
    assert tables.no_control(as_results(run)) == "too few"
    run["length"][1]["reason"] = "no lengths are known"
    assert tables.no_control(as_results(run)) == ""
    assert tables.length_controls(as_results(run)).folded
    assert "logits for each SD of length" not in tables.length_controls(as_results(run)).columns
    assert tables.no_control(as_results({**run, "length": [control()]})) == ""
    assert tables.no_control(as_results({**run, "length": []})) == ""


def test_unknown_lengths_are_blank() -> None:
    unknown = refused("no lengths are known", n=0, unit="", candidate_mean=None, reference_mean=None, spread=None)
    found = tables.length_controls(as_results({**make_run(), "length": [{**unknown, "preference_rate": None}]}))
    assert [cell.grouped for cell in found.rows[0]][2:6] == ["", "no lengths are known", "", ""]


def test_judging_is_counted_by_judge() -> None:
    counts = {"verdicts": 1200, "ok": 1190, "unparsable": 6, "failed": 4, "skipped": 0, "identical": 2, "truncated": 7}
    rest = {"forms": {"pairwise": 1200}, "flips": 30, "both_orders": 590, "ties": 50, "outcomes": 0}
    run = {**make_run(), "judging": [{"judge": "part-one", **counts, **rest}], "agreement": []}
    found = tables.judges(as_results(run))[0]
    assert dict(zip(found.columns, [cell.grouped for cell in found.rows[0]], strict=True)) == {
        "judge": "part-one",
        "verdicts": "1,200",
        "ok": "1,190",
        "unparsable": "6",
        "failed": "4",
        "skipped": "0",
        "identical": "2",
        "contradicts itself": "30 of 590",
        "ties": "50 of 0",
        "read in part": "7",
        "asked for": "pairwise: 1200",
    }


def test_agreement_has_a_note_where_there_is_one() -> None:
    none = {"table": [[0, 0, 0]] * 3, "undefined_resamples": 0}
    same = {"count": 30, "n": 40, "share": 0.75, "interval": [0.6, 0.9]}
    pair = {"first": "one", "second": "two", "n": 40, "agreement": same, "missing": 2, "note": "", **none}
    known = {**pair, "kappa": 0.5, "kappa_interval": [0.25, 0.75]}
    unknown = {**pair, "kappa": None, "kappa_interval": None, "note": "all alike"}
    found = tables.judges(as_results({**make_run(), "judging": [], "agreement": [known]}))[-1]
    assert [cell.grouped for cell in found.rows[0]] == ["one, two", "0.50 [0.25, 0.75]", "30 of 40", "2"]
    found = tables.judges(as_results({**make_run(), "judging": [], "agreement": [known, unknown]}))[-1]
    assert said(found, "Cohen's κ") == ["0.50 [0.25, 0.75]", "undefined"]
    assert said(found, "note") == ["", "all alike"]


def test_trainings_show_their_own_settings_and_what_they_control() -> None:
    found = tables.trained(as_results(make_run()))
    assert said(found, "settings") == ["", "beta_reference 0.1, beta_teacher 0.05, teacher_margin own", "beta 0.15"]
    assert said(found, "why")[2] == "control of dadpo: the larger beta alone"


# ---- measures


def measured(**more: Any) -> Any:
    return as_results(with_measures(make_run(), **more))


def test_a_measure_is_drawn_over_the_range_of_its_column() -> None:
    results = measured()
    fidelity, texts = tables.measures(results, results.prompt_sets[0])
    assert fidelity.columns == ["method", *(head for _, head, group, *_ in MEASURES if group == "fidelity")]
    cells = {row[0].text: row[1] for row in fidelity.rows}
    assert list(cells) == ["teacher", "kd", "dadpo", "ddpo-beta0.15", "untrained"]
    assert cells["kd"].text == "0.405 [0.385, 0.425] †" and cells["teacher"].text == ""
    assert cells["kd"].span == cells["untrained"].span == pytest.approx((0.384598, 0.507255))
    assert cells["kd"].place(0.384598) == "0.00%" and cells["kd"].sort == 0.40484
    assert "minimises this measure, at temperature 1" in fidelity.remark and texts.remark == ""
    assert fidelity.note.endswith("; both at temperature 0.8, pairs ranked right at temperature 1")
    assert "temperature" not in texts.note
    assert [row[0].text for row in texts.rows][:2] == ["teacher", "teacher (second sample)"]


def test_every_measure_has_its_spread_between_seeds_where_there_are_several() -> None:
    run = with_measures(make_run())
    run["runs"] = run["runs"] * 2
    run["measures"][0] |= {"by_run": [0.4, 0.42], "spread": 0.01414}
    results = as_results(run)
    found = tables.measures(results, results.prompt_sets[0])[0]
    assert said(found, "forward KL: SD of runs") == ["", "0.014 (2 runs)", *["(1 run)"] * 3]
    assert "NLL: SD of runs" in found.columns


def test_every_measure_of_fidelity_has_what_its_variance_is_made_of() -> None:
    run = with_measures(make_run())
    for row in run["measures"]:
        row["components"] = components(prompt=0.18, seed=0.0, residual=0.26)
    results = as_results(run)
    fidelity, texts = tables.measures(results, results.prompt_sets[0])
    assert said(fidelity, "forward KL: SD: prompt / seed / rest")[1] == "0.18 / not seen / 0.26"
    assert said(fidelity, "acceptance: SD: prompt / seed / rest")[1] == "18 / not seen / 26"
    assert not [head for head in texts.columns if "SD:" in head]


def test_a_set_that_nothing_was_measured_on_has_no_table() -> None:
    results = measured(measures=[])
    assert tables.measures(results, results.prompt_sets[0]) == []


def test_each_measure_s_contrasts_are_a_table_and_the_first_is_open() -> None:
    found = tables.measure_contrasts(measured())
    assert [table.folded for table in found] == [False, *[True] * (len(MEASURES) - 1)]
    first = found[0]
    assert first.caption == "Differences of forward KL"
    cell = column(first, "difference in nats a token")[0]
    assert (cell.text, cell.drawn) == ("+0.0025 [+0.0014, +0.0036]", (0.0014, 0.0025, 0.0036))
    assert cell.span == (-0.0036, 0.0036) and cell.band == 0.00172
    words = ["this checkpoint of kd is nearer to the teacher than that of dadpo (†)", "not told apart"]
    assert said(first, "in words")[:2] == words
    assert said(first, "80% power from")[0] == "0.0017 nats a token"
    assert "a family each" in first.note and "not measured for both" in first.note and first.remark == ""
    shares = next(table for table in found if table.caption == "Differences of acceptance")
    assert said(shares, "difference in points")[0] == "+0.25 [+0.14, +0.36]"


def test_a_bound_s_contrasts_are_said_to_be_of_bounds_and_a_declared_first_one_is_open() -> None:
    run = with_measures(make_run(), first_measure="nll")
    run["measured"][0]["bound"] = "lower"
    first, second, *_ = tables.measure_contrasts(as_results(run))
    assert (first.caption, first.folded, second.folded) == ("Differences of NLL", False, True)
    assert second.remark == "A difference of two bounds is no bound of the difference."
    assert said(second, "in words")[0].endswith("nearer to the teacher than that of dadpo by the bound (†)")


def test_anchors_of_a_measure_stand_behind_its_methods() -> None:
    made = [measure_contrast(second="untrained", better="dadpo", family="anchors"), measure_contrast()]
    (found,) = tables.measure_contrasts(measured(measure_contrasts=made))
    assert said(found, "first − second") == ["dadpo − kd", "dadpo − untrained"]


def test_a_board_leaves_out_lengths_that_a_measure_has_of_all_samples() -> None:
    results = measured()
    found = tables.board(results, results.prompt_sets[0])
    assert "tokens" not in found.columns and "cut" not in found.columns and "the teacher's responses" not in found.note
    plain = as_results(make_run())
    assert "tokens" in tables.board(plain, plain.prompt_sets[0]).columns


def test_a_contrast_that_was_not_measured_or_has_no_better_one_says_so() -> None:
    none = dict.fromkeys(("difference", "interval", "p", "p_holm"))
    made = [measure_contrast(**none, better=""), measure_contrast("length", better=""), measure_contrast("repetition")]
    kl, length, loops = tables.measure_contrasts(measured(measure_contrasts=made))
    assert said(kl, "difference in nats a token") == ["none measured"]
    assert said(kl, "in words") == ["no prompt was measured for both"]
    assert said(length, "in words") == ["this checkpoint of dadpo has more than that of kd"]
    assert said(loops, "in words") == ["this checkpoint of kd is better than that of dadpo"]


def test_what_a_row_took_is_told_by_stage() -> None:
    found = tables.costs(measured())
    assert said(found, "method") == ["kd", "dadpo", "ddpo-beta0.15"]
    row = dict(zip(found.columns, (cell.text for cell in found.rows[0]), strict=True))
    assert row == {
        "method": "kd",
        "tokens trained": "98,765",
        "the teacher read": "45,678",
        "the teacher wrote": "6,543",
        "the student wrote": "5,432",
        "seconds on that machine, shared work counted whole": "185",
        "respond, s": "61.2",
        "train, s": "123.5",
        "peak memory": "1.2 GB",
        "device": "cpu",
    }
    assert "of its own training alone" in found.note and found.remark == ""
    apart = tables.costs(measured(costs=[cost_facts("kd", device="H200; cpu")]))
    assert (
        said(apart, "seconds on that machine, shared work counted whole") == said(apart, "train, s") == [""]
        and "no mean" in apart.remark
    )
    unknown = tables.costs(measured(costs=[cost_facts("kd", peak_memory=None)]))
    assert said(unknown, "peak memory") == [""]


def test_what_models_still_can_is_a_row_a_model_and_task() -> None:
    found = tables.retention(measured(retention=[retention("kd", "method"), retention("teacher", "teacher", "facts")]))
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["kd", "sums", "acc,none", "0.412 ± 0.016", "higher", "200"],
        ["teacher", "facts", "acc,none", "0.412 ± 0.016", "higher", "200"],
    ]
