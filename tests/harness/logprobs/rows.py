"""Losses of distributions as a model's head takes them, and targets from rows that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.logprobs.batching import Batch
from harness.logprobs.model import DistributionRows, LogProbModel, ValuesOf
from harness.logprobs.targets import FULL, DenseTarget, Support, Target, TopKTarget

RowLoss = Callable[[Tensor, Tensor], Tensor]  # log-probs [n, outcomes] of policy and teacher → [n]
SUPPORTS = [Support("tail", 4), Support("renormalised", 4), Support("truncated", 4)]


def values_of(loss: RowLoss, target: Target) -> ValuesOf:
    """A loss of the policy's distributions and the teacher's, of rows of logits."""

    def values(logits: Tensor, part: slice) -> Tensor:
        shared = logits if target.vocabulary is None else logits[:, : target.vocabulary]
        mine, models = target.outcomes(torch.log_softmax(shared, -1), part)
        return loss(mine, models["teacher"])

    return values


def summed(model: LogProbModel, batch: Batch, loss: RowLoss, target: Target) -> Tensor:
    """Over all response tokens."""
    _, total = model(batch, [values_of(loss, target)], labels=False)
    return total


def dense(log_probs: Tensor, support: Support = FULL) -> DenseTarget:
    """A teacher with these log-probs [T, V]."""
    rows = DistributionRows(lambda part, size: torch.log_softmax(log_probs[part, :size], -1), log_probs.shape[-1])
    return DenseTarget({"teacher": rows}, support)


def top(log_probs: Tensor, support: Support, vocabulary: int | None = None) -> TopKTarget:
    values, ids = log_probs.topk(support.k)
    return TopKTarget(ids, values, support, vocabulary)


def outcomes_of(target: Target, policy: Tensor, part: slice = slice(None)) -> Sequence[Tensor]:
    """The policy's and the teacher's."""
    mine, models = target.outcomes(policy, part)
    return mine, models["teacher"]
