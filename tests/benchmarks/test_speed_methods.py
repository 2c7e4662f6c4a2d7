"""The table of what a step of each method costs: its rows, and how it is gone on with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.speed.methods import TABLE, main
from harness.methods import methods
from harness.methods.costs import read_costs, step_costs


def test_the_table_that_is_read_has_every_method() -> None:
    if not TABLE.exists():
        pytest.skip("nothing was measured yet")
    assert list(step_costs()) == methods.names()
    assert step_costs()["sft"].relative == 1


@pytest.mark.slow
def test_methods_beside_sft_one_by_one_and_none_twice(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "methods.csv"
    command = ["methods", "--model", str(checkpoints["llama"]), "--steps", "2", "--table", str(table)]
    monkeypatch.setattr(sys, "argv", [*command, "--methods", "sft,ddpo,opd"])
    main()
    rows = {row.method: row for row in read_costs(table)}
    assert list(rows) == ["ddpo", "opd", "sft"]
    assert rows["sft"].relative == 1 and rows["ddpo"].sampling_s == 0 < rows["opd"].sampling_s
    assert {row.batch for row in rows.values()} == {4}
    assert rows["sft"].tokens == 4 * 128 and rows["ddpo"].tokens == 2 * 192  # a pair has its prompt once
    assert all(row.relative > 0 and row.training_s > 0 and row.machine for row in rows.values())

    capsys.readouterr()
    monkeypatch.setattr(methods, "names", lambda: ["ddpo", "kd", "opd", "sft"])
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["kd"]
    assert [row.method for row in read_costs(table)] == ["ddpo", "kd", "opd", "sft"]
