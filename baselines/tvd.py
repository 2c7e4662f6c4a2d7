"""TVD: the total variation distance of the policy q and the teacher p at each response token: ½ Σ_v |p − q|.

As in f-distill (Wen et al. 2023, arXiv 2307.15190) and DistiLLM's public code. 1 − it is the probability that
speculative decoding takes the student's draft. Its gradient is bounded, and nearly nothing where the policy gives an
outcome nearly nothing: it corrects what the policy says rather than what it leaves out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.divergences import NORMALISER, SUPPORT
from baselines.kd import Settings
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


def tvd_loss(policy: Tensor, teacher: Tensor) -> Tensor:
    """½ Σ |p − q| of each row, in [0, 1]. Shapes: log-probs [n, V] over the same outcomes; the result is [n]."""
    return (policy.exp() - teacher.exp()).abs().sum(-1) / 2


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return tvd_loss(inputs.policy, inputs.teacher)


METHOD = Method(
    name="tvd",
    summary="total variation distance to the teacher's distributions",
    source="Wen et al. 2023, arXiv 2307.15190",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="½ Σ abs(teacher − policy), symmetric", weight="none", support=SUPPORT, normaliser=NORMALISER
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("kd", "sft"),
    minimises=("acceptance",),
)
