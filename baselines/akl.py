"""AKL: adaptive KL, forward and reverse KL weighted by where the policy q is far from the teacher p.

Wu et al. 2024 (arXiv 2404.02657). The head is the teacher's likeliest outcomes, in descending order, as long as their
mass together is at most μ, and the likeliest in any case; the tail is the others. With g = Σ |p − q| over each:

    L = g_head/(g_head+g_tail) KL(p ‖ q) + g_tail/(g_head+g_tail) KL(q ‖ p)

The weights have no gradient. All as in the authors' code. TAID's and KDFlow's sort in ascending order, so that the
outcome that crosses μ is the head's, and TAID's weights have a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from baselines.divergences import NORMALISER, SUPPORT, kl
from baselines.kd import Settings as KDSettings
from harness.methods import POLICY, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(KDSettings):
    # the teacher's mass that the head has at most
    mu: float = Field(default=0.5, gt=0, lt=1)


def head(teacher: Tensor, mu: float, first: int = 64) -> Tensor:
    """Which outcomes are the head, [n, V] bool, of log-probs [n, V]. Heads are short: of a vocabulary only the top
    `first` are sorted, and more where some row's head may be longer."""
    import torch

    top, ids = teacher.topk(min(first, teacher.shape[-1]))
    reached = top.exp().cumsum(-1)
    if len(ids[0]) < teacher.shape[-1] and (reached[:, -1] <= mu).any():
        return head(teacher, mu, first * 8)
    inside = reached <= mu
    inside[:, 0] = True
    return torch.zeros_like(teacher, dtype=torch.bool).scatter(-1, ids, inside)


def akl_loss(policy: Tensor, teacher: Tensor, mu: float) -> Tensor:
    """The weighted sum of KL(p ‖ q) and KL(q ‖ p) of each row, in nats; μ is mu.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that the teacher rules out (−inf) add
    nothing to either, and to the tail's weight what the policy gives them.
    """
    import torch

    gap = (policy.detach().exp() - teacher.exp()).abs()
    inside = (gap * head(teacher, mu)).sum(-1)
    share = inside / gap.sum(-1).clamp(min=torch.finfo(gap.dtype).tiny)
    return share * kl(teacher, policy) + (1 - share) * kl(policy, teacher)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return akl_loss(inputs.policy, inputs.teacher, settings.mu)


METHOD = Method(
    name="akl",
    summary="forward and reverse KL, weighted by where the policy is far from the teacher",
    source="Wu et al. 2024, arXiv 2404.02657",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="w KL(teacher ‖ policy) + (1−w) KL(policy ‖ teacher)",
        weight="w = the head's share of Σ abs(teacher − policy), no gradient; head: the top 1, and on to mass μ .5",
        support=SUPPORT,
        normaliser=NORMALISER,
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("kd", "rkl", "sft"),
)
