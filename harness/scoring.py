"""Sequence log-probs of responses under a frozen model, with the batches and numerics of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.training.batching import Example, collate, split_by_tokens
from harness.training.model import LogProbModel


@torch.no_grad()
def sequence_log_probs(
    model: LogProbModel,
    examples: Sequence[Example],
    precision: str,
    batch_tokens: int,
    tick: Callable[[int, int], None],
) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`.

    Draws no random number, so that scoring never moves a training's random state.
    """
    device = next(model.parameters()).device
    row_of = {example.index: row for row, example in enumerate(examples)}
    sums = np.empty((len(examples), len(examples[0].responses)))
    done, total = 0, sum(example.tokens for example in examples)
    for part in split_by_tokens(examples, batch_tokens):
        tick(done, total)
        batch = collate(part).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            values = model(batch)
        sums[[row_of[example.index] for example in part]] = batch.sum_by_response(values.double()).cpu().numpy()
        done += sum(example.tokens for example in part)
    tick(total, total)
    return sums
