"""Every method there is through the one loop, onto one board; and none of it by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.methods import methods
from harness.results.reading import read_results
from harness.training.loop import CHECKPOINT
from tests.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arguments(checkpoints: dict[str, Path]) -> list[str]:
    tiny = [*("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"]))]
    measured = ["--measures", "forward_kl,length", "--judge", "typicality"]
    return ["--preset", "quick", *tiny, "--controls", "none", *measured]


def test_all_methods_are_rows_of_one_board(arguments: list[str], run: Run, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    run(arguments, out, store, "all")
    rows = {row.method for row in read_results(out).rows if row.kind == "method"}
    assert rows == set(methods.names())
    board = (out / "leaderboard.md").read_text()
    for name in methods.names():
        assert f"| {name} " in board
    trained: dict[str, Any] = {}
    for path in store.glob("train/*/manifest.json"):
        manifest = json.loads(path.read_text())
        trained[manifest["job"]["method"]] = manifest["facts"]
        assert not (path.parent / CHECKPOINT).exists()
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == manifest["facts"]["steps"] > 0
        assert lines[-1]["tokens"] == manifest["facts"]["tokens"] > 0
    assert trained.keys() == set(methods.names())
    fresh = {name for name, facts in trained.items() if facts.get("fresh_tokens")}
    assert fresh == {
        name for name in methods.names() if methods.get(name).fresh_share(methods.get(name).settings()) > 0
    }
