"""What a training sees at each step: rows of stored examples, or responses that the policy writes as it trains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from harness.logprobs.batching import Example


class Data(Protocol):
    """steps: how many. ahead: what each step counts for in the progress of the whole."""

    @property
    def examples(self) -> Sequence[Example]: ...

    @property
    def steps(self) -> int: ...

    @property
    def ahead(self) -> Sequence[int]: ...

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of a step; steps are asked for in order, from the one that a checkpoint is of."""

    def saved(self) -> dict[str, Any]:
        """What a checkpoint must hold for the same examples to come after it."""

    def restore(self, saved: dict[str, Any]) -> None: ...


def plan_steps(
    examples: Sequence[Example], batch_size: int, epochs: int, seed: int, tokens: int | None = None
) -> list[list[int]]:
    """Which rows of the data each optimizer step sees: a new order every epoch; the last batch may be smaller.

    With `tokens`, epochs go on until that many tokens are planned, whatever `epochs` says.
    """
    if not examples:
        raise ValueError("no examples to train on")
    steps: list[list[int]] = []
    planned = epoch = 0
    while planned < tokens if tokens is not None else epoch < epochs:
        order = np.random.default_rng([seed, epoch]).permutation(len(examples)).tolist()
        for start in range(0, len(order), batch_size):
            if tokens is not None and planned >= tokens:
                break
            steps.append(order[start : start + batch_size])
            planned += sum(examples[row].tokens for row in steps[-1])
        epoch += 1
    return steps


@dataclass(frozen=True)
class Stored:
    """Examples that are there, in the rows of each step."""

    examples: Sequence[Example]
    rows: Sequence[Sequence[int]]

    @property
    def steps(self) -> int:
        return len(self.rows)

    @property
    def ahead(self) -> list[int]:
        return [sum(self.examples[row].tokens for row in rows) for rows in self.rows]

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
    log-probs of what it wrote where these will be of a policy that was.

    What is fresh follows from (seed, step, row) alone, as do its random numbers: a training that goes on from a
    checkpoint sees the text that an undisturbed one sees."""

    examples: Sequence[Example]
    rows: Sequence[Sequence[int]]
    place: int
    share: float
    every: int
    samples: int
    seed: int
    write: Write
    _written: dict[tuple[int, str], Written] = field(default_factory=dict)
    _until: int = 0  # the first step that nothing is written for

    @property
    def steps(self) -> int:
        return len(self.rows)

    @property
    def ahead(self) -> list[int]:
        return [len(rows) for rows in self.rows]

    def batch(self, step: int) -> list[Example]:
        if step >= self._until:
            first = step - step % self.every
            until = min(first + self.every, self.steps)
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
