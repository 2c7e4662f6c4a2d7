"""A server that has a tiny checkpoint: what vLLM says of the tokens of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.harness.making import stock
from tests.serving import Call, Reply, prompt_logprobs


def says(folder: Path, calls: list[int], most: int | None = None) -> Callable[[Call], Reply]:
    """Of each token of a prompt the likeliest ids and the token's own, as vLLM. calls: how many it was asked for, call
    by call. most: that it gives, whatever is asked."""
    causal_lm = stock(folder)

    @torch.no_grad()
    def answering(call: Call) -> Reply:
        ids, k = call.body["prompt"], call.body["prompt_logprobs"]
        calls.append(k)
        k = min(k, most or k)
        rows = torch.log_softmax(causal_lm(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        said: list[Any] = [None]
        for row, token in zip(rows, ids[1:], strict=False):
            kept = {*row.topk(k).indices.tolist(), token} if k else {token}
            said.append({str(i): {"logprob": row[i].item(), "rank": 1, "decoded_token": "x"} for i in sorted(kept)})
        return prompt_logprobs(said)

    return answering
