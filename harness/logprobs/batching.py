"""Examples to batches without waste: everything of a batch in one row, each prompt once.

    row        P P P P P C C C C R R R | P P P C C R R R      two pairs: prompt, chosen, rejected
    position   0 1 2 3 4 5 6 7 8 5 6 7 | 0 1 2 3 4 3 4 5      a response goes on where its prompt ends
    sees       its own example only; R sees P and itself, never C

The hidden state at the prompt's last token predicts the first token of each response, so `predict` points at it once
for each. `layout="padded"` gives every prompt-with-response a row of its own instead: it is the oracle of the other,
and what models travel in whose attention cannot be told whom to see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from harness.core.allocator import out_of_memory
from harness.core.errors import UserError

Layout = Literal["packed", "padded"]
# micro-batches that are still looked at for room: what a long list takes stays in proportion to it
OPEN_PARTS = 32


@dataclass(frozen=True)
class Example:
    """A prompt with its responses (one a role), in token ids. `index` is its row in the data, `name` what people know
    it by. fresh: which response the policy wrote as it trains; None where all are stored. sampled: the log-probs of its
    tokens under the policy that wrote it, where that is not the policy as it is. ended: whether the fresh one ended of
    itself; else it was cut at the limit."""

    index: int
    prompt: Sequence[int]
    responses: tuple[Sequence[int], ...]
    name: str = ""
    fresh: int | None = None
    sampled: Sequence[float] | None = None
    ended: bool = False

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))

    def rows(self, layout: Layout) -> list[int]:
        """Lengths of the rows that it takes: one for all of it, or one for each response."""
        if layout == "packed":
            return [self.tokens]
        return [len(self.prompt) + len(response) for response in self.responses]


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and where the response tokens are.

    input_ids, position_ids: [rows, L]; one row where packed. spans: [examples, k + 2], packed only: in the row, where
    each example starts, where its prompt ends, and where each of its responses ends. attention_mask: [rows, L], padded
    only: 0 at padding. predict: [T] indices into the flattened rows of the positions that predict a response token;
    labels: [T] those tokens; owner: [T] example · k + response it belongs to. examples, k: how many examples, and
    responses each.
    """

    input_ids: Tensor
    position_ids: Tensor
    spans: Tensor | None
    attention_mask: Tensor | None
    predict: Tensor
    labels: Tensor
    owner: Tensor
    examples: int
    k: int

    def to(self, device: torch.device) -> Batch:
        """On `device`; to a GPU the copies run beside what it is still computing."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            name: value.pin_memory().to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def sum_by_response(self, values: Tensor) -> Tensor:
        """[T] values of response tokens → [examples, k] sums."""
        sums = values.new_zeros(self.examples * self.k).index_add(0, self.owner, values)
        return sums.view(self.examples, self.k)

    def lengths(self) -> Tensor:
        """Response lengths in tokens, [examples, k] float32."""
        return self.sum_by_response(torch.ones_like(self.owner, dtype=torch.float32))


def collate(examples: Sequence[Example], layout: Layout = "packed", pad: int = 0) -> Batch:
    """A batch of examples that all have the same number of responses.

    Raises:
        ValueError: a prompt or a response has no tokens.
    """
    if not all(example.prompt and all(example.responses) for example in examples):
        raise ValueError("a prompt or a response without tokens cannot be trained on or scored")
    return _packed(examples) if layout == "packed" else _padded(examples, pad)


def _packed(examples: Sequence[Example]) -> Batch:
    ids: list[int] = []
    positions: list[int] = []
    spans: list[list[int]] = []
    predict: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    for number, example in enumerate(examples):
        p = len(example.prompt)
        edges = [len(ids), len(ids) + p]
        ids += example.prompt
        positions += range(p)
        for j, response in enumerate(example.responses):
            start = len(ids)
            predict += [edges[1] - 1, *range(start, start + len(response) - 1)]
            labels += response
            owner += [number * len(example.responses) + j] * len(response)
            ids += response
            positions += range(p, p + len(response))
            edges.append(len(ids))
        spans.append(edges)
    return Batch(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        spans=torch.tensor(spans),
        attention_mask=None,
        predict=torch.tensor(predict),
        labels=torch.tensor(labels),
        owner=torch.tensor(owner),
        examples=len(examples),
        k=len(examples[0].responses),
    )


def _padded(examples: Sequence[Example], pad: int) -> Batch:
    rows = [(example.prompt, response) for example in examples for response in example.responses]
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), width), pad)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    predict: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    for r, (prompt, response) in enumerate(rows):
        p, length = len(prompt), len(prompt) + len(response)
        input_ids[r, :length] = torch.tensor([*prompt, *response])
        attention_mask[r, :length] = 1
        predict += range(r * width + p - 1, r * width + length - 1)
        labels += response
        owner += [r] * len(response)
    return Batch(
        input_ids=input_ids,
        position_ids=torch.arange(width).repeat(len(rows), 1),
        spans=None,
        attention_mask=attention_mask,
        predict=torch.tensor(predict),
        labels=torch.tensor(labels),
        owner=torch.tensor(owner),
        examples=len(examples),
        k=len(examples[0].responses),
    )


def split_by_tokens(examples: Sequence[Example], budget: int, layout: Layout = "packed") -> list[list[Example]]:
    """Micro-batches of at most `budget` tokens, padding included; one example may exceed it alone.

    The largest come first (first fit, decreasing), so that there are few.
    """
    parts: list[list[Example]] = []
    sizes: list[int] = []
    for example in sorted(examples, key=lambda e: (-max(e.rows(layout)), -e.tokens, e.index)):
        still_open = range(max(0, len(parts) - OPEN_PARTS), len(parts))
        fits = (n for n in still_open if sizes[n] + _room(example, parts[n][0], layout) <= budget)
        number = next(fits, len(parts))
        if number == len(parts):
            parts.append([])
            sizes.append(0)
        parts[number].append(example)
        sizes[number] += _room(example, parts[number][0], layout)
    return parts


def _room(example: Example, first: Example, layout: Layout) -> int:
    """What an example takes of the micro-batch that begins with `first`, which no later one is longer than."""
    return example.tokens if layout == "packed" else len(example.responses) * max(first.rows(layout))


@contextlib.contextmanager
def memory_errors(part: Sequence[Example], layout: Layout, advice: str) -> Iterator[None]:
    """Out of memory in words that help.

    Raises:
        UserError: in place of the allocator's error; it names the micro-batch.
    """
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            names = ", ".join(example.name or str(example.index) for example in part)
            tokens = sum(length for example in part for length in example.rows(layout))
            raise UserError(
                f"out of memory on a micro-batch of {tokens:,} tokens ({len(part)} examples: {names}); {advice}"
            ) from error
        raise


def check_prompts(examples: Sequence[Example], budget: int, setting: str) -> None:
    """Refuse a prompt that fills the budget alone.

    Raises:
        UserError: naming the longest such prompt and the settings that help.
    """
    longest = max(examples, key=lambda e: len(e.prompt))
    if len(longest.prompt) > budget:
        raise UserError(
            f"prompt {longest.name or longest.index} has {len(longest.prompt):,} tokens, more than {setting} = "
            f"{budget:,}; raise {setting}, or set max_prompt_tokens to cut long prompts from the left"
        )
