"""TAID: cross-entropy to a target that moves from the policy q to the teacher p as training goes on.

Shing et al. 2025 (arXiv 2501.16937). With logits z and no gradient through the target:

    L = −Σ_v p_t log q        p_t = softmax((1−t) z_q + t z_p)

t begins at `t_start` and rises, after each step, by α σ(m) (1−t), with m the momentum of the loss's relative fall; it
is at least the line from `t_start` to `t_end` over the training, and at most `t_end`. As the authors' code: the first
step only remembers its loss, and the line is at the progress before the step: short of `t_end` at the last, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from baselines.divergences import NORMALISER, SUPPORT
from baselines.kd import Settings as KDSettings
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(KDSettings):
    t_start: float = Field(default=0.4, ge=0, lt=1)
    t_end: float = Field(default=1.0, gt=0, le=1)
    # how far a step can move t at most, as a share of what is left to 1
    alpha: float = Field(default=5e-4, ge=0, le=1)
    # of the loss's relative fall
    momentum: float = Field(default=0.99, ge=0, lt=1)

    @model_validator(mode="after")
    def _rising(self) -> Settings:
        if self.t_end < self.t_start:
            raise ValueError("t_end is below t_start; the target moves towards the teacher")
        return self


def taid_loss(policy: Tensor, teacher: Tensor, t: float) -> Tensor:
    """−Σ p_t log q of each row, in nats, p_t = softmax((1−t) log q + t log p) without a gradient.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that either rules out (−inf) add
    nothing.
    """
    import torch

    lowest = torch.finfo(policy.dtype).min
    mixed = (1 - t) * policy.detach().clamp(min=lowest) + t * teacher.clamp(min=lowest)
    return -(torch.softmax(mixed, -1) * policy.masked_fill(policy == -torch.inf, 0.0)).sum(-1)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return taid_loss(inputs.policy, inputs.teacher, inputs.state["t"])


def state(settings: Settings) -> Mapping[str, float]:
    """t, the momentum of the loss's relative fall, the loss before (0: none yet), and the share of the training that is
    done."""
    return {"t": settings.t_start, "momentum": 0.0, "loss": 0.0, "progress": 0.0}


def advance(before: Mapping[str, float], loss: float, progress: float, settings: Settings) -> Mapping[str, float]:
    """The state after a step with that loss, in nats; progress: the share of the training that is then done."""
    after = {**before, "loss": loss, "progress": progress}
    if before["progress"] == 0:
        return after
    fall = (before["loss"] - loss) / (before["loss"] + 1e-15)
    momentum = settings.momentum * before["momentum"] + (1 - settings.momentum) * fall
    line = settings.t_start + (settings.t_end - settings.t_start) * before["progress"]
    sigmoid = (1 + math.tanh(momentum / 2)) / 2  # of any momentum, however low
    rise = settings.alpha * sigmoid * (1 - before["t"])
    return {**after, "t": min(settings.t_end, max(line, before["t"] + rise)), "momentum": momentum}


METHOD = Method(
    name="taid",
    summary="cross-entropy to a target that moves from the policy to the teacher",
    source="Shing et al. 2025, arXiv 2501.16937",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="cross-entropy(p_t, policy): the gradient of KL(p_t ‖ policy)",
        weight="p_t = softmax((1−t) policy + t teacher) of logits, no gradient; t from .4 towards 1",
        support=SUPPORT,
        normaliser=NORMALISER,
    ),
    reads=("teacher",),
    settings=Settings,
    state=state,
    advance=advance,
    compared_with=("kd", "sft"),
)
