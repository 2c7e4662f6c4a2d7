"""ORPO: likelihood of the chosen response and the odds of chosen against rejected, in one stage without a reference.

Hong, Lee & Thorne 2024 (arXiv 2403.07691), eqs. 6 and 7, on role-assigned pairs: the teacher's response is chosen, the
SFT student's rejected. With m = log π_θ(y)/|y|, a response's mean log-prob a token,

    L = −m_w − λ log σ( logit(e^m_w) − logit(e^m_l) )        logit(p) = log p − log(1 − p)

It starts from the untrained student: it takes the place of SFT and preference training both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.methods import PAIR, Definition, Method, MethodSettings, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    adapter_learning_rate: ClassVar[float | None] = 2e-4
    learning_rate: float = 1e-5
    epochs: int = 3
    odds_weight: float = Field(default=0.1, ge=0, description="λ of the odds; 0 is SFT on the chosen responses")


def log_odds(mean: Tensor) -> Tensor:
    """log p/(1−p) of p = e^mean, of any shape; a p of 1 is held just below it."""
    import torch

    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return mean - torch.log(-torch.expm1(mean))


def orpo_loss(policy: Tensor, lengths: Tensor, odds_weight: float) -> Tensor:
    """−m_w − λ log σ(log-odds of chosen − log-odds of rejected); λ is odds_weight.

    Shapes: policy, summed log-probs in nats, and lengths, in tokens, [pairs, 2] (chosen, rejected); the result is
    [pairs].
    """
    import torch.nn.functional as F

    mean = policy / lengths
    odds = log_odds(mean)
    return -mean[:, 0] - odds_weight * F.logsigmoid(odds[:, 0] - odds[:, 1])


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    return orpo_loss(inputs.policy, inputs.lengths, settings.odds_weight)


METHOD = Method(
    name="orpo",
    summary="likelihood of the teacher's response, and its odds against the student's, in one stage",
    source="Hong et al. 2024, arXiv 2403.07691",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="raises chosen, and its odds over those of rejected",
        weight="1 of the likelihood, λ of the odds; no reference",
        support="the two sampled responses, each averaged over its tokens; no prompt token",
        normaliser="pairs",
    ),
    settings=Settings,
    compared_with=("sft", "ddpo"),
)
