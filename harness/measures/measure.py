"""What a measure is: what it reads, and how a value a token or a response follows from that. Imports no torch.

A file in harness/measures/ (or a plug-in's module) holds `Measure`s. Nothing else in the harness changes when one is
added: jobs make what it reads (run/reading.py), and every table, contrast and plot is made of those that there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness.core.files import canonical_hash
from harness.core.records import Prompt, Response, answers_in
from harness.core.sources import sources
from harness.core.words import words

Values = NDArray[Any]
# which of a system's artifacts a value follows from
Reads = Literal["responses", "teacher_tokens", "own_tokens", "pairs", "log_probs", "embedding"]
Group = Literal["fidelity", "text"]
Better = Literal["lower", "higher", "neither"]
Bound = Literal["exact", "lower", "upper"]
GROUPS: tuple[Group, ...] = get_args(Group)  # in the order of tables
READS: dict[Reads, str] = {  # in plain words
    "responses": "responses alone",
    "teacher_tokens": "both distributions at each token of the teacher's responses",
    "own_tokens": "both distributions at each token of the student's own responses",
    "pairs": "log-probs of the teacher's and the SFT student's response, under the student and under its reference",
    "log_probs": "the log-prob of a response under the teacher",
    "embedding": "the embedding of a response under a model of its own",
}


@dataclass(frozen=True)
class Answered:
    """`responses`: all that a system answered to one prompt, sample by sample.

    A response to a prompt of several turns has an answer to each of them, any other has one."""

    prompt: Prompt
    responses: tuple[Response, ...]

    @property
    def asked(self) -> tuple[str, ...]:
        """What each answer is an answer to: the user's last message, and further turns."""
        return (self.prompt.messages[-1].content, *self.prompt.turns)

    @cached_property
    def answers(self) -> tuple[tuple[str, ...], ...]:
        """Of each response, the text of each answer, without the user's turns between them."""
        return tuple(tuple(answers_in(response.text, self.prompt.turns)) for response in self.responses)

    @cached_property
    def words(self) -> tuple[tuple[list[str], ...], ...]:
        """Of each response, the words of each answer (see harness.core.words)."""
        return tuple(tuple(map(words, answers)) for answers in self.answers)


@dataclass(frozen=True)
class Tokens:
    """`teacher_tokens`, `own_tokens`: what a student and its teacher say at each token of one response, which the
    teacher or the student itself wrote.

    Both distributions stand at the temperature that drew the response, over the ids that both have. [n] each: KLs,
    entropy and log-probs (of the token that is there) in nats, overlap the share Σ min(p, q); top: the likeliest id.
    ended: whether the response ended by itself; then its last token is the end of the turn.
    """

    forward_kl: NDArray[np.float32]
    reverse_kl: NDArray[np.float32]
    overlap: NDArray[np.float32]
    teacher_entropy: NDArray[np.float32]
    teacher_log_prob: NDArray[np.float32]
    student_log_prob: NDArray[np.float32]
    teacher_top: NDArray[np.int32]
    student_top: NDArray[np.int32]
    ended: bool


@dataclass(frozen=True)
class PairLogProbs:
    """`pairs`: sums of log-probs [2] (the teacher's response, the SFT student's) to one prompt, in nats, under the
    policy and under its reference."""

    policy: Values
    reference: Values


def direction(better: Better) -> str:
    """Which way is better, in words."""
    return "to be held against the teacher's own" if better == "neither" else f"{better} is better"


def is_share(unit: str) -> bool:
    """Whether values of this unit lie in 0..1, and are shown in percent."""
    return unit.startswith("share")


@dataclass(frozen=True)
class Measure:
    """One number of what systems say.

    name, summary: as `list measures` and every table have them. head: a column's head; the name where it is empty.
    reads: what `values` is given: `responses` an Answered, `teacher_tokens` and `own_tokens` a Tokens, `pairs` a
        PairLogProbs, `log_probs` a row of scores under the teacher, `embedding` a vector of `model`.
    values: of that, [n]: a value a token, or a response; a prompt's value, and a set's, is their sum by their number.
    unit: in words, as "nats a token"; a unit that begins with "share" is shown in percent.
    better: which way is nearer to the teacher, or otherwise wanted; `neither` where only the teacher's own value says.
    misses: what it cannot see.
    group: the table that it stands in; None for what only proxy judges read: it is not shown.
    place: in its table, from the left. aside: whether it is in the report alone, as another measure nearly says it.
    bound: what it is where the teacher's distribution is known by its top k and the rest (a served teacher's).
    teacher: the teacher's own value, of the same reading; teacher_bound: what that is there.
    samples: of a prompt, how many it takes at least.
    model: the name of a model other than the teacher; model_types: those that its checkpoint may have.
    version: raised by hand when `values` says something else; a plug-in's is known by its sources too.
    """

    name: str
    reads: Reads
    values: Callable[[Any], Values]
    summary: str
    misses: str
    unit: str = ""
    better: Better = "neither"
    group: Group | None = None
    head: str = ""
    place: int = 100
    aside: bool = False
    bound: Bound = "exact"
    teacher: Callable[[Any], Values] | None = None
    teacher_bound: Bound = "exact"
    samples: int = 1
    model: str | None = None
    model_types: frozenset[str] = frozenset()
    version: int = 1

    @property
    def terms(self) -> str:
        """Its unit, its direction and what it reads, in plain words."""
        way = direction(self.better) if self.group else "for proxy judges alone"
        few = f"; needs {self.samples} samples a prompt" if self.samples > 1 else ""
        return f"{self.unit}; {way}; reads {READS[self.reads]}{few}"

    @cached_property
    def digest(self) -> str:
        """Of what its values follow from; found out once, as a plug-in's package is read for it."""
        return canonical_hash([self.version, self.reads, *sources(self.values, self.teacher)])
