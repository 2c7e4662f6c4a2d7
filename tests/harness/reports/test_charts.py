"""The charts of a report: ticks, geometry, and which charts a run has."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import pytest

from harness.core.records import Verdict
from harness.reports.charts import (
    COLOURS,
    MOST_POINTS,
    Series,
    chart,
    clouds,
    colours,
    curves,
    lengths,
    short_name,
    systems,
    thinned,
    ticks,
)
from tests.harness.results_made import as_results, make_run
from tests.harness.tabular import BOTH

METHODS = ["kd", "dadpo", "ddpo-beta0.15", "untrained", "teacher (second sample)"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-105, 105, [-100, -50, 0, 50, 100]),
        (1, 15, [5, 10, 15]),
        (0.1, 0.1004, [0.1, 0.1001, 0.1002, 0.1003, 0.1004]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_chart_leaves_out_what_is_not_finite_and_bears_a_single_point() -> None:
    broken = chart("t", "x", "y", [Series("s", "c0", [(1, nan), (2, inf), (3, 4.0)])])
    assert [mark.title for mark in broken.series[0].marks] == ["s: 3, 4"]
    assert broken.series[0].line == ""
    assert "nan" not in json.dumps([broken.x_ticks, broken.y_ticks])


def test_points_and_intervals_lie_where_the_axes_say() -> None:
    drawn = chart("t", "x", "y", [Series("s", "c0", [(0, 0.0), (1, 1.0)], spread=[(-0.5, 0.5), None])], (-1.0, 1.0))
    places = {text: float(place) for place, text in drawn.y_ticks}
    first, second = drawn.series[0].marks
    assert float(first.y) == places["0"] == float(drawn.zero)
    assert float(second.y) == places["1"]
    assert (float(first.low), float(first.high)) == (places["−0.5"], places["0.5"])
    assert (second.low, second.high) == ("", "")


def test_long_curves_are_thinned_to_means() -> None:
    assert thinned([(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)], most=3) == [(1.5, 2), (3.5, 6), (5, 9)]
    assert thinned([]) == []
    assert len(thinned([(step, 0.0) for step in range(100_000)])) <= MOST_POINTS


def test_every_system_has_one_colour_and_untrained_ones_are_grey() -> None:
    run = make_run()
    assert systems(as_results(run)) == METHODS
    assert colours(as_results(run)) == dict(zip(METHODS, ["c0", "c1", "c2", "start", "ceiling"], strict=True))
    run["rows"] += [{**run["rows"][0], "method": f"m{place}", "kind": "method"} for place in range(COLOURS)]
    assert set(colours(as_results(run)).values()) == {*(f"c{place}" for place in range(COLOURS)), "start", "ceiling"}


def test_curves_are_drawn_a_training_in_the_order_of_the_run() -> None:
    pairs = [{"step": step, "loss": 1 / step, "margin": step / 9, "accuracy": 0.5} for step in range(1, 6)]
    for row in pairs:
        row |= {"log_prob_chosen": -100 - row["step"], "log_prob_rejected": -150 - row["step"]}
    found = curves(as_results(make_run()), {"other": [], "dadpo": pairs, "kd": [{"step": 1, "loss": 2.0}]})
    assert [(name, [one.title for one in drawn]) for name, drawn in found] == [
        ("kd", ["loss"]),
        ("dadpo", ["loss", "log-probs", "margins", "accuracy"]),
        ("other", []),
    ]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["log_prob"], {"log-probs": {"response": "c0"}}),
        (
            ["log_prob_chosen", "log_prob_rejected", "shift_chosen", "shift_rejected", "margin"],
            {
                "log-probs": {"chosen": "c0", "rejected": "c1"},
                "margins": {"margin": "c2", "chosen": "c0", "rejected": "c1"},
            },
        ),
        # four samples of one student, by roles of a plug-in's own names
        (
            [f"log_prob_{role}" for role in ("a", "b", "c", "d")],
            {"log-probs": {"a": "c0", "b": "c1", "c": "c3", "d": "c4"}},
        ),
        (
            ["log_prob", "fresh", "ended", "response_tokens", "state_t", "state_momentum"],
            {
                "log-probs": {"response": "c0"},
                "fresh responses": {"of examples": "c0", "of these, ended of themselves": "c1"},
                "their length": {"fresh response": "c0"},
                "state_t": {"state_t": "c0"},
                "state_momentum": {"state_momentum": "c0"},
            },
        ),
    ],
)
def test_a_training_is_plotted_by_its_roles(metrics: list[str], expected: dict[str, dict[str, str]]) -> None:
    rows = [{"step": step, **dict.fromkeys(metrics, 0.5)} for step in (1, 2)]
    # steps without a fresh response say nothing of any
    ((_, drawn),) = curves(as_results(make_run()), {"kd": [*rows, {"step": 3}]})
    assert {one.title: {line.label: line.colour for line in one.series} for one in drawn} == expected
    assert all(line.line.count(",") == 2 for one in drawn for line in one.series)


def test_what_is_no_number_is_not_plotted() -> None:
    rows: list[dict[str, Any]] = [{"step": 1, "loss": "x"}, {"step": None, "loss": 1.0}, {"loss": 1.0}, {"step": 2}]
    assert curves(as_results(make_run()), {"kd": [*rows, {"step": 3, "loss": nan}]}) == [("kd", [])]


def test_lengths_are_a_chart_a_set_with_the_teacher_s_as_a_rule() -> None:
    run = make_run()
    for row in run["rows"]:
        if row["method"] == "kd":
            row["mean_tokens"] = None
    near, far = lengths(as_results(run))
    assert (near.title, far.title) == ("near", "far")
    assert [one.label for one in near.series] == [name for name in near_order(run) if name != "kd"]
    assert near.rule_label == "teacher: 72 tokens"
    run["prompt_sets"][0]["teacher"]["mean_tokens"] = None
    assert lengths(as_results(run))[0].rule == ""


def near_order(run: dict[str, Any]) -> list[str]:
    place = {"ceiling": 0, "method": 1, "control": 2, "untrained": 3}
    rows = [row for row in run["rows"] if row["prompt_set"] == "near" and row["judge"] == "both"]
    return [row["method"] for row in sorted(rows, key=lambda row: place[row["kind"]])]


def verdict(prompt: str, system: str, preference: float | None, **values: Any) -> Verdict:
    return Verdict(
        prompt_set="near",
        prompt_id=prompt,
        candidate=system,
        reference="teacher",
        status="ok" if preference is not None else "failed",
        preference=preference,
        judge="both",
        **{"order": "none", **values},
    )


def test_clouds_are_in_characters_where_tokens_are_not_known() -> None:
    lengths_ = {"candidate_characters": 50, "reference_characters": 40}
    for more, said in (
        ({"candidate_tokens": 9, "reference_tokens": 12}, "−3 tokens"),
        ({}, "+10 characters"),
    ):
        found = clouds(as_results(make_run()), {("near", "kd"): [verdict("p", "kd", 0.5, **lengths_, **more)]})
        assert [cloud.title for cloud in found] == ["kd"]
        assert found[0].x_label == f"{said.split()[1]} more than the teacher"
        assert found[0].series[0].marks[0].title.replace("-", "−").startswith(said)


def test_a_cloud_has_the_mean_of_a_prompt_s_verdicts_and_no_prompt_that_lacks_one() -> None:
    sized = {"candidate_tokens": 9, "reference_tokens": 12}
    said = [("a", (1.0, 0.0)), ("b", (1.0, None))]
    verdicts = [
        verdict(name, "kd", preference, order=order, **sized)
        for name, both in said
        for order, preference in zip(BOTH, both, strict=True)
    ]
    (found,) = clouds(as_results(make_run()), {("near", "kd"): verdicts})
    assert [mark.title for mark in found.series[0].marks] == ["-3 tokens, preference 0.5"]
    many = [verdict(f"p{place}", "kd", 1.0, **sized) for place in range(3 * MOST_POINTS)]
    (found,) = clouds(as_results(make_run()), {("near", "kd"): many})
    assert len(found.series[0].marks) == MOST_POINTS
    assert found.series[0].label == f"{MOST_POINTS} of {3 * MOST_POINTS} prompts"


def test_a_row_that_is_named_by_settings_is_short_by_their_values_and_keeps_its_end() -> None:
    run = make_run()
    base = run["methods"][0]
    names = ("kd (beta_teacher=0.025)", "kd (beta_teacher=0.05)", "kd (learning_rate=1e-05, beta_teacher=0.025)")
    run["methods"] = [{**base, "name": name, "own_name": "kd"} for name in names] + [base]
    short = [short_name(as_results(run), name, 12) for name in (*names, "kd", "a name without end", "a name")]
    assert short == ["kd (0.025)", "kd (0.05)", "kd (… 0.025)", "kd", "a name with…", "a name"]
    run["methods"] = [{**base, "name": f"kd ({key}=0.1)", "own_name": "kd"} for key in ("alpha", "beta_teacher")]
    assert [short_name(as_results(run), one["name"], 12) for one in run["methods"]] == [
        "kd (…ha=0.1)",
        "kd (…er=0.1)",
    ]
