"""PAD: the policy ranks several responses to a prompt as the teacher does.

Gu et al. 2025 (arXiv 2502.14272): four samples of the SFT student to each prompt. With m = log π(y)/|y|, a response's
mean log-prob a token, a model's preference is the Plackett-Luce distribution over all orders of them with scores β m:

    P(y_1 > y_2 > … > y_k) = Π_j e^(β m_j) / Σ_{i ≥ j} e^(β m_i)        L = JSD(P_te, P_θ)

The teacher's score is its log-prob alone: the paper mixes in what the teacher answers when it is asked which response
is best.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from baselines.jsd import jsd_loss
from harness.methods import Definition, Method, MethodSettings, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 1e-5
    learning_rate: float = 8e-7
    epochs: int = 1
    beta: float = Field(default=10.0, gt=0, description="scale of the mean log-probs as scores")


def ranking_log_probs(scores: Tensor) -> Tensor:
    """Plackett-Luce: scores [n, k] → log-probs of all k! orders, best first, [n, k!]."""
    import torch

    orders = torch.tensor(list(permutations(range(scores.shape[-1]))), device=scores.device)
    ranked = scores[:, orders]
    left = ranked.flip(-1).logcumsumexp(-1).flip(-1)  # of each place, those that are not yet placed
    return (ranked - left).sum(-1)


def pad_loss(policy: Tensor, teacher: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """JSD at weight ½ of the two models' distributions over the orders of k responses.

    Shapes: policy and teacher, summed log-probs in nats, and lengths, in tokens, [prompts, k]; the result is [prompts],
    from 0 to log 2.
    """
    orders, theirs = (ranking_log_probs(beta * sums / lengths) for sums in (policy, teacher))
    return jsd_loss(orders, theirs, 0.5)


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    return pad_loss(inputs.policy, inputs.teacher, inputs.lengths, settings.beta)


METHOD = Method(
    name="pad",
    summary="the policy ranks four of the student's responses as the teacher does",
    source="Gu et al. 2025, arXiv 2502.14272",
    level="sequence",
    loss=_loss,
    per="example",
    responses=tuple((role, "student", sample) for sample, role in enumerate("abcd")),
    defines=Definition(
        direction="JSD between the teacher's and the policy's distribution over orders",
        weight="½ of the teacher, ½ of the policy; scores are β 10 times mean log-probs",
        support="the 24 orders of four responses, each averaged over its tokens",
        normaliser="prompts",
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("dpkd", "sft"),
)
