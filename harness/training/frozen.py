"""What frozen models say of a micro-batch, as losses of each level want it: sums, tokens or distributions.

Of stored responses sums and the teacher's top k were computed before (artifacts); all else is read as the training
goes, by models in this process or behind a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.logprobs.batching import Batch, Example, collate
from harness.logprobs.model import DistributionRows, LogProbModel
from harness.logprobs.served import served_tokens, served_top
from harness.logprobs.targets import FULL, DenseTarget, StoredTopK, Support, Target, TopKTarget
from harness.serving.settings import ModelServer

Sums = Mapping[str, NDArray[np.float32]]


class Reader(Protocol):
    """One frozen model."""

    def tokens(self, part: Sequence[Example]) -> Tensor:
        """The log-prob of each response token, [T] float32, nats."""


@dataclass(frozen=True)
class Local:
    """A model in this process. vocabulary: how many ids it shares with the policy. seen: the example as it reads it,
    with the same responses."""

    model: LogProbModel
    vocabulary: int
    seen: Callable[[Example], Example] = lambda example: example

    def _batch(self, part: Sequence[Example]) -> Batch:
        device = next(self.model.parameters()).device
        return collate([self.seen(example) for example in part], self.model.layout).to(device)

    @torch.no_grad()
    def tokens(self, part: Sequence[Example]) -> Tensor:
        found: Tensor = self.model(self._batch(part))
        return found

    def rows(self, part: Sequence[Example], temperature: float) -> DistributionRows:
        return self.model.log_prob_rows(self._batch(part), self.vocabulary, temperature)


@dataclass(frozen=True)
class Served:
    """A model behind a server, which says its k largest log-probs and no more. vocabulary: as of a local one."""

    server: ModelServer
    vocabulary: int
    device: torch.device

    def tokens(self, part: Sequence[Example]) -> Tensor:
        return torch.from_numpy(np.concatenate(served_tokens(self.server, part))).to(self.device)

    def target(self, part: Sequence[Example], support: Support) -> Target:
        top = served_top(self.server, part, support.k, self.vocabulary, patient=True)
        ids, log_probs = torch.from_numpy(top.ids.astype(np.int64)), torch.from_numpy(top.log_probs)
        return TopKTarget(ids.to(self.device), log_probs.to(self.device), support, self.vocabulary)


@dataclass(frozen=True)
class Frozen:
    """All that a training reads of frozen models.

    sums: {name: [N, k]}, row i belonging to the example whose `index` is i. stored: the teacher's top k of all stored
    responses. readers: the models that are read as it goes. support, temperature: of distributions. wrote: the model
    that wrote each role's stored responses, where that is read."""

    sums: Sums = field(default_factory=dict)
    stored: StoredTopK | None = None
    readers: Mapping[str, Reader] = field(default_factory=dict)
    support: Support = FULL
    temperature: float = 1.0
    wrote: tuple[str, ...] = ()

    def sums_of(self, part: Sequence[Example], batch: Batch, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{name: [examples, k]}: stored ones, or those of `tokens`."""
        rows = [example.index for example in part]
        device = batch.labels.device
        stored = {name: torch.from_numpy(values[rows]).to(device) for name, values in self.sums.items()}
        return stored or {name: batch.sum_by_response(values) for name, values in tokens.items()}

    def tokens_of(self, part: Sequence[Example]) -> dict[str, Tensor]:
        """{name: [T]} under each model that is read."""
        return {name: reader.tokens(part) for name, reader in self.readers.items()}

    def target_of(self, part: Sequence[Example], device: torch.device, names: Sequence[str]) -> Target:
        """The distributions of these models at the response tokens."""
        if self.stored is not None:
            return self.stored.of(part, device)
        local = {name: one for name in names if isinstance(one := self.readers[name], Local)}
        if len(local) == len(names):
            return DenseTarget({name: one.rows(part, self.temperature) for name, one in local.items()}, self.support)
        (served,) = (self.readers[name] for name in names)  # several are all here (see run/checks.py)
        assert isinstance(served, Served)
        return served.target(part, self.support)
