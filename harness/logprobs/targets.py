"""The outcomes over which distributions are compared, and frozen models' distributions over them: dense rows made on
the spot, or a stored top k.

Either gives, for a chunk of response tokens and the policy's log-probs of them, rows of log-probs over the same
outcomes; the loss does not know which it got. Four readings of a top k give four values for one pair, so the one that
is meant is always said (`Support`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.logprobs.batching import Example
from harness.logprobs.model import DistributionRows

Kind = Literal["full", "tail", "renormalised", "truncated"]


@dataclass(frozen=True)
class Support:
    """The outcomes of a distribution that count. `full`: the vocabulary. Else the k largest of one model (`of`), with
    everything else as one outcome more (`tail`: exact masses), `renormalised` to 1 over the k, or `truncated`: as they
    are, with masses that sum to less than 1."""

    kind: Kind = "full"
    k: int = 64
    of: str = "teacher"

    def reduced(self, log_probs: Tensor) -> Tensor:
        """[n, k] log-probs of the k outcomes → as this support has them."""
        if self.kind == "tail":
            return _with_rest(log_probs)
        return _renormalised(log_probs) if self.kind == "renormalised" else log_probs


FULL = Support()
Outcomes = tuple[Tensor, Mapping[str, Tensor]]


class Target(Protocol):
    """The frozen models' side of a batch's T response tokens. Its outcomes are among the first `vocabulary` ids, or
    all."""

    @property
    def vocabulary(self) -> int | None: ...

    def outcomes(self, policy: Tensor, part: slice) -> Outcomes:
        """The policy's log-probs [n, V] of the tokens in `part` → the same [n, outcomes], and each frozen model's."""


@dataclass(frozen=True)
class DenseTarget:
    """All log-probs of frozen models, by name."""

    models: Mapping[str, DistributionRows]
    support: Support = FULL

    @property
    def vocabulary(self) -> int:
        return min(rows.vocabulary for rows in self.models.values())

    def outcomes(self, policy: Tensor, part: slice) -> Outcomes:
        theirs = {name: found.rows(part, policy.shape[-1]) for name, found in self.models.items()}
        if self.support.kind == "full":
            return policy, theirs
        ids = theirs.get(self.support.of, policy.detach()).topk(min(self.support.k, policy.shape[-1])).indices
        return self.support.reduced(policy.gather(-1, ids)), {
            name: self.support.reduced(rows.gather(-1, ids)) for name, rows in theirs.items()
        }


@dataclass(frozen=True)
class TopKTarget:
    """The teacher's k largest log-probs: ids, log_probs [T, k]."""

    ids: Tensor
    log_probs: Tensor
    support: Support
    vocabulary: int | None = None

    def outcomes(self, policy: Tensor, part: slice) -> Outcomes:
        mine, theirs = policy.gather(-1, self.ids[part]), self.log_probs[part]
        return self.support.reduced(mine), {"teacher": self.support.reduced(theirs)}


@dataclass(frozen=True)
class StoredTopK:
    """A whole data set's top k: ids, log_probs [tokens, k]; those of example i from starts[i] to starts[i + 1]."""

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    starts: NDArray[np.int64]
    support: Support
    vocabulary: int | None = None

    def of(self, examples: Sequence[Example], device: torch.device) -> TopKTarget:
        rows = np.concatenate([np.arange(self.starts[e.index], self.starts[e.index + 1]) for e in examples])
        ids = torch.from_numpy(self.ids[rows].astype(np.int64)).to(device)
        return TopKTarget(ids, torch.from_numpy(self.log_probs[rows]).to(device), self.support, self.vocabulary)


def _with_rest(log_probs: Tensor) -> Tensor:
    """[n, k] log-probs → [n, k + 1]: with the log of what is left of 1. Rounding may leave less than nothing: then it
    is a very small mass, so that no logarithm is infinite."""
    rest = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp(min=torch.finfo(torch.float32).eps)
    return torch.cat([log_probs, rest.log()], -1)


def _renormalised(log_probs: Tensor) -> Tensor:
    return log_probs - log_probs.logsumexp(-1, keepdim=True)
