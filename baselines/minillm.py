"""MiniLLM: the reverse KL of whole responses, by policy gradient: each token answers for those that follow it too.

Gu et al. 2023 (arXiv 2306.08543). The gradient of KL(q ‖ p) over responses falls in two: each token's own reverse KL,
exact over the outcomes, and what the token does to later ones, by sampled tokens. With r_t = log p(y_t) − log q(y_t):

    L_t = KL(q ‖ p)_t − (q/q_old)(y_t) sg[R_t]        R_t = 1/(T−t) Σ_{s>t} γ^(s−t−1) r_s

γ = 1 without the 1/(T−t) has the very gradient of KL(q ‖ p) of responses; γ = 0 leaves only the next token.
Where ours departs: its code whitens R over a batch (a loss here sees a micro-batch, whose size must not matter), mixes
the teacher into the sampling (.2), clips the ratio (.2) and adds a language-modelling loss on other text; this does
none of it. And its code sums R from t on, so that r_t counts twice, in R and in the token's own KL; this from t+1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from baselines.opd import policy_gradient
from baselines.rkl import rkl_loss
from harness.methods import (
    POLICY,
    Definition,
    DistributionInputs,
    DistributionSettings,
    Method,
    Term,
    TokenInputs,
)

if TYPE_CHECKING:
    from torch import Tensor


class Settings(DistributionSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 1e-4
    learning_rate: float = 5e-6
    epochs: int = 2
    fresh_share: float = 1.0
    teacher_signal: Literal["online"] = "online"  # its log-probs of sampled tokens are read as well
    gamma: float = Field(default=0.95, ge=0, le=1, description="discount of later tokens' log-ratios")
    length_normalised: bool = Field(default=True, description="divide each return by the tokens that are left")


def returns(rewards: Tensor, row: Tensor, gamma: float, length_normalised: bool) -> Tensor:
    """R_t = Σ_{s>t} γ^(s−t−1) r_s over the tokens after t in its response, by their number or not; 0 at the last.

    Shapes: rewards, nats, and row, each token's response (0 to R − 1, in order), are [T]; the result is [T]."""
    import torch

    lengths = row.bincount()
    place = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths)[row]
    padded = rewards.new_zeros(len(lengths), int(lengths.max()))
    padded[row, place] = rewards
    found, after = torch.zeros_like(padded), padded.new_zeros(len(lengths))
    for t in reversed(range(padded.shape[1])):
        found[:, t] = after
        after = padded[:, t] + gamma * after
    left = (lengths[row] - place - 1).clamp(min=1) if length_normalised else 1
    return found[row, place] / left


def _loss(inputs: TokenInputs, settings: Settings) -> Tensor:
    rewards = (inputs.teacher - inputs.policy).detach()
    advantage = returns(rewards, inputs.row, settings.gamma, settings.length_normalised)
    return policy_gradient(inputs.policy, inputs.sampled, advantage)


def _own(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return rkl_loss(inputs.policy, inputs.teacher)


METHOD = Method(
    name="minillm",
    summary="reverse KL of whole responses: a token's own, and by sampled tokens what it does to later ones",
    source="Gu et al. 2023, arXiv 2306.08543",
    level="token",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(policy ‖ teacher) of responses: each token's, and the returns of sampled ones",
        weight="1 of both; later tokens discounted by γ .95",
        support="the vocabulary for a token's own; the sampled tokens for returns",
        normaliser="response tokens; a return by the tokens that are left",
    ),
    reads=("teacher",),
    settings=Settings,
    also=(Term("distribution", _own, "token"),),
    compared_with=("opd", "rkl", "sft"),
    minimises=("reverse_kl",),
)
