"""What a frozen model says of responses, with the batches and numerics of training: sequence log-probs, and the
largest log-probs at each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.core.progress import Tick
from harness.logprobs.batching import Batch, Example, check_prompts, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel, chunks

ADVICE = "lower scoring_batch_tokens"


def _autocast(batch: Batch, precision: str) -> torch.autocast:
    return torch.autocast(batch.labels.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _batches(
    model: LogProbModel, examples: Sequence[Example], batch_tokens: int, tick: Tick
) -> Iterator[tuple[list[Example], Batch]]:
    """Each micro-batch with its examples. Draws no random number, so that scoring never moves a training's state."""
    check_prompts(examples, batch_tokens, "scoring_batch_tokens")
    device = next(model.parameters()).device
    done, total = 0, sum(example.tokens for example in examples)
    for part in split_by_tokens(examples, batch_tokens, model.layout):
        tick(done, total)
        yield part, collate(part, model.layout).to(device)
        done += sum(example.tokens for example in part)
    tick(total, total)


@torch.no_grad()
def sequence_log_probs(
    model: LogProbModel, examples: Sequence[Example], precision: str, batch_tokens: int, tick: Tick
) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`."""
    row_of = {example.index: row for row, example in enumerate(examples)}
    sums = np.empty((len(examples), len(examples[0].responses)))
    for part, batch in _batches(model, examples, batch_tokens, tick):
        with _autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            values = batch.sum_by_response(model(batch).double())
        sums[[row_of[example.index] for example in part]] = values.cpu().numpy()
    return sums


@torch.no_grad()
def top_log_probs(
    model: LogProbModel,
    examples: Sequence[Example],
    k: int,
    vocabulary: int,
    precision: str,
    batch_tokens: int,
    tick: Tick,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k largest log-probs at each response token and their ids, over the first `vocabulary` outcomes.

    Shapes: [T, k] both, T counting the response tokens of all examples in their order.
    """
    lengths = [sum(map(len, example.responses)) for example in examples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    row_of = {example.index: row for row, example in enumerate(examples)}
    ids, log_probs = np.empty((starts[-1], k), np.int32), np.empty((starts[-1], k), np.float32)
    for part, batch in _batches(model, examples, batch_tokens, tick):
        places = np.concatenate([np.arange(starts[row_of[e.index]], starts[row_of[e.index] + 1]) for e in part])
        with _autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            target = model.target(batch, vocabulary)
            for here in chunks(len(places), target.vocabulary):
                top = target.rows(here, target.vocabulary).topk(k)
                ids[places[here]], log_probs[places[here]] = top.indices.cpu().numpy(), top.values.cpu().numpy()
    return ids, log_probs
