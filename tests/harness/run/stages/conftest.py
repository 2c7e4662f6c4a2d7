"""What stages read in several of these files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.models.reference import Model
from harness.store import Store
from tests.harness.making import TEXTS, Rows, make, model_at, prompt_file, read_job

# of other lengths, and in another order than the prompts; 2 ends a turn
ROWS: Rows = {"p2": [8, 9, 10, 300, 2], "p0": [5, 6, 2], "p1": [7, 2], "p3": [400, 401, 402, 403, 404, 405, 2]}


@pytest.fixture
def prompts(store: Store, tmp_path: Path) -> str:
    """The artifact of four prompts, p0 to p3."""
    return make(store, read_job(prompt_file(tmp_path / "four.jsonl", TEXTS[:4])))


@pytest.fixture
def teacher(store: Store, checkpoints: dict[str, Path]) -> Model:
    return model_at(checkpoints["llama-teacher"], store)


@pytest.fixture
def ref(responses: Callable[[str, Rows], str]) -> str:
    """The responses of ROWS to those prompts."""
    return responses("a", ROWS)
