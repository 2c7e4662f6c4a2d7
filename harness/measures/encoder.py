"""Sentence embeddings with plain transformers: mean pooling over tokens, unit length (as all-MiniLM-L6-v2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from harness.core.progress import Tick
from harness.models.weights import SAID, require_whole, without_adapter
from harness.serving.resident import hold

MAX_TOKENS = 256  # the length that all-MiniLM-L6-v2 was trained for


def _load(folder: Path) -> Any:
    """A text encoder in evaluation mode; a pooler, which nothing here reads, may be missing.

    Raises:
        UserError: its weights are not those of its configuration.
    """
    with without_adapter(folder) as plain:
        model, found = AutoModel.from_pretrained(plain, dtype=torch.float32, **SAID)
    require_whole(model, found, folder, unread=("pooler",))
    return model.eval()


@torch.inference_mode()
def embed(folder: Path, texts: Sequence[str], tick: Tick, batch_size: int = 32) -> NDArray[np.float32]:
    """[texts, width] float32 rows of length 1, in the order of the texts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = hold(folder, AutoModel, lambda: _load(folder))
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        tick(start, len(order))
        rows = order[start : start + batch_size]
        encoded = tokenizer(
            [texts[row] for row in rows],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
            split_special_tokens=True,
        )
        states = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(1) / mask.sum(1)
        vectors[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return vectors
