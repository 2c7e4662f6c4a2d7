"""The real pair that a package ships, from its file to a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.generation.protocol import Sampling
from harness.models.specs import models
from harness.run import trainings
from tests.conftest import Run

pytestmark = pytest.mark.slow


def test_the_embedded_pair_end_to_end(tmp_path: Path, cli: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short everywhere: the student is pruned by two responses of a few tokens, where a real one is by more."""
    name = "smollm2-135m-pruned20"
    spec = models.get(name)
    assert spec.prune
    few = spec.prune.model_copy(update={"calibration": 2})
    monkeypatch.setitem(models._all(), name, spec.model_copy(update={"prune": few}))
    monkeypatch.setattr(trainings, "CALIBRATION_SAMPLING", Sampling(max_new_tokens=8))
    arguments = ["--preset", "embedded", "--limit", "2", "--eval", "everyday-test"]
    arguments += ["--set", "train_sampling.max_new_tokens=12", "--set", "eval_sampling.max_new_tokens=12"]
    out = tmp_path / "out"
    log = run(arguments, out, tmp_path / "s", "dadpo")
    assert "134,515,008 → 107,143,488 parameters (-20.3%), MLP width 1536 → 1008" in log
    results = json.loads((out / "results.json").read_text())
    assert {row["method"] for row in results["rows"] if row["kind"] == "control"} == {"ddpo-beta0.15"}
    board = (out / "leaderboard.md").read_text()
    assert "No row is told from the next" in board and "declared proxies" in board
    assert "\n0 of " in "\n" + run(arguments, out, tmp_path / "s", "dadpo")
    assert cli("leaderboard", out, "--out", tmp_path / "b.md").status == 0
    assert (tmp_path / "b.md").read_text() == board
