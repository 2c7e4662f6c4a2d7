"""The benchmark of the statistics does all that it says on few verdicts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.statistics import METHODS, SETS, measured, write


def test_every_part_runs_on_few_verdicts(tmp_path: Path) -> None:
    count = METHODS * SETS * 2 * 150
    write(tmp_path / "verdicts.jsonl", count)
    found = measured(str(tmp_path / "verdicts.jsonl"))
    assert (found["verdicts"], found["comparisons"]) == (count, METHODS * SETS)
    assert found["contrasts"] == (METHODS - 1) * (SETS + 1)
    assert found["length_controlled"] == METHODS * SETS
    assert found["seconds"] > 0
