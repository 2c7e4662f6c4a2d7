"""RKL: reverse KL, from the policy q to the teacher p, at each response token: Σ_v q log(q/p).

The divergence of MiniLLM (Gu et al. 2023, arXiv 2306.08543), here of each token by itself, with its exact gradient over
the outcomes; MiniLLM's own policy gradient also carries what a token does to those after it. On the teacher's responses
by default; `fresh_share=1` takes the policy's own, as on-policy distillation does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.divergences import NORMALISER, SUPPORT, kl
from baselines.kd import Settings
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


def rkl_loss(policy: Tensor, teacher: Tensor) -> Tensor:
    """KL(π_θ ‖ π_te) of each row, in nats.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that the teacher rules out (−inf) add
    nothing, where the divergence itself is infinite.
    """
    return kl(policy, teacher)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return rkl_loss(inputs.policy, inputs.teacher)


METHOD = Method(
    name="rkl",
    summary="reverse KL to the teacher's distributions",
    source="Gu et al. 2023, arXiv 2306.08543, token by token",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(direction="KL(policy ‖ teacher)", weight="none", support=SUPPORT, normaliser=NORMALISER),
    reads=("teacher",),
    settings=Settings,
    compared_with=("kd", "sft"),
    minimises=("reverse_kl",),
)
