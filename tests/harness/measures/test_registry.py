"""Measures by name, all that is said of each, and those of plug-ins."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harness.measures
from harness.core import registry as core
from harness.core.errors import UserError
from harness.judging.proxies import JUDGES
from harness.measures import Measure, measures
from harness.measures.length import LENGTH
from harness.measures.measure import GROUPS, READS
from harness.measures.registry import APART, MeasureRegistry, fault, load_measures
from harness.models.specs import models

FILES = sorted({module.name for module in pkgutil.iter_modules(harness.measures.__path__)} - {*APART})


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_apart_holds_a_measure(file: str) -> None:
    """Which nothing else has to name: it is known by its file."""
    values = vars(importlib.import_module(f"harness.measures.{file}")).values()
    found = [value for value in values if isinstance(value, Measure)]
    assert found
    for measure in found:
        assert measures.get(measure.name) is measure
        assert measure.group in (*GROUPS, None)


@pytest.mark.parametrize("name", measures.names())
def test_a_measure_has_all_of_its_words(name: str) -> None:
    measure = measures.get(name)
    assert fault(measure) == ""
    for words in (measure.summary, measure.misses, measure.unit):
        assert words == words.strip() and not words.endswith(".")


def test_a_bound_is_on_the_side_of_models_that_are_nearer() -> None:
    """Outcomes that are lumped together bring two distributions nearer, never apart."""
    bounded = {name: measure for name, measure in measures.items() if measure.bound != "exact"}
    assert bounded.keys() >= {"forward_kl", "reverse_kl", "acceptance"}
    for measure in bounded.values():
        assert measure.reads in ("teacher_tokens", "own_tokens")
        assert (measure.bound, measure.better) in (("lower", "lower"), ("upper", "higher"))


def test_a_measure_under_a_model_names_one_that_is_known() -> None:
    named = {name: measure.model for name, measure in measures.items() if measure.model}
    assert named["embedding"] == "all-minilm-l6-v2"
    assert all(model in models for model in named.values())


def test_what_no_table_shows_is_what_proxies_read() -> None:
    unshown = {name for name, measure in measures.items() if measure.group is None}
    assert {name for judge in JUDGES for name in judge.measures} == unshown


def test_a_measure_that_is_none_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown measure 'embeding'; did you mean 'embedding'"):
        measures.get("embeding")


# ---- a file beside the others


def test_a_name_is_one_measure_s_and_a_file_may_import_another_s(more_measures: Path) -> None:
    (more_measures / "again.py").write_text("from harness.measures.length import LENGTH\n")
    assert set(load_measures()) == set(measures.names())
    code = "from dataclasses import replace\nfrom harness.measures.length import LENGTH\nOWN = replace(LENGTH)\n"
    (more_measures / "other.py").write_text(code)
    with pytest.raises(UserError, match=r"^harness/measures/other\.py: the measure 'length' is defined twice$"):
        load_measures()


def test_a_file_s_measure_is_looked_at_as_a_plug_in_s_is(more_measures: Path) -> None:
    code = "from harness.measures import Measure\nOWN = Measure('own', 'responses', len, 'what', 'all')\n"
    (more_measures / "own.py").write_text(code)
    with pytest.raises(UserError, match=r"^harness/measures/own\.py: the measure 'own' has no unit, which every table"):
        load_measures()


# ---- those of plug-ins

OWN = replace(LENGTH, name="own")
READABLE = ", ".join(map(repr, READS))


def with_plug_in(monkeypatch: pytest.MonkeyPatch, name: str, entry: Any) -> MeasureRegistry:
    """A registry as it is where a plug-in is installed."""

    def entry_points(group: str) -> list[SimpleNamespace]:
        assert group == "dadpo_harness.measures"
        return [SimpleNamespace(name=name, load=lambda: entry)]

    monkeypatch.setattr(core, "entry_points", entry_points)
    return MeasureRegistry("measure", load_measures)


def test_a_plug_in_s_measure_stands_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_plug_in(monkeypatch, "own", OWN)
    assert found.get("own") is OWN
    assert set(found.names()) == {*measures.names(), "own"}


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("own", lambda: None, "measure 'own' of a plug-in is no harness.measures.Measure"),
        ("own", Measure, "measure 'own' of a plug-in is no harness.measures.Measure"),
        ("other", OWN, "the entry point 'other' of a plug-in holds the measure 'own'"),
        ("length", LENGTH, "measure 'length' is registered twice"),
        ("own", replace(OWN, unit=""), "measure 'own' of a plug-in has no unit, which every table says"),
        ("own", replace(OWN, misses=" "), "measure 'own' of a plug-in has no misses, which every table says"),
        ("own", replace(OWN, summary=""), "measure 'own' of a plug-in has no summary, which every table says"),
        ("own", replace(OWN, reads="weights"), f"has reads = 'weights', which is none of {READABLE}"),  # type: ignore[arg-type]
        ("own", replace(OWN, group="taste"), "has group = 'taste', which is none of 'fidelity', 'text', None"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_measure_is_refused_in_one_line(
    name: str, entry: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as refused:
        with_plug_in(monkeypatch, name, entry).names()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
