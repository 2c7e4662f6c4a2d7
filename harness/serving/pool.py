"""Many calls of one server at once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from harness.core.errors import UserError
from harness.serving.endpoint import Endpoint, FailedCallError, RefusedError, ServerError, find_server
from harness.serving.settings import ModelServer

Item = TypeVar("Item")
FAILURES = (FailedCallError, RefusedError, ServerError)


async def share(items: Iterator[Item], workers: int, work: Callable[[Item], Awaitable[None]]) -> None:
    """Work on each item once, so many at a time; an item is taken when there is a hand for it. The first error stops
    all others."""

    async def worker() -> None:
        for item in items:  # one iterator for all workers: each takes the next
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def ask_all(
    server: ModelServer, name: str, path: str, bodies: Sequence[dict[str, Any]], tokens: Sequence[int], lacks: Any
) -> list[dict[str, Any]]:
    """The reply to each body, in their order; the first goes alone, so that a wrong key costs one call.

    name: of the server in the configuration, for errors.

    Raises:
        UserError: one was not answered, after all tries.
    """
    return asyncio.run(_ask_all(server, name, path, bodies, tokens, lacks))


async def _ask_all(
    server: ModelServer, name: str, path: str, bodies: Sequence[dict[str, Any]], tokens: Sequence[int], lacks: Any
) -> list[dict[str, Any]]:
    found = find_server(server.base_url, server.key_variable, f"{name}.base_url")
    found.require_key(server.key_variable)
    endpoint = Endpoint(
        found, server.concurrency, server.timeout, server.tries, server.requests_per_minute, server.tokens_per_minute
    )
    replies: dict[int, dict[str, Any]] = {}
    left = iter(range(len(bodies)))

    async def work(number: int) -> None:
        replies[number] = await endpoint.post(path, bodies[number], tokens[number], lacks)

    try:
        for first in islice(left, 1):
            await work(first)
        await share(left, server.concurrency, work)
    except FAILURES as error:
        raise _unanswered(name, found.url, error) from error
    finally:
        await endpoint.close()
    return [replies[number] for number in range(len(bodies))]


def _unanswered(name: str, url: str, error: Exception) -> UserError:
    again = "" if isinstance(error, RefusedError) else "; run the same command again to go on"
    return UserError(f"{name} {url}: {error}{again}")
