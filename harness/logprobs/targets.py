"""A teacher's distributions as token-level losses see them: dense rows made on the spot, or a stored top k.

Either gives, for a chunk of response tokens and the student's log-probs of them, two rows of log-probs over the same
outcomes; the loss does not know which it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.logprobs.batching import Example


class Target(Protocol):
    """The teacher's side of a batch's T response tokens. Its outcomes are among the first `vocabulary` ids, or all."""

    @property
    def vocabulary(self) -> int | None: ...

    def outcomes(self, student: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """The student's log-probs [n, V] of the tokens in `part` → (student, teacher), both [n, outcomes]."""


@dataclass(frozen=True)
class DenseTarget:
    """All of the teacher's log-probs; `rows(part, vocabulary)` makes [n, vocabulary] of them."""

    rows: Callable[[slice, int], Tensor]
    vocabulary: int

    def outcomes(self, student: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        return student, self.rows(part, student.shape[-1])


@dataclass(frozen=True)
class TopKTarget:
    """The teacher's k largest log-probs: ids, log_probs [T, k].

    With `tail`, everything else is one outcome more (k + 1 of them, exact masses); without, both distributions are
    renormalised over the k.
    """

    ids: Tensor
    log_probs: Tensor
    tail: bool
    vocabulary: int | None = None

    def outcomes(self, student: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        mine, theirs = student.gather(-1, self.ids[part]), self.log_probs[part]
        if self.tail:
            return _with_rest(mine), _with_rest(theirs)
        return _renormalised(mine), _renormalised(theirs)


@dataclass(frozen=True)
class StoredTopK:
    """A whole data set's top k: ids, log_probs [tokens, k]; those of example i from starts[i] to starts[i + 1]."""

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    starts: NDArray[np.int64]
    tail: bool
    vocabulary: int | None = None

    def of(self, examples: Sequence[Example], device: torch.device) -> TopKTarget:
        rows = np.concatenate([np.arange(self.starts[e.index], self.starts[e.index + 1]) for e in examples])
        ids = torch.from_numpy(self.ids[rows].astype(np.int64)).to(device)
        return TopKTarget(ids, torch.from_numpy(self.log_probs[rows]).to(device), self.tail, self.vocabulary)


def _with_rest(log_probs: Tensor) -> Tensor:
    """[n, k] log-probs → [n, k + 1]: with the log of what is left of 1. Rounding may leave less than nothing: then it
    is a very small mass, so that no logarithm is infinite."""
    rest = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp(min=torch.finfo(torch.float32).eps)
    return torch.cat([log_probs, rest.log()], -1)


def _renormalised(log_probs: Tensor) -> Tensor:
    return log_probs - log_probs.logsumexp(-1, keepdim=True)
