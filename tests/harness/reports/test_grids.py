"""A study in words, and its curves."""

from __future__ import annotations

import json
from math import log10
from typing import Any

import pytest

from harness.reports.charts import BOTTOM, LEFT, RIGHT, TOP
from harness.reports.grids import WIN, Curve, Grid, axes, grids, seeds_in_curves, study_words
from harness.reports.html import render_leaderboard
from harness.statistics.effects import widened
from tests.harness.results_made import as_results, luck, make_run, measure_facts, measure_row, of_seeds, row

Data = dict[str, Any]
KEY, OTHER = "settings.dadpo.beta_teacher", "settings.dadpo.epochs"
BETAS = (0.0, 0.025, 0.05, 0.1)


def a_study(points: list[Data], own: str = "dadpo", measures: bool = True) -> Data:
    """Pooled results of one row at each point, of one that is the same at all of them, and of the start."""
    run = make_run()
    base = {one["name"]: one for one in run["methods"]}
    named = {f"{own} ({', '.join(map(str, point.values()))})": point for point in points}
    run["methods"] = [
        base["kd"],
        *({**base["dadpo"], "name": name, "own_name": own, "point": point} for name, point in named.items()),
    ]
    rates = {"kd": -0.3, "untrained": -0.5, **{name: -0.25 + 0.05 * place for place, name in enumerate(named)}}
    kinds = {"untrained": "untrained"}
    run["rows"] = [
        row(prompt_set, name, kinds.get(name, "method"), "both", 48, rate - shift)
        for prompt_set, shift in (("near", 0.0), ("far", 0.05))
        for name, rate in rates.items()
    ]
    if measures:
        run["measured"], run["first_measure"] = [measure_facts("nll"), measure_facts("forward_kl")], "forward_kl"
        run["measures"] = [
            measure_row(measure, name, kinds.get(name, "method"), "near", 1 - rate)
            for measure in ("nll", "forward_kl")
            for name, rate in rates.items()
        ]
    run["runs"] = [{**run["runs"][0], "name": f"r{place}", "point": point} for place, point in enumerate(points)]
    for name in ("rows", "measures"):
        run[name] = [{**one, "by_run": one["by_run"] * len(points)} for one in run[name]]
    return run


def the(found: Grid, measure: str, prompt_set: str = "near") -> Curve:
    return next(one for one in found.curves if (one.measure, one.prompt_set) == (measure, prompt_set))


def places(found: Curve, line: int = 0) -> list[float]:
    """Where the points of a line stand, from 0 at the left of all ticks to 1 at the right."""
    ticks = [float(x) for x, _ in found.chart.x_ticks]
    return [(float(mark.x) - ticks[0]) / (ticks[-1] - ticks[0]) for mark in found.chart.series[line].marks]


# ---- words


def test_settings_that_go_together_are_one_axis_and_numbers_rise() -> None:
    points = [{KEY: beta, OTHER: epochs, "train_prompts": "x"} for beta, epochs in ((0.1, 1), (0.0, 2), (0.05, 3))]
    assert axes(points) == [[{KEY: 0.0, OTHER: 2}, {KEY: 0.05, OTHER: 3}, {KEY: 0.1, OTHER: 1}]]
    product = [{KEY: beta, OTHER: epochs} for beta in (0.0, 0.1) for epochs in (2, 1)]
    assert axes(product) == [[{KEY: 0.0}, {KEY: 0.1}], [{OTHER: 1}, {OTHER: 2}]]
    words = [{KEY: margin} for margin in ("sft", "own", None)]
    assert axes(words) == [words]


def study(seeds: tuple[int, ...], points: list[Data], **more: Any) -> str:
    run = make_run()
    run["runs"] = [{**run["runs"][0], "seed": seed, "point": point, **more} for seed in seeds for point in points]
    return study_words(as_results(run))


def test_a_study_is_told_by_its_seeds_and_its_grid() -> None:
    grid = [{KEY: beta} for beta in BETAS]
    assert study((2, 0, 1), grid).startswith(
        f"A study of 12 runs: seeds 0, 1, 2 × {KEY} = 0, 0.025, 0.05, 0.1. The seeds of a training are one row."
    )
    assert study((0,), grid).startswith(f"A study of 4 runs: seed 0 × {KEY} = 0, 0.025, 0.05, 0.1. A training that")
    assert study((0, 1), [{}]) == "A study of 2 runs: seeds 0, 1. The seeds of a training are one row."
    assert study((0, 1), [{"judge.name": "x"}]).startswith("A study of 2 runs: seeds 0, 1, all at judge.name=x.")
    zipped = [{KEY: 0.1, OTHER: 2}, {KEY: 0.2, OTHER: 1}]
    assert f"× {KEY}, {OTHER} = 0.1 with 2, 0.2 with 1." in study((0, 1), zipped)
    some = [{KEY: 0.1, OTHER: 2}, {KEY: 0.2, OTHER: 1}, {KEY: 0.1, OTHER: 1}]
    assert "(3 of 4 combinations)" in study((0,), some)


def test_a_run_of_a_study_says_so_and_runs_of_none_say_nothing() -> None:
    assert study((0,), [{KEY: 0.1}]) == f"A run of a study, at {KEY}=0.1."
    assert study((0,), [{}]) == ""
    run = make_run()
    run["runs"] = [{**run["runs"][0], "seed": seed, "command": f"run --seed {seed}"} for seed in (0, 1)]
    assert study_words(as_results(run)) == ""


# ---- curves


def test_each_rate_and_measure_is_drawn_against_a_setting() -> None:
    run = a_study([{KEY: beta} for beta in BETAS])
    (found,) = grids(as_results(run))
    assert found.title == KEY and found.sets == ["near", "far"]
    assert list(found.measures) == ["preference rate", "win rate", "nll", "forward_kl"]
    assert {one.measure for one in found.curves if one.first} == {"preference rate", "forward_kl"}
    assert [one.prompt_set for one in found.curves if one.measure == "nll"] == ["near"]
    shown = the(found, "preference rate")
    assert [one.label for one in shown.chart.series] == ["dadpo"] and shown.chart.x_label == "dadpo.beta_teacher"
    assert [text for _, text in shown.chart.x_ticks] == ["0", "0.025", "0.05", "0.1"]
    assert places(shown) == pytest.approx([0, 0.25, 0.5, 1], abs=0.01)
    assert [mark.title for mark in shown.chart.series[0].marks][1] == "dadpo (0.025): -20.0% [-32.5, -7.5]"
    assert all(mark.low and mark.high for mark in shown.chart.series[0].marks) and shown.chart.series[0].line
    assert [(one.label, one.colour) for one in shown.chart.bands] == [("kd", "c1"), ("untrained", "start")]


def test_everything_lies_inside_the_plot() -> None:
    run = a_study([{KEY: beta} for beta in BETAS])
    for found in grids(as_results(run))[0].curves:
        for mark in found.chart.series[0].marks:
            assert LEFT <= float(mark.x) <= RIGHT
            assert TOP <= float(mark.high) <= float(mark.y) <= float(mark.low) <= BOTTOM
        for band in found.chart.bands:
            assert float(band.top) >= TOP and float(band.top) + float(band.height) <= BOTTOM + 0.1


@pytest.mark.parametrize(
    ("values", "log"),
    [((1e-6, 3e-6, 1e-5), True), ((1e-6, 9e-6), False), ((0.0, 1e-6, 1e-3), False), ((-1.0, 100.0), False)],
)
def test_an_axis_is_logarithmic_where_positive_values_are_far_apart(values: tuple[float, ...], log: bool) -> None:
    (found,) = grids(as_results(a_study([{"training.learning_rate": value} for value in values])))
    shown = the(found, "preference rate")
    assert shown.chart.x_label == "learning_rate" + (" (log)" if log else "")
    scale = [log10(value) if log else value for value in values]
    assert places(shown) == pytest.approx([(one - scale[0]) / (scale[-1] - scale[0]) for one in scale], abs=0.01)


@pytest.mark.parametrize("values", [("own", "sft", "none"), (True, False), (None, 64)])
def test_what_is_no_number_has_categories_without_a_line(values: tuple[Any, ...]) -> None:
    (found,) = grids(as_results(a_study([{KEY: value} for value in values])))
    shown = the(found, "preference rate")
    assert [
        json.loads(text) if text in ("true", "false", "null", "64") else text for _, text in shown.chart.x_ticks
    ] == list(values)
    assert not shown.chart.series[0].line and len(shown.chart.series[0].marks) == len(values)


def test_each_combination_of_other_settings_is_a_line_and_each_axis_has_its_curves() -> None:
    run = a_study([{KEY: beta, OTHER: epochs} for beta in (0.0, 0.1) for epochs in (1, 2, 3)])
    first, second = grids(as_results(run))
    assert [one.label for one in the(first, WIN).chart.series] == [
        f"dadpo (dadpo.epochs={number})" for number in (1, 2, 3)
    ]
    assert [one.label for one in the(second, WIN).chart.series] == [
        f"dadpo (dadpo.beta_teacher={beta})" for beta in ("0", "0.1")
    ]
    assert [len(one.marks) for one in the(second, WIN).chart.series] == [3, 3]


def test_rows_of_another_method_s_setting_are_named_and_not_drawn() -> None:
    run = a_study([{KEY: beta} for beta in (0.0, 0.1)])
    run["methods"][0]["point"] = {"settings.kd.epochs": 3}
    run["runs"] = [{**one, "point": {**one["point"], "settings.kd.epochs": 3}} for one in run["runs"]]
    (found,) = grids(as_results(run))
    assert [one.label for one in the(found, WIN).chart.bands] == ["untrained"]
    assert found.notes == ["Not drawn here, being of another setting: kd."]


def test_a_start_that_is_far_off_squeezes_no_curve() -> None:
    run = a_study([{KEY: beta} for beta in BETAS])
    for one in run["measures"]:
        if one["method"] == "untrained" and one["measure"] == "nll":
            one["value"] = 40.0
    (found,) = grids(as_results(run))
    assert [one.label for one in the(found, "nll").chart.bands] == ["kd"]
    assert [one.label for one in the(found, "forward_kl").chart.bands] == ["kd", "untrained"]


def test_what_seeds_move_is_in_the_intervals_of_rows_that_were_trained() -> None:
    """Three seeds at each of two points; each row stands in three of the six runs."""
    run = a_study([{KEY: beta} for beta in (0.0, 0.1)])
    points = [{KEY: beta} for beta in (0.0, 0.1)]
    run["runs"] = [{**run["runs"][0], "seed": seed, "point": point} for seed in (0, 1, 2) for point in points]
    for one in run["rows"] + run["measures"]:
        place = 1 if "(0.1)" in one["method"] else 0
        one["by_run"] = [0.5 if number % 2 == place else None for number in range(6)]
    assert "hold these checkpoints fixed" in seeds_in_curves(as_results(run))
    run["luck"] = [luck(own=0.03, own_degrees=2, shared=0.1, shared_degrees=2), luck("nll", own=0.0, shared=0.0)]
    results = as_results(run)
    said = seeds_in_curves(results)
    assert "over prompts and seeds" in said and "in those of the win rate, " in said
    (found,) = grids(results)
    low, high = widened(-0.2, (-0.325, -0.075), [(0.03**2 / 3, 2), (0.1**2 / 3, 2)])
    assert (
        f"dadpo (0.1): -20.0% [{100 * low:+.1f}, {100 * high:+.1f}]"
        == the(found, "preference rate").chart.series[0].marks[1].title
    )
    for measure in (WIN, "nll", "forward_kl"):
        alone = the(grids(as_results({**run, "luck": []}))[0], measure)
        assert the(found, measure) == alone  # nothing was seen to move, or nothing is known of it
    (start,) = [one for one in the(found, "preference rate").chart.bands if one.label == "untrained"]
    assert start.title == "untrained: -50.0% [-62.5, -37.5]"


def test_without_a_grid_rows_of_one_method_that_differ_in_one_number_alone_are_a_curve() -> None:
    run = make_run()
    assert grids(as_results(run)) == []
    base = next(entry for entry in run["methods"] if entry["name"] == "dadpo")

    def entry(name: str, beta: float, **settings: Any) -> Data:
        return {**base, "name": name, "settings": {**base["settings"], "beta_teacher": beta, **settings}}

    run["methods"] = [entry("dadpo", 0.05), entry("kd", 0.2), entry("untrained", 0.1, teacher_margin="x")]
    (found,) = grids(as_results(run))
    shown = the(found, "preference rate").chart
    assert (found.title, shown.x_label) == ("settings.dadpo.beta_teacher", "dadpo.beta_teacher")
    assert [(one.label, [mark.title.partition(":")[0] for mark in one.marks]) for one in shown.series] == [
        ("dadpo", ["dadpo", "kd"])
    ]


def test_curves_stand_on_pages_of_boards_too() -> None:
    run = a_study([{KEY: beta} for beta in BETAS])
    page = render_leaderboard([as_results(run), as_results(of_seeds(make_run(), 4, 5))])
    assert page.count("<h3>Curves over settings</h3>") == 1
    assert page.count('data-first="yes"') == 3 and page.count("data-measure=") == 6
    assert page.count('hidden=""') == 3
