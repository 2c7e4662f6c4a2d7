"""A judge that costs nothing: one fixed verdict for every chat completion, after a fixed delay.

    python -m benchmarks.speed.stub --delay 0.05

Prints its port, serves until its input is closed, and then prints what it did as a line of JSON. What is measured
beside it is the client, so it does as little as it can: no JSON is read, and one timer serves all waiting requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import threading
import time
from collections import deque

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def response() -> bytes:
    """A chat completion of one letter, with the 20 most probable tokens that servers give at most."""
    tokens = ["A", "B", " A", " B", *(f"t{n}" for n in range(16))]
    top = [{"token": t, "logprob": -0.5 - 1.1 * n, "bytes": list(t.encode())} for n, t in enumerate(tokens)]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "A", "refusal": None},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}], "refusal": None},
        "finish_reason": "stop",
    }
    whole = {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "stub",
        "choices": [choice],
        "usage": {"prompt_tokens": 400, "completion_tokens": 1, "total_tokens": 401},
    }
    body = json.dumps(whole, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


RESPONSE = response()


class Later:
    """Sends the response the same delay after each request: the first in is the first out, with one timer for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        self.loop, self.delay = loop, delay
        self.waiting: deque[tuple[float, asyncio.Transport]] = deque()
        self.answered = self.peak = 0

    def send(self, transport: asyncio.Transport) -> None:
        if self.delay <= 0:
            self.answered += 1
            transport.write(RESPONSE)
            return
        if not self.waiting:
            self.loop.call_later(self.delay, self.due)
        self.waiting.append((self.loop.time() + self.delay, transport))

    def due(self) -> None:
        waiting, now = self.waiting, self.loop.time()
        self.peak = max(self.peak, len(waiting))
        while waiting and waiting[0][0] <= now:
            transport = waiting.popleft()[1]
            self.answered += 1
            if not transport.is_closing():
                transport.write(RESPONSE)
        if waiting:
            self.loop.call_at(waiting[0][0], self.due)


class Connection(asyncio.BufferedProtocol):
    """Keep-alive, and requests may follow one another unasked. All connections read into one buffer; what is left of a
    request that came in part is kept aside."""

    transport: asyncio.Transport

    def __init__(self, buffer: bytearray, later: Later) -> None:
        self.buffer, self.later, self.kept = buffer, later, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data, at, end = self.buffer, 0, nbytes
        if self.kept:
            data = bytearray(self.kept + data[:nbytes])
            end = len(data)
        while at < end:
            body = data.find(b"\r\n\r\n", at, end) + 4
            if body == 3:
                break
            head = data[at:body].lower()
            field = head.find(b"\r\ncontent-length:")
            after = body + (int(head[field + 17 : head.find(b"\r\n", field + 17)]) if field >= 0 else 0)
            if after > end:
                break
            if head.startswith(b"post ") and b"/chat/completions " in head:
                self.later.send(self.transport)
            else:
                self.transport.write(NOT_FOUND)
            at = after
        self.kept = bytes(data[at:end]) if at < end else b""


async def serve(port: int, delay: float) -> None:
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    later, buffer = Later(loop, delay), bytearray(1 << 18)
    server = await loop.create_server(lambda: Connection(buffer, later), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)

    def wait() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait, daemon=True).start()
    gc.freeze()
    gc.disable()  # nothing here is a cycle
    began = time.process_time()
    await closed.wait()
    server.close()
    did = {"answered": later.answered, "peak": later.peak, "cpu_s": time.process_time() - began}
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(did), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds from request to response")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.port, chosen.delay))
