"""The benchmark of the statistics does all that it says on few verdicts; intervals cover, and naive ones do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.statistics import METHODS, SETS, WIN_RATES, coverage, measured, write


def test_every_part_runs_on_few_verdicts(tmp_path: Path) -> None:
    count = METHODS * SETS * 2 * 150
    write(tmp_path / "verdicts.jsonl", count)
    found = measured(str(tmp_path / "verdicts.jsonl"))
    assert (found["verdicts"], found["comparisons"]) == (count, METHODS * SETS)
    assert found["contrasts"] == (METHODS - 1) * (SETS + 1)
    assert found["length_controlled"] == METHODS * SETS
    assert found["seconds"] > 0


@pytest.mark.parametrize("win", WIN_RATES)
def test_nominal_95_percent_intervals_cover_where_naive_ones_do_not(win: float) -> None:
    """500 data sets of 400 prompts: two standard errors are 2 points around 93 to 97%."""
    held = coverage(400, win, 500)
    for name in ("win rate", "preference rate", "mean preference"):
        assert 0.91 <= held[name] <= 0.99
        assert held[f"{name}, naive"] < held[name]
    assert held["win rate, naive"] < 0.90 and held["preference rate, naive"] < 0.90
