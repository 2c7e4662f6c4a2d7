"""Many calls of one server at once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from harness.core.errors import UserError
from harness.serving.endpoint import (
    Endpoint,
    FailedCallError,
    FilteredError,
    LimitError,
    RefusedError,
    ServerError,
    find_server,
)
from harness.serving.learning import Body, Learnt, ask_learning
from harness.serving.settings import ModelServer

Item = TypeVar("Item")
FAILURES = (FailedCallError, RefusedError, ServerError)
ALONE_AT_MOST = 3  # calls, one after another, to a server that has not answered any
GIVE_UP_AFTER = 10  # prompts that fail each for itself, until no other is asked
AGAIN = "run the same command again to go on"


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


@dataclass(frozen=True)
class Asked:
    """One call: its body with all that is wanted, how many tokens it takes in and out, and the prompt it is about."""

    prompt_id: str
    body: Body
    tokens: int


@dataclass(frozen=True)
class Manner:
    """How the calls of one kind are made.

    name: of the server in the configuration, for errors. lacks: as in `Endpoint.post`. must: what may not be left out
    of a body, by parameter: what to do where the server does not take it, in a few words.
    """

    name: str
    path: str
    lacks: Callable[[Body], str | None]
    must: Callable[[Body], dict[str, str]] = lambda body: {}


Reply = Body | FilteredError | LimitError


class UnansweredError(UserError):
    """Some call was not answered, after all tries. replies: those that were, by their place among the calls. passes:
    whether nothing but what passes by kept the others from being answered, as a server that is away."""

    def __init__(self, message: str, replies: Mapping[int, Reply], passes: bool = False) -> None:
        super().__init__(message)
        self.replies, self.passes = replies, passes


def ask_all(server: ModelServer, manner: Manner, calls: Sequence[Asked], known: Learnt) -> list[Reply]:
    """The reply to each call, in their order, or why the server gives none to this prompt; the first goes alone, so
    that a wrong key costs one call, and what is refused is learnt once. known: what the server was found not to take.

    Where one fails that others need not, the others are asked all the same: nothing that they cost is lost.

    Raises:
        UnansweredError: see there.
    """
    return asyncio.run(_ask_all(server, manner, calls, known))


async def _ask_all(server: ModelServer, manner: Manner, calls: Sequence[Asked], known: Learnt) -> list[Reply]:
    found = find_server(server.base_url, server.key_variable, f"{manner.name}.base_url")
    found.require_key(server.key_variable)
    endpoint = Endpoint(
        found, server.concurrency, server.timeout, server.tries, server.requests_per_minute, server.tokens_per_minute
    )
    where = f"{manner.name} {found.url}"
    replies: dict[int, Reply] = {}
    failed: dict[int, Exception] = {}
    left = iter(range(len(calls)))

    def learn(learnt: Learnt, error: RefusedError, asked: Body) -> bool:
        if error.parameter is None or not learnt.learn(error.parameter):
            return False
        must = manner.must(asked)
        for parameter in learnt.lost(asked) & must.keys():
            message = f"{where} does not take {parameter} ({error}); {must[parameter]}"
            raise UnansweredError(message, replies)
        return True

    def unanswered() -> UnansweredError:
        return UnansweredError(f"{where}: {_unanswered(calls, failed)}", replies, all(map(_passes, failed.values())))

    async def work(number: int) -> None:
        call = calls[number]
        try:
            replies[number], learnt = await ask_learning(
                known,
                lambda learnt: learnt.applied(call.body),
                lambda body: endpoint.post(manner.path, body, call.tokens, manner.lacks),
                lambda learnt, error: learn(learnt, error, call.body),
            )
            known.merge(learnt)
        except (FilteredError, LimitError) as error:
            replies[number] = error
        except FAILURES as error:
            failed[number] = error
            alone = isinstance(error, RefusedError) or (isinstance(error, FailedCallError) and error.lacking)
            if not (alone and replies and len(failed) < GIVE_UP_AFTER):
                raise unanswered() from error

    try:
        for first in islice(left, ALONE_AT_MOST):
            await work(first)
            if isinstance(replies.get(first), dict):
                break
        await share(left, server.concurrency, work)
    finally:
        await endpoint.close()
    if failed:
        raise unanswered()
    return [replies[number] for number in range(len(calls))]


def _passes(error: Exception) -> bool:
    return error.passes if isinstance(error, ServerError) else isinstance(error, FailedCallError) and not error.lacking


def _unanswered(calls: Sequence[Asked], failed: Mapping[int, Exception]) -> str:
    """What went wrong, of which prompts, and whether to try again."""
    (first, *others), error = failed, list(failed.values())[-1]
    if isinstance(error, ServerError):
        return f"{error}; {AGAIN}" if error.passes else str(error)
    error = failed[first]
    more = f" ({len(others)} more failed: {', '.join(calls[number].prompt_id for number in others)})" if others else ""
    said = f"prompt '{calls[first].prompt_id}': {error}{more}"
    if isinstance(error, FailedCallError):
        otherwise = ", or take the prompt out where it stays so" if error.lacking else ""
        return f"{said}; {AGAIN}{otherwise}"
    return said
