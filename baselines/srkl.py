"""SRKL: skewed reverse KL, from the policy q to a mixture of the teacher p and it: KL(q ‖ (1−α)p + αq).

Ko et al. 2024 (DistiLLM, arXiv 2402.03898). A little of the policy in the mixture bounds the loss by −log α a token,
however small p is. The gradient goes through both places of q, as in DistiLLM's code; distillm-2's stops it in the
mixture. DistiLLM's schedule of replayed student responses is not here: `fresh_share` and `stored` say whose responses
it trains on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baselines.divergences import NORMALISER, SUPPORT, kl, mixture
from baselines.kd import Settings as KDSettings
from baselines.skl import controls
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(KDSettings):
    start: Literal["student", "sft"] = "sft"
    # the policy's weight in the mixture; towards 0 it is the reverse KL
    alpha: float = Field(default=0.1, gt=0, lt=1)


def srkl_loss(policy: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """KL(q ‖ (1−α)p + αq) of each row, in nats, for the teacher p and the policy q.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that the teacher rules out (−inf)
    add −log α a unit of the policy's mass.
    """
    return kl(policy, mixture(policy, teacher, alpha))


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return srkl_loss(inputs.policy, inputs.teacher, settings.alpha)


METHOD = Method(
    name="srkl",
    summary="skewed reverse KL to the teacher's distributions",
    source="Ko et al. 2024 (DistiLLM), arXiv 2402.03898",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(policy ‖ m)",
        weight="m = (1−α) teacher + α policy; α .1",
        support=SUPPORT,
        normaliser=NORMALISER,
    ),
    reads=("teacher",),
    settings=Settings,
    controls=controls,
    compared_with=("kd", "sft"),
)
