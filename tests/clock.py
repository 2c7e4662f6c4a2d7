"""A clock for what asks a server and waits: it moves only while nobody works, so a slow machine changes nothing."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from harness.serving import endpoint
from tests import serving
from tests.waiting import LIMIT

T = TypeVar("T")
DATE = 1_800_000_000.0  # a whole second, which an HTTP date can say


class Clock:
    """Put in the place of the time of `harness.serving.endpoint`, of the test server and of event loops made by `loop`.

    It stands still while a call is under way, except for one that the server stalls: then, and while all wait, it
    jumps to the next moment that anybody waits for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._under_way = self._given_up = 0
        self._servers: list[serving.Server] = []
        shown = SimpleNamespace(monotonic=lambda: self.now, time=lambda: DATE + self.now)
        monkeypatch.setattr(endpoint, "time", shown)
        monkeypatch.setattr(serving, "time", shown)
        call, enter = endpoint.Endpoint._call, serving.Server.__enter__

        async def watched(asked: endpoint.Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
            self._under_way += 1
            try:
                return await call(asked, path, body)
            except endpoint._TransientError as error:
                self._given_up += str(error).startswith("no answer within")
                raise
            finally:
                self._under_way -= 1

        def entered(server: serving.Server) -> serving.Server:
            self._servers.append(server)
            return enter(server)

        monkeypatch.setattr(endpoint.Endpoint, "_call", watched)
        monkeypatch.setattr(serving.Server, "__enter__", entered)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(work)

    def loop(self) -> asyncio.AbstractEventLoop:
        made = asyncio.SelectorEventLoop(_Selector(self))
        made.time = lambda: self.now  # type: ignore[method-assign]
        return made

    @property
    def stands(self) -> bool:
        """Whether a call is under way that will have its answer."""
        given = (given for server in self._servers for _, given in server.served)
        stalled = sum(isinstance(one, serving.Fault) and one.seconds > 0 for one in given)
        return self._under_way > stalled - self._given_up


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        end = time.monotonic() + LIMIT
        while not ready and (timeout is None or timeout > 0) and (timeout is None or self._clock.stands):
            assert time.monotonic() < end, "no answer ever came"
            ready = super().select(0.01)
        if not ready and timeout:
            self._clock.now += timeout
        return ready
