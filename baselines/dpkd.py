"""DPKD: DPO with the teacher as the reference, on mean log-probs.

Li et al. 2024 (arXiv 2406.19774), in the form that DistiLLM-2's repository compares with: pairs of the teacher's
(chosen) and the SFT student's (rejected) responses,

    L = −log σ( β [log π_θ/π_te (chosen)/|y_w| − log π_θ/π_te (rejected)/|y_l|] )

`length_normalised=false` has sums, and is daDPO at β1 = 0. What the paper's own repository computes is another loss:
baselines/dpkd_token.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines import ddpo
from baselines.ddpo import ddpo_loss
from harness.methods import PAIR, Definition, Method, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(ddpo.Settings):
    length_normalised: bool = True


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    scale = inputs.lengths if settings.length_normalised else 1
    return ddpo_loss(inputs.policy / scale, inputs.teacher / scale, settings.beta)


METHOD = Method(
    name="dpkd",
    summary="DPO with the teacher as the reference, on mean log-probs",
    source="Li et al. 2024, arXiv 2406.19774, as DistiLLM-2 has it",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="raises chosen over rejected, beyond what the teacher has them apart",
        weight="β of the teacher, in the reference's place",
        support="the two sampled responses, each averaged over its tokens",
        normaliser="pairs",
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("dadpo", "ddpo", "sft"),
)
