"""Curves along a response, and what the token view reads."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.tokens import FEWEST, along, positions, token_island
from harness.results.tokens import Positions, TokenData
from tests.harness.results_made import as_results, make_run, token_data, with_measures

RESULTS = as_results(with_measures(make_run()))


def place(**values: Any) -> Positions:
    found = {"prompt_set": "near", "method": "kd", "writer": "teacher", "kl": [1.0, 3.0, 2.0], "n": [9, 9, 9]}
    return Positions.model_validate({**found, **values})


def test_a_curve_is_that_of_places_that_enough_responses_reach() -> None:
    assert along(place()) == [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]
    assert along(place(n=[9, FEWEST, FEWEST - 1])) == [(1.0, 1.0), (2.0, 3.0)]
    assert along(place(n=[1, 1, 1])) == []


def test_a_long_response_is_a_curve_of_means_by_the_number_of_responses() -> None:
    found = along(place(kl=[1.0, 3.0, 2.0, 6.0], n=[30, 10, 10, 10]), most=2)
    assert found == [pytest.approx((1.25, 1.5)), pytest.approx((3.5, 4.0))]
    assert len(along(place(kl=[1.0] * 1000, n=[9] * 1000))) == 40


def test_the_teacher_s_responses_and_the_students_own_are_charts_apart() -> None:
    charts = positions(RESULTS, TokenData.model_validate(token_data()))
    assert [(chart.title, chart.y_label) for chart in charts] == [
        ("near: the teacher's responses", "forward KL, nats"),
        ("near: the students' own responses", "reverse KL, nats"),
    ]
    assert [[(one.label, one.colour) for one in chart.series] for chart in charts] == [
        [("kd", "c0"), ("dadpo", "c1")],
        [("kd", "c0")],
    ]
    assert positions(RESULTS, TokenData()) == []


def test_the_view_reads_values_in_three_digits_and_systems_in_their_colours() -> None:
    data = token_data()
    data["views"][0]["kl"] = {"kd": [0.12345] * 7}
    island = token_island(RESULTS, TokenData.model_validate(data))
    assert island["views"][0]["kl"] == {"kd": [0.123] * 7}
    assert island["systems"][0] == ["kd", "c0"] and island["teacher"] == "teacher"
    assert len(island["departures"]) == 9
