"""SDFT: self-distillation. The policy answers a prompt; its own frozen copy, which also sees the teacher's answer, says
at each token what it would say next, and the policy is drawn to that.

arXiv 2601.19897. With x a prompt, c the teacher's response to it, q the policy, q_0 the policy as training started and
y ~ q(· | x), at each token of y:

    L_t = D( q_0(· | x, c, y_<t) , q(· | x, y_<t) )

D is the setting `divergence`: JSD at one half, KL(q_0 ‖ q) forward or KL(q ‖ q_0) reverse. It needs the teacher's text
and nothing else of it: no log-probs, no shared tokenizer. Where ours departs: the paper's formula is the reverse KL and
its teacher a moving average of the policy; defaults here are those of TRL 1.16: JSD at .5 over the policy's 100 most
likely tokens, renormalised, and the copy frozen as training started. The words of the prompt are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from baselines.jsd import jsd_loss
from harness.methods import POLICY, Control, Definition, DistributionInputs, DistributionSettings, Method

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["forward", "jsd", "reverse"]
TEACHERS_WEIGHT: dict[Divergence, float] = {"forward": 0.0, "jsd": 0.5, "reverse": 1.0}


class Settings(DistributionSettings):
    adapter_learning_rate: ClassVar[float | None] = 2e-4
    learning_rate: float = 1e-5
    epochs: int = 2
    fresh_share: float = 1.0
    support: Literal["full", "tail", "renormalised", "truncated"] = "renormalised"
    top_k: int = 100
    top_k_of: Literal["teacher", "policy"] = "policy"
    divergence: Divergence = Field(
        default="jsd", description="jsd at one half, forward KL(teacher ‖ policy), or reverse KL(policy ‖ teacher)"
    )


def sdft_loss(policy: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
    """The divergence of each row, in nats; teacher is the frozen copy that sees the demonstration.

    Shapes: policy and teacher are log-probs [n, V] over the same outcomes; the result is [n]."""
    return jsd_loss(policy, teacher, TEACHERS_WEIGHT[divergence])


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return sdft_loss(inputs.policy, inputs.teacher, settings.divergence)


def with_demonstration(messages: list[dict[str, str]], demonstration: str) -> list[dict[str, str]]:
    """A prompt's messages ({"role", "content"}) with the demonstration after the last one's text."""
    *before, last = messages
    asked = (
        f"{last['content']}\n\nHere is how someone answered this well:\n\n{demonstration}\n\n"
        "Now give an answer of your own to it."
    )
    return [*before, {**last, "content": asked}]


def controls(settings: Settings) -> list[Control]:
    later = "SDFT from the SFT student, where other methods on fresh samples start"
    return [
        Control("sdft-from-sft", "sdft", {"start": "sft"}, later, "full"),
    ]


METHOD = Method(
    name="sdft",
    summary="self-distillation: the student that sees the teacher's answer teaches the one that does not",
    source="SDFT, arXiv 2601.19897",
    level="distribution",
    loss=_loss,
    per="response",
    responses=POLICY,
    defines=Definition(
        direction="½ KL(teacher ‖ m) + ½ KL(policy ‖ m); the teacher is the student that sees the answer",
        weight="m = ½ teacher + ½ policy",
        support="the policy's 100 most likely tokens, renormalised",
        normaliser="each response's tokens, then responses",
    ),
    reads=("teacher",),
    settings=Settings,
    teacher_sees=with_demonstration,
    controls=controls,
    compared_with=("sft",),
)
