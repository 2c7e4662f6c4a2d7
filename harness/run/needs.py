"""What a job says that it needs, and what it says that from: how large what it reads is, and how fast the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.core.records import Ref
from harness.judging import Judge
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.models.speed import Speed


@dataclass(frozen=True)
class Needs:
    """tokens: that it reads or writes. seconds: None where unknown. memory: bytes of its device at the peak; None
    where nothing is known of it, or it needs none of its own. disk: bytes that stay in the store. scratch: more, while
    it is made. calls, reply_tokens, longest_reply_tokens: of a judge that is paid by tokens; what its cache has is not
    known before the responses are."""

    tokens: int = 0
    seconds: float | None = None
    memory: int | None = None
    disk: int = 0
    scratch: int = 0
    calls: int = 0
    reply_tokens: int = 0
    longest_reply_tokens: int = 0


class Sizes(Protocol):
    """Of what a road's jobs read. Responses that are not there yet count at their limit."""

    @property
    def speed(self) -> Speed | None:
        """Of this machine; None where it was not measured."""
        ...

    def prompts(self, ref: Ref) -> int:
        """How many they are."""
        ...

    def answers(self, prompts: Ref) -> int:
        """How many one response to each has in it: one a turn."""
        ...

    def longest_prompt(self, ref: Ref) -> int:
        """In tokens."""
        ...

    def responses(self, ref: Ref) -> int:
        """In tokens, all together."""
        ...

    def read(self, prompts: Ref, responses: tuple[Ref, ...]) -> int:
        """Tokens of the prompts and of these responses to them, all together."""
        ...

    def shape(self, model: Model) -> Shape | None:
        """Of a model, made already or not; None where nothing says it, or another machine holds it."""
        ...

    def weight_bytes(self, model: Model) -> int:
        """Of each weight of a frozen model that is read (loading.reading_model)."""
        ...

    def judge(self, name: str) -> Judge: ...
