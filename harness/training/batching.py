"""Examples to batches. A prompt is encoded once for all its responses.

    row        P P P P P C C C C R R R      prompt, chosen, rejected
    position   0 1 2 3 4 5 6 7 8 5 6 7      the rejected branch goes on where the prompt ends
    sees       R sees P and itself, never C

The hidden state at the prompt's last token predicts the first token of both branches, so `predict` points at it
twice. `layout="padded"` gives each response a row of its own instead, and serves as the oracle of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["shared", "padded"]


@dataclass(frozen=True)
class Example:
    """A prompt with its responses (one, or chosen and rejected), in token ids. `index` is its row in the data."""

    index: int
    prompt: Sequence[int]
    responses: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and where the response tokens are.

    input_ids, position_ids: [rows, L]. mask: [rows, 1, L, L], true where a query (third axis) sees a key, or
    None where plain causal attention is right. predict: [T] indices into the flattened rows of the positions
    that predict a response token; labels: [T] those tokens; owner: [T] example · k + response it belongs to.
    examples, k: how many examples, and responses each.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor | None
    predict: Tensor
    labels: Tensor
    owner: Tensor
    examples: int
    k: int

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            None if self.mask is None else self.mask.to(device),
            self.predict.to(device),
            self.labels.to(device),
            self.owner.to(device),
            self.examples,
            self.k,
        )

    def sum_by_response(self, values: Tensor) -> Tensor:
        """[T] values of response tokens → [examples, k] sums."""
        sums = values.new_zeros(self.examples * self.k).index_add(0, self.owner, values)
        return sums.view(self.examples, self.k)

    def lengths(self) -> Tensor:
        """Response lengths in tokens, [examples, k] float32."""
        return self.sum_by_response(torch.ones_like(self.owner, dtype=torch.float32))


@dataclass(frozen=True)
class _Row:
    prompt: Sequence[int]
    branches: tuple[tuple[int, Sequence[int]], ...]  # owner, response ids

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(len(response) for _, response in self.branches)


def collate(examples: Sequence[Example], layout: Layout = "shared", pad: int = 0) -> Batch:
    """A batch of examples that all have the same number of responses; rows are padded on the right."""
    if not all(example.prompt and all(example.responses) for example in examples):
        raise ValueError("a prompt or a response without tokens cannot be trained on or scored")
    k = len(examples[0].responses)
    rows = []
    for number, example in enumerate(examples):
        branches = [(number * k + j, response) for j, response in enumerate(example.responses)]
        if layout == "shared":
            rows.append(_Row(example.prompt, tuple(branches)))
        else:
            rows += [_Row(example.prompt, (branch,)) for branch in branches]
    width = max(row.tokens for row in rows)
    input_ids = torch.full((len(rows), width), pad)
    position_ids = torch.arange(width).repeat(len(rows), 1)
    predict: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    starts: list[list[tuple[int, int]]] = []
    for r, row in enumerate(rows):
        p = len(row.prompt)
        ids = list(row.prompt)
        spans = []
        for response_owner, response in row.branches:
            start, end = len(ids), len(ids) + len(response)
            position_ids[r, start:end] = torch.arange(p, p + len(response))
            predict += [r * width + p - 1, *range(r * width + start, r * width + end - 1)]
            labels += response
            owner += [response_owner] * len(response)
            ids += response
            spans.append((start, end))
        input_ids[r, : len(ids)] = torch.tensor(ids)
        starts.append(spans)
    mask = None
    if any(len(spans) > 1 for spans in starts):
        mask = torch.ones(width, width, dtype=torch.bool).tril().repeat(len(rows), 1, 1)
        for r, spans in enumerate(starts):
            for start, end in spans:
                mask[r, end:, start:end] = False  # what follows a branch never sees it
        mask = mask.unsqueeze(1)
    return Batch(
        input_ids,
        position_ids,
        mask,
        torch.tensor(predict),
        torch.tensor(labels),
        torch.tensor(owner),
        len(examples),
        k,
    )


def split_by_tokens(examples: Sequence[Example], budget: int) -> list[list[Example]]:
    """Micro-batches whose padded size stays within `budget` tokens (one example may exceed it alone).

    Examples of similar size go together, so that little of a batch is padding; the largest come first, so that
    memory that suffices for the first micro-batch suffices for the rest.
    """
    parts: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: (-e.tokens, e.index)):
        if parts and (len(parts[-1]) + 1) * parts[-1][0].tokens <= budget:
            parts[-1].append(example)
        else:
            parts.append([example])
    return parts
