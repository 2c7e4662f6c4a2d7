"""OPD: on-policy distillation. The policy samples, and each of its tokens is raised or lowered by how much more or less
likely the teacher finds it.

Thinking Machines 2025, "On-Policy Distillation". For the token y_t of a response of q_old, the policy when it sampled,
with p the teacher, q the policy and sg a stopped gradient:

    L_t = −(q/q_old)(y_t) A_t        A_t = sg[log p(y_t) − log q(y_t)]

In expectation its gradient is that of KL(q ‖ p) at each token, the tokens before held as they were sampled. The
discount is 0: A_t stands alone, and what a token does to later ones is not in it (MiniLLM's return-to-go is).
Where ours departs: A_t is taken under the policy as it is, not as it sampled. With each step sampled anew the two are
one; on older samples only this one still has the teacher as its fixed point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.methods import POLICY, Definition, Method, TokenInputs, TokenSettings

if TYPE_CHECKING:
    from torch import Tensor


class Settings(TokenSettings):
    start: Literal["student", "sft"] = "sft"
    adapter_learning_rate: ClassVar[float | None] = 1e-4
    learning_rate: float = 1e-5
    epochs: int = 2
    fresh_share: float = 1.0


def policy_gradient(policy: Tensor, sampled: Tensor, advantage: Tensor) -> Tensor:
    """−(q/q_old) sg[A] of each sampled token, for its gradient −(q/q_old) A ∇log q: over tokens of q_old it is in
    expectation −E_q[A ∇log q], the tokens before as they were sampled.

    Shapes: policy (log q), sampled (log q_old, of the model that sampled) and advantage are [T], nats, and so is the
    result. No ratio is clipped: it is 1 where each step samples anew."""
    return -(policy - sampled).exp() * advantage.detach()


def opd_loss(policy: Tensor, teacher: Tensor, sampled: Tensor) -> Tensor:
    """−(q/q_old) sg[log p − log q] of each sampled token; at q = q_old its value is log q/p, one sample of KL(q ‖ p).

    Shapes: policy (log q), teacher (log p) and sampled (log q_old) are log-probs of the tokens [T], nats; the result
    is [T]."""
    return policy_gradient(policy, sampled, teacher - policy)


def _loss(inputs: TokenInputs, settings: Settings) -> Tensor:
    return opd_loss(inputs.policy, inputs.teacher, inputs.sampled)


METHOD = Method(
    name="opd",
    summary="on-policy distillation: the teacher's log-ratio of each sampled token is its advantage",
    source="Thinking Machines 2025, On-Policy Distillation",
    level="token",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=Definition(
        direction="KL(policy ‖ teacher), by sampled tokens",
        weight="none",
        support="the sampled token alone",
        normaliser="response tokens",
    ),
    reads=("teacher",),
    settings=Settings,
    compared_with=("kd", "sft"),
    minimises=("reverse_kl",),
)
