"""Rows of what was measured: whose, in which order, and with what."""

from __future__ import annotations

from harness.reports import measured as m
from tests.harness.results_made import FIXED, MEASURES, RANKED, as_results, cost_facts, make_run, with_measures


def test_rows_stand_in_the_order_of_the_board_behind_the_teacher() -> None:
    for ranked, order in ((False, FIXED), (True, RANKED)):
        results = as_results(with_measures(make_run(ranked=ranked)))
        assert [row.method for row in m.systems(results, "near", "text")] == ["teacher", *order]
        students = [name for name in order if name != "teacher (second sample)"]
        assert [row.method for row in m.students(results, "near", "fidelity")] == students


def test_a_row_has_the_measures_of_its_group_alone() -> None:
    results = as_results(with_measures(make_run()))
    fidelity = {row.method: row for row in m.systems(results, "near", "fidelity")}
    texts = {row.method: row for row in m.systems(results, "near", "text")}
    assert set(fidelity["teacher"].values) == {"nll"}
    assert set(texts["kd"].values) == {name for name, _, group, *_ in MEASURES if group == "text"}


def test_a_row_that_nothing_was_measured_of_is_not_there() -> None:
    results = as_results({**make_run(), "costs": [cost_facts("kd")]})
    assert m.systems(results, "near", "text") == m.systems(results, "near", "fidelity") == []


def test_measures_are_those_that_a_row_has_and_contrasts_those_of_a_measure() -> None:
    results = as_results(with_measures(make_run()))
    text = m.of_group(results, "text")
    assert m.present(text, m.systems(results, "near", "fidelity")) == []
    assert [facts.name for facts in m.compared(results)] == [name for name, *_ in MEASURES]
    declared = results.model_copy(update={"first_measure": "nll"})
    assert [facts.name for facts in m.compared(declared)][:2] == ["nll", "forward_kl"]
    assert m.own_losses(results, "forward_kl") == {"kd"} and m.own_losses(results, "nll") == set()
    assert m.is_measured(results, "near", "length") and not m.is_measured(results, "nowhere", "length")
    assert m.seconds(results.costs[0]) == 184.75
    assert m.seconds(results.costs[0].model_copy(update={"device": "a; b"})) is None
    assert {found.measure for found in m.contrasts_of(results, "nll")} == {"nll"}
    assert dict(m.of_teacher(as_results(make_run()), results.prompt_sets[0], "text")) == {}
