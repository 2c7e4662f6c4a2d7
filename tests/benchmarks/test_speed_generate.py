"""The speed benchmark of generation draws from the same prompts on all sides, and counts alike."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import generate
from benchmarks.speed.generate import VARIABLE, in_a_process, main, measured, rows_of, up_to_stop
from harness.models.tokenizers import load_tokenizer


def test_prompts_are_ragged_from_all_sets_and_the_same_each_time(checkpoints: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(checkpoints["llama"])
    rows = rows_of(tokenizer, 48)
    assert rows == rows_of(tokenizer, 48) and len({row.messages for row in rows}) == len(rows) == 48
    lengths = [len(row.prompt) for row in rows]
    assert max(lengths) > 3 * min(lengths)


@pytest.mark.parametrize(
    ("response", "wanted"),
    [([5, 6, 2, 2, 2], [5, 6, 2]), ([5, 6], [5, 6]), ([2, 5], [2]), ([5, 9, 2], [5, 9]), ([], [])],
)
def test_what_follows_the_end_of_a_turn_is_not_counted(response: list[int], wanted: list[int]) -> None:
    assert up_to_stop(response, [2, 9]) == wanted


@pytest.mark.slow
def test_all_sides_but_vllm_draw_from_a_tiny_model(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generate.json"
    command = ["generate", "--model", str(checkpoints["llama"])]
    command += ["--prompts", "6", "--new-tokens", "4", "--batch-size", "4", "--rounds", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.delenv(VARIABLE, raising=False)
    # what keeps no memory changes nothing in this process
    monkeypatch.setattr(
        generate, "in_a_process", lambda side, work: (measured if side == "plain" else in_a_process)(side, work)
    )
    main()
    found: dict[str, Any] = json.loads(out.read_text())
    assert [row["side"] for row in found["rows"]] == ["ours", "ours, forward", "plain", "plain, memory kept"]
    assert {row["responses"] for row in found["rows"]} == {6}
    assert len({row["prompt_tokens"] for row in found["rows"]}) == 1
    assert all(6 <= row["tokens"] <= 24 and row["tokens_per_s"] > 0 for row in found["rows"])
    assert set(found["ratio"]) == {"ours, forward", "plain", "plain, memory kept"}
