"""How servers are asked for the log-probs of a prompt's tokens, and where in a reply they stand.

vLLM has them in its OpenAI-compatible completions (`prompt_logprobs`), SGLang behind an address of its own beside
them (`/generate`). A response is sent as the end of its own prompt, and nothing is generated but one token that is
thrown away. Either way there is one row a token that was sent, {id: {"logprob"}}: of the token itself, and of so many
of the likeliest ids in its place as were asked for; None where nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.serving.learning import Body
from harness.serving.replies import choice_of
from harness.serving.settings import Api, ModelServer

Row = dict[str, dict[str, Any]] | None


@dataclass(frozen=True)
class PromptApi:
    """path: below the server's address, or below what stands before its `/v1` (beside_v1). body: of a prompt, a
    response to it and how many of the likeliest ids. holder: the part of a reply (`part`, for people) that has the
    log-probs, under `field`, and says how it ended; None where there is no such part. rows: of a reply that has them.
    must: parameters that may not be left out of a body."""

    path: str
    beside_v1: bool
    part: str
    field: str
    must: tuple[str, ...]
    body: Callable[[ModelServer, Sequence[int], Sequence[int], int], Body]
    holder: Callable[[Body], dict[str, Any] | None]
    rows: Callable[[Body, Sequence[int], Sequence[int]], Any]

    def at(self, server: ModelServer) -> ModelServer:
        if not self.beside_v1:
            return server
        return server.model_copy(update={"base_url": server.base_url.rstrip("/").removesuffix("/v1")})

    def has_them(self, reply: Body) -> bool:
        holder = self.holder(reply)
        return holder is not None and isinstance(holder.get(self.field), list)


def _vllm_body(server: ModelServer, prompt: Sequence[int], response: Sequence[int], likeliest: int) -> Body:
    return {
        "model": server.model,
        "prompt": [*prompt, *response],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": likeliest,  # beside those of the prompt's own tokens
    }


def _vllm_rows(reply: Body, prompt: Sequence[int], response: Sequence[int]) -> Any:
    return (choice_of(reply) or {}).get("prompt_logprobs")


def _sglang_body(server: ModelServer, prompt: Sequence[int], response: Sequence[int], likeliest: int) -> Body:
    return {
        "input_ids": [*prompt, *response],
        # at temperature 1, since some of its versions scale log-probs by it
        "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
        "return_logprob": True,
        "logprob_start_len": len(prompt) - 1,  # of the first token from there on it says nothing
        "top_logprobs_num": likeliest,
    }


def _meta(reply: Body) -> dict[str, Any] | None:
    found = reply.get("meta_info")
    return found if isinstance(found, dict) else None


def _sglang_rows(reply: Body, prompt: Sequence[int], response: Sequence[int]) -> list[Row] | None:
    """Its lists of (log-prob, id, text) as vLLM has them, with nothing of the prompt before its last token."""
    meta = _meta(reply) or {}
    own, tops = meta.get("input_token_logprobs"), meta.get("input_top_logprobs") or []
    if not isinstance(own, list):
        return None
    sent = [*prompt[-1:], *response]
    rows: list[Row] = [None] * (len(prompt) - 1)
    for place, entry in enumerate(own):
        row = {str(token): {"logprob": value} for token, value in _pairs(tops[place] if place < len(tops) else None)}
        for token, value in _pairs([entry]):
            # the last id of a vocabulary is written as 0
            if place < len(sent) and token in (sent[place], 0):
                row[str(sent[place])] = {"logprob": value}
        rows.append(row)
    return rows


def _pairs(entries: Any) -> Iterator[tuple[int, Any]]:
    """(id, log-prob) of entries that are such."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], int):
            yield entry[1], entry[0]


PROMPT_APIS: Mapping[Api, PromptApi] = {
    "vllm": PromptApi(
        path="/completions",
        beside_v1=False,
        part="choice",
        field="prompt_logprobs",
        must=("prompt_logprobs",),
        body=_vllm_body,
        holder=choice_of,
        rows=_vllm_rows,
    ),
    "sglang": PromptApi(
        path="/generate",
        beside_v1=True,
        part="meta_info",
        field="input_token_logprobs",
        must=(),
        body=_sglang_body,
        holder=_meta,
        rows=_sglang_rows,
    ),
}
