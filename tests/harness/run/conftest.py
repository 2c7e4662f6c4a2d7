"""The road of a tiny run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import resolve
from harness.run.road import Road, build_road
from harness.store import Store
from tests.harness.run.roads import Build, jsonl


@pytest.fixture
def build(tmp_path: Path, own_store: Path, checkpoints: dict[str, Path]) -> Build:
    """The road of a tiny run, with any configuration over it."""
    basis = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "train_prompts": jsonl(tmp_path / "train.jsonl", ["Say one.", "Say two.", "Say three."]),
        "eval": [
            "in:" + jsonl(tmp_path / "near.jsonl", ["Say four.", "Say five."]),
            jsonl(tmp_path / "far.jsonl", ["Sing!"]),
        ],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 128},  # of the 512 that they take at once
        "eval_sampling": {"max_new_tokens": 64},
    }

    def make(**layer: Any) -> Road:
        return build_road(resolve([basis, layer]), Store(own_store), download=False)

    return make
