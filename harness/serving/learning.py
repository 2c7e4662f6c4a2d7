"""What a server does not take is learnt from its first refusal, and left out from then on, of judges and teachers.

What one call has learnt is known to all others as soon as it succeeds: a question that is refused whatever is left out
teaches nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from harness.serving.endpoint import LimitError, RefusedError

Body = dict[str, Any]
LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"  # of a reply's tokens, as servers call it


@dataclass
class Learnt:
    """without: parameters that a server does not take."""

    without: set[str] = field(default_factory=set)

    def copy(self) -> Self:
        return replace(self, without=set(self.without))

    def merge(self, other: Self) -> None:
        """Take over what a call that succeeded has learnt on its way."""
        self.without |= other.without

    def learn(self, parameter: str) -> bool:
        """Leave a parameter out from now on; False where there is nothing left to leave out."""
        before = len(self.without)
        self.without.add(parameter)
        return len(self.without) > before

    def applied(self, body: Body) -> Body:
        """A body without what is refused, and with the limit under the name that the server knows."""
        taken = {name: value for name, value in body.items() if name not in self.without}
        if LIMIT in body and LIMIT in self.without and NEW_LIMIT not in self.without:
            taken[NEW_LIMIT] = body[LIMIT]
        return taken

    def lost(self, body: Body) -> set[str]:
        """What of a body the server is not told at all, under no name."""
        taken = self.applied(body)
        return {name for name in body if name not in taken and not (name == LIMIT and NEW_LIMIT in taken)}


L = TypeVar("L", bound=Learnt)
Reply = TypeVar("Reply")


async def ask_learning(
    known: L,
    body_of: Callable[[L], Body],
    post: Callable[[Body], Awaitable[Reply]],
    learn: Callable[[L, RefusedError], bool],
    begun: L | None = None,
) -> tuple[Reply, L]:
    """The reply to a body that the server takes, and what was learnt on the way, which the caller merges into what is
    known once the reply is one.

    learn: whether there was something to learn from a refusal, so that the next body is another. begun: what this
    question has learnt before.

    Raises:
        RefusedError: whatever was left out. And what else `post` raises.
    """
    learning = (begun or known).copy()
    while True:
        learning.merge(known)
        body = body_of(learning)
        try:
            return await post(body), learning
        except RefusedError as error:
            if error.parameter is None and not isinstance(error, LimitError):
                raise
            # another call may have learnt the same while this one was on its way
            newer = learning.copy()
            newer.merge(known)
            stale = body_of(newer) != body
            if not (stale or learn(learning, error)):
                raise
