"""What a teacher behind a server says of responses: sequence log-probs from its completions' `prompt_logprobs`.

vLLM's server returns, for a prompt in token ids, the log-prob of each id given those before it; a response is sent as
the end of its own prompt, and nothing is generated but one token that is thrown away. A server whose first reply has
no log-probs is none that gives them; once they came, a reply without is a failed call.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def served_log_probs(server: ModelServer, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`.

    Raises:
        UserError: the server gives no log-probs of prompts, or none of some token.
    """
    texts = [(example, response) for example in examples for response in example.responses]
    calls = []
    for example, response in texts:
        body = _body(server, [*example.prompt, *response])
        calls.append(Asked(example.name, body, len(body["prompt"])))
    must = {"prompt_logprobs": "daDPO's teacher must be served by one that does, such as vLLM"}
    manner = Manner(TEACHER_SERVER, "/completions", _Lacks(), lambda body: must)
    sums = []
    for (example, response), reply in zip(texts, ask_all(server, manner, calls, Learnt()), strict=True):
        if not isinstance(reply, dict):
            raise UserError(
                f"{TEACHER_SERVER} {server.public_url}: prompt '{example.name}' with a response to it: {reply}; take "
                "the prompt out"
            )
        sums.append(
            response_log_prob(reply["choices"][0].get("prompt_logprobs"), len(example.prompt), response, example.name)
        )
    return np.array(sums).reshape(len(examples), -1)


def _body(server: ModelServer, ids: list[int]) -> dict[str, Any]:
    return {
        "model": server.model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,  # of the prompt's own tokens, and of no others
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
    """The sum over a response whose first token is at `start`, from one entry {id: {"logprob"}} a token of the prompt.

    prompt_id: for errors.

    Raises:
        UserError: see above.
    """
    of = f" ('{prompt_id}')" if prompt_id else ""
    if not isinstance(rows, list):
        raise UserError(
            f"{TEACHER_SERVER} returns no prompt_logprobs: "
            "daDPO's teacher must be served by one that does, such as vLLM"
        )
    if len(rows) != start + len(response):
        raise UserError(
            f"{TEACHER_SERVER} read {len(rows)} tokens where {start + len(response)} were sent{of}: "
            "is it another model?"
        )
    total = 0.0
    for place, token in enumerate(response, start):
        entry = rows[place].get(str(token)) if isinstance(rows[place], dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or not isfinite(value):
            raise UserError(f"{TEACHER_SERVER} gives no log-prob of token {token} at place {place} of a prompt{of}")
        total += value
    return total
