"""What a generator is: rows in, responses out, in the same order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from harness.core.errors import UserError
from harness.core.records import Message, Record
from harness.core.section import Section


class Sampling(Section):
    """How responses are drawn. Temperature 0 is greedy."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=256, ge=1)


@dataclass(frozen=True)
class Request:
    """A response that is to be drawn: a conversation that ends with the user's turn, and its token ids.

    name: of the row; its random numbers follow from it, the seed and the purpose, not from the batch that it is in."""

    name: str
    messages: tuple[Message, ...]
    prompt: Sequence[int]

    @property
    def prompt_id(self) -> str:
        """Of the prompt that it is a row of, which its name begins with."""
        return re.sub(r"/\d+(/turn \d+)?$", "", self.name)


class Drawn(Record):
    """A response: ids with the end of the turn where there was one, and the text without it.

    left_out: why there is none, where a server gives no answer to this prompt however often it is asked. without: what
    of its sampling a server was not told, as it does not take it."""

    token_ids: tuple[int, ...]
    text: str
    finish: Literal["stop", "length"]
    left_out: str = ""
    without: tuple[str, ...] = ()


class UnfinishedError(UserError):
    """A generator could not draw all rows. drawn: those that it could, by their place, for which it need not be asked
    again."""

    def __init__(self, message: str, drawn: Mapping[int, Drawn]) -> None:
        super().__init__(message)
        self.drawn = drawn


@dataclass(frozen=True)
class Draw:
    """How the rows of a stage are drawn."""

    sampling: Sampling
    seed: int
    purpose: str

    def row_seed(self, row: Request) -> int:
        """For generators that take one whole number for each request."""
        return int.from_bytes(self.digest(row)[:4], "little") >> 1

    def digest(self, row: Request) -> bytes:
        return hashlib.sha256(f"{self.seed}/{self.purpose}/{row.name}".encode()).digest()


class Generator(Protocol):
    """Draws batch after batch; whatever it loads, it loads for the first.

    batches: how many of the configuration's batches it takes at once; a kill loses no more than those.
    versions: what else shaped the text, for the record."""

    @property
    def batches(self) -> int: ...

    @property
    def versions(self) -> dict[str, str]: ...

    def draw(self, rows: Sequence[Request], how: Draw) -> list[Drawn]: ...
