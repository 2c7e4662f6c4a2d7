"""SFT: negative log-likelihood on the teacher's responses.

Sequence-level knowledge distillation (SeqKD; Kim & Rush 2016, arXiv 1606.07947), and dSFT of the DPO family:
the checkpoint that dDPO and daDPO start from and are held to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.methods import RESPONSE, Definition, Method, MethodSettings, SequenceInputs

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    adapter_learning_rate: ClassVar[float | None] = 2e-4
    learning_rate: float = 1e-5
    epochs: int = 3


def sft_loss(policy: Tensor) -> Tensor:
    """−log π_θ(y|x), summed over response tokens, in nats: [n, 1] log-probs → [n]."""
    return -policy[:, 0]


def _loss(inputs: SequenceInputs, settings: Settings) -> Tensor:
    return sft_loss(inputs.policy)


METHOD = Method(
    name="sft",
    summary="negative log-likelihood on teacher responses",
    source="Kim & Rush 2016, arXiv 1606.07947",
    level="sequence",
    loss=_loss,
    per="token",
    responses=RESPONSE,
    defines=Definition(
        direction="raises the teacher's response: KL(teacher ‖ policy) by samples",
        weight="none",
        support="the sampled tokens, the end of the turn among them; no prompt token",
        normaliser="response tokens",
    ),
    settings=Settings,
    minimises=("nll",),
)
