"""What measures are given, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from harness.core.records import Message, Prompt, Response, transcript
from harness.measures import Answered, Tokens


def answered(
    *texts: str,
    prompt: str = "Tell me a long story, please.",
    finish: Literal["stop", "length"] = "stop",
    tokens: int = 3,
) -> Answered:
    """One prompt with a response of each text."""
    responses = [
        Response(prompt_id="a", sample=n, token_ids=(1,) * tokens, text=t, finish=finish) for n, t in enumerate(texts)
    ]
    return Answered(Prompt(id="a", messages=(Message(role="user", content=prompt),)), tuple(responses))


def talk(turns: Sequence[str], *conversations: Sequence[str]) -> Answered:
    """One prompt of several turns; of each conversation the answers to them."""
    prompt = Prompt(id="a", messages=(Message(role="user", content=turns[0]),), turns=tuple(turns[1:]))
    responses = [
        Response(prompt_id="a", sample=n, token_ids=(1, 2), text=transcript(said, turns[1:]), finish="stop")
        for n, said in enumerate(conversations)
    ]
    return Answered(prompt, tuple(responses))


def tokens(ended: bool = True, **columns: Sequence[float]) -> Tokens:
    """Columns that were not given are of zeros."""
    n = len(next(iter(columns.values())))
    made: dict[str, Any] = {}
    for name, kind in Tokens.__annotations__.items():
        if name != "ended":
            dtype = np.int32 if "int32" in kind else np.float32
            made[name] = np.array(columns.get(name, [0] * n), dtype=dtype)
    return Tokens(**made, ended=ended)
