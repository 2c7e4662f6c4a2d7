"""The speed benchmark does the same work on both sides; what it measures is not tested."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed.train import Side, agree, in_float32, main, summary
from benchmarks.speed.workload import FIRST_ID, METHODS, MethodName, Workload, make_rows


def workload(method: MethodName = "ddpo", count: int = 8) -> Workload:
    rows = make_rows(method, count, 500, (3, 9), (1, 7), seed=0)
    return Workload(method, rows, 4, 1e-5, "bf16", "student", "teacher")


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_as_long_as_asked_and_the_same_for_the_same_seed(method: MethodName) -> None:
    rows = make_rows(method, 50, 500, (3, 9), (1, 7), seed=0)
    assert rows == make_rows(method, 50, 500, (3, 9), (1, 7), seed=0)
    assert rows != make_rows(method, 50, 500, (3, 9), (1, 7), seed=1)
    k = 2 if method in ("ddpo", "dadpo") else 1
    for row in rows:
        assert 3 <= len(row.prompt) <= 9 and len(row.responses) == len(row.teacher) == k
        assert all(1 <= len(response) <= 7 for response in row.responses)
        assert all(FIRST_ID <= token < 500 for ids in (row.prompt, *row.responses) for token in ids)
    assert {len(row.prompt) for row in rows} == set(range(3, 10))


def test_a_workload_travels_as_json() -> None:
    work = workload()
    assert Workload.from_json(json.loads(json.dumps(work.to_json()))) == work
    assert work.steps == 2


def test_the_first_step_is_not_counted() -> None:
    work = workload()
    facts = {"seconds": [100.0, 2.0], "peak_mb": 7.0, "reference_seconds": 1.0, "name": "x"}
    found = summary(work, facts)
    assert found["pairs_per_s"] == 2.0
    assert found["tokens_per_s"] == sum(row.tokens for row in work.rows[4:]) / 2


def test_losses_agree_within_a_thousandth() -> None:
    assert agree([0.6931, 2.0], [0.6932, 2.001])
    assert not agree([0.6931, 2.0], [0.6931, 2.01])
    assert agree([], [])


def test_the_float32_check_is_small_and_uncompiled() -> None:
    found = in_float32(replace(workload(), compile=True))
    assert found.precision == "fp32" and not found.compile and found.steps == 3


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that is done takes the next workload of its side: the memory of each workload, for which every one has
    a worker of its own, is not tested."""
    start, end = Side.start, Side.end
    idle: list[tuple[str, Side]] = []
    sides: list[tuple[str, Side]] = []

    def take(side: str) -> Side:
        found = next((one for one in idle if one[0] == side), None)
        if found is None:
            sides.append((side, start(side)))
            return sides[-1][1]
        idle.remove(found)
        return found[1]

    monkeypatch.setattr(Side, "start", take)
    monkeypatch.setattr(Side, "end", lambda worker: idle.extend(one for one in sides if one[1] is worker))
    yield
    for _, worker in sides:
        end(worker)


@pytest.mark.slow
def test_both_sides_train_a_tiny_pair_and_agree(
    checkpoints: dict[str, Path], tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    out = tmp_path / "speed.json"
    command = ["train", "--model", str(checkpoints["llama"]), "--pairs", "8", "--json", str(out), "--no-compile"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    found = json.loads(out.read_text())
    for method in METHODS:
        for side in ("ours", "peer"):
            assert found[side][method]["pairs_per_s"] > 0 and found[side][method]["peak_mb"] > 0
        assert set(found["ratio"][method]) == {"speed", "speed_median", "memory"}
        assert agree(**found["losses"][method])
    assert found["peer"]["name"].startswith("trl ")
    assert found["ratio"]["dadpo_to_ddpo"]["speed"] > 0
