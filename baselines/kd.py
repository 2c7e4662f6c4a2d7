"""KD: forward KL to the teacher's distribution at each token of the teacher's responses: Σ_v p log(p/q).

Hinton et al. 2015 (arXiv 1503.02531), for language models as in Sanh et al. 2019. It starts from the untrained
student by default (`settings.kd.start`); the full set of controls adds it from the SFT student.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.methods import POLICY, Control, Definition, DistributionInputs, DistributionSettings, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(DistributionSettings):
    adapter_learning_rate: ClassVar[float | None] = 2e-4
    learning_rate: float = 1e-5
    epochs: int = 2


def kd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(π_te ‖ π_θ) of each row, in nats.

    Shapes: student and teacher are log-probs [n, V] over the same outcomes (a full vocabulary, or the top k
    and a tail bucket); the result is [n]. Outcomes that the teacher rules out (−inf) add nothing.
    """
    mass = teacher.exp()
    return (mass * (teacher - student)).masked_fill(mass == 0, 0.0).sum(-1)


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return kd_loss(inputs.policy, inputs.teacher)


def controls(settings: Settings) -> list[Control]:
    return [Control("kd-from-sft", "kd", {"start": "sft"}, "KD from the SFT student, where DPO starts", "full")]


METHOD = Method(
    name="kd",
    summary="forward KL to the teacher's distributions on teacher responses",
    source="Hinton et al. 2015, arXiv 1503.02531",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(teacher ‖ policy)",
        weight="none",
        support="the vocabulary; a top k with the rest as one outcome where it is stored",
        normaliser="response tokens",
    ),
    reads=("teacher",),
    settings=Settings,
    controls=controls,
    compared_with=("sft",),
    minimises=("forward_kl",),
)
