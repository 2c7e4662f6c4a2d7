"""cDPO: DPO where each label is taken to be wrong with probability ε.

Mitchell 2023 (a note on DPO with noisy preferences), on role-assigned pairs: the teacher's response is chosen, the SFT
student's rejected.

    L = −(1−ε) log σ(β δ_θ) − ε log σ(−β δ_θ)        δ_θ as in baselines/ddpo.py

It is least where σ(β δ_θ) = 1 − ε, so the margin has an end. Robust DPO (arXiv 2403.00409) is another loss: it has a
minus before ε, and divides by 1 − 2ε.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from baselines import ddpo
from baselines.ddpo import ddpo_loss
from harness.methods import PAIR, Definition, Method, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(ddpo.Settings):
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5, description="ε: how often a label is wrong")


def cdpo_loss(policy: Tensor, reference: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """−(1−ε) log σ(β δ_θ) − ε log σ(−β δ_θ); ε is label_smoothing.

    Shapes: policy and reference are summed log-probs [pairs, 2] (chosen, rejected), nats; the result is [pairs].
    """
    right = ddpo_loss(policy, reference, beta)
    wrong = ddpo_loss(policy.flip(-1), reference.flip(-1), beta)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    scale = inputs.lengths if settings.length_normalised else 1
    policy, reference = inputs.policy / scale, inputs.reference / scale
    return cdpo_loss(policy, reference, settings.beta, settings.label_smoothing)


METHOD = Method(
    name="cdpo",
    summary="DPO whose labels may be wrong: its margin has an end",
    source="Mitchell 2023, after Rafailov et al., arXiv 2305.18290",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="brings β δ_θ of chosen over rejected to log((1−ε)/ε), and back where it is beyond",
        weight="β of the reference; 1−ε of the pair as it is, ε of the pair turned round",
        support="the two sampled responses, summed over their tokens",
        normaliser="pairs",
    ),
    reads=("reference",),
    settings=Settings,
    compared_with=("ddpo", "sft"),
)
