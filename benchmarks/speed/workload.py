"""The work that both sides do: prompts and responses as token ids, the same numbers for the same seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

MethodName = Literal["ddpo", "dadpo", "sft", "kd", "gkd", "rkl", "opd"]
PAIR_METHODS = ("ddpo", "dadpo")
# on responses that the policy writes as it trains, all of one length
FRESH_METHODS: tuple[MethodName, ...] = ("gkd", "rkl", "opd")
METHODS: tuple[MethodName, ...] = ("ddpo", "dadpo", "sft", "kd", *FRESH_METHODS)
# the first ids of a vocabulary are often special tokens
FIRST_ID = 100
BETA_REFERENCE, BETA_TEACHER = 0.1, 0.05


@dataclass(frozen=True)
class Row:
    """A prompt with one response, or two: chosen and rejected. `teacher` holds made-up teacher log-probs, in nats,
    as offsets from the reference's."""

    prompt: list[int]
    responses: list[list[int]]
    teacher: list[float]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Workload:
    """`rows` in the order in which they are trained on, `rows_a_step` at a time.

    fresh: `sampled`, the policy writes responses as long as the rows' own to their prompts; `given`, the rows' own stand
    for what it would write, so that both sides train on the same; `none`, they are stored ones."""

    method: MethodName
    rows: list[Row]
    rows_a_step: int
    learning_rate: float
    precision: Literal["bf16", "fp32"]
    model: str
    teacher: str
    micro_batch_tokens: int = 2048
    compile: bool = False
    fresh: Literal["none", "sampled", "given"] = "none"

    @property
    def steps(self) -> int:
        return len(self.rows) // self.rows_a_step

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def step(self, number: int) -> list[Row]:
        return self.rows[number * self.rows_a_step : (number + 1) * self.rows_a_step]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Workload:
        return cls(**{**data, "rows": [Row(**row) for row in data["rows"]]})


def make_rows(
    method: MethodName, count: int, vocabulary: int, prompt: tuple[int, int], response: tuple[int, int], seed: int
) -> list[Row]:
    """Lengths uniform in the given closed intervals, ids uniform over the vocabulary."""
    rng = np.random.default_rng(seed)
    k = 2 if method in PAIR_METHODS else 1

    def ids(interval: tuple[int, int]) -> list[int]:
        found: list[int] = rng.integers(FIRST_ID, vocabulary, rng.integers(interval[0], interval[1] + 1)).tolist()
        return found

    return [Row(ids(prompt), [ids(response) for _ in range(k)], rng.normal(0, 10, k).tolist()) for _ in range(count)]
