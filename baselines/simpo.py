"""SimPO: a preference loss on mean log-probs, with a target margin and no reference.

Meng, Xia & Chen 2024 (arXiv 2405.14734), eq. 6, on role-assigned pairs: the teacher's response is chosen, the SFT
student's rejected.

    L = −log σ( β [log π_θ(y_w)/|y_w| − log π_θ(y_l)/|y_l|] − γ )
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.methods import PAIR, Definition, Method, MethodSettings, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 1e-5
    learning_rate: float = 1e-6
    epochs: int = 2
    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0, description="the margin aimed at, after β; the authors name γ/β, here .5")


def simpo_loss(policy: Tensor, lengths: Tensor, beta: float, gamma: float) -> Tensor:
    """−log σ(β (mean_w − mean_l) − γ) of mean log-probs a token.

    Shapes: policy, summed log-probs in nats, and lengths, in tokens, [pairs, 2] (chosen, rejected); the result is
    [pairs].
    """
    import torch.nn.functional as F

    mean = policy / lengths
    return -F.logsigmoid(beta * (mean[:, 0] - mean[:, 1]) - gamma)


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    return simpo_loss(inputs.policy, inputs.lengths, settings.beta, settings.gamma)


METHOD = Method(
    name="simpo",
    summary="preference loss on mean log-probs with a target margin, without a reference",
    source="Meng et al. 2024, arXiv 2405.14734",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="raises the mean log-prob of chosen over that of rejected, by more than γ/β",
        weight="none: there is no reference",
        support="the two sampled responses, each averaged over its tokens",
        normaliser="pairs",
    ),
    settings=Settings,
    compared_with=("ddpo", "sft"),
)
