"""Many calls of one server at once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from harness.core.errors import UserError
from harness.serving.endpoint import Endpoint, FailedCallError, RefusedError, ServerError, find_server
from harness.serving.settings import ModelServer

NAME = "teacher_server"


FAILURES = (FailedCallError, RefusedError, ServerError)


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
