"""G-OPD: on-policy distillation towards r^(1−L) p^L, past the teacher p where L > 1, with r the SFT student.

arXiv 2602.12125 (there λ, the reward scaling factor). `opd` with the advantage

    A_t = sg[L (log p − log r)(y_t) − (log q − log r)(y_t)]

so that the fixed point of each token is q ∝ r^(1−L) p^L, normalised token by token: L = 1 is `opd`, 0 < L < 1 stays
between reference and teacher. daDPO's population optimum is of this family at L = (1+β2)/(β1+β2), but with one
normaliser a response (docs/methods/dadpo.md, 7): the two are equal at L = 1 and not elsewhere.
Where ours departs: the reference is the SFT student that training starts from; and A_t is under the policy as it is
(baselines/opd.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from baselines import dadpo, opd
from baselines.opd import policy_gradient
from harness.methods import POLICY, Control, Definition, Method, TokenInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(opd.Settings):
    extrapolation: float = Field(
        default=1.25, gt=0, description="L: 1 aims at the teacher, more past it, less between reference and teacher"
    )


def gopd_loss(policy: Tensor, reference: Tensor, teacher: Tensor, sampled: Tensor, extrapolation: float) -> Tensor:
    """−(q/q_old) sg[(1−L) log r + L log p − log q] of each sampled token; L is extrapolation.

    Shapes: policy (log q), reference (log r), teacher (log p) and sampled (log q_old) are log-probs of the tokens [T],
    nats; the result is [T]."""
    target = (1 - extrapolation) * reference + extrapolation * teacher
    return policy_gradient(policy, sampled, target - policy)


def _loss(inputs: TokenInputs, settings: Settings) -> Tensor:
    return gopd_loss(inputs.policy, inputs.reference, inputs.teacher, inputs.sampled, settings.extrapolation)


def same_target(extrapolation: float) -> dict[str, float]:
    """β1 and β2 of the daDPO whose optimum is at this L = (1+β2)/(β1+β2): its own default β2, or, where β1 would fall
    below 0, β1 = 0."""
    default = dadpo.Settings().beta_teacher
    most = (1 + default) / default
    teacher = default if extrapolation < most else 1 / (extrapolation - 1)
    # rounded, so that L = 7 is daDPO with its defaults, and not a training beside it
    reference = float(f"{max((1 + teacher) / extrapolation - teacher, 0):.12g}")
    return {"beta_reference": reference, "beta_teacher": teacher}


def controls(settings: Settings) -> list[Control]:
    return [
        Control(
            f"dadpo-L{settings.extrapolation:.6g}",
            "dadpo",
            dict(same_target(settings.extrapolation)),
            "daDPO at the same L = (1+β2)/(β1+β2): stored pairs, one normaliser a response",
        ),
    ]


METHOD = Method(
    name="gopd",
    summary="on-policy distillation past the teacher: its log-ratio to the reference, L times",
    source="G-OPD, arXiv 2602.12125",
    level="token",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(policy ‖ reference^(1−L) teacher^L, normalised at each token), by sampled tokens",
        weight="exponents L of the teacher and 1−L of the reference; L 1.25",
        support="the sampled token alone",
        normaliser="response tokens",
    ),
    reads=("reference", "teacher"),
    settings=Settings,
    controls=controls,
    compared_with=("opd", "dadpo", "sft"),
)
