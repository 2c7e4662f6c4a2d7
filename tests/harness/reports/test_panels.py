"""Small multiples: which panels a set has, what lies where, and which lines are drawn."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.panels import LEFT, LONGEST, RIGHT, Panel, panels
from tests.harness.results_made import MEASURES, as_results, make_run, measure_row, with_measures


def panel(run: dict[str, Any], title: str, prompt_set: str = "near") -> Panel:
    return next(found for found in panels(as_results(run), prompt_set) if found.title == title)


def changed(measure: str, **rows: dict[str, Any]) -> dict[str, Any]:
    """A run in which rows of a measure on `near` have these values."""
    run = with_measures(make_run())
    for found in run["measures"]:
        if found["measure"] == measure and found["prompt_set"] == "near":
            found.update(rows.get(found["method"], {}))
    return run


def test_a_set_has_a_panel_of_the_judge_s_rates_and_one_a_measure() -> None:
    titles = [found.title for found in panels(as_results(with_measures(make_run())), "near")]
    assert titles == ["preference rate", *(head for _, head, *_ in MEASURES)]
    assert [found.title for found in panels(as_results(make_run()), "near")] == ["preference rate"]


def test_each_method_is_a_row_with_its_interval_and_its_words() -> None:
    found = panel(with_measures(make_run()), "forward KL")
    assert [(row.name, row.colour, row.title) for row in found.rows] == [
        ("kd", "c0", "kd: 0.405 [0.385, 0.425] †"),
        ("dadpo", "c1", "dadpo: 0.410 [0.390, 0.431]"),
        ("ddpo-beta0.15", "c2", "ddpo-beta0.15: 0.411 [0.391, 0.432]"),
    ]
    for row in found.rows:
        assert LEFT <= float(row.low) < float(row.x) < float(row.high) <= RIGHT
    assert float(found.rows[0].x) < float(found.rows[1].x)  # a smaller value lies further left
    assert found.note == "nats a token; lower is better"
    assert panel(with_measures(make_run()), "acceptance").note == "share of tokens, %; higher is better"
    assert found.said.startswith("kd 0.405 [0.385, 0.425] †; dadpo")
    assert [row.short for row in found.rows] == ["kd †", "dadpo", "ddpo-beta0.15"]  # it is its own loss
    assert panel(with_measures(make_run()), "tokens").note.endswith("; to be held against the teacher's own")


def test_a_bound_is_one_in_a_panel_too() -> None:
    run = with_measures(make_run())
    run["measured"][0]["bound"] = "lower"
    found = panel(run, "forward KL")
    assert found.rows[1].title == "dadpo: ≥ 0.410 [0.390, 0.431]"
    assert found.lines[0].label.startswith("the untrained student: ≥ 0.483")


def test_the_untrained_student_and_the_teacher_are_lines() -> None:
    texts = {line.kind: line for line in panel(with_measures(make_run()), "tokens").lines}
    assert set(texts) == {"start", "ceiling", "teacher"}
    assert texts["start"].label == "the untrained student: 40.2 [38.2, 42.3]" and texts["start"].place
    assert texts["ceiling"].label.startswith("the teacher's second sample: ")
    assert texts["teacher"].label == "the teacher's own: 28.2 [26.8, 29.6]"
    low, high = texts["start"].band or ("", "")
    assert float(low) < float(texts["start"].place) < float(high)
    fidelity = {line.kind: line.label for line in panel(with_measures(make_run()), "NLL").lines}
    assert fidelity["teacher"].startswith("the teacher's own: 1.21")  # its entropy
    judged = {line.kind: line.label for line in panel(with_measures(make_run()), "preference rate").lines}
    assert judged["teacher"] == "parity with the teacher: 0" and set(judged) == {"start", "ceiling", "teacher"}


@pytest.mark.parametrize(("value", "place"), [(0.40, "0"), (0.01, ""), (0.05, "")])
def test_a_line_that_would_press_the_rows_together_is_named_instead(value: float, place: str) -> None:
    near = {"value": value, "interval": [value * 0.98, value * 1.02]}
    far = {"value": 0.4, "interval": [0.39, 0.41]}
    run = changed("forward_kl", untrained=near, kd=far, dadpo=far, **{"ddpo-beta0.15": far})
    start = next(line for line in panel(run, "forward KL").lines if line.kind == "start")
    assert bool(start.place) == bool(place)
    if not place:
        assert start.label.endswith(", to the left") and start.band is None


def test_the_best_that_can_be_is_drawn_where_it_is_near() -> None:
    low = {"value": 0.02, "interval": [0.01, 0.03]}
    run = changed("forward_kl", kd=low, dadpo=low, untrained=low, **{"ddpo-beta0.15": low})
    best = next(line for line in panel(run, "forward KL").lines if line.kind == "teacher")
    assert (best.label, bool(best.place)) == ("at best: 0", True)
    labels = {found.title: [line.label for line in found.lines] for found in panels(as_results(run), "near")}
    assert any(label.startswith("at best: 100%") for label in labels["acceptance"])
    assert not any(label.startswith("at best") for label in labels["accepted length"] + labels["tokens"])


def test_a_value_without_width_still_has_a_range() -> None:
    same = {"value": 1.0, "interval": None}
    run = changed("forward_kl", kd=same, dadpo=same, untrained=same, **{"ddpo-beta0.15": same})
    rows = panel(run, "forward KL").rows
    assert {row.x for row in rows} == {row.low for row in rows} == {row.high for row in rows}
    assert len(panel(run, "forward KL").x_ticks) > 1


def test_a_measure_that_no_method_has_has_no_panel() -> None:
    run = with_measures(make_run(), measures=[measure_row("forward_kl", "untrained", "untrained", "near", 0.5)])
    assert [found.title for found in panels(as_results(run), "near")] == ["preference rate"]


def test_a_long_name_is_cut_and_said_whole_in_its_title() -> None:
    name = "a-method-with-a-name-of-some-length"
    run = with_measures(make_run())
    for found in [*run["rows"], *run["measures"]]:
        found["method"] = name if found["method"] == "kd" else found["method"]
    row = panel(run, "forward KL").rows[0]
    assert len(row.short) == LONGEST and row.short.endswith("… †") and row.title.startswith(f"{name}: ")
