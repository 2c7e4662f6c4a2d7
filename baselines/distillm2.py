"""DistiLLM-2: skewed forward KL on the teacher's responses, skewed reverse KL on the student's.

Ko et al. 2025 (arXiv 2503.07067), on pairs of the teacher's (chosen) and the SFT student's (rejected) responses. At
each token, with p the teacher and q the policy,

    L = (2 − b) KL(p ‖ α p + (1−α) q)   on chosen        L = b KL(q ‖ (1−α) p + α q)   on rejected

b grows from 1 over the first half of the training, and stays. α is fixed: the paper's, which follows how far p and q
are apart on each pair, is not here. The gradient goes through q in both mixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from baselines.divergences import ONLINE
from baselines.skl import controls, skl_loss
from baselines.srkl import srkl_loss
from harness.methods import PAIR, Definition, DistributionInputs, DistributionSettings, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(DistributionSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 5e-5
    learning_rate: float = 1e-5
    epochs: int = 1
    alpha: float = Field(default=0.1, gt=0, lt=1, description="share in each mixture of what is compared with it")
    rejected_weight: float = Field(default=1.5, ge=1, le=2, description="b from half of the training on; 1 before it")


def weight_at(progress: float, end: float) -> float:
    """b: from 1 to `end` over the first half of the training; progress in [0, 1]."""
    return 1 + (end - 1) * min(1.0, 2 * progress)


def distillm2_loss(policy: Tensor, teacher: Tensor, chosen: Tensor, weight: float, alpha: float) -> Tensor:
    """(2 − b) KL(p ‖ αp + (1−α)q) of chosen rows and b KL(q ‖ (1−α)p + αq) of the others; b is weight.

    Shapes: policy and teacher are log-probs [n, V] over the same outcomes, nats; chosen says which rows are of a chosen
    response, [n] bool; the result is [n].
    """
    losses = policy.new_zeros(len(policy))
    losses[chosen] = (2 - weight) * skl_loss(policy[chosen], teacher[chosen], alpha)
    losses[~chosen] = weight * srkl_loss(policy[~chosen], teacher[~chosen], alpha)
    return losses


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    weight = weight_at(inputs.progress, settings.rejected_weight)
    return distillm2_loss(inputs.policy, inputs.teacher, inputs.is_role("chosen"), weight, settings.alpha)


METHOD = Method(
    name="distillm2",
    summary="skewed forward KL on the teacher's responses, skewed reverse KL on the student's",
    source="Ko et al. 2025, arXiv 2503.07067",
    level="distribution",
    loss=_loss,
    per="response",
    responses=PAIR,
    defines=Definition(
        direction="KL(teacher ‖ m) on chosen, KL(policy ‖ m) on rejected",
        weight="m = α teacher + (1−α) policy on chosen, (1−α) teacher + α policy on rejected, α .1; "
        "2−b of chosen, b of rejected, b from 1 to 1.5",
        support=ONLINE,
        normaliser="each response's tokens, then responses",
    ),
    reads=("teacher",),
    settings=Settings,
    controls=controls,
    compared_with=("kd", "skl", "srkl", "sft"),
)
