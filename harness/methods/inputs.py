"""What a loss is given: one typed record a level. It never sees a model, a tokenizer or a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class NotReadError(LookupError):
    """A loss asks for what its method does not name."""


@dataclass(frozen=True)
class Inputs:
    """What all levels have.

    roles: names of a method's responses, in their order. models: of each frozen model that the method reads
    (`reference`, `teacher`) what the policy has. progress: the share of the training that is done, in [0, 1). state:
    what the method declares to carry from step to step."""

    policy: Tensor
    roles: tuple[str, ...]
    models: Mapping[str, Tensor]
    progress: float = 0.0
    state: Mapping[str, float] = field(default_factory=dict)

    @property
    def reference(self) -> Tensor:
        return self._of("reference")

    @property
    def teacher(self) -> Tensor:
        return self._of("teacher")

    def _of(self, name: str) -> Tensor:
        if name not in self.models:
            raise NotReadError(f'the loss reads inputs.{name}, which its METHOD does not name: reads=("{name}",)')
        return self.models[name]


@dataclass(frozen=True)
class SequenceInputs(Inputs):
    """n examples with k responses each, one a role in the order of `roles`: all [n, k], float32. policy, reference,
    teacher: sums of log-probs over response tokens, nats. lengths: tokens."""

    lengths: Tensor = None  # type: ignore[assignment]


@dataclass(frozen=True)
class TokenInputs(Inputs):
    """The T response tokens of a micro-batch, response after response: all [T]. policy, reference, teacher: the
    log-prob of each token, nats, float32. sampled: the same under the policy that sampled it (of a stored response, the
    model that wrote it); no gradient. labels: token ids. row: which response of the micro-batch a token belongs to, 0
    to R − 1, in order. role: its place in `roles`."""

    sampled: Tensor = None  # type: ignore[assignment]
    labels: Tensor = None  # type: ignore[assignment]
    row: Tensor = None  # type: ignore[assignment]
    role: Tensor = None  # type: ignore[assignment]

    def sums(self, values: Tensor) -> Tensor:
        """[T] → [R]: summed over each response."""
        return values.new_zeros(int(self.row[-1]) + 1).index_add(0, self.row, values)

    def before(self, values: Tensor) -> Tensor:
        """[T] → [T]: of each token the sum over those before it in its response."""
        running = values.cumsum(0) - values
        first = (self.row[1:] != self.row[:-1]).nonzero().squeeze(-1) + 1
        starts = first.new_zeros(int(self.row[-1]) + 1)
        starts[1:] = first
        return running - running[starts][self.row]


@dataclass(frozen=True)
class DistributionInputs(Inputs):
    """n response tokens of a micro-batch (a chunk of them) with the distributions in their places. policy, reference,
    teacher: log-probs [n, V] over the same outcomes, nats, float32: the whole vocabulary, or as the setting `support`
    says, at the setting `temperature`. labels: token ids [n]; label_log_probs: the policy's log-prob of each [n], over
    the whole vocabulary at temperature 1. row, role: as in TokenInputs, [n]; the rows of a response may lie in several
    chunks."""

    labels: Tensor = None  # type: ignore[assignment]
    label_log_probs: Tensor = None  # type: ignore[assignment]
    row: Tensor = None  # type: ignore[assignment]
    role: Tensor = None  # type: ignore[assignment]

    def is_role(self, name: str) -> Tensor:
        """Which rows are of the response of that role, [n] bool."""
        return self.role == self.roles.index(name)
