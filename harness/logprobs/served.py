"""What a teacher behind a server says of responses, from its completions' `prompt_logprobs`: sequence log-probs, and
the largest log-probs at each token.

vLLM's server returns, for a prompt in token ids, the log-prob of each id given those before it; a response is sent as
the end of its own prompt, and nothing is generated but one token that is thrown away. A server whose first reply has
no log-probs is none that gives them; once they came, a reply without is a failed call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UserError
from harness.logprobs.batching import Example
from harness.models.settings import TEACHER_SERVER
from harness.serving.learning import Body, Learnt
from harness.serving.pool import Asked, Manner, ask_all
from harness.serving.replies import choice_of, failure
from harness.serving.settings import ModelServer

# what a server without log-probs of prompts is no teacher for, and what to do
SCORED = "daDPO's teacher must be served by one that does, such as vLLM"
COMPARED = (
    "a student is compared token by token with a teacher that is served by one that does, such as vLLM; have it served "
    "so, or set measures to those that read responses alone (list measures)"
)


def served_log_probs(server: ModelServer, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`.

    Raises:
        UserError: the server gives no log-probs of prompts, or none of some token.
    """
    sums = [
        response_log_prob(rows, len(example.prompt), response, example.name)
        for example, response, rows in _asked(server, examples, 0, SCORED)
    ]
    return np.array(sums).reshape(len(examples), -1)


@dataclass(frozen=True)
class ServedTop:
    """ids, log_probs [T, k]: the k largest log-probs at each response token; labels [T]: that of the token itself, T
    counting the response tokens of all examples in their order."""

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    labels: NDArray[np.float32]


def served_top(server: ModelServer, examples: Sequence[Example], k: int, vocabulary: int) -> ServedTop:
    """The k largest log-probs at each response token, which are among `vocabulary` ids.

    Raises:
        UserError: the server gives no log-probs of prompts, or fewer, or of other ids.
    """
    ids: list[list[int]] = []
    log_probs: list[list[float]] = []
    labels: list[float] = []
    for example, response, rows in _asked(server, examples, k, COMPARED):
        for token, said in entries_of(rows, len(example.prompt), response, example.name, COMPARED):
            # beside the k likeliest the token itself is there, where it is none of them
            top = sorted(said.items(), key=lambda pair: -pair[1])[:k]
            odd = next((other for other, _ in top if not 0 <= other < vocabulary), None)
            if len(top) < k or odd is not None:
                wrong = f"{len(top)} log-probs of a token where {k} were asked for" if odd is None else f"token {odd}"
                raise UserError(
                    f"{TEACHER_SERVER} gives {wrong} ('{example.name}'): is its tokenizer teacher_server.tokenizer?"
                )
            ids.append([other for other, _ in top])
            log_probs.append([value for _, value in top])
            labels.append(said[token])
    return ServedTop(np.array(ids, np.int32), np.array(log_probs, np.float32), np.array(labels, np.float32))


def _asked(
    server: ModelServer, examples: Sequence[Example], likeliest: int, needed: str
) -> Iterator[tuple[Example, Sequence[int], Any]]:
    """Each response, with what the server says of its prompt's tokens and its own: of each token that is there, and of
    so many of the `likeliest`. needed: what it is asked for, in words."""
    texts = [(example, response) for example in examples for response in example.responses]
    calls = []
    for example, response in texts:
        body = _body(server, [*example.prompt, *response], likeliest)
        calls.append(Asked(example.name, body, len(body["prompt"])))
    must = {"prompt_logprobs": needed}
    manner = Manner(TEACHER_SERVER, "/completions", _Lacks(), lambda body: must)
    for (example, response), reply in zip(texts, ask_all(server, manner, calls, Learnt()), strict=True):
        if not isinstance(reply, dict):
            raise UserError(
                f"{TEACHER_SERVER} {server.public_url}: prompt '{example.name}' with a response to it: {reply}; take "
                "the prompt out"
            )
        yield example, response, reply["choices"][0].get("prompt_logprobs")


def _body(server: ModelServer, ids: list[int], likeliest: int) -> dict[str, Any]:
    return {
        "model": server.model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": likeliest,  # beside those of the prompt's own tokens
    }


class _Lacks:
    """What a reply lacks to be one."""

    def __init__(self) -> None:
        self._heard = False  # whether any reply had log-probs

    def __call__(self, reply: Body) -> str | None:
        choice = choice_of(reply)
        if choice is None:
            return "a reply without a choice"
        if failed := failure(choice):
            return failed
        there = isinstance(choice.get("prompt_logprobs"), list)
        if self._heard and not there:
            return "a reply without prompt_logprobs"
        self._heard = self._heard or there
        return None


def response_log_prob(rows: Any, start: int, response: Sequence[int], prompt_id: str = "") -> float:
    """The sum over a response whose first token is at `start`; see `entries_of`."""
    return sum(said[token] for token, said in entries_of(rows, start, response, prompt_id, SCORED))


def entries_of(
    rows: Any, start: int, response: Sequence[int], prompt_id: str, needed: str
) -> Iterator[tuple[int, dict[int, float]]]:
    """Each token of a response whose first one is at `start`, with the log-probs that were given in its place, its own
    among them, from one entry {id: {"logprob"}} a token of the prompt.

    prompt_id, needed: for errors.

    Raises:
        UserError: see above.
    """
    of = f" ('{prompt_id}')" if prompt_id else ""
    if not isinstance(rows, list):
        raise UserError(f"{TEACHER_SERVER} returns no prompt_logprobs: {needed}")
    if len(rows) != start + len(response):
        raise UserError(
            f"{TEACHER_SERVER} read {len(rows)} tokens where {start + len(response)} were sent{of}: "
            "is it another model?"
        )
    for place, token in enumerate(response, start):
        row = rows[place] if isinstance(rows[place], dict) else {}
        said = {int(name): entry["logprob"] for name, entry in row.items() if name.isdecimal() and _is_one(entry)}
        if token not in said:
            raise UserError(f"{TEACHER_SERVER} gives no log-prob of token {token} at place {place} of a prompt{of}")
        yield token, said


def _is_one(entry: Any) -> bool:
    value = entry.get("logprob") if isinstance(entry, dict) else None
    return isinstance(value, int | float) and isfinite(value)


def served_tokens(server: ModelServer, examples: Sequence[Example]) -> list[NDArray[np.float32]]:
    """The log-prob of each token of each response, nats, response after response.

    Raises:
        UserError: as served_log_probs.
    """
    return [
        np.array(
            [said[token] for token, said in entries_of(rows, len(example.prompt), response, example.name, SCORED)],
            np.float32,
        )
        for example, response, rows in _asked(server, examples, 0, SCORED)
    ]
