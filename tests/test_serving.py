"""The servers that other tests and the benchmark stand on: each fault is on the wire what it claims to be."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import math
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.speed.stub import Later
from tests import serving
from tests.serving import PASSING, VERDICTLESS, Call, Fault, Reply, Server, completion, judged, mixed, status
from tests.waiting import LIMIT, until


def ask(text: str = "Which is better?", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


@contextmanager
def plugged(given: Reply | Fault, timeout: float = LIMIT) -> Iterator[socket.socket]:
    """A bare socket to a server that always gives this."""
    with (
        Server(lambda call: given) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as sock,
    ):
        yield sock


def arrived(server: Server, count: int) -> None:
    """Wait until so many calls have arrived."""
    until(lambda: len(server.calls) >= count, f"call {count}")


@contextmanager
def connected(server: Server, timeout: float = LIMIT) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def post(connection: http.client.HTTPConnection, body: Any) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer key"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection.getresponse()


def once(given: Reply | Fault, **more: Any) -> tuple[http.client.HTTPResponse, bytes]:
    with Server(lambda call: given) as server, connected(server) as connection:
        response = post(connection, ask(**more))
        return response, response.read()


def request(body: Any, *, close: bool = False) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + (b"Connection: close\r\n" if close else b"") + b"\r\n" + data


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


# good replies


def test_a_completion_is_what_openai_sends() -> None:
    response, body = once(completion("A", [("A", -0.1), ("Ä", -2.5)], prompt_tokens=7, completion_tokens=2))
    found = json.loads(body)
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    assert found["object"] == "chat.completion"
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": "A", "refusal": None, "annotations": []}
    assert choice["finish_reason"] == "stop"
    (position,) = choice["logprobs"]["content"]
    assert (position["token"], position["logprob"]) == ("A", -0.1)
    assert position["top_logprobs"] == [
        {"token": "A", "logprob": -0.1, "bytes": [65]},
        {"token": "Ä", "logprob": -2.5, "bytes": [195, 132]},
    ]
    usage = found["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 2, 9)
    assert json.loads(completion("A").body)["choices"][0]["logprobs"] is None


def test_the_token_said_need_not_be_the_most_probable() -> None:
    found = json.loads(completion("B", [("A", -0.6), ("B", -0.8)]).body)
    assert found["choices"][0]["logprobs"]["content"][0]["token"] == "B"


def test_calls_are_recorded_with_their_headers_and_attempts() -> None:
    with Server(lambda call: completion(str(call.number))) as server, connected(server) as connection:
        bodies = [ask("one"), ask("two"), dict(reversed(ask("one").items()))]  # the first and last are one question
        texts = [json.loads(post(connection, body).read())["choices"][0]["message"]["content"] for body in bodies]
    assert texts == ["0", "1", "2"]
    assert [call.body for call in server.calls] == bodies
    assert [call.attempt for call in server.calls] == [0, 0, 1]
    assert {call.headers["authorization"] for call in server.calls} == {"Bearer key"}
    assert {call.path for call in server.calls} == {"/v1/chat/completions"}
    assert sorted(call.at for call in server.calls) == [call.at for call in server.calls]
    assert [given.name for _, given in server.served] == ["completion"] * 3
    assert server.opened == 1  # kept alive


def test_the_pretended_judge_follows_the_messages_alone() -> None:
    preferences = [serving.preference_of(ask(str(n))) for n in range(400)]
    assert preferences == [serving.preference_of(ask(str(n), temperature=1)) for n in range(400)]
    assert 0.01 <= min(preferences) < 0.05 and 0.95 < max(preferences) <= 0.99
    assert 0.45 < sum(preferences) / 400 < 0.55
    for n, first in enumerate(preferences[:20]):
        choice = json.loads(judged(ask(str(n), logprobs=True), ("1", "2")).body)["choices"][0]
        top = {entry["token"]: entry["logprob"] for entry in choice["logprobs"]["content"][0]["top_logprobs"]}
        assert math.exp(top["1"]) == pytest.approx(first) and math.exp(top["2"]) == pytest.approx(1 - first)
        assert choice["message"]["content"] == ("1" if first > 0.5 else "2")
        assert choice["logprobs"]["content"][0]["token"] == choice["message"]["content"]
    assert json.loads(judged(ask()).body)["choices"][0]["logprobs"] is None  # unless they are asked for


def test_models_and_everything_else() -> None:
    with Server(lambda call: completion("A")) as server, connected(server) as connection:
        for method, path, body, wanted in (
            ("GET", "/v1/models", None, 200),
            ("GET", "/v1/chat/completions", None, 404),
            ("POST", "/v1/embeddings", "{}", 404),
            ("POST", "/v1/completions", "{}", 200),
            ("POST", "/v1/chat/completions", "{", 400),
            ("POST", "/other/base/chat/completions", "{}", 200),
        ):
            connection.request(method, path, body)
            response = connection.getresponse()
            found = json.loads(response.read())
            assert response.status == wanted, path
            assert path != "/v1/models" or found["data"][0]["id"] == serving.MODEL
    assert len(server.calls) == 2


# faults


def test_a_status_is_an_error_as_openai_words_it() -> None:
    response, body = once(status(400, "No.", param="temperature", code="unsupported_value"))
    assert response.status == 400 and response.reason == "Bad Request"
    assert json.loads(body) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "unsupported_value",
        }
    }
    response, body = once(status(500))
    assert response.status == 500 and json.loads(body)["error"]["type"] == "server_error"


def test_retry_after_is_sent_as_it_stands() -> None:
    for value in ("2", "0.2", "soon"):
        response, body = once(status(429, retry_after=value))
        assert response.status == 429 and response.headers["retry-after"] == value
        assert json.loads(body)["error"]["type"] == "rate_limit_error"
    assert "retry-after" not in once(status(429))[0].headers
    before = time.time()
    response, _ = once(status(429, retry_after=serving.http_date(60)))
    assert before - 1 < parsedate_to_datetime(response.headers["retry-after"]).timestamp() - 60 <= time.time()


def test_reset_mid_body_is_a_reset_after_half_of_it() -> None:
    with plugged(serving.reset_mid_body()) as sock:
        sock.sendall(request(ask()))
        data = b""
        with pytest.raises(ConnectionResetError):
            while True:
                data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    whole = serving.GOOD.body
    assert f"Content-Length: {len(whole)}".encode() in head
    assert body == whole[: len(whole) // 2]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each pause that a server makes. They are made as long as they take to be counted, and no longer."""
    made: list[float] = []
    after = serving._Connection.after

    def counted(connection: Any, seconds: float, act: Any) -> None:
        made.append(seconds)
        after(connection, min(seconds, 0.001), act)

    monkeypatch.setattr(serving._Connection, "after", counted)
    return made


def test_a_pause_is_one() -> None:
    with plugged(serving.stall(3600)) as sock:
        sock.sendall(request(ask()))
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_stall_says_nothing_until_its_time(pauses: list[float]) -> None:
    _, body = once(serving.stall(3600))
    assert body == serving.GOOD.body and pauses == [3600]


def test_stall_mid_body_never_pauses_for_long_but_takes_its_time(pauses: list[float]) -> None:
    with plugged(serving.stall_mid_body(3600)) as sock:
        sock.sendall(request(ask(), close=True))
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.endswith(serving.GOOD.body)
    assert set(pauses) == {180} and sum(pauses) == pytest.approx(3600, rel=0.06)  # a piece may be left over


def test_hang_up_closes_a_connection_that_it_called_kept_alive() -> None:
    with plugged(serving.hang_up()) as sock:
        sock.sendall(request(ask()))
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.endswith(serving.GOOD.body) and b"close" not in data


def test_replies_that_are_whole_but_wrong() -> None:
    _, body = once(serving.empty_choices())
    assert json.loads(body)["choices"] == [] and "usage" in json.loads(body)
    _, body = once(serving.no_usage())
    assert "usage" not in json.loads(body) and json.loads(body)["choices"][0]["message"]["content"] == "A"
    response, body = once(serving.malformed_json())
    assert response.status == 200 and len(body) == int(response.headers["content-length"]) > 0
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    response, body = once(serving.empty_body())
    assert (response.status, response.headers["content-length"], body) == (200, "0", b"")
    response, body = once(serving.wrong_content_type())
    assert response.headers["content-type"] == "text/plain" and body == serving.GOOD.body
    response, body = once(serving.html_502())
    assert (response.status, response.headers["content-type"]) == (502, "text/html") and body.startswith(b"<html>")


def test_errors_with_status_200() -> None:
    response, body = once(serving.error_in_200())
    assert response.status == 200 and json.loads(body)["error"]["message"]
    response, body = once(serving.error_in_200("vllm"))
    found = json.loads(body)
    assert response.status == 200 and found["object"] == "error" and found["message"] and found["code"] == 500


def test_replies_without_a_verdict() -> None:
    choice = json.loads(once(serving.refusal())[1])["choices"][0]
    assert choice["message"]["content"] is None and choice["message"]["refusal"]
    choice = json.loads(once(serving.null_content())[1])["choices"][0]
    assert choice["message"]["content"] is None and choice["message"]["refusal"] is None
    choice = json.loads(once(serving.truncated_by_length())[1])["choices"][0]
    assert choice["finish_reason"] == "length" and choice["message"]["content"]
    choice = json.loads(once(serving.wrong_letter())[1])["choices"][0]
    top = choice["logprobs"]["content"][0]["top_logprobs"]
    assert choice["message"]["content"] == "C"
    assert sum(math.exp(entry["logprob"]) for entry in top if entry["token"] in "AB") < 0.01


def test_unicode_is_raw_but_for_the_lone_surrogate() -> None:
    _, body = once(serving.unicode_reply())
    assert "\u200f\uff21\u200e".encode() in body and b"\\ud800" in body
    choice = json.loads(body)["choices"][0]
    assert choice["message"]["content"] == "\u200f\uff21\u200e\ud800"
    assert choice["logprobs"]["content"][0]["top_logprobs"][2]["bytes"] == [0xED, 0xA0, 0x80]


def test_every_ready_made_fault_has_a_name_of_its_own() -> None:
    names = Counter(given.name for given in (*PASSING, *VERDICTLESS))
    assert {name for name, count in names.items() if count > 1} == {"error_in_200"}  # in two styles


def test_a_reply_can_be_delayed(pauses: list[float]) -> None:
    assert once(Reply("slow", b"{}", delay=3600))[1] == b"{}" and pauses == [3600]


def test_replies_can_wait_for_one_another() -> None:
    count = 7
    with Server(lambda call: serving.gather(count)) as server:
        socks = [socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) for _ in range(count)]
        for number, sock in enumerate(socks):
            arrived(server, number)
            assert server.waiting == number
            sock.sendall(request(ask(), close=True))
        for sock in socks:
            with sock, sock.makefile("rb") as file:
                assert file.read().endswith(serving.GOOD.body)
    assert server.peak == count and server.waiting == 0


# mixed


def test_mixed_follows_question_and_attempt_whatever_the_order() -> None:
    def given(rate: float, seed: int, order: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
        answering = mixed(rate, seed)
        calls = (Call(n, "/", {}, ask(str(question)), attempt, 0.0) for n, (question, attempt) in enumerate(order))
        return {key: answering(call).name for key, call in zip(order, calls, strict=True)}

    order = [(question, attempt) for question in range(1000) for attempt in range(2)]
    found = given(0.3, 0, order)
    assert found == given(0.3, 0, order[::-1])
    assert found != given(0.3, 1, order)
    assert set(found.values()) == {"completion", *(fault.name for fault in PASSING)}
    share = sum(name != "completion" for name in found.values()) / len(found)
    assert 0.26 < share < 0.34
    again = [found[question, 1] for question in range(1000) if found[question, 0] != "completion"]
    assert 0.2 < sum(name != "completion" for name in again) / len(again) < 0.4  # the second try has luck of its own
    assert set(given(0, 0, order).values()) == {"completion"}
    assert "completion" not in given(1, 0, order).values()


# the server


def test_thousands_of_requests_over_a_hundred_and_fifty_connections() -> None:
    connections, each = 150, 20

    async def client(port: int, name: int) -> list[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = []
        for n in range(each):
            writer.write(request(ask(f"{name}/{n}")))
            code, body = await read_response(reader)
            assert code == 200
            said.append(json.loads(body)["choices"][0]["message"]["content"])
        writer.close()
        await writer.wait_closed()
        return said

    async def all_clients(port: int) -> list[list[str]]:
        return await asyncio.gather(*(client(port, name) for name in range(connections)))

    def slow(call: Call) -> Reply | Fault:
        return serving.stall(0.01, judged(call.body))

    with Server(slow) as server:
        found = asyncio.run(all_clients(server.port))
    for name, said in enumerate(found):
        expected = [json.loads(judged(ask(f"{name}/{n}")).body) for n in range(each)]
        assert said == [body["choices"][0]["message"]["content"] for body in expected]
    assert sorted(call.number for call in server.calls) == list(range(connections * each))
    assert server.opened == connections and server.peak <= connections


def test_requests_sent_ahead_or_in_pieces_are_answered_in_order() -> None:
    async def client(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = b"".join(request(ask(str(n))) for n in range(4))
        for at in range(0, len(data), 50):
            writer.write(data[at : at + 50])
            await asyncio.sleep(0.001)
        found = [(await read_response(reader))[1] for _ in range(4)]
        writer.close()
        await writer.wait_closed()
        return found

    def first_slow(call: Call) -> Reply | Fault:
        good = completion(call.body["messages"][0]["content"])
        return serving.stall(0.1, good) if call.number == 0 else good

    with Server(first_slow) as server:
        found = asyncio.run(client(server.port))
    assert [json.loads(body)["choices"][0]["message"]["content"] for body in found] == ["0", "1", "2", "3"]


def test_it_leaves_no_thread_socket_or_word_behind(capfd: pytest.CaptureFixture[str]) -> None:
    gc.collect()
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Server(lambda call: serving.stall(3600)) as server:
            waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) for _ in range(20)]
            for sock in waiting:
                sock.sendall(request(ask()))
            idle = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT)
            arrived(server, 20)
        for sock in (*waiting, idle):
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            sock.close()
        gc.collect()
    assert set(threading.enumerate()) <= before
    assert server.listening.fileno() == -1
    assert server.peak == 20
    assert capfd.readouterr() == ("", "")


def test_a_client_that_leaves_waits_no_longer() -> None:
    with Server(lambda call: serving.stall(3600)) as server:
        for n in range(3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as sock:
                sock.sendall(request(ask()))
                arrived(server, n + 1)
            until(lambda: not server.waiting, "the end of its wait")
    assert server.peak == 1


def test_a_connection_that_came_just_before_the_end_is_closed() -> None:
    """It may be accepted when the server stops, and not yet be one that the server knows of."""
    for _ in range(50):
        with Server(lambda call: serving.stall(3600)) as server:
            late = [socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) for _ in range(3)]
        for sock in late:
            with sock, suppress(ConnectionResetError):
                assert sock.recv(1) == b""


def test_what_the_function_raises_ends_the_test() -> None:
    def answering(call: Call) -> Reply | Fault:
        raise ValueError("a bug of the test")

    with (
        pytest.raises(ValueError, match="a bug of the test"),
        Server(answering) as server,
        connected(server) as connection,
    ):
        assert post(connection, ask()).status == 500


# the benchmark's server


@contextmanager
def stub(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "benchmarks.speed.stub", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=LIMIT)


def test_the_stub_answers_each_request_after_its_delay() -> None:
    loop, sent, timers = SimpleNamespace(time=lambda: now), [], []
    loop.call_later = lambda seconds, act: timers.append(now + seconds)
    loop.call_at = lambda moment, act: timers.append(moment)
    later = Later(loop, 2.0)  # type: ignore[arg-type]
    one = SimpleNamespace(is_closing=lambda: False, write=lambda _: sent.append("a"))
    two = SimpleNamespace(is_closing=lambda: False, write=lambda _: sent.append("b"))
    now = 10.0
    later.send(one)  # type: ignore[arg-type]
    now = 11.0
    later.send(two)  # type: ignore[arg-type]
    assert timers == [12.0] and sent == []
    now = 12.0
    later.due()
    assert timers == [12.0, 13.0] and sent == ["a"]
    now = 13.0
    later.due()
    assert timers == [12.0, 13.0] and sent == ["a", "b"] and (later.answered, later.peak) == (2, 2)


def test_the_stub_answers_and_ends_with_its_input() -> None:
    with stub("--port", "0", "--delay", "0.1") as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        for _ in range(2):
            response = post(connection, ask("x" * 600_000))  # more than one read
            found = json.loads(response.read())
            assert response.status == 200
            top = found["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            assert len(top) == 20 and {"A", "B"} <= {entry["token"] for entry in top}
            assert sum(math.exp(entry["logprob"]) for entry in top) <= 1
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 404
        connection.close()
    assert process.returncode == 0 and process.stdout
    with stub("--delay", "0") as (process, port):
        pass
    assert process.returncode == 0


def test_the_stub_takes_requests_ahead_and_in_pieces() -> None:
    async def client(port: int, size: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = b"".join(request(ask("x" * n)) for n in range(10))
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await asyncio.sleep(0.001)
        for _ in range(10):
            code, body = await read_response(reader)
            assert code == 200 and json.loads(body)["choices"]
        writer.close()
        await writer.wait_closed()

    async def clients(port: int) -> None:
        await asyncio.gather(*(client(port, size) for size in (7, 50, 173, 100_000)))

    for delay in ("0", "0.02"):
        with stub("--delay", delay) as (process, port):
            asyncio.run(clients(port))
            assert process.stdin and process.stdout
            process.stdin.close()
            assert json.loads(process.stdout.readline())["answered"] == 40
