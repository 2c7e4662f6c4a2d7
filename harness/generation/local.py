"""Responses from a model in this process, by the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.core.allocator import give_back
from harness.generation import sampler
from harness.generation.packed import pack
from harness.generation.plain import plain
from harness.generation.protocol import Draw, Drawn, Request
from harness.models import chat, loading, weights
from harness.models.families import FAMILIES, windowed
from harness.serving.resident import hold


@dataclass(frozen=True)
class LocalGenerator:
    folder: Path
    tokenizer: Any
    remote_code: bool = False
    batches: int = 1

    @property
    def versions(self) -> dict[str, str]:
        return {}  # those of the environment

    def draw(self, rows: Sequence[Request], how: Draw) -> list[Drawn]:
        model = sampling_model(self.folder, self.remote_code)
        stops = chat.stop_ids(model, self.tokenizer)
        count = how.sampling.max_new_tokens
        uniforms = torch.stack([sampler.row_uniforms(how.seed, how.purpose, row.name, count) for row in rows])
        vocabulary = chat.vocabulary_size(self.tokenizer)
        decoded = sampler.decode_batch(model, [row.prompt for row in rows], uniforms, how.sampling, stops, vocabulary)
        read = [chat.decode_response(self.tokenizer, ids, stops) for ids in decoded]
        return [
            Drawn(token_ids=tuple(ids), text=text, finish=finish)
            for ids, (text, finish) in zip(decoded, read, strict=True)
        ]


def sampling_model(folder: Path, remote_code: bool = False) -> Any:
    """A model to sample from, resident: with grouped attention where that is known to be the model's own, else as it
    comes; packed where it is computed by steps of our own."""
    config = weights.load_config(folder, remote_code)
    known = config.model_type in FAMILIES and not windowed(config) and not remote_code
    attention = sampler.GROUPED_ATTENTION if known else None

    def load() -> Any:
        model = loading.load_model(folder, torch.bfloat16, attention, remote_code=remote_code).requires_grad_(False)
        if known and plain(model):
            pack(model)
            give_back()  # the weights that were packed
        return model

    return hold(folder, ("to be sampled", remote_code), load)
