"""SKL: skewed forward KL, from the teacher p to a mixture of it and the policy q: KL(p ‖ αp + (1−α)q).

Ko et al. 2024 (DistiLLM, arXiv 2402.03898). A little of the teacher in the mixture bounds the loss by −log α a
token, and its gradient in q by (1−α)/α. DistiLLM's schedule of replayed student responses is not here: `fresh_share`
and `stored` say whose responses it trains on. Its public code leaves the teacher's entropy out: another value, the same
gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baselines.divergences import NORMALISER, SUPPORT, kl, mixture
from baselines.kd import Settings as KDSettings
from harness.methods import POLICY, Control, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(KDSettings):
    start: Literal["student", "sft"] = "sft"
    # the teacher's weight in the mixture; towards 0 it is the forward KL
    alpha: float = Field(default=0.1, gt=0, lt=1)


def skl_loss(policy: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """KL(p ‖ αp + (1−α)q) of each row, in nats, for the teacher p and the policy q.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that the teacher rules out (−inf) add
    nothing.
    """
    return kl(teacher, mixture(teacher, policy, alpha))


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return skl_loss(inputs.policy, inputs.teacher, settings.alpha)


def controls(settings: Settings) -> list[Control]:
    start = settings.start
    return [Control(f"kd-from-{start}", "kd", {"start": start}, "KD from the same start: a gain may be the start")]


METHOD = Method(
    name="skl",
    summary="skewed forward KL to the teacher's distributions",
    source="Ko et al. 2024 (DistiLLM), arXiv 2402.03898",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(teacher ‖ m)",
        weight="m = α teacher + (1−α) policy; α .1",
        support=SUPPORT,
        normaliser=NORMALISER,
    ),
    reads=("teacher",),
    settings=Settings,
    controls=controls,
    compared_with=("kd", "sft"),
)
