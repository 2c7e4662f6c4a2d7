"""One server, asked from one event loop: how long it is waited for, which errors end what, and no secret in them."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.secrets import without_credentials
from harness.serving import endpoint
from harness.serving.endpoint import (
    LONGEST_WAIT,
    NO_KEY,
    OPENAI,
    URL_VARIABLE,
    Endpoint,
    FailedCallError,
    FilteredError,
    LimitError,
    RefusedError,
    ServerError,
    find_server,
)
from tests import serving
from tests.clock import Clock
from tests.serving import GOOD, PASSING, Call, Fault, Reply, Server, status, to_json
from tests.waiting import until

KEY = "sk-secret-0123456789abcdef"
Outcome = dict[str, Any] | BaseException


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits by its own choice waits for a moment, and no key or server comes from outside."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(endpoint, "WAITS_A_TRY", 0)  # so that calls can be counted
    for name in ("OPENAI_API_KEY", URL_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def lacks_choices(reply: dict[str, Any]) -> str | None:
    return None if reply.get("choices") else "a reply without choices"


def body(number: int = 0, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": str(number)}], "temperature": 0, **more}


async def post(asked: Endpoint, number: int = 0, tokens: int = 1, **more: Any) -> dict[str, Any]:
    return await asked.post("/chat/completions", body(number, **more), tokens, lacks_choices)


def opened(base_url: str, key: str = NO_KEY, userinfo: str = "", **settings: Any) -> Endpoint:
    given = {"concurrency": 16, "timeout": 30.0, "tries": 3, **settings}
    return Endpoint(endpoint.Server(base_url, key, userinfo), **given)


async def at_once(base_url: str, count: int, tokens: int = 1, **settings: Any) -> list[Outcome]:
    """What each of so many questions, asked at one time, ends in."""
    asked = opened(base_url, **settings)
    try:
        questions = (post(asked, number, tokens) for number in range(count))
        return await asyncio.gather(*questions, return_exceptions=True)
    finally:
        await asked.close()


def outcome(base_url: str, clock: Clock | None = None, **settings: Any) -> Outcome:
    return (clock.run if clock else asyncio.run)(at_once(base_url, 1, **settings))[0]


def at_first(*faults: Reply | Fault) -> Callable[[Call], Reply | Fault]:
    """These in the order of arrival, then good replies."""
    return lambda call: faults[call.number] if call.number < len(faults) else GOOD


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens at, and nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# what is tried again

DEEP = Reply("deep", b"[" * 100_000)
NO_TEXT = Reply("not UTF-8", b'{"choices": "\xff\xfe"}')
NOT_AN_OBJECT = to_json("a list", [1, 2])
OTHERS = (
    serving.empty_choices(),
    DEEP,
    NO_TEXT,
    NOT_AN_OBJECT,
    status(408),
    status(409),
    status(425),
    status(429),
    to_json("error as a text", {"error": "The model is loading."}),
    to_json("error in the choice", {"choices": [{"error": {"code": 502, "message": "went away"}}]}),
    to_json("error as a text in the choice", {"choices": [{"error": "went away"}]}),
    to_json("a word for a code", {"error": {"code": "server_error", "message": "went away"}}),
    serving.hang_up(serving.malformed_json()),
)


@pytest.mark.parametrize("fault", [*PASSING, *OTHERS], ids=lambda fault: fault.name)
def test_what_may_pass_is_tried_again_as_often_as_was_said(fault: Reply | Fault) -> None:
    # where the server hangs up, a try may be lost on a connection that is closed already
    lost = 2 if fault.name == "hang_up" else 0
    with Server(at_first(fault, fault)) as server:
        assert outcome(server.base_url, tries=3 + 2 * lost) == json.loads(GOOD.body)
    assert len(server.calls) == 3
    with Server(lambda call: fault) as server:
        error = outcome(server.base_url)
    assert isinstance(error, FailedCallError) and str(error).endswith("(3 tries)") and len(str(error)) > 15
    assert 3 - lost <= len(server.calls) <= 3  # none by the client's own retries
    with Server(lambda call: fault) as server:
        assert isinstance(outcome(server.base_url, tries=1), FailedCallError)
    assert len(server.calls) == 1


@pytest.mark.parametrize("fault", [serving.stall(60), serving.stall_mid_body(60)], ids=lambda fault: fault.name)
def test_a_call_that_takes_too_long_is_given_up_and_made_again(fault: Fault, clock: Clock) -> None:
    with Server(lambda call: fault) as server:
        error = outcome(server.base_url, clock, timeout=20)
    assert isinstance(error, FailedCallError) and "no answer within 20 s" in str(error)
    first, *_, last = [call.at for call in server.calls]
    assert len(server.calls) == 3 and 40 <= last - first < 41
    with Server(at_first(fault)) as server:
        assert outcome(server.base_url, clock, timeout=20) == json.loads(GOOD.body)
    assert len(server.calls) == 2


def test_a_server_that_is_not_there(closed_port: int) -> None:
    error = outcome(f"http://127.0.0.1:{closed_port}/v1")
    assert isinstance(error, FailedCallError) and "connection failed" in str(error)


def test_a_server_that_comes_back_is_found_again() -> None:
    with Server(at_first()) as server:  # the connection that was kept is closed by the other side
        asked = opened(server.base_url)

        async def around() -> None:
            await post(asked)
            for connection in list(server._connections):
                server._loop.call_soon_threadsafe(connection.transport.abort)
            await post(asked, 1)
            await asked.close()

        asyncio.run(around())
    assert len(server.calls) == 2


def test_words_of_an_error_are_kept_on_one_line_and_short() -> None:
    said = status(500, "the\n engine   is\tgone " + "x" * 5000)
    with Server(lambda call: said) as server:
        error = str(outcome(server.base_url))
    assert error.startswith("500: the engine is gone xxx") and "\n" not in error and len(error) < 400
    loading = to_json("loading", {"error": "The model is loading."})
    with Server(lambda call: loading) as server:
        assert "The model is loading." in str(outcome(server.base_url))


# waits


@pytest.mark.parametrize(
    "headers",
    [
        (("Retry-After", "1"),),
        (("Retry-After", "0.7"),),
        (("retry-after-ms", "700"),),
        (("retry-after-ms", "700"), ("Retry-After", "0")),
        (("retry-after-ms", "soon"), ("Retry-After", "0.7")),
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [429, 503])
def test_nobody_calls_before_a_server_wants_to_be_called(
    headers: tuple[tuple[str, str], ...], number: int, clock: Clock
) -> None:
    busy = to_json("busy", {"error": {"message": "slow down"}}, number, headers)

    def answering(call: Call) -> Reply:
        if 0 < call.number < 4:  # these were on their way when it was heard
            until(lambda: asked._not_before > 0)
        return GOOD if call.number else busy

    async def ask_all() -> None:
        async def worker(first: int) -> None:
            for number in range(3):
                await post(asked, first + number)

        await asyncio.gather(*(worker(10 * n) for n in range(4)))
        await asked.close()

    with Server(answering) as server:
        asked = opened(server.base_url)
        clock.run(ask_all())
    at = moments(server)
    assert len(at) == 13 and at[:4] == [0, 0, 0, 0]
    assert all(0.7 <= moment < 1.1 for moment in at[4:])


def test_a_date_to_be_called_at_is_kept(clock: Clock) -> None:
    made = []

    def answering(call: Call) -> Reply:
        if call.number:
            return GOOD
        made.append(serving.http_date(2))
        return status(429, retry_after=made[0])

    with Server(answering) as server:
        assert isinstance(outcome(server.base_url, clock), dict)
    first, second = server.calls
    assert 2 <= second.at - first.at < 2.1


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2015", ""])
def test_a_wait_that_makes_no_sense_is_no_wait(value: str, clock: Clock) -> None:
    with Server(at_first(status(429, retry_after=value))) as server:
        assert isinstance(outcome(server.base_url, clock), dict)
    first, second = server.calls
    assert second.at - first.at <= endpoint.FIRST_WAIT


def test_those_who_wait_for_their_turn_hear_that_the_server_wants_a_pause(clock: Clock) -> None:
    with Server(at_first(status(429, retry_after="1.5"))) as server:
        # the second would go after half a second
        found = clock.run(at_once(server.base_url, 3, requests_per_minute=120))
    first, *later = server.calls
    assert all(isinstance(one, dict) for one in found) and len(later) == 3
    assert all(call.at - first.at >= 1.5 for call in later)


@pytest.mark.parametrize("value", [f"{LONGEST_WAIT + 1:.0f}", "1e400", "date"])
def test_a_server_that_wants_a_long_pause_is_left_alone(value: str) -> None:
    said = serving.http_date(LONGEST_WAIT + 100) if value == "date" else value
    with Server(lambda call: status(429, "daily limit", retry_after=said)) as server:
        error = outcome(server.base_url)
    assert isinstance(error, ServerError) and len(server.calls) == 1
    assert "asks to wait" in str(error) and "daily limit" in str(error)


def test_without_a_word_of_the_server_waits_double_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.5)
    random.seed(0)
    for tried, limit in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (30, endpoint.LONGEST_BACKOFF)):
        waits = [endpoint._patience(tried, None) for _ in range(200)]
        assert 0 <= min(waits) < 0.1 * limit and 0.9 * limit < max(waits) <= limit and len(set(waits)) > 100
    waits = [endpoint._patience(3, 7.0) for _ in range(200)]
    assert min(waits) >= 7 and max(waits) <= 8 and len(set(waits)) > 100  # not all at the same moment


# limits


def moments(server: Server) -> list[float]:
    """When each call arrived, in seconds from the first."""
    first, *_ = calls = server.calls
    return [call.at - first.at for call in calls]


def test_requests_a_minute(clock: Clock) -> None:
    with Server(lambda call: GOOD) as server:
        clock.run(at_once(server.base_url, 16, requests_per_minute=600))
    assert moments(server) == pytest.approx([0.1 * number for number in range(16)])


def test_tokens_a_minute_as_far_as_they_are_known(clock: Clock) -> None:
    cheap = serving.completion("A", prompt_tokens=99, completion_tokens=1)
    with Server(lambda call: cheap) as server:  # 100 tokens each, as was said: ten a second
        clock.run(at_once(server.base_url, 16, tokens=100, tokens_per_minute=60_000))
    assert moments(server) == pytest.approx([0.1 * number for number in range(16)])
    dear = serving.completion("A", prompt_tokens=999, completion_tokens=1)

    async def one_by_one(asked: Endpoint) -> None:
        for number in range(3):
            await post(asked, number, tokens=10)
        await asked.close()

    with Server(lambda call: dear) as server:  # far more than was said: the next one waits for it
        clock.run(one_by_one(opened(server.base_url, tokens_per_minute=60_000)))
    assert moments(server) == pytest.approx([0.0, 1.0, 2.0])


def test_a_further_try_takes_its_turn_as_well(clock: Clock) -> None:
    with Server(lambda call: status(500)) as server:
        clock.run(at_once(server.base_url, 2, requests_per_minute=300))
    assert moments(server) == pytest.approx([0.2 * number for number in range(6)])


def test_connections_are_kept_and_no_more_than_the_concurrency() -> None:
    async def twice(asked: Endpoint) -> None:
        for _ in range(2):
            await asyncio.gather(*(post(asked, number) for number in range(40)))
        await asked.close()

    with Server(lambda call: serving.gather(5)) as server:
        asyncio.run(twice(opened(server.base_url, concurrency=5)))
    assert len(server.calls) == 80 and server.opened == server.peak == 5


# errors that end everything


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (status(401, f"Incorrect API key provided: {KEY}."), "refuses the key"),
        (status(403, "Country not supported"), "refuses the key"),
        (status(404, "The model `m` does not exist"), "no such model"),
        (to_json("ollama", {"error": "model 'm' not found"}, 404), "model 'm' not found"),
        (status(405), "no such model or address"),
        (status(402, "Insufficient Balance"), "no quota left"),
        (status(429, "You exceeded your current quota", code="insufficient_quota"), "no quota left"),
        (to_json("type", {"error": {"message": "quota", "type": "insufficient_quota"}}, 429), "no quota left"),
        (to_json("in 200", {"error": {"message": "quota", "code": "insufficient_quota"}}), "no quota left"),
        (to_json("in 200", {"error": {"message": f"bad key {KEY}", "code": 401}}), "refuses the key"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_no_further_question_would_change_is_said_at_once(reply: Reply, words: str) -> None:
    with Server(lambda call: reply) as server:
        error = outcome(server.base_url, key=KEY)
    assert isinstance(error, ServerError) and len(server.calls) == 1
    assert words in str(error) and server.base_url in str(error) and KEY not in str(error)


# refused parameters

VLLM_LENGTH = (
    "'max_tokens' or 'max_completion_tokens' is too large: 1024. This model's maximum context length is 2048 tokens "
    "and your request has 1500 input tokens (1024 > 2048 - 1500)."
)
OLD_LENGTH = (
    "This model's maximum context length is 4096 tokens. However, you requested 5024 tokens (4000 in the messages, "
    "1024 in the completion). Please reduce the length of the messages or max_tokens."
)


def plain(message: str, number: int = 400) -> Reply:
    """An error as servers other than OpenAI's give it: its words alone."""
    return to_json(
        "plain", {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}, number
    )


@pytest.mark.parametrize(
    ("reply", "parameter"),
    [
        (status(400, "Only 1 is supported.", param="temperature", code="unsupported_value"), "temperature"),
        (
            status(400, "No. Use 'max_completion_tokens'.", param="max_tokens", code="unsupported_parameter"),
            "max_tokens",
        ),
        (status(400, "Unknown.", param="response_format.json_schema"), "response_format"),
        (status(403, "You are not allowed to request logprobs from this model"), "logprobs"),
        (status(400, "Expected a value <= 5, but got 20.", param="top_logprobs"), "top_logprobs"),
        (plain("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (plain("Please use max_completion_tokens in place of max_tokens."), "max_tokens"),
        (plain("temperature must be 1"), "temperature"),
        (plain("top_logprobs is not supported"), "top_logprobs"),
        (plain("Requested sample logprobs of 20, which is greater than max allowed: 5"), "logprobs"),
        (plain("extra inputs: response_format", 422), "response_format"),
        (to_json("text", {"error": "logprobs is not implemented"}, 400), "logprobs"),
        (to_json("fastapi", {"detail": [{"loc": ["body", "temperature"], "msg": "extra"}]}, 422), "temperature"),
        (
            to_json("litellm", {"error": {"message": "no temperature=0", "param": "None", "code": "400"}}, 400),
            "temperature",
        ),
        (plain(VLLM_LENGTH), None),
        (plain(OLD_LENGTH), None),
        (plain("x" * 400 + " max_tokens: this is more than the context window"), None),
        (status(400, OLD_LENGTH, param="messages", code="context_length_exceeded"), None),
        (status(400, "max_tokens is too large", param="max_tokens", code="invalid_value"), None),
        (status(400, "flagged: 'what a temperature!'", param="messages[0].content", code="content_filter"), None),
        (status(400, "Unknown.", param="seed"), None),  # none of ours
        (plain("max_completion_tokens is unknown"), None),  # was not sent
        (status(400), None),
        (status(413), None),
    ],
)
def test_which_parameter_a_server_refuses(reply: Reply, parameter: str | None) -> None:
    sent = body(max_tokens=5, logprobs=True, top_logprobs=20, response_format={"type": "json_object"})

    async def ask(asked: Endpoint) -> None:
        with pytest.raises(RefusedError) as error:
            await asked.post("/chat/completions", sent, 1, lacks_choices)
        assert error.value.parameter == parameter and str(error.value).startswith(str(reply.status))
        await asked.close()

    with Server(lambda call: reply) as server:
        asyncio.run(ask(opened(server.base_url)))
    assert len(server.calls) == 1


# what else a refusal is about

WRAPPED = {
    "message": "Provider returned error",
    "code": 400,
    "metadata": {"raw": json.dumps({"error": {"message": "Unsupported parameter: 'seed'", "param": "seed"}})},
}
NESTED = {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no"}]}}
# as vLLM passes on what pydantic says of a whole body
QUOTING = (
    "[{'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, top_logprobs must be at most 4', 'input': "
    "{'model': 'm', 'messages': [{'role': 'user', 'content': 'How does a moderator set the temperature?'}]}}]"
)
TOO_SMALL = (
    "Could not finish the message because max_tokens or model output limit was reached. Try a higher max_tokens."
)


@pytest.mark.parametrize(
    ("reply", "kind", "parameter"),
    [
        (status(400, "The response was filtered", code="content_filter", param="prompt"), FilteredError, None),
        (status(400, "no", code="content_policy_violation"), FilteredError, None),
        (
            status(400, "Input data may contain inappropriate content.", code="data_inspection_failed"),
            FilteredError,
            None,
        ),
        (status(400, "Content Exists Risk"), FilteredError, None),
        (status(403, "gpt-x requires moderation; your input was flagged for violence"), FilteredError, None),
        (status(403, "Your account was flagged"), ServerError, None),
        (
            status(400, "Invalid prompt: it was flagged as violating our usage policy: 'what temperature'"),
            FilteredError,
            None,
        ),
        (to_json("in 200", {"error": {"message": "no", "code": "content_filter"}}), FilteredError, None),
        (to_json("in the choice", {"choices": [{"error": {"message": "flagged", "code": 403}}]}), FilteredError, None),
        (status(400, TOO_SMALL), LimitError, None),
        (status(400, TOO_SMALL, param="max_tokens"), LimitError, None),
        (plain("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16."), LimitError, None),
        (plain("`max_tokens` must be greater than `thinking.budget_tokens`"), LimitError, None),
        (plain("max_tokens 9000 is greater than the model's 4096"), RefusedError, "max_tokens"),
        (plain("Unknown parameter: 'seed'."), RefusedError, "seed"),
        (to_json("pydantic", {"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}, 422), RefusedError, "seed"),
        (to_json("nested", NESTED, 422), RefusedError, "seed"),
        (to_json("a list", [{"error": {"message": 'Unknown name "seed": no field.'}}], 400), RefusedError, "seed"),
        (to_json("wrapped", {"error": WRAPPED}, 400), RefusedError, "seed"),
        (plain("Logprobs is not enabled for this model"), RefusedError, "logprobs"),
        (plain("response_logprobs: no"), RefusedError, "logprobs"),
        (plain("top_logprobs: no"), RefusedError, "top_logprobs"),
        (plain("how do I plant a seed? is not answered here"), RefusedError, None),
        (plain("top_p and temperature cannot both be there"), RefusedError, "top_p"),
    ],
    ids=lambda value: value.name if isinstance(value, Reply) else "",
)
def test_whether_a_moderator_a_limit_or_a_parameter_is_what_a_refusal_is_about(
    reply: Reply, kind: type[Exception], parameter: str | None
) -> None:
    async def ask(asked: Endpoint) -> Exception:
        with pytest.raises((RefusedError, ServerError)) as error:
            await post(asked, max_tokens=5, seed=3, top_p=0.5, logprobs=True, top_logprobs=5)
        await asked.close()
        return error.value

    with Server(lambda call: reply) as server:
        error = asyncio.run(ask(opened(server.base_url)))
    assert type(error) is kind and getattr(error, "parameter", None) == parameter
    assert len(server.calls) == 1 and "{" not in str(error)  # in words, not as data


def test_what_an_error_quotes_is_not_what_it_is_about() -> None:
    async def ask(asked: Endpoint) -> RefusedError:
        with pytest.raises(RefusedError) as error:
            await post(asked, temperature=0, top_logprobs=5)
        await asked.close()
        return error.value

    for reply in (plain(QUOTING), to_json("older", {"object": "error", "message": QUOTING, "code": 400}, 400)):
        with Server(lambda call, reply=reply: reply) as server:
            error = asyncio.run(ask(opened(server.base_url)))
        assert type(error) is RefusedError and error.parameter == "top_logprobs"
        assert "at most 4" in str(error) and "moderator" not in str(error)


# where a server is, and its secrets


def test_a_key_and_credentials_reach_the_server_and_nobody_else() -> None:
    def authorization(base_url: str, key: str = NO_KEY, userinfo: str = "") -> str:
        with Server(lambda call: GOOD) as server:
            asyncio.run(ask(opened(server.base_url, key, userinfo)))
        return server.calls[0].headers["authorization"]

    async def ask(asked: Endpoint) -> None:
        await post(asked)
        await asked.close()

    assert authorization("", KEY) == f"Bearer {KEY}"
    assert authorization("", KEY, "user:s3cret-pw") == "Basic " + b64encode(b"user:s3cret-pw").decode()
    assert authorization("", userinfo="user:%40%2F") == "Basic " + b64encode(b"user:@/").decode()


@pytest.mark.parametrize("number", [400, 401, 429, 500])
@pytest.mark.parametrize("before", [0, 280, 295, 310])
def test_a_server_that_repeats_its_secrets_is_not_quoted(number: int, before: int) -> None:
    """Wherever a text is cut, no part of a secret is left."""
    password, userinfo = "s3cret/pw", "user:s3cret%2Fpw"
    coded = b64encode(b"user:s3cret/pw").decode()

    def answering(call: Call) -> Reply:
        return status(number, "x" * before + f" {KEY} {call.headers['authorization']} {userinfo} {password}")

    with Server(answering) as server:
        error = outcome(server.base_url, key=KEY, userinfo=userinfo, tries=1)
    assert not any(secret[:6] in str(error) for secret in (KEY, password, coded, userinfo))
    assert KEY not in repr(endpoint.Server("u", KEY, userinfo)) and password not in repr(
        endpoint.Server("u", KEY, userinfo)
    )


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("http://user:pw@host:80/v1", "http://host:80/v1"),
        ("http://user:p@ss@host", "http://host"),
        ("https://token@[::1]:8000/v1", "https://[::1]:8000/v1"),
    ],
)
def test_a_url_without_its_credentials(url: str, public: str) -> None:
    assert without_credentials(url) == public


@pytest.mark.parametrize(
    "url",
    [
        "host/v1",
        "ftp://host",
        "http://",
        "http://user:s3cret@",
        "http://host:port/v1",
        "http://host:99999",
        "http://user:s3cret/5@host/v1",
        "http://user:1/s3cret@host/v1",
        "http://user:s3cret?5@host/v1",
        "http://user:s3cret#5@host/v1",
        "http://host/v1?key=s3cret",
        "http://user:s3cret\u2100@host/v1",
        "http://[s3cret",
    ],
)
def test_a_url_that_is_none_or_hides_a_secret_is_refused_without_a_quote(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError) as refused:
        without_credentials(url)
    assert "s3cret" not in str(refused.value)
    monkeypatch.setenv(URL_VARIABLE, url)
    with pytest.raises(UserError, match=URL_VARIABLE) as error:
        find_server(None, "OPENAI_API_KEY")
    assert "s3cret" not in str(error.value)


def test_the_server_and_its_key_come_from_the_setting_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        find_server(None, "OPENAI_API_KEY").require_key("OPENAI_API_KEY")
    with pytest.raises(UserError, match="MY_KEY"):
        find_server(OPENAI + "/", "MY_KEY").require_key("MY_KEY")
    with pytest.raises(UserError, match="MY_KEY is not set: export it, or leave key_variable out"):
        find_server("http://host/v1", "MY_KEY").require_key("MY_KEY")
    find_server("http://u:p@host/v1", "MY_KEY").require_key("MY_KEY")
    find_server("http://host/v1", "OPENAI_API_KEY").require_key("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert find_server(None, "OPENAI_API_KEY") == endpoint.Server(OPENAI, KEY)
    assert find_server("http://u:p@host/v1/", "MY_KEY") == endpoint.Server("http://host/v1", NO_KEY, "u:p")
    monkeypatch.setenv(URL_VARIABLE, "http://other:8000/v1")
    assert find_server(None, "OPENAI_API_KEY").url == "http://other:8000/v1"
    assert find_server("http://host/v1", "OPENAI_API_KEY").url == "http://host/v1"


@pytest.mark.parametrize("password", ["pa ss", 'pa"ss', "pa'ss", "pa\nss"])
def test_a_url_with_white_space_or_quotes_is_refused_and_not_quoted(password: str) -> None:
    with pytest.raises(UserError, match="white space") as error:
        find_server(f"http://bob:{password}@host/v1", "OPENAI_API_KEY")
    assert "ss" not in str(error.value).replace("password", "")


def test_to_be_told_to_wait_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many callers share a limit, and only some get in at a time."""
    monkeypatch.setattr(endpoint, "WAITS_A_TRY", 10)
    with Server(at_first(*[status(429, retry_after="0.01")] * 20)) as server:
        assert outcome(server.base_url, tries=3) == json.loads(GOOD.body)
    assert len(server.calls) == 21
    with Server(lambda call: status(429, retry_after="0.001")) as server:
        assert isinstance(outcome(server.base_url, tries=3), FailedCallError)
    assert len(server.calls) == 33


@pytest.mark.parametrize("number", [403, 404])
def test_once_the_server_has_answered_a_refusal_is_of_that_question(number: int) -> None:
    async def two(server: Server) -> tuple[Any, Exception]:
        made = Endpoint(find_server(server.base_url, "OPENAI_API_KEY"), 4, 10, 3)
        try:
            first = await made.post("/chat/completions", {"model": "m"}, 10, lambda reply: None)
            with pytest.raises(RefusedError) as error:
                await made.post("/chat/completions", {"model": "m"}, 10, lambda reply: None)
            return first, error.value
        finally:
            await made.close()

    with Server(lambda call: status(number, "input flagged") if call.number else GOOD) as server:
        first, error = asyncio.run(two(server))
    assert first["choices"] and "flagged" in str(error)


@pytest.mark.parametrize("key", ["sk-\u00e9t\u00e9-secret", "sk-secret\nX-Other: 1"])
def test_a_key_that_no_header_can_hold_is_said_so(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY") as error:
        find_server("http://host/v1", "OPENAI_API_KEY")
    assert "secret" not in str(error.value)
