"""What a training sees at each step: rows of stored examples, or responses that the policy writes as it trains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np

from harness.logprobs.batching import Example


class Data(Protocol):
    """total: how long the training is, in steps; in tokens where it is `by_tokens`: it ends with the first step that
    reaches them, however many steps that takes."""

    @property
    def examples(self) -> Sequence[Example]: ...

    @property
    def by_tokens(self) -> bool: ...

    @property
    def total(self) -> int: ...

    def progress(self, step: int, seen: int) -> tuple[int, int]:
        """How much is done before a step, of how much in all. seen: the tokens until then."""

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of a step; steps are asked for in order, from the one that a checkpoint is of."""

    def saved(self) -> dict[str, Any]:
        """What a checkpoint must hold for the same examples to come after it."""

    def restore(self, saved: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Order:
    """Which of `count` rows each step sees, without an end: a new order every epoch, its last batch maybe smaller."""

    count: int
    batch_size: int
    seed: int

    @property
    def in_an_epoch(self) -> int:
        """How many steps."""
        return -(-self.count // self.batch_size)

    def __getitem__(self, step: int) -> list[int]:
        epoch, place = divmod(step, self.in_an_epoch)
        return _shuffled(self.count, self.seed, epoch)[place * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return order


def plan_steps(
    examples: Sequence[Example], batch_size: int, epochs: int, seed: int, tokens: int | None = None
) -> list[list[int]]:
    """Which rows of the data each optimizer step sees.

    With `tokens`, epochs go on, or stop, at the first step that reaches as many, whatever `epochs` says.
    """
    if not examples:
        raise ValueError("no examples to train on")
    order = Order(len(examples), batch_size, seed)
    if tokens is None:
        return [order[step] for step in range(epochs * order.in_an_epoch)]
    steps: list[list[int]] = []
    planned = 0
    while planned < tokens:
        steps.append(order[len(steps)])
        planned += sum(examples[row].tokens for row in steps[-1])
    return steps


Rows = Sequence[Sequence[int]] | Order  # of the data, by step


@dataclass(frozen=True)
class Stored:
    """Examples that are there, in the rows of each step."""

    examples: Sequence[Example]
    rows: Sequence[Sequence[int]]
    by_tokens: ClassVar[bool] = False  # as their lengths are known, so are the steps that a budget comes to

    @property
    def total(self) -> int:
        return len(self.rows)

    @cached_property
    def _tokens(self) -> int:
        return sum(self.examples[row].tokens for rows in self.rows for row in rows)

    def progress(self, step: int, seen: int) -> tuple[int, int]:
        return seen, self._tokens

    def batch(self, step: int) -> list[Example]:
        return [self.examples[row] for row in self.rows[step]]

    def saved(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Written:
    """A response that the policy wrote: its ids, and their log-probs under the policy that wrote them, where these are
    wanted. ended: whether a stop token is its last; else it was cut at the limit."""

    ids: list[int]
    log_probs: list[float] | None
    ended: bool


@dataclass(frozen=True)
class Wanted:
    """A response that the policy is to write at a step. name: of the row; with the seed and the step its random numbers
    follow from it alone."""

    step: int
    example: Example
    sample: int

    @property
    def name(self) -> str:
        return f"{self.example.index}/{self.sample}"


Write = Callable[[Sequence[Wanted], bool], list[Written]]


@dataclass
class Fresh:
    """The same with responses of the policy's own, written for the step.

    examples: with the stored responses, where there are any; in the others' place is none. place: which response is the
    policy's own. share: how many of these are fresh. every: steps for which responses are written at once, by the
    policy as it is at the first of them. samples: responses to each prompt, each of them fresh or not; for all that are
    not, the prompt is there with its stored ones once. write: has the policy write, with the
    log-probs of what it wrote where these will be of a policy that was. budget: the tokens that it takes, where these
    are given, of rows without an end: how many steps that comes to is known when they are taken.

    What is fresh follows from (seed, step, row) alone, as do its random numbers: a training that goes on from a
    checkpoint sees the text that an undisturbed one sees."""

    examples: Sequence[Example]
    rows: Rows
    place: int
    share: float
    every: int
    samples: int
    seed: int
    write: Write
    budget: int | None = None
    _written: dict[tuple[int, str], Written] = field(default_factory=dict)
    _until: int = 0  # the first step that nothing is written for

    @property
    def by_tokens(self) -> bool:
        return self.budget is not None

    @property
    def total(self) -> int:
        if self.budget is not None:
            return self.budget
        assert not isinstance(self.rows, Order)
        return len(self.rows)

    def progress(self, step: int, seen: int) -> tuple[int, int]:
        return (seen if self.by_tokens else step), self.total

    def batch(self, step: int) -> list[Example]:
        if step >= self._until:
            first = step - step % self.every
            until = first + self.every if self.by_tokens else min(first + self.every, self.total)
            wanted = [one for ahead in range(step, until) for one in self._drawn(ahead) if self._is_fresh(one)]
            written = self.write(wanted, self.every > 1)
            self._written = {(one.step, one.name): found for one, found in zip(wanted, written, strict=True)}
            self._until = until  # not before: what was not written is no part of a checkpoint
        return [self._example(one) for one in self._drawn(step)]

    def _drawn(self, step: int) -> list[Wanted]:
        """The fresh ones, and of each prompt at most one other: its stored responses are the same in all."""
        found: list[Wanted] = []
        for row in self.rows[step]:
            drawn = [Wanted(step, self.examples[row], sample) for sample in range(self.samples)]
            fresh = [self._is_fresh(one) for one in drawn]
            found += itertools.compress(drawn, fresh)
            found += drawn[fresh.index(False) :][:1] if not all(fresh) else []
        return found

    def _is_fresh(self, one: Wanted) -> bool:
        if self.share == 1:
            return True
        drawn = np.random.default_rng([self.seed, one.step, one.example.index, one.sample, 1]).random()
        return bool(drawn < self.share)

    def _example(self, one: Wanted) -> Example:
        found = self._written.get((one.step, one.name))
        if found is None:
            return one.example
        responses = [*one.example.responses]
        responses[self.place] = found.ids
        return replace(
            one.example, responses=tuple(responses), fresh=self.place, sampled=found.log_probs, ended=found.ended
        )

    def saved(self) -> dict[str, Any]:
        rows = [(step, name, one.ids, one.log_probs, one.ended) for (step, name), one in self._written.items()]
        return {"until": self._until, "written": rows}

    def restore(self, saved: dict[str, Any]) -> None:
        self._until = saved["until"]
        self._written = {(step, name): Written(*written) for step, name, *written in saved["written"]}
