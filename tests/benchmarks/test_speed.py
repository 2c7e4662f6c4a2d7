"""The speed benchmark does the same work on both sides; what it measures is not tested."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed.train import COMPARED, Side, agree, in_float32, main, summary
from benchmarks.speed.workload import FIRST_ID, FRESH_METHODS, METHODS, Workload, make_rows


def workload(method: str = "ddpo", count: int = 8) -> Workload:
    rows = make_rows(2, count, 500, (3, 9), (1, 7), seed=0)
    return Workload(method, rows, 4, 1e-5, "bf16", "student", "teacher")


@pytest.mark.parametrize("k", [1, 2, 4])
def test_rows_are_as_long_as_asked_and_the_same_for_the_same_seed(k: int) -> None:
    rows = make_rows(k, 50, 500, (3, 9), (1, 7), seed=0)
    assert rows == make_rows(k, 50, 500, (3, 9), (1, 7), seed=0)
    assert rows != make_rows(k, 50, 500, (3, 9), (1, 7), seed=1)
    for row in rows:
        assert 3 <= len(row.prompt) <= 9 and len(row.responses) == len(row.teacher) == k
        assert all(1 <= len(response) <= 7 for response in row.responses)
        assert all(FIRST_ID <= token < 500 for ids in (row.prompt, *row.responses) for token in ids)
    assert {len(row.prompt) for row in rows} == set(range(3, 10))


def test_a_workload_travels_as_json() -> None:
    work = workload()
    assert Workload.from_json(json.loads(json.dumps(work.to_json()))) == work
    assert work.steps == 2 and work.step_rows == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_first_step_is_not_counted() -> None:
    work = workload()
    facts = {"seconds": [100.0, 2.0], "sampling": [9.0, 0.0], "peak_mb": 7.0, "reference_seconds": 1.0, "name": "x"}
    found = summary(work, facts)
    assert found["pairs_per_s"] == 2.0
    assert found["tokens_per_s"] == sum(row.tokens for row in work.rows[4:]) / 2
    assert "sampled_tokens_per_s" not in found


def test_writing_and_training_are_told_apart() -> None:
    work = workload("opd")
    facts = {"seconds": [100.0, 5.0], "sampling": [9.0, 3.0], "peak_mb": 7.0, "reference_seconds": 0.0, "name": "x"}
    found = summary(work, facts)
    written = sum(len(response) for row in work.rows[4:] for response in row.responses)
    assert found["sampled_tokens_per_s"] == written / 3
    assert found["trained_tokens_per_s"] == sum(row.tokens for row in work.rows[4:]) / 2


def test_losses_agree_within_a_thousandth() -> None:
    assert agree([0.6931, 2.0], [0.6932, 2.001])
    assert not agree([0.6931, 2.0], [0.6931, 2.01])
    assert agree([], [])


def test_the_float32_check_is_small_uncompiled_and_of_given_responses() -> None:
    found = in_float32(replace(workload(), compile=True))
    assert found.precision == "fp32" and not found.compile and found.steps == 3 and found.given


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
    checkpoints: dict[str, Path],
    tmp_path: Path,
    kept: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("trl")
    out = tmp_path / "speed.json"
    command = ["train", "--model", str(checkpoints["llama"]), "--pairs", "8", "--json", str(out), "--no-compile"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    found = json.loads(out.read_text())
    for method in METHODS:
        for side in ("ours", "peer", "ours_beside_kept", "kept"):
            row = found[side][method]
            assert row["pairs_per_s"] > 0 and row["peak_mb"] > 0
            fresh = method in FRESH_METHODS
            assert ("sampled_tokens_per_s" in row) == fresh and (min(row["sampling_seconds"]) > 0) == fresh
        parts = {"sampling", "training"} if method in FRESH_METHODS else set()
        for ratio in ("ratio", "ratio_to_kept"):
            assert set(found[ratio][method]) == {"speed", "speed_median", "memory"} | parts
        assert agree(**found[COMPARED.get(method, "losses")][method])
    assert found["peer"]["name"].startswith("trl ")
    assert found["ratio"]["dadpo_to_ddpo"]["speed"] > 0

    said = capsys.readouterr().out
    assert f"{found['kept']['name']}, memory kept" in said
    main()  # all is there
    assert capsys.readouterr().out in said and json.loads(out.read_text()) == found
