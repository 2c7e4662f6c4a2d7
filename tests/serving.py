"""An OpenAI-compatible server for tests, in a thread of its own: good replies, and every kind of bad one.

    with Server(lambda call: judged(call.body)) as server:
        ...  # ask server.base_url + "/chat/completions"
        assert server.calls[0].headers["authorization"] == "Bearer key"

Replies and faults are values, so that a test can name what it wants, in any order, per question and attempt.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from http import HTTPStatus
from math import log
from types import TracebackType
from typing import Any, Literal

from tests.waiting import LIMIT

MODEL = "stub"
LARGEST_HEAD = 1 << 16


@dataclass(frozen=True)
class Call:
    """One POST to .../chat/completions, .../completions or, as SGLang has it, /generate.

    number: place in the order of arrival, from 0.
    headers: by lower-case name.
    attempt: how often this same body was asked before, 0 for the first time.
    at: when it had arrived, on the clock of time.monotonic.
    """

    number: int
    path: str
    headers: dict[str, str]
    body: Any
    attempt: int
    at: float


@dataclass(frozen=True)
class Reply:
    """A whole HTTP response, good or bad, sent `delay` seconds after the request."""

    name: str
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A response that goes wrong on the wire.

    reset: head and half of the body, then the connection is reset.
    stall: nothing for `seconds`, then the reply.
    dribble: the head at once, the body in small pieces over `seconds`.
    hang_up: the whole reply, then the connection is closed though nothing said it would be.
    gather: nothing until `count` requests wait in this way, then each its reply, the last one first.
    """

    name: str
    how: Literal["reset", "stall", "dribble", "hang_up", "gather"]
    reply: Reply
    seconds: float = 0.0
    count: int = 0


Answering = Callable[[Call], Reply | Fault]


def digest(value: Any) -> str:
    """Of a JSON value; the order of keys does not matter."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fraction(*parts: Any) -> float:
    """A number in [0, 1) that follows from the parts alone, even over them."""
    return int(digest(parts)[:13], 16) / 16**13


def to_bytes(value: Any) -> bytes:
    """JSON as UTF-8. A lone surrogate has no UTF-8 and becomes its escape, as in `\\ud800`."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def to_json(name: str, value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(name, to_bytes(value), status, headers=headers)


# good replies


def completion(
    text: str | None,
    logprobs: Sequence[tuple[str, float]] | None = None,
    prompt_tokens: int = 100,
    completion_tokens: int = 1,
    finish: str = "stop",
    refusal: str | None = None,
    name: str = "completion",
) -> Reply:
    """A chat completion. logprobs: the most probable first tokens, in nats; later positions are left out."""
    return to_json(name, completion_json(text, logprobs, prompt_tokens, completion_tokens, finish, refusal))


def completion_json(
    text: str | None,
    logprobs: Sequence[tuple[str, float]] | None = None,
    prompt_tokens: int = 100,
    completion_tokens: int = 1,
    finish: str = "stop",
    refusal: str | None = None,
) -> dict[str, Any]:
    positions = None
    if logprobs:
        top = [
            {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "surrogatepass"))}
            for token, value in logprobs
        ]
        said = next((entry for entry in top if entry["token"] == text), top[0])
        positions = {"content": [{**said, "top_logprobs": top}], "refusal": None}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": refusal, "annotations": []},
        "logprobs": positions,
        "finish_reason": finish,
    }
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": "fp_stub",
    }


def prompt_logprobs(rows: Any, text: str = "x") -> Reply:
    """A completion of a prompt in ids, with what vLLM says of each of them: {id: {"logprob"}}, nothing of the first."""
    choice = {"index": 0, "text": text, "finish_reason": "length", "prompt_logprobs": rows}
    return to_json("prompt_logprobs", {"id": "cmpl-stub", "object": "text_completion", "choices": [choice]})


def input_logprobs(own: Any, tops: Any = None, finish: Any = None) -> Reply:
    """What SGLang's /generate says of a prompt in ids from its `logprob_start_len` on: [log-prob, id, text], of the
    first one no log-prob; and lists of them for the likeliest."""
    meta = {"id": "x", "finish_reason": finish or {"type": "length", "length": 1}, "input_token_logprobs": own}
    if tops is not None:
        meta["input_top_logprobs"] = tops
    return to_json("input_logprobs", {"text": "x", "output_ids": [0], "meta_info": meta})


def preference_of(body: Any) -> float:
    """A pretended judge's probability of the first letter, 0.01 to 0.99: it follows from the messages alone."""
    return 0.01 + 0.98 * fraction(body["messages"])


def judged(body: Any, letters: tuple[str, str] = ("A", "B")) -> Reply:
    """The pretended judge's more probable letter, with log-probs where the body asks for them."""
    first = preference_of(body)
    top = sorted(zip(letters, (log(first), log(1 - first)), strict=True), key=lambda pair: -pair[1])
    return completion(top[0][0], top if body.get("logprobs") else None)


# bad replies

GOOD = completion("A", [("A", -0.25), ("B", -1.5)])


def status(
    number: int,
    message: str | None = None,
    *,
    code: str | None = None,
    param: str | None = None,
    retry_after: str | None = None,
) -> Reply:
    """An HTTP error as OpenAI words it. retry_after: seconds or an HTTP date, sent as it stands."""
    kind = {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_error"}
    error = {
        "message": message or HTTPStatus(number).phrase,
        "type": kind.get(number, "server_error" if number >= 500 else "invalid_request_error"),
        "param": param,
        "code": code,
    }
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return to_json(f"status {number}", {"error": error}, number, headers)


def http_date(seconds: float) -> str:
    """So many seconds from now, cut to whole ones as an HTTP date is."""
    return formatdate(time.time() + seconds, usegmt=True)


def reset_mid_body(reply: Reply = GOOD) -> Fault:
    return Fault("reset_mid_body", "reset", reply)


def stall(seconds: float, reply: Reply = GOOD) -> Fault:
    return Fault("stall", "stall", reply, seconds)


def stall_mid_body(seconds: float, reply: Reply = GOOD) -> Fault:
    return Fault("stall_mid_body", "dribble", reply, seconds)


def hang_up(reply: Reply = GOOD) -> Fault:
    return Fault("hang_up", "hang_up", reply)


def gather(count: int, reply: Reply = GOOD) -> Fault:
    """No fault of the reply: for tests of how many calls are under way at one time."""
    return Fault("gather", "gather", reply, count=count)


def empty_choices() -> Reply:
    return to_json("empty_choices", {**completion_json("A"), "choices": []})


def no_usage() -> Reply:
    """Good in all else."""
    whole = completion_json("A", [("A", -0.25), ("B", -1.5)])
    del whole["usage"]
    return to_json("no_usage", whole)


def malformed_json() -> Reply:
    """Cut in the middle, by a server that says it is whole."""
    return Reply("malformed_json", GOOD.body[: len(GOOD.body) // 2])


def empty_body() -> Reply:
    return Reply("empty_body", b"")


def wrong_content_type() -> Reply:
    """A good completion that calls itself plain text."""
    return Reply("wrong_content_type", GOOD.body, content_type="text/plain")


def html_502() -> Reply:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    return Reply("html_502", page, 502, "text/html")


def error_in_200(style: Literal["openai", "vllm"] = "openai", message: str = "The engine is overloaded.") -> Reply:
    """An error with status 200: as gateways pass it on, or as old vLLM gives it."""
    error: dict[str, Any] = {"message": message, "type": "server_error", "param": None, "code": 500}
    return to_json("error_in_200", {"error": error} if style == "openai" else {"object": "error", **error})


def refusal() -> Reply:
    return completion(None, refusal="I'm sorry, I can't help with that.", completion_tokens=10, name="refusal")


def null_content() -> Reply:
    return completion(None, name="null_content")


def wrong_letter() -> Reply:
    """Nearly all of the probability on letters that nobody asked for."""
    return completion("C", [("C", -0.01), ("D", -5.0), ("A", -7.0), ("B", -8.0)], name="wrong_letter")


def truncated_by_length() -> Reply:
    return completion("Both responses are good, but the", completion_tokens=8, finish="length", name="truncated")


def unicode_reply(text: str = "\u200f\uff21\u200e\ud800") -> Reply:
    """A fullwidth A between direction marks, and half of a surrogate pair."""
    return completion(text, [("\u200f\uff21", -0.25), ("\uff22\u200e", -1.5), ("\ud800", -6.0)], name="unicode_reply")


# What goes away by asking again, and what is an answer without a verdict. None of them takes long.
PASSING: tuple[Reply | Fault, ...] = (
    status(429, retry_after="0.01"),
    status(500),
    status(503),
    html_502(),
    reset_mid_body(),
    hang_up(status(500)),
    malformed_json(),
    empty_body(),
    error_in_200("openai"),
    error_in_200("vllm"),
)
VERDICTLESS: tuple[Reply | Fault, ...] = (
    empty_choices(),
    null_content(),
    refusal(),
    wrong_letter(),
    truncated_by_length(),
)


def mixed(
    rate: float,
    seed: int = 0,
    good: Answering = lambda call: judged(call.body),
    faults: Sequence[Reply | Fault] = PASSING,
) -> Answering:
    """One of the faults with probability `rate`, else the good reply.

    It follows from body and attempt alone, so a run meets the same faults whatever is asked in parallel.
    """

    def answering(call: Call) -> Reply | Fault:
        of = seed, digest(call.body), call.attempt
        if fraction("whether", *of) < rate:
            return faults[int(fraction("which", *of) * len(faults))]
        return good(call)

    return answering


# the server


class Server:
    """Serves on a free port of this machine between `with` and its end.

    `answering` runs in the server's thread, one call at a time; what it raises, the end of the `with` raises.
    """

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.base_url = ""
        self.port = 0
        self.errors: list[BaseException] = []
        self.opened = 0  # connections so far
        self.waiting = 0  # requests without their reply at this moment
        self.peak = 0  # the most of them at one time
        self._served: list[tuple[Call, Reply | Fault]] = []
        self._guard = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._connections: set[_Connection] = set()
        self._accepting: set[asyncio.Task[Any]] = set()
        self._gathered: list[Callable[[], object]] = []  # what lets each reply go that waits for others

    @property
    def served(self) -> list[tuple[Call, Reply | Fault]]:
        """Every call to .../completions so far and what it was given, in the order of arrival."""
        with self._guard:
            return list(self._served)

    @property
    def calls(self) -> list[Call]:
        return [call for call, _ in self.served]

    def __enter__(self) -> Server:
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="test server", daemon=True)
        self._thread.start()
        self.port = ready.result(timeout=LIMIT)
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=LIMIT)
        if self._thread.is_alive():
            raise RuntimeError("the test server does not stop")
        if self.errors and error is None:
            raise self.errors[0]

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:
            if ready.done():
                self.errors.append(error)
            else:
                ready.set_exception(error)

    async def _main(self, ready: Future[int]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(self._failed)
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as self.listening:
            self.listening.setblocking(False)
            self._loop.add_reader(self.listening, self._accept)
            ready.set_result(self.listening.getsockname()[1])
            await self._stop.wait()
            self._loop.remove_reader(self.listening)
        # asyncio's own server forgets a connection that it has accepted just now: nobody would ever close that
        await asyncio.gather(*self._accepting)
        while self._connections:
            for connection in self._connections:
                connection.transport.abort()
            await asyncio.sleep(0)

    def _accept(self) -> None:
        try:
            accepted, _ = self.listening.accept()
        except (BlockingIOError, ConnectionAbortedError):  # whoever it was has left
            return
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: _Connection(self), accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _gather(self, count: int, let_go: Callable[[], object]) -> None:
        self._gathered.append(let_go)
        if len(self._gathered) == count:
            for each in reversed(self._gathered):
                self._loop.call_soon(each)
            self._gathered.clear()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))

    def _answer(self, path: str, headers: dict[str, str], body: Any) -> Reply | Fault:
        key = digest(body)
        call = Call(len(self._served), path, headers, body, self._asked[key], time.monotonic())
        self._asked[key] += 1
        try:
            given = self.answering(call)
        except Exception as error:
            self.errors.append(error)
            given = status(500, "the test's own function failed")
        with self._guard:
            self._served.append((call, given))
        return given


class _Connection(asyncio.Protocol):
    """One keep-alive connection. Requests sent ahead of their turn wait for it."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server, self.buffer, self.busy = server, b"", False
        self.timer: asyncio.TimerHandle | None = None
        self.later = False  # whether the reply does not go at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.opened += 1
        self.server._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.busy:
            self.server.waiting -= 1
        self.busy = False
        self.server._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.proceed()

    def proceed(self) -> None:
        while not self.busy and not self.transport.is_closing():
            request = self.take()
            if request is None:
                return
            self.busy = True
            self.server.waiting += 1
            self.server.peak = max(self.server.peak, self.server.waiting)
            self.perform(self.respond(*request))

    def take(self) -> tuple[str, dict[str, str], bytes] | None:
        """Request line, headers and body of the next request, once it is there as a whole."""
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            if len(head) > LARGEST_HEAD:
                self.transport.abort()
            return None
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = (field.partition(":") for field in fields)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self.buffer = rest[length:]
        return line, headers, rest[:length]

    def respond(self, line: str, headers: dict[str, str], body: bytes) -> Reply | Fault:
        method, path, _ = line.split(" ")
        self.last = headers.get("connection", "").lower() == "close"
        if method == "GET" and path.endswith("/models"):
            return to_json("models", {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        if method != "POST" or not path.endswith(("/completions", "/generate")):
            return status(404, f"no {method} {path} here")
        if "transfer-encoding" in headers:  # its end cannot be found without a parser of chunks
            self.last = True
            return status(411)
        try:
            parsed = json.loads(body)
        except ValueError:
            return status(400, "the body is not JSON")
        return self.server._answer(path, headers, parsed)

    def perform(self, given: Reply | Fault) -> None:
        if isinstance(given, Reply):
            self.after(given.delay, lambda: self.finish(given))
        elif given.how == "reset":
            self.after(given.reply.delay, lambda: self.reset(given.reply))
        elif given.how == "stall":
            self.after(given.seconds, lambda: self.finish(given.reply))
        elif given.how == "dribble":
            self.transport.write(self.head(given.reply))
            self.dribble(given.reply.body, given.seconds / 20, -(-len(given.reply.body) // 20) or 1)
        elif given.how == "gather":
            self.later = True
            self.server._gather(given.count, lambda: self.busy and self.finish(given.reply))
        else:
            self.last = True
            self.after(given.reply.delay, lambda: self.finish(given.reply, said=False))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        if seconds > 0:
            self.later = True
            self.timer = asyncio.get_running_loop().call_later(seconds, act)
        else:
            act()

    def head(self, reply: Reply, said: bool = True) -> bytes:
        fields = [
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            *reply.headers,
            *([("Connection", "close")] if self.last and said else []),
        ]
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", *(f"{n}: {v}" for n, v in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def finish(self, reply: Reply, said: bool = True) -> None:
        self.transport.write(self.head(reply, said) + reply.body)
        self.done()

    def dribble(self, rest: bytes, pause: float, size: int) -> None:
        if not rest:
            self.done()
            return
        self.transport.write(rest[:size])
        self.after(pause, lambda: self.dribble(rest[size:], pause, size))

    def reset(self, reply: Reply) -> None:
        self.transport.write(self.head(reply) + reply.body[: len(reply.body) // 2])
        # closed with a linger of 0 s: the other side sees a reset, where it would see an orderly end without
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def done(self) -> None:
        waited = self.later
        self.busy, self.later, self.timer = False, False, None
        self.server.waiting -= 1
        if self.last:
            self.transport.close()
        elif waited:  # else the loop in proceed() goes on by itself
            self.proceed()
