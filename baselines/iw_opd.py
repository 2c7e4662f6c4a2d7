"""IW-OPD: on-policy distillation with early tokens weighted above those that follow where policy and teacher disagreed.

arXiv 2606.22600. `opd` with the advantage of each token times a weight from those of its response:

    w_t = 1 + γ (1 − Σ_{s<t} |A_s| / Σ_s |A_s|)        A_t = sg[log p(y_t) − log q(y_t)]

It falls from 1 + γ at the first token to 1 + γ |A_T| / Σ |A| at the last; γ = 0 is `opd`. Σ_s |A_s| is of the whole
response, so a token's weight knows the tokens after it.
Where ours departs: A_t is under the policy as it is (baselines/opd.py), and no ratio is clipped (the paper's is, at
.2; each step samples anew here, where it is 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from baselines import opd
from baselines.opd import policy_gradient
from harness.methods import POLICY, Definition, Method, TokenInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(opd.Settings):
    gamma: float = Field(default=0.5, ge=0, description="how much more the first tokens of a response weigh; 0 is opd")


def prefix_weights(before: Tensor, total: Tensor, gamma: float) -> Tensor:
    """1 + γ (1 − Σ_{s<t} |A_s| / Σ_s |A_s|) of each token; 1 + γ in a response where no advantage differs from 0.

    Shapes: before (the sum of |A_s| over the tokens before in the response) and total (over all of it) are [T], nats;
    the result is [T]."""
    return 1 + gamma * (1 - before / total.clamp(min=1e-8))


def _loss(inputs: TokenInputs, settings: Settings) -> Tensor:
    advantage = (inputs.teacher - inputs.policy).detach()
    size = advantage.abs()
    weights = prefix_weights(inputs.before(size), inputs.sums(size)[inputs.row], settings.gamma)
    return policy_gradient(inputs.policy, inputs.sampled, weights * advantage)


METHOD = Method(
    name="iw-opd",
    summary="on-policy distillation that weights early tokens above those after a disagreement",
    source="IW-OPD, arXiv 2606.22600",
    level="token",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(policy ‖ teacher), by sampled tokens, weighted",
        weight="1 + γ (1 − the share of its response's summed absolute advantages before the token); γ .5",
        support="the sampled token alone",
        normaliser="response tokens",
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("opd", "sft"),
    minimises=("reverse_kl",),
)
