"""Curves along a response, and what the token view reads."""

from __future__ import annotations

from typing import Any

from harness.reports.tokens import FEWEST, along, positions, reaching, token_island
from harness.results.tokens import Positions, TokenViews
from tests.harness.results_made import as_results, make_run, token_views, with_measures

RESULTS = as_results(with_measures(make_run()))


def place(**values: Any) -> Positions:
    found = {
        "prompt_set": "near",
        "method": "kd",
        "writer": "teacher",
        "width": 1,
        "total": [10, 30, 20],
        "count": [10] * 3,
    }
    return Positions.model_validate({**found, **values})


def test_a_curve_is_that_of_places_that_enough_responses_reach() -> None:
    assert along(place()) == [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]
    assert along(place(count=[10, FEWEST, FEWEST - 1])) == [(1.0, 1.0), (2.0, 6.0)]
    assert along(place(count=[1, 1, 1])) == []


def test_places_that_were_taken_together_stand_in_their_middle() -> None:
    assert along(place(width=4, total=[60, 20], count=[40, 20])) == [(2.5, 1.5), (6.5, 1.0)]


def test_how_many_responses_reach_a_place_is_said() -> None:
    rows = [place(width=2, count=[20, 14, 2]), place(width=2, count=[18, 10])]
    assert reaching(rows[:1]) == "10 responses at the first place, 7 at the last"
    assert reaching(rows) == "9–10 responses at the first place, 5–7 at the last"


def test_the_teacher_s_responses_and_the_students_own_are_charts_apart() -> None:
    charts = positions(RESULTS, TokenViews.model_validate(token_views()))
    assert [(chart.title, chart.y_label) for chart in charts] == [
        ("near: the teacher's responses", "forward KL, nats; 9 responses at the first place, 9 at the last"),
        ("near: the students' own responses", "reverse KL, nats; 9 responses at the first place, 9 at the last"),
    ]
    assert [[(one.label, one.colour) for one in chart.series] for chart in charts] == [
        [("kd", "c0"), ("dadpo", "c1")],
        [("kd", "c0")],
    ]
    assert positions(RESULTS, TokenViews()) == []


def test_the_view_reads_values_in_three_digits_and_systems_in_their_colours() -> None:
    data = token_views()
    data["views"][0]["kl"] = {"kd": [0.12345] * 7}
    island = token_island(RESULTS, TokenViews.model_validate(data))
    assert island["views"][0]["kl"] == {"kd": [0.123] * 7}
    assert island["systems"][0] == ["kd", "c0"] and island["teacher"] == "teacher"
    assert len(island["departures"]) == 9
