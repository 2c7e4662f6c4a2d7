"""DPKD as its own repository has it: at each token, the teacher's most likely token against the policy's.

Li et al. 2024 (arXiv 2406.19774); LMOps, dpkd. At each position of the teacher's response, with y_t and y_s the most
likely tokens of the teacher and of the policy,

    L = −log σ( β [ log π_θ(y_t)/π_θ(y_s) − log π_te(y_t)/π_te(y_s) ] )   + the setting nll × −log π_θ(y)

averaged over response tokens. What is in brackets is never above 0, so L is never below log 2, which it is, without a
gradient, wherever both have the same most likely token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baselines.kd import Settings as KDSettings
from baselines.skl import controls
from harness.methods import RESPONSE, Definition, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(KDSettings):
    start: Literal["student", "sft"] = "sft"
    beta: float = Field(default=0.1, gt=0)
    nll: float = Field(default=1.0, ge=0, description="weight of −log π(y_t) of the teacher's response")


def dpkd_token_loss(policy: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """−log σ(β [log π_θ(y_t)/π_θ(y_s) − log π_te(y_t)/π_te(y_s)]), y_t and y_s the argmaxes of teacher and policy.

    Shapes: policy and teacher are log-probs [n, V] over the same outcomes, nats; the result is [n]. What either rules
    out (−inf) is neither's most likely outcome.
    """
    import torch
    import torch.nn.functional as F

    possible = policy.isfinite() & teacher.isfinite()
    best, own = (rows.masked_fill(~possible, -torch.inf).argmax(-1, keepdim=True) for rows in (teacher, policy))
    log_ratio = policy.gather(-1, best) - policy.gather(-1, own) - teacher.gather(-1, best) + teacher.gather(-1, own)
    return -F.logsigmoid(beta * log_ratio).squeeze(-1)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return dpkd_token_loss(inputs.policy, inputs.teacher, settings.beta)


METHOD = Method(
    name="dpkd-token",
    summary="at each token the teacher's most likely token against the policy's, and the likelihood of the response",
    source="Li et al. 2024, arXiv 2406.19774, as LMOps has it",
    level="distribution",
    loss=_loss,
    per="token",
    responses=RESPONSE,
    defines=Definition(
        direction="raises the teacher's most likely token over the policy's own",
        weight="β of the teacher, in the reference's place; 1 of the likelihood of the response (nll)",
        support="two outcomes a position: the teacher's most likely and the policy's",
        normaliser="response tokens",
    ),
    reads=("teacher",),
    settings=Settings,
    controls=controls,
    compared_with=("dpkd", "kd", "sft"),
    minimises=("top1", "nll"),
)
