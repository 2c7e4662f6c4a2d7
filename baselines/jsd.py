"""JSD: the generalised Jensen-Shannon divergence of GKD, on stored responses.

Agarwal et al. 2023 (arXiv 2306.13649), eq. 1. With p the teacher, q the policy and m = β p + (1−β) q:

    L = β KL(p ‖ m) + (1−β) KL(q ‖ m)

β is the teacher's weight; 0 is the forward and 1 the reverse KL, unscaled, where the formula itself would be 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from baselines.divergences import NORMALISER, SUPPORT, kl, mixture
from baselines.kd import Settings as KDSettings
from baselines.kd import kd_loss
from baselines.rkl import rkl_loss
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor

DEFINITION = Definition(
    direction="β KL(teacher ‖ m) + (1−β) KL(policy ‖ m)",
    weight="m = β teacher + (1−β) policy; β .5",
    support=SUPPORT,
    normaliser=NORMALISER,
)


class Settings(KDSettings):
    # the teacher's weight in the mixture
    beta: float = Field(default=0.5, ge=0, le=1)


def jsd_loss(policy: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """β KL(p ‖ m) + (1−β) KL(q ‖ m) of each row, in nats, with m = β p + (1−β) q; KL(p ‖ q) at β = 0, KL(q ‖ p) at 1.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that one rules out (−inf) add what the
    other's term has there: −log(1−β) or −log β a unit of mass.
    """
    if beta == 0:
        return kd_loss(policy, teacher)
    if beta == 1:
        return rkl_loss(policy, teacher)
    between = mixture(teacher, policy, beta)
    return beta * kl(teacher, between) + (1 - beta) * kl(policy, between)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return jsd_loss(inputs.policy, inputs.teacher, settings.beta)


METHOD = Method(
    name="jsd",
    summary="generalised Jensen-Shannon divergence to the teacher's distributions",
    source="Agarwal et al. 2023, arXiv 2306.13649",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=DEFINITION,
    reads=("teacher",),
    settings=Settings,
    compared_with=("kd", "sft"),
)
