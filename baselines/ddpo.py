"""dDPO: DPO on role-assigned pairs: the teacher's response is chosen, the SFT student's rejected.

Rafailov et al. 2023 (arXiv 2305.18290), eq. 7. Not Zephyr's dDPO, which ranks several models' responses by a
judge. Its population optimum at β aims 1/β times as far as the teacher (docs/methods/dadpo.md, 7).
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
    beta: float = Field(default=0.1, gt=0)
    # divide each response's log-probs by its length in tokens; sums are what DPO is defined on
    length_normalised: bool = False


def ddpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """−log σ(β δ_θ), δ_θ = log π_θ/π_ref (chosen) − log π_θ/π_ref (rejected).

    Shapes: policy and reference are summed log-probs [pairs, 2] (chosen, rejected), nats; the result is [pairs].
    """
    import torch.nn.functional as F

    log_ratio = policy - reference
    return -F.logsigmoid(beta * (log_ratio[:, 0] - log_ratio[:, 1]))


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    scale = inputs.lengths if settings.length_normalised else 1
    return ddpo_loss(inputs.policy / scale, inputs.reference / scale, settings.beta)


METHOD = Method(
    name="ddpo",
    summary="DPO on teacher (chosen) and student (rejected) responses",
    source="Rafailov et al. 2023, arXiv 2305.18290",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="raises chosen over rejected, by β δ_θ",
        weight="β of the reference",
        support="the two sampled responses, summed over their tokens",
        normaliser="pairs",
    ),
    reads=("reference",),
    settings=Settings,
    compared_with=("kd", "sft"),
)
