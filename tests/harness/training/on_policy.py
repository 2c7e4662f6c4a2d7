"""Methods whose responses the policy writes as it trains, one a level, as small as they can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.methods import (
    POLICY,
    Definition,
    DistributionSettings,
    FreshSettings,
    Method,
    SequenceInputs,
    TokenInputs,
    TokenSettings,
    methods,
)

ANY = Definition("any", "none", "any", "any")


class Tokens(TokenSettings):
    fresh_share: float = 1.0


class Rows(DistributionSettings):
    fresh_share: float = 1.0


class Pairs(FreshSettings):
    fresh_share: float = 1.0


def advantage(inputs: TokenInputs, settings: Any) -> Tensor:
    """−ratio · sg[log p − log q of the policy that wrote]."""
    ahead = (inputs.teacher - inputs.sampled).detach()
    return -torch.exp(inputs.policy - inputs.sampled) * ahead * (1 + sum(inputs.state.values()))


def preference(inputs: SequenceInputs, settings: Any) -> Tensor:
    shift = inputs.policy - inputs.reference
    return -F.logsigmoid(0.1 * (shift[:, 0] - shift[:, 1]))


def moved(state: Mapping[str, float], loss: float, progress: float, settings: Any) -> dict[str, float]:
    """Of all that it is given."""
    return {"t": 0.5 * state["t"] + 0.1 * loss + progress}


def own(name: str, **fields: Any) -> Method:
    common: dict[str, Any] = {"summary": "", "source": "", "defines": ANY, "responses": POLICY}
    return Method(name=name, **{**common, **fields})


def by_tokens(name: str = "own-tokens", **fields: Any) -> Method:
    what = {"level": "token", "loss": advantage, "per": "token", "reads": ("teacher",), "settings": Tokens}
    return own(name, **{**what, **fields})


TOKENS = by_tokens()
CARRYING = by_tokens("own-carrying", state=lambda settings: {"t": 0.25}, advance=moved)
ROWS = own(
    "own-rows", level="distribution", loss=methods.get("kd").loss, per="token", reads=("teacher",), settings=Rows
)
# the teacher's response is chosen, and what the policy writes rejected
PREFERENCE = own(
    "own-preference",
    level="sequence",
    loss=preference,
    per="example",
    responses=(("chosen", "teacher", 0), ("rejected", "policy", 0)),
    reads=("reference",),
    settings=Pairs,
)
