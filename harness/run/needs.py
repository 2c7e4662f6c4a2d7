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
    """Of what a road's jobs read, in tokens where nothing else is said. Responses that are not there yet count at their
    limit; a model's shape is None where nothing says it, or another machine holds it.

    answers: how many one response to each prompt has in it, one a turn. samples: responses a prompt. read: prompts with
    these responses to them, each prompt as often as it has samples; with `one_each`, once, with one sample of each
    artifact. trained: by a training, as it sees them; trained_in_all: with those of the trainings that it starts from.
    weight_bytes: of each weight of a frozen model that is read. speed: this machine's; None where it was not measured.
    """

    @property
    def speed(self) -> Speed | None: ...

    def prompts(self, ref: Ref) -> int: ...  # how many they are

    def answers(self, prompts: Ref) -> int: ...

    def longest_prompt(self, ref: Ref) -> int: ...

    def responses(self, ref: Ref) -> int: ...

    def samples(self, responses: Ref) -> int: ...

    def read(self, prompts: Ref, responses: tuple[Ref, ...], one_each: bool = False) -> int: ...

    def trained(self, ref: Ref) -> int: ...

    def trained_in_all(self, ref: Ref) -> int: ...

    def shape(self, model: Model) -> Shape | None: ...

    def weight_bytes(self, model: Model) -> int: ...

    def judge(self, digest: str) -> Judge: ...
