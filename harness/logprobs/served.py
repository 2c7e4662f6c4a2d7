"""What a teacher behind a server says of responses: sequence log-probs from its completions' `prompt_logprobs`.

vLLM's server returns, for a prompt in token ids, the log-prob of each id given those before it; a response is sent as
the end of its own prompt, and nothing is generated but one token that is thrown away.
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
from harness.serving.pool import ask_all
from harness.serving.settings import ModelServer


def served_log_probs(server: ModelServer, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Sums of response-token log-probs in nats, [examples, k], in the order of `examples`.

    Raises:
        UserError: the server gives no log-probs of prompts, or none of some token.
    """
    texts = [(example, response) for example in examples for response in example.responses]
    bodies = [_body(server, [*example.prompt, *response]) for example, response in texts]
    lengths = [len(body["prompt"]) for body in bodies]
    replies = ask_all(server, TEACHER_SERVER, "/completions", bodies, lengths, _lacks_choice)
    sums = [
        response_log_prob(reply["choices"][0].get("prompt_logprobs"), len(example.prompt), response)
        for (example, response), reply in zip(texts, replies, strict=True)
    ]
    return np.array(sums).reshape(len(examples), -1)


def _body(server: ModelServer, ids: list[int]) -> dict[str, Any]:
    return {
        "model": server.model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,  # of the prompt's own tokens, and of no others
    }


def _lacks_choice(reply: dict[str, Any]) -> str | None:
    choices = reply.get("choices")
    return (
        None if isinstance(choices, list) and choices and isinstance(choices[0], dict) else "a reply without a choice"
    )


def response_log_prob(rows: Any, start: int, response: Sequence[int]) -> float:
    """The sum over a response whose first token is at `start`, from one entry {id: {"logprob"}} a token of the prompt.

    Raises:
        UserError: see above.
    """
    if not isinstance(rows, list):
        raise UserError(
            f"{TEACHER_SERVER} returns no prompt_logprobs: "
            "daDPO's teacher must be served by one that does, such as vLLM"
        )
    if len(rows) != start + len(response):
        raise UserError(
            f"{TEACHER_SERVER} read {len(rows)} tokens where {start + len(response)} were sent: is it another model?"
        )
    total = 0.0
    for place, token in enumerate(response, start):
        entry = rows[place].get(str(token)) if isinstance(rows[place], dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or not isfinite(value):
            raise UserError(f"{TEACHER_SERVER} gives no log-prob of token {token} at place {place} of a prompt")
        total += value
    return total
