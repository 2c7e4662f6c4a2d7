"""A store, a tiny student in it, and responses as if one had drawn them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.records import Response
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.store import Store
from tests.harness.making import Rows, model_at, put


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def student(store: Store, checkpoints: dict[str, Path]) -> Model:
    return model_at(checkpoints["llama"], store)


@pytest.fixture
def responses(store: Store, checkpoints: dict[str, Path]) -> Callable[[str, Rows], str]:
    """An artifact of given responses, as if a model with the tiny tokenizer had drawn them."""
    tokenizer = load_tokenizer(checkpoints["llama"])

    def put_rows(name: str, rows: Rows) -> str:
        made = [Response(prompt_id=key, token_ids=tuple(ids), text="x", finish="stop") for key, ids in rows.items()]
        return put(store, name, made, tokenizer)

    return put_rows
