"""What divergences between the policy's and the teacher's distributions are made of: a KL either way, and a mixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


# the words of METHOD.defines that all of them share
SUPPORT = "the vocabulary; a top k with the rest as one outcome where it is stored"
# of those that read the teacher as they train
ONLINE = "the vocabulary; a top k with the rest as one outcome behind a server"
NORMALISER = "response tokens"


def kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first ‖ second) of each row, in nats, with the gradients of both.

    Shapes: log-probs [n, V] over the same outcomes; the result is [n]. Outcomes that either rules out (−inf) add
    nothing and have no gradient: so it stays finite where the second rules out what the first does not.
    """
    ratio = (first - second).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return (first.exp() * ratio).sum(-1)


def mixture(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """log(weight · first + (1 − weight) · second), of log-probs [n, V]; 0 < weight < 1.

    An outcome that both rule out has the lowest number in place of −inf, which has no gradient to be NaN.
    """
    import torch

    lowest = torch.finfo(first.dtype).min
    return torch.logaddexp(first.clamp(min=lowest) + math.log(weight), second.clamp(min=lowest) + math.log1p(-weight))
