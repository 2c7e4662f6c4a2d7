"""What a frozen model says of responses, with the batches and numerics of training: sequence log-probs, and the
largest log-probs at each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.core.progress import Tick
from harness.logprobs.batching import Batch, Example, Layout, check_prompts, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel, chunks, label_log_probs

ADVICE = "lower scoring_batch_tokens"


def _unseen(done: int, total: int, note: str = "") -> None:
    """Progress of what takes moments."""


def autocast(batch: Batch, precision: str) -> torch.autocast:
    return torch.autocast(batch.labels.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def batches(
    model: LogProbModel, examples: Sequence[Example], batch_tokens: int, tick: Tick, layout: Layout | None = None
) -> Iterator[tuple[list[Example], Batch]]:
    """Each micro-batch with its examples. Draws no random number, so that scoring never moves a training's state.

    layout: whose room the examples are split by; the model's own where none is named."""
    check_prompts(examples, batch_tokens, "scoring_batch_tokens")
    device = next(model.parameters()).device
    done, total = 0, sum(example.tokens for example in examples)
    for part in split_by_tokens(examples, batch_tokens, layout or model.layout):
        tick(done, total)
        yield part, collate(part, model.layout).to(device)
        done += sum(example.tokens for example in part)
    tick(total, total)


def response_starts(examples: Sequence[Example]) -> NDArray[np.int64]:
    """[examples + 1]: where each example's response tokens begin among those of all, and where the last ones end."""
    return np.cumsum([0, *(sum(map(len, example.responses)) for example in examples)])


def places_of(rows: Sequence[int], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the response tokens of these examples, one after another."""
    return np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])


@torch.no_grad()
def sequence_log_probs(
    model: LogProbModel, examples: Sequence[Example], precision: str, batch_tokens: int, tick: Tick
) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`."""
    row_of = {example.index: row for row, example in enumerate(examples)}
    sums = np.empty((len(examples), len(examples[0].responses)))
    for part, batch in batches(model, examples, batch_tokens, tick):
        with autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            values = batch.sum_by_response(model(batch).double())
        sums[[row_of[example.index] for example in part]] = values.cpu().numpy()
    return sums


@torch.no_grad()
def token_log_probs(
    model: LogProbModel, examples: Sequence[Example], precision: str, batch_tokens: int
) -> list[NDArray[np.float32]]:
    """The log-prob of each token of each example's one response, in the order of `examples`, whose `index` is that."""
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(examples)
    for part, batch in batches(model, examples, batch_tokens, _unseen):
        with autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            values = model(batch).cpu().numpy()
        lengths = [len(example.responses[0]) for example in part]
        for example, row in zip(part, np.split(values, np.cumsum(lengths)[:-1]), strict=True):
            found[example.index] = row
    return found


@torch.no_grad()
def hidden_states(
    model: LogProbModel, examples: Sequence[Example], precision: str, batch_tokens: int, tick: Tick
) -> tuple[Tensor, NDArray[np.float64]]:
    """A packed model's last hidden states where it predicts response tokens, [T, H] in the dtype that they have, T
    counting the response tokens of all examples in their order; and what sequence_log_probs gives."""
    starts, row_of = response_starts(examples), {example.index: row for row, example in enumerate(examples)}
    states: Tensor | None = None
    sums = np.empty((len(examples), len(examples[0].responses)))
    for part, batch in batches(model, examples, batch_tokens, tick):
        rows = [row_of[example.index] for example in part]
        with autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            hidden = model.hidden(batch)
            log_probs = label_log_probs(hidden, model.head, batch.labels)
        sums[rows] = batch.sum_by_response(log_probs.double()).cpu().numpy()
        if states is None:
            states = torch.empty((int(starts[-1]), hidden.shape[1]), dtype=hidden.dtype)
        states[torch.from_numpy(places_of(rows, starts))] = hidden.cpu()
    assert states is not None
    return states, sums


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
    starts = response_starts(examples)
    row_of = {example.index: row for row, example in enumerate(examples)}
    ids, log_probs = np.empty((starts[-1], k), np.int32), np.empty((starts[-1], k), np.float32)
    for part, batch in batches(model, examples, batch_tokens, tick):
        places = places_of([row_of[example.index] for example in part], starts)
        with autocast(batch, precision), memory_errors(part, model.layout, ADVICE):
            target = model.log_prob_rows(batch, vocabulary)
            for here in chunks(len(places), target.vocabulary):
                top = target.rows(here, target.vocabulary).topk(k)
                ids[places[here]], log_probs[places[here]] = top.indices.cpu().numpy(), top.values.cpu().numpy()
    return ids, log_probs
