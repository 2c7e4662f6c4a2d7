"""A trained student's folder is one that vLLM loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

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


def layout(folder: Path) -> dict[str, Any]:
    """All that vLLM loads a folder by: its files, their bytes, and of weights names, types and shapes."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            found[path.name] = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    del found["README.md"]
    return found


def test_vllm_takes_a_student_as_a_run_leaves_it(tmp_path: Path, tokenizer: Any, vllm_python: str) -> None:
    """At least 90% of the first 16 greedy tokens are the sampler's, both in float32 (measured: all). The student was
    pruned, so that its MLPs have a width of their own, and trained by adapters, which are merged; one whose weights
    were all trained is laid out as that one is."""
    wide = {"llama": 0, "llama-teacher": 1}  # vLLM's attention on a CPU takes no head below 32
    folders = {name: saved(tmp_path / name, tiny_model("llama", seed, 128), tokenizer) for name, seed in wide.items()}
    asked = request(tmp_path / "run", folders, "sft,kd")
    asked = replace(asked, set=[*(asked.set or ()), "prune.ratio=0.1", "settings.kd.lora_rank=4"])
    run.run(asked, tmp_path / "out", None, False)
    student, whole = (tmp_path / "out" / "students" / name for name in ("kd", "sft"))
    assert read_json(student / "config.json")["intermediate_size"] < 96
    assert layout(student) == layout(whole)
    own = load_tokenizer(student)
    rows = rows_for(own)
    here = greedy_here(student, own, rows)
    engine = {"dtype": "float32", "enforce_eager": True}
    there = VLLMGenerator(student, own, VLLM(python=vllm_python, max_model_len=256, engine=engine))
    assert_told(there.draw(rows, GREEDY), here)
