"""The speed benchmark of comparisons reads the same tokens on both sides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed.fidelity import KINDS, examples_of, ratio_of
from harness.models.tokenizers import load_tokenizer


def test_both_write_a_response_of_so_many_tokens_to_each_prompt(checkpoints: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(checkpoints["llama"])
    found = examples_of(tokenizer, 12, 20)
    assert found == examples_of(tokenizer, 12, 20)
    theirs, own = found["teacher"], found["student"]
    assert [example.prompt for example in theirs] == [example.prompt for example in own] and len(own) == 12
    for example in (*theirs, *own):
        assert len(example.responses) == 1 and len(example.responses[0]) == 20
    assert [e.responses for e in theirs] != [e.responses for e in own]
    assert len({tuple(example.responses[0]) for example in theirs}) == 12


def test_the_ratio_is_of_medians() -> None:
    assert ratio_of({"scoring": [1.0, 2.0, 90.0], "comparing": [3.0, 2.5, 2.0], "storing states": [1.0]}) == 1.25


@pytest.mark.slow
def test_a_tiny_pair_is_compared_and_scored(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "fidelity.json"
    command = [sys.executable, "-m", "benchmarks.speed.fidelity", "--prompts", "6", "--tokens", "4", "--rounds", "2"]
    for role, name in (("student", "llama"), ("teacher", "llama-teacher")):
        command += [f"--{role}", str(checkpoints[name])]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found["seconds"]) == set(KINDS) and all(len(each) == 2 for each in found["seconds"].values())
    assert f"comparing takes {found['ratio']:.2f} times" in done.stdout
