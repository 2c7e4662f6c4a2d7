"""An OpenAI-compatible server, asked from one event loop: limits, patience, and every failure typed.

A call ends in a reply, or in one of three errors: `FailedCallError` (no answer to this question after all tries),
`RefusedError` (the server does not take a parameter, or this question; `FilteredError`, `LimitError`: see there),
`ServerError` (no question will be answered: a wrong key, no such model, no quota). The official client's own retries
are off: they would multiply with these. An error that stands inside a reply of status 200 is one all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from base64 import b64encode
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.core.errors import UserError
from harness.core.secrets import KEY_VARIABLE, hide, without_credentials
from harness.serving import refusals

OPENAI, URL_VARIABLE = "https://api.openai.com/v1", "OPENAI_BASE_URL"
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is asked again by another run
WAITS_A_TRY = 10  # so often, for each of its tries, may a call be told to wait before that counts as a failure
FIRST_WAIT, LONGEST_BACKOFF = 0.5, 60.0  # seconds: at most so long before the second try, doubled at every further one
LONGEST_MESSAGE = 300  # characters of a server's message


class FailedCallError(Exception):
    """No answer to this question after all tries; the message is for people. lacking: it was answered, and every
    answer lacked something, which may well stay so."""

    def __init__(self, message: str, lacking: bool = False) -> None:
        super().__init__(message)
        self.lacking = lacking


class RefusedError(Exception):
    """The server will not answer this body. parameter: the one that it refuses to take, where it says so."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class FilteredError(RefusedError):
    """A moderator does not let this question pass, or the answer to it."""


class LimitError(RefusedError):
    """The limit of tokens leaves no room for an answer."""


class ServerError(Exception):
    """The server will answer no question at all; the message is for people. passes: whether it may another time."""

    def __init__(self, message: str, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


class _TransientError(Exception):
    def __init__(self, message: str, wait: float | None = None, lacking: bool = False) -> None:
        super().__init__(message)
        self.wait, self.lacking = wait, lacking


@dataclass(frozen=True)
class Server:
    """Where a server is, and what it is shown. `url` has no credentials and may be written down; the rest may not."""

    url: str
    key: str = field(repr=False)
    userinfo: str = field(default="", repr=False)  # `name:password` of a URL that had them

    def require_key(self, variable: str) -> None:
        """Refuse to ask OpenAI's own server without a key, and any server where the settings name a key's variable that
        is not set."""
        if self.key != NO_KEY or self.userinfo:
            return
        if self.url == OPENAI:
            raise UserError(f"{OPENAI} needs a key: export {variable}=…, or name another server in base_url")
        if variable != KEY_VARIABLE:
            raise UserError(f"{variable} is not set: export it, or leave key_variable out where no key is needed")

    @property
    def headers(self) -> dict[str, str] | None:
        """What stands in for the key where the URL had credentials of its own."""
        return {"Authorization": f"Basic {_base64(self.userinfo)}"} if self.userinfo else None

    @property
    def secrets(self) -> tuple[str, ...]:
        found = [self.userinfo, _base64(self.userinfo), unquote(self.userinfo.partition(":")[2])]
        return tuple(text for text in [*found, self.key if self.key != NO_KEY else ""] if text)


NO_KEY = "none"  # for servers that ask for no key


def _base64(userinfo: str) -> str:
    return b64encode(unquote(userinfo).encode()).decode()


def find_server(base_url: str | None, key_variable: str, setting: str = "judge.base_url") -> Server:
    """The server that `setting`, else the environment, names, with the key that the environment holds, if any.

    Raises:
        UserError: a URL or a key that is none.
    """
    url = base_url or os.environ.get(URL_VARIABLE) or OPENAI
    try:
        public = without_credentials(url)
    except ValueError as error:
        raise UserError(f"{setting if base_url else URL_VARIABLE}: {error}") from None
    key = os.environ.get(key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {key_variable} holds characters that no key has; export it again")
    return Server(public, key or NO_KEY, urlsplit(url).netloc.rpartition("@")[0])


class Pace:
    """At most so many a minute, evenly: a share of the minute is taken by each call before it is made."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0
        self._free = 0.0

    def take(self, amount: float) -> float:
        """Seconds to wait before a call of this size."""
        now = time.monotonic()
        start = max(now, self._free)
        self._free = start + amount * self._seconds
        return start - now

    def correct(self, amount: float) -> None:
        """The last call was this much larger (or smaller) than was said."""
        self._free += amount * self._seconds


class Endpoint:
    """One server, from one event loop, for a whole run. The first use opens its connections; `close` them."""

    def __init__(
        self,
        server: Server,
        concurrency: int,
        timeout: float,
        tries: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self._server, self._concurrency, self._timeout, self._tries = server, concurrency, timeout, tries
        self._requests, self._tokens = Pace(requests_per_minute), Pace(tokens_per_minute)
        self._not_before = 0.0  # while the server asked everyone to wait
        self._answered = False
        self._client: Any = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def post(
        self, path: str, body: dict[str, Any], tokens: int, lacks: Callable[[dict[str, Any]], str | None]
    ) -> dict[str, Any]:
        """The JSON object that the server answers.

        tokens: about how many the call takes, in and out, for the limit of tokens a minute. lacks: what a reply lacks
        to be one, in a few words, or None; a reply that lacks something is asked for again.

        Raises:
            FailedCallError, RefusedError, ServerError: see the module.
        """
        tried = told_to_wait = 0
        while True:
            try:
                return await self._once(path, body, tokens, lacks)
            except _TransientError as error:
                # to be told to wait is no failure: many callers share a limit, and only some get in at a time
                if error.wait is not None and told_to_wait < WAITS_A_TRY * self._tries:
                    told_to_wait += 1
                else:
                    tried += 1
                if tried >= self._tries:
                    raise FailedCallError(f"{error} ({tried} tries)", error.lacking) from None
                await asyncio.sleep(_patience(max(tried, 1), error.wait))

    async def _once(
        self, path: str, body: dict[str, Any], tokens: int, lacks: Callable[[dict[str, Any]], str | None]
    ) -> dict[str, Any]:
        wait = max(self._requests.take(1), self._tokens.take(tokens), self._not_before - time.monotonic())
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self._not_before - time.monotonic()  # the server may have asked for it just now
        try:
            reply = await self._call(path, body)
        except _TransientError as error:
            if error.wait is not None:
                if error.wait > LONGEST_WAIT:
                    asks = f"the server asks to wait {error.wait:.0f} s; try again then ({error})"
                    raise ServerError(asks, passes=True) from None
                self._not_before = max(self._not_before, time.monotonic() + error.wait)
            raise
        self._tokens.correct(_used(reply, tokens) - tokens)
        if lack := lacks(reply):
            raise _TransientError(self._clean(lack)[:LONGEST_MESSAGE], lacking=True)
        return reply

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call, made once; its errors in this module's terms, with nothing secret in them."""
        import httpx2
        import openai

        client = self._client or self._open()
        try:
            async with asyncio.timeout(self._timeout):  # of the whole call: a server that dribbles is late too
                # the client's own road for a raw reply: typed replies cost it more time than the call itself
                response = await client.post(self._server.url + path, body=body, cast_to=httpx2.Response)
            reply = _object(response.content)
            self._answered = True
            return reply
        except TimeoutError:
            raise _TransientError(f"no answer within {self._timeout:g} s") from None
        except openai.APIStatusError as error:
            headers = error.response.headers
            raise self._status_error(error.status_code, error.body, headers, error.message, body) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise _TransientError(self._clean(f"connection failed: {error.__cause__ or error}")) from None
        except _ErrorInReplyError as error:
            raise self._status_error(error.status, error.body, {}, "an error in place of an answer", body) from None

    def _open(self) -> Any:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        limits = httpx2.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        self._client = AsyncOpenAI(
            api_key=self._server.key,
            base_url=self._server.url,
            max_retries=0,
            timeout=self._timeout,
            default_headers=self._server.headers,
            http_client=DefaultAioHttpClient(limits=limits),
        )
        return self._client

    def _status_error(self, status: int, error: Any, headers: Any, message: str, asked: Container[str]) -> Exception:
        """What an error answer to a body with the parameters `asked` means."""
        parts = list(refusals.parts_of(error))
        whole = self._clean(refusals.words_of(error) or message)
        text = f"{status}: {whole[:LONGEST_MESSAGE]}"
        if status == 402 or "insufficient_quota" in refusals.codes(parts):
            return ServerError(f"the account at {self._server.url} has no quota left ({text})", passes=True)
        if status in (408, 409, 425, 429) or status >= 500:
            return _TransientError(text, _retry_after(headers))
        if status not in (401, 404, 405) and refusals.moderated(parts, whole):
            return FilteredError(text)
        parameter, about_limit = refusals.refused_parameter(parts, whole, asked)
        if about_limit:
            return LimitError(text)
        if parameter is not None:
            return RefusedError(text, parameter)
        # once the server has answered, these are about one question
        if status in (401, 403) and not (self._answered and status == 403):
            return ServerError(f"{self._server.url} refuses the key ({text})")
        if status in (404, 405) and not self._answered:
            return ServerError(f"{self._server.url} has no such model or address ({text})")
        return RefusedError(text)

    def _clean(self, text: str) -> str:
        """An error's words, which may quote what the server was sent, without secrets and on one line."""
        return hide(" ".join(text.split()), self._server.secrets)


class _ErrorInReplyError(Exception):
    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def _object(content: bytes) -> dict[str, Any]:
    """A reply that is a JSON object and no error.

    Raises:
        _TransientError: it is not. _ErrorInReplyError: an error with status 200.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise _TransientError("a reply that is not JSON") from None
    if not isinstance(data, dict):
        raise _TransientError("a reply that is no JSON object")
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = data.get("error") or (choice.get("error") if isinstance(choice, dict) else None)
    if error or data.get("object") == "error":
        inner = error if isinstance(error, dict) else {"message": error, **data} if error else data
        raise _ErrorInReplyError(refusals.status_of(inner), inner)
    return data


def _patience(tried: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asked for and a little more, else at random up to a limit that
    doubles with every try, so that many callers do not come back together."""
    limit = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_BACKOFF)
    return random.uniform(0, limit) if asked is None else asked + random.uniform(0, min(limit, 1.0))


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait, by any of the headers in use."""
    readings: tuple[tuple[str, Callable[[str], float]], ...] = (
        ("retry-after-ms", lambda value: float(value) / 1000),
        ("retry-after", float),
        ("retry-after", lambda value: parsedate_to_datetime(value).timestamp() - time.time()),
    )
    for name, read in readings:
        try:
            return max(0.0, read(headers.get(name) or ""))
        except (ValueError, OverflowError):
            continue
    return None


def _used(reply: dict[str, Any], otherwise: int) -> int:
    usage = reply.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) else otherwise
