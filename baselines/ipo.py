"""IPO: the margin over the reference is regressed to 1/(2β), where DPO would push it on without end.

Azar et al. 2023 (arXiv 2310.12036), eq. 17, on role-assigned pairs: the teacher's response is chosen, the SFT student's
rejected.

    L = (h − 1/(2β))²        h = log π_θ/π_ref (chosen) − log π_θ/π_ref (rejected)

β is the paper's τ. The log-ratios are means over a response's tokens, as the authors told TRL that they had them; sums,
as the formula reads, are the setting `length_normalised=false`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines import ddpo
from harness.methods import PAIR, Definition, Method, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(ddpo.Settings):
    length_normalised: bool = True


def ipo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """(h − 1/(2β))².

    Shapes: policy and reference are log-probs of responses [pairs, 2] (chosen, rejected), nats, summed or averaged over
    tokens; the result is [pairs], nats².
    """
    ratio = policy - reference
    return (ratio[:, 0] - ratio[:, 1] - 1 / (2 * beta)).square()


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    scale = inputs.lengths if settings.length_normalised else 1
    return ipo_loss(inputs.policy / scale, inputs.reference / scale, settings.beta)


METHOD = Method(
    name="ipo",
    summary="squared distance of the margin over the reference from 1/(2β)",
    source="Azar et al. 2023, arXiv 2310.12036",
    level="sequence",
    loss=_loss,
    per="example",
    responses=PAIR,
    defines=Definition(
        direction="brings chosen over rejected, against the reference, to 1/(2β), and back where it is beyond",
        weight="β of the reference",
        support="the two sampled responses, each averaged over its tokens",
        normaliser="pairs",
    ),
    reads=("reference",),
    settings=Settings,
    compared_with=("ddpo", "sft"),
)
