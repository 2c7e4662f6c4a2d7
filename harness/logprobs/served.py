"""What a teacher behind a server says of responses: the log-probs of their tokens, and the largest ones in each place.

prompt_apis.py has how servers are asked. A server whose first reply has no log-probs is none that gives them; once they
came, a reply without is a failed call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UserError
from harness.logprobs.batching import Example
from harness.logprobs.prompt_apis import PROMPT_APIS, PromptApi
from harness.models.settings import TEACHER_SERVER
from harness.serving.learning import Body, Learnt
from harness.serving.pool import Asked, Manner, Reply, UnansweredError, ask_all
from harness.serving.replies import failure
from harness.serving.settings import SERVED_TOP_K, ModelServer

# what a server without log-probs of prompts is no teacher for, and what to do
GIVE_THEM = "served by one that gives them: vLLM, or SGLang with teacher_server.api=sglang"
SCORED = f"a teacher whose log-probs are read must be {GIVE_THEM}"
COMPARED = (
    f"distribution-level methods, and measures that compare token by token, need a teacher that is {GIVE_THEM}; have "
    "it served so, or set methods and measures to those that read responses alone (list methods, list measures)"
)
# seconds after which a server that is away is asked again, where a training waits for it: ten minutes in all
WAITS = (5.0, 15.0, 40.0, 60.0, 120.0, 180.0, 180.0)
_MOST = re.compile(r"max allowed: (\d+)")  # as vLLM says how many log-probs it gives of a token


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


def served_tokens(server: ModelServer, examples: Sequence[Example]) -> list[NDArray[np.float32]]:
    """The log-prob of each response token in nats, an array a response, in the order of `examples` and of the responses
    of each. A training asks for them between two steps: a server that is away is waited for.

    Raises:
        UserError: as `served_log_probs`.
    """
    return [
        np.array(
            [said[token] for token, said in entries_of(rows, len(example.prompt), response, example.name, SCORED)],
            np.float32,
        )
        for example, response, rows in _asked(server, examples, 0, SCORED, patient=True)
    ]


@dataclass(frozen=True)
class ServedTop:
    """ids, log_probs [T, k]: the k largest log-probs at each response token; labels [T]: that of the token itself, T
    counting the response tokens of all examples in their order."""

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    labels: NDArray[np.float32]


def served_top(
    server: ModelServer, examples: Sequence[Example], k: int, vocabulary: int, patient: bool = False
) -> ServedTop:
    """The k largest log-probs at each response token, which are among `vocabulary` ids. patient: wait for a server that
    is away, as a training does that asks between two steps.

    Raises:
        UserError: the server gives no log-probs of prompts, or fewer, or of other ids.
    """
    ids: list[list[int]] = []
    log_probs: list[list[float]] = []
    labels: list[float] = []
    for example, response, rows in _asked(server, examples, k, COMPARED, patient):
        for token, said in entries_of(rows, len(example.prompt), response, example.name, COMPARED):
            # beside the k likeliest the token itself is there, where it is none of them
            top = sorted(said.items(), key=lambda pair: -pair[1])[:k]
            if len(top) < k:
                beside = min(said, key=said.__getitem__) == token
                raise _too_few(server, len(top) - beside, k)
            if odd := [other for other, _ in top if not 0 <= other < vocabulary]:
                raise UserError(
                    f"{TEACHER_SERVER} gives token {odd[0]} ('{example.name}'): is its tokenizer "
                    "teacher_server.tokenizer?"
                )
            ids.append([other for other, _ in top])
            log_probs.append([value for _, value in top])
            labels.append(said[token])
    return ServedTop(np.array(ids, np.int32), np.array(log_probs, np.float32), np.array(labels, np.float32))


def _too_few(server: ModelServer, most: int, k: int) -> UserError:
    if most == 0:
        return UserError(
            f"{TEACHER_SERVER} {server.public_url} gives log-probs of a prompt's own tokens alone: {COMPARED}"
        )
    return UserError(
        f"{TEACHER_SERVER} {server.public_url} gives at most {most} log-probs of a token where {k} are asked for: set "
        f"settings.METHOD.top_k={most}, or start it with --max-logprobs {k} (vLLM gives {SERVED_TOP_K} where that is "
        "not said); of measures, name those that read responses alone (list measures)"
    )


def _asked(
    server: ModelServer, examples: Sequence[Example], likeliest: int, needed: str, patient: bool = False
) -> Iterator[tuple[Example, Sequence[int], Any]]:
    """Each response, with what the server says of its prompt's tokens and its own: of each token that is there, and of
    so many of the `likeliest`. needed: what it is asked for, in words."""
    api = PROMPT_APIS[server.api]
    texts = [(example, response) for example in examples for response in example.responses]
    calls = [
        Asked(example.name, api.body(server, example.prompt, response, likeliest), len(example.prompt) + len(response))
        for example, response in texts
    ]
    must = dict.fromkeys(api.must, needed)
    manner = Manner(TEACHER_SERVER, api.path, _Lacks(api), lambda body: must)
    try:
        replies = _replies(api.at(server), manner, calls, WAITS if patient else ())
    except UnansweredError as error:
        if likeliest and (found := _MOST.search(str(error))):
            raise _too_few(server, int(found[1]), likeliest) from error
        raise
    for (example, response), reply in zip(texts, replies, strict=True):
        if not isinstance(reply, dict):
            raise UserError(
                f"{TEACHER_SERVER} {server.public_url}: prompt '{example.name}' with a response to it: {reply}; take "
                "the prompt out"
            )
        yield example, response, api.rows(reply, example.prompt, response)


def _replies(server: ModelServer, manner: Manner, calls: Sequence[Asked], waits: Sequence[float]) -> list[Reply]:
    """The reply to each call, in their order. After each of `waits`, in seconds, what a server that was away did not
    answer is asked for again; what it did answer is not."""
    found: dict[int, Reply] = {}
    known, later = Learnt(), iter(waits)
    while left := [number for number in range(len(calls)) if number not in found]:
        try:
            found.update(zip(left, ask_all(server, manner, [calls[number] for number in left], known), strict=True))
        except UnansweredError as error:
            found |= {left[place]: reply for place, reply in error.replies.items()}
            wait = next(later, None) if error.passes else None
            if wait is None:
                raise
            time.sleep(wait)
    return [found[number] for number in range(len(calls))]


class _Lacks:
    """What a reply lacks to be one."""

    def __init__(self, api: PromptApi) -> None:
        self._api = api
        self._heard = False  # whether any reply had log-probs

    def __call__(self, reply: Body) -> str | None:
        holder = self._api.holder(reply)
        if holder is None:
            return f"a reply without a {self._api.part}"
        if failed := failure(holder):
            return failed
        there = self._api.has_them(reply)
        if self._heard and not there:
            return f"a reply without {self._api.field}"
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
        raise UserError(f"{TEACHER_SERVER} returns no log-probs of prompts: {needed}")
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
