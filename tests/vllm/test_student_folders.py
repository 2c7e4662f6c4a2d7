"""A trained student's folder is one that vLLM loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run
from harness.generation.vllm import VLLMGenerator
from harness.models.folders import read_json
from harness.models.tokenizers import load_tokenizer
from harness.serving.resident import let_go_of_all
from harness.serving.settings import VLLM
from tests.conftest import tiny_model
from tests.harness.making import saved
from tests.harness.tiny_runs import request
from tests.vllm.test_generation import GREEDY, assert_told, greedy_here, rows_for


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    let_go_of_all()


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_vllm_takes_a_student_as_a_run_leaves_it(
    tmp_path: Path, tokenizer: Any, vllm_python: str, lora_rank: int
) -> None:
    """At least 90% of the first 16 greedy tokens are the sampler's, both in float32 (measured: all). The student was
    pruned, so that its MLPs have a width of their own, and once trained by adapters, which are merged."""
    wide = {"llama": 0, "llama-teacher": 1}  # vLLM's attention on a CPU takes no head below 32
    folders = {name: saved(tmp_path / name, tiny_model("llama", seed, 128), tokenizer) for name, seed in wide.items()}
    asked = request(tmp_path / "run", folders, "sft")
    asked = replace(asked, set=[*(asked.set or ()), "prune.ratio=0.1", f"training.lora_rank={lora_rank}"])
    run.run(asked, tmp_path / "out", None, False)
    student = tmp_path / "out" / "students" / "sft"
    assert read_json(student / "config.json")["intermediate_size"] < 96
    own = load_tokenizer(student)
    rows = rows_for(own)
    here = greedy_here(student, own, rows)
    engine = {"dtype": "float32", "enforce_eager": True}
    there = VLLMGenerator(student, own, VLLM(python=vllm_python, max_model_len=256, engine=engine))
    assert_told(there.draw(rows, GREEDY), here)
