"""What a distillation method is to the harness: data + signals + a loss. The methods live in baselines/.

A file in baselines/ (or a plug-in's module) defines `METHOD = Method(...)`. Nothing else in the harness
changes when a method is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.core.files import canonical_hash
from harness.core.sources import sources
from harness.methods.settings import MethodSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    SignalTransform = Callable[[dict[str, "NDArray[np.float32]"], Any, int], dict[str, "NDArray[np.float32]"]]


Signal = Literal["reference_log_probs", "teacher_log_probs"]


@dataclass(frozen=True)
class SequenceInputs:
    """What a sequence-level loss sees of a batch of n examples with k responses each (k = 1, or 2 for pairs,
    chosen first). All [n, k], float32; log-probs are sums over response tokens, in nats."""

    policy: Tensor
    lengths: Tensor
    signals: dict[str, Tensor]

    @property
    def reference(self) -> Tensor:
        return self.signals["reference_log_probs"]

    @property
    def teacher(self) -> Tensor:
        return self.signals["teacher_log_probs"]


@dataclass(frozen=True)
class Control:
    """A row that a method's claim travels with: another training, run by itself beside the method."""

    name: str
    method: str
    overrides: dict[str, Any]
    why: str
    level: Literal["basic", "full"] = "basic"
    match_tokens: bool = False  # train on as many tokens as the method that it controls


@dataclass(frozen=True)
class Method:
    """One distillation method.

    level: `sequence` losses take SequenceInputs and settings to [n] losses; `token` losses take
        (student, teacher) rows of log-probs [m, V] and settings to [m] losses.
    data: `responses` trains on teacher responses, `pairs` on (teacher, student) responses.
    per: what the summed loss is divided by over a whole step: response tokens, or examples.
    signals: log-prob artifacts the loss reads.
    transform: a pure function of a whole data set's signals {name: [N, k]}, settings and seed, applied once.
    controls: the rows that a claim of this method travels with; the first is the one that the claim is against.
    compared_with: other methods that it is set against by default, where they are on the board.
    minimises: names of the measures (harness.measures) that its loss is: tables mark them in its row.
    """

    name: str
    summary: str
    source: str
    level: Literal["sequence", "token"]
    data: Literal["responses", "pairs"]
    per: Literal["token", "example"]
    loss: Callable[..., Tensor]
    settings: type[MethodSettings] = MethodSettings
    signals: tuple[Signal, ...] = ()
    transform: SignalTransform | None = None
    controls: Callable[[Any], list[Control]] = field(default=lambda _settings: [])
    compared_with: tuple[str, ...] = ()
    minimises: tuple[str, ...] = ()

    def with_dropout(self, settings: MethodSettings) -> bool:
        """Whether the checkpoint's own dropout is on while it trains: where nothing is said, not if the loss compares
        with a reference, whose log-probs were computed without."""
        if settings.dropout is not None:
            return settings.dropout
        return "reference_log_probs" not in self.signals

    @property
    def source_digest(self) -> str:
        """A digest of what defines the training: the method's fields, and its functions and settings with the files
        that they come from and import. An edited method is trained anew."""
        return canonical_hash(
            [self.level, self.data, self.per, self.signals, *sources(self.loss, self.transform, self.settings)]
        )
