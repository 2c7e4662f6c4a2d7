"""Responses from a model behind an OpenAI-compatible server, as a teacher that lives elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import ModelServer
from harness.endpoint import Endpoint, FailedCallError, RefusedError, ServerError, find_server
from harness.errors import UserError
from harness.generation.protocol import Draw, Drawn, Row
from harness.judging.templates.control import without_control_tokens
from harness.models import chat

NAME = "teacher_server"
FAILURES = (FailedCallError, RefusedError, ServerError)


@dataclass(frozen=True)
class ServerGenerator:
    """The server formats the conversation; ids are the text's, as `tokenizer` splits it."""

    server: ModelServer
    tokenizer: Any
    batches: int = 4

    @property
    def versions(self) -> dict[str, str]:
        return {"server": f"{self.server.model} at {self.server.public_url}"}

    def draw(self, rows: Sequence[Row], how: Draw) -> list[Drawn]:
        bodies = [self._body(row, how) for row in rows]
        lengths = [len(row.prompt) + how.sampling.max_new_tokens for row in rows]
        replies = ask_all(self.server, "/chat/completions", bodies, lengths, _lacks_text)
        return [self._drawn(reply) for reply in replies]

    def _body(self, row: Row, how: Draw) -> dict[str, Any]:
        return {
            "model": self.server.model,
            # what stands inside a message stays text for any server's tokenizer
            "messages": [{"role": m.role, "content": without_control_tokens(m.content)} for m in row.messages],
            "temperature": how.sampling.temperature,
            "top_p": how.sampling.top_p,
            "max_tokens": how.sampling.max_new_tokens,
            "seed": how.row_seed(row),
        }

    def _drawn(self, reply: dict[str, Any]) -> Drawn:
        choice = reply["choices"][0]
        ended, text = choice["finish_reason"] == "stop", str(choice["message"]["content"])
        ids = chat.encode_response(self.tokenizer, text, ended)
        return Drawn(token_ids=tuple(ids), text=text, finish="stop" if ended else "length")


def _lacks_text(reply: dict[str, Any]) -> str | None:
    try:
        choice = reply["choices"][0]
        content, finish = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError):
        return "a reply without a choice"
    if not isinstance(content, str):
        return "a reply without a text"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return "a reply with half a surrogate pair, which is not text"
    return None if finish in ("stop", "length") else f"a reply that ended by {finish!r}"


def ask_all(
    server: ModelServer, path: str, bodies: Sequence[dict[str, Any]], tokens: Sequence[int], lacks: Any
) -> list[dict[str, Any]]:
    """The reply to each body, in their order; the first goes alone, so that a wrong key costs one call.

    Raises:
        UserError: one was not answered, after all tries.
    """
    return asyncio.run(_ask_all(server, path, bodies, tokens, lacks))


async def _ask_all(
    server: ModelServer, path: str, bodies: Sequence[dict[str, Any]], tokens: Sequence[int], lacks: Any
) -> list[dict[str, Any]]:
    found = find_server(server.base_url, server.key_variable, f"{NAME}.base_url")
    found.require_key(server.key_variable)
    endpoint = Endpoint(
        found, server.concurrency, server.timeout, server.tries, server.requests_per_minute, server.tokens_per_minute
    )
    replies: dict[int, dict[str, Any]] = {}
    left = iter(range(len(bodies)))

    async def work() -> None:
        for number in left:  # one iterator for all workers: each takes the next
            replies[number] = await endpoint.post(path, bodies[number], tokens[number], lacks)

    try:
        if bodies:
            first = next(left)
            replies[first] = await endpoint.post(path, bodies[first], tokens[first], lacks)
        async with asyncio.TaskGroup() as group:
            for _ in range(server.concurrency):
                group.create_task(work())
    except FAILURES as error:
        raise _unanswered(found.url, error) from error
    except BaseExceptionGroup as errors:
        one = errors.exceptions[0]
        raise (_unanswered(found.url, one) if isinstance(one, FAILURES) else one) from one
    finally:
        await endpoint.close()
    return [replies[number] for number in range(len(bodies))]


def _unanswered(url: str, error: Exception) -> UserError:
    again = "" if isinstance(error, RefusedError) else "; run the same command again to go on"
    return UserError(f"{NAME} {url}: {error}{again}")
