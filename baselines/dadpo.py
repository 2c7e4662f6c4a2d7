"""daDPO: distribution-aware DPO, with the teacher's log-probs of both responses in the loss.

arXiv 2506.15717 (Findings of ACL 2025). From two KL terms, to the reference (β1) and to the teacher (β2):

    L = −log σ( (β1+β2) δ_θ − β2 δ_te )

with δ_m = log π_m/π_ref (chosen) − log π_m/π_ref (rejected) for m = θ and the teacher. It is DPO at β1+β2 with
the mixed reference (β1 log π_ref + β2 log π_te)/(β1+β2), so a step costs what a dDPO step costs.
The form of the loss is inferred with 93% confidence; β1 and β2 of the paper are not known, the defaults are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.methods import PAIR, Control, Definition, Method, MethodSettings, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 1e-5
    learning_rate: float = 1e-6
    epochs: int = 2
    beta_reference: float = Field(default=0.1, ge=0)
    beta_teacher: float = Field(default=0.05, ge=0)
    # divide each response's log-probs by its length in tokens; sums are what the method is defined on
    length_normalised: bool = False
    # what the loss is given as δ_te: each pair's own, those of other pairs (a placebo), or their mean
    teacher_margin: Literal["own", "permuted", "mean"] = "own"

    @model_validator(mode="after")
    def _some_beta(self) -> Settings:
        if self.beta_reference + self.beta_teacher == 0:
            raise ValueError("beta_reference and beta_teacher cannot both be 0")
        if self.length_normalised and self.teacher_margin != "own":
            raise ValueError("teacher_margin permutes sums; it does not go with length_normalised")
        return self


def dadpo_loss(
    policy: Tensor, reference: Tensor, teacher: Tensor, beta_reference: float, beta_teacher: float
) -> Tensor:
    """−log σ((β1+β2) δ_θ − β2 δ_te), arXiv 2506.15717; β1 is beta_reference, β2 is beta_teacher.

    Shapes: policy, reference and teacher are summed log-probs [pairs, 2] (chosen, rejected), nats; the result
    is [pairs].
    """
    import torch.nn.functional as F

    policy_ratio = policy - reference
    teacher_ratio = teacher - reference
    policy_margin = policy_ratio[:, 0] - policy_ratio[:, 1]
    teacher_margin = teacher_ratio[:, 0] - teacher_ratio[:, 1]
    return -F.logsigmoid((beta_reference + beta_teacher) * policy_margin - beta_teacher * teacher_margin)


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    scale = inputs.lengths if settings.length_normalised else 1
    policy, reference, teacher = inputs.policy / scale, inputs.reference / scale, inputs.teacher / scale
    return dadpo_loss(policy, reference, teacher, settings.beta_reference, settings.beta_teacher)


def replace_teacher_margin(
    signals: dict[str, NDArray[np.float32]], settings: Settings, seed: int
) -> dict[str, NDArray[np.float32]]:
    """The same signals with δ_te permuted across pairs, or set to its mean; {name: [N, 2]}, nats.

    Only δ_te enters the loss, so the new teacher is the reference with the whole margin on the chosen side.
    """
    if settings.teacher_margin == "own":
        return signals
    reference, teacher = signals["reference"], signals["teacher"]
    ratio = teacher - reference
    margin = ratio[:, 0] - ratio[:, 1]
    if settings.teacher_margin == "permuted":
        margin = np.random.default_rng(seed).permutation(margin)
    else:
        margin = np.full_like(margin, margin.mean())
    replaced = reference.copy()
    replaced[:, 0] += margin
    return {**signals, "teacher": replaced}


def controls(settings: Settings) -> list[Control]:
    """What a gain over dDPO could otherwise be: a larger β, the same optimum, or a re-weighting of pairs."""
    # rounded, so that 0.1 + 0.05 is the 0.15 that somebody may have asked for, and 1.05 / 0.15 the 7
    total = float(f"{settings.beta_reference + settings.beta_teacher:.12g}")
    matched = float(f"{total / (1 + settings.beta_teacher):.12g}")
    training = {key: getattr(settings, key) for key in (*MethodSettings.model_fields, "length_normalised")}
    margins = [
        Control(f"dadpo-{kind}", "dadpo", {**settings.model_dump(), "teacher_margin": kind}, why, "full")
        for kind, why in (
            ("permuted", "placebo: the teacher's margins of other pairs"),
            ("mean", "the teacher's mean margin for every pair: only re-weights pairs"),
        )
    ]
    target = float(f"{(1 + settings.beta_teacher) / total:.12g}")
    return [
        Control(
            f"ddpo-beta{total:.6g}",
            "ddpo",
            {**training, "beta": total},
            "dDPO at β1+β2: a gain over dDPO(β1) may be nothing but the larger β",
        ),
        Control(
            f"ddpo-beta{matched:.6g}",
            "ddpo",
            {**training, "beta": matched},
            "dDPO at (β1+β2)/(1+β2): the same population optimum",
            "full",
        ),
        *([] if settings.length_normalised else margins),
        Control(
            "sft-continued",
            "sft",
            {"start": "sft"},
            "SFT continued from the SFT student for as many tokens",
            "full",
            match_tokens=True,
        ),
        Control(
            "gopd-same-target",
            "gopd",
            {"extrapolation": target},
            "G-OPD at L = (1+β2)/(β1+β2): the on-policy, token-local relative; where it collapses is a finding",
            "full",
        ),
    ]


METHOD = Method(
    name="dadpo",
    summary="DPO with the teacher's distribution in the loss",
    source="daDPO, arXiv 2506.15717",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="raises chosen over rejected, by (β1+β2) δ_θ − β2 δ_te",
        weight="β1 of the reference, β2 of the teacher, in the mixed reference",
        support="the two sampled responses, summed over their tokens",
        normaliser="pairs",
    ),
    reads=("reference", "teacher"),
    settings=Settings,
    transform=replace_teacher_margin,
    controls=controls,
    compared_with=("ddpo", "kd", "sft"),
)
