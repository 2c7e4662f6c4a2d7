"""The work that both sides do: prompts and responses as token ids, the same numbers for the same seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

MethodName = Literal["ddpo", "dadpo", "sft", "kd", "gkd", "rkl", "opd"]
PAIR_METHODS = ("ddpo", "dadpo")
# whose responses the policy writes as it trains, all of one length
FRESH_METHODS: tuple[MethodName, ...] = ("gkd", "rkl", "opd")
METHODS: tuple[MethodName, ...] = ("ddpo", "dadpo", "sft", "kd", *FRESH_METHODS)
# the first ids of a vocabulary are often special tokens
FIRST_ID = 100
BETA_REFERENCE, BETA_TEACHER = 0.1, 0.05


@dataclass(frozen=True)
class Row:
    """A prompt with its responses: one, two (chosen and rejected), or as many as a method has roles. `teacher` holds
    made-up teacher log-probs, in nats, as offsets from the reference's."""

    prompt: list[int]
    responses: list[list[int]]
    teacher: list[float]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Workload:
    """`rows` in the order in which they are trained on, `rows_a_step` at a time.

    fresh_share: of the policy's own responses, how many it writes as it trains, each as long as the rows' own; None
    leaves it to the method. given: the rows' own stand for what the policy would write, so that both sides train on the
    same."""

    method: str
    rows: list[Row]
    rows_a_step: int
    learning_rate: float
    precision: Literal["bf16", "fp32"]
    model: str
    teacher: str
    micro_batch_tokens: int = 2048
    compile: bool = False
    fresh_share: float | None = 0.0
    given: bool = False

    @property
    def steps(self) -> int:
        return len(self.rows) // self.rows_a_step

    @property
    def step_rows(self) -> list[list[int]]:
        """The places of each step's rows."""
        n = self.rows_a_step
        return [list(range(start, start + n)) for start in range(0, n * self.steps, n)]

    @property
    def length(self) -> int:
        """Of each response, where all are of one length."""
        (length,) = {len(response) for row in self.rows for response in row.responses}
        return length

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Workload:
        return cls(**{**data, "rows": [Row(**row) for row in data["rows"]]})


def make_rows(
    k: int, count: int, vocabulary: int, prompt: tuple[int, int], response: tuple[int, int], seed: int
) -> list[Row]:
    """Rows of k responses. Lengths uniform in the given closed intervals, ids uniform over the vocabulary."""
    rng = np.random.default_rng(seed)

    def ids(interval: tuple[int, int]) -> list[int]:
        found: list[int] = rng.integers(FIRST_ID, vocabulary, rng.integers(interval[0], interval[1] + 1)).tolist()
        return found

    return [Row(ids(prompt), [ids(response) for _ in range(k)], rng.normal(0, 10, k).tolist()) for _ in range(count)]
