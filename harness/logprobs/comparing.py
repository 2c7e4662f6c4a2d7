"""A student and its teacher, position by position: what two whole distributions say of each token of a response.

Exact over all ids that both have, renormalised over those, at one temperature. The head runs on response positions
only, a chunk of rows at a time, and what is made of a chunk's logits, in pieces that stay in a CPU's cache: ten passes
over them cost less than the product that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.core.progress import Tick
from harness.logprobs.batching import Batch, Example, Layout, collate, memory_errors
from harness.logprobs.model import LogProbModel, chunks, log_probs_of
from harness.logprobs.scoring import ADVICE, autocast, batches, places_of, response_starts
from harness.logprobs.targets import StoredTopK

Columns = dict[str, NDArray[Any]]
# columns that are ids; all others are float32, in nats or shares
IDS = ("teacher_top", "student_top")
SCORE = "score"  # the teacher's log-prob of the token as scoring has it: at temperature 1, over all of its ids
CACHE_NUMBERS = 2**17  # of a piece's log-probs, five arrays of which lie there at once: half a MiB of float32 each


# ---- of two rows of log-probs


def divergences(teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
    """Two distributions over the same outcomes: log-probs [n, outcomes] of each → columns [n].

    forward_kl: KL(teacher ‖ student), Σ p log(p / q); reverse_kl: KL(student ‖ teacher); overlap: Σ min(p, q);
    teacher_entropy: −Σ p log p. An outcome without probability (−inf) adds nothing to a sum that it weighs.
    """
    p, q, gap = teacher.exp(), student.exp(), teacher - student
    return {
        "forward_kl": _mean(p, gap),
        "reverse_kl": -_mean(q, gap),
        "teacher_entropy": -_mean(p, teacher),
        "overlap": torch.minimum(p, q, out=p).sum(-1),
    }


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Σ weights · values of each row, [n, outcomes] both → [n]; what weighs nothing counts for nothing."""
    means: Tensor = torch.linalg.vecdot(weights, values)
    odd = means.isnan()
    if odd.any():  # 0 · inf
        means[odd] = torch.where(weights[odd] == 0, 0, weights[odd] * values[odd]).sum(-1)
    return means


def compared(teacher: Tensor, student: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What two rows of log-probs over the same ids, [n, V], say of the tokens that are there, labels [n]: the columns
    of measures.Tokens, [n]."""
    return {
        **divergences(teacher, student),
        "teacher_log_prob": _of(labels, teacher),
        "student_log_prob": _of(labels, student),
        "teacher_top": _top(teacher),
        "student_top": _top(student),
    }


def _of(labels: Tensor, rows: Tensor) -> Tensor:
    return rows.gather(-1, labels[:, None]).squeeze(-1)


def _top(rows: Tensor) -> Tensor:
    return rows.max(-1).indices  # on a CPU three times as fast as argmax


# ---- of models


class Teacher(Protocol):
    """The teacher's side of a comparison."""

    @property
    def layout(self) -> Layout | None:
        """That its batches travel in; None where it reads none."""

    def opened(self, part: Sequence[Example], batch: Batch, how: How) -> Comparing:
        """What compares a chunk of a micro-batch's response tokens. batch: the student's."""


@dataclass(frozen=True)
class How:
    """vocabulary: how many ids both have, the first ones. temperature: of both distributions."""

    vocabulary: int
    temperature: float


Comparing = Callable[[slice, Tensor], dict[str, Tensor]]  # rows, the student's logits of them [n, V] → columns [n]


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that reads the responses now, and whose log-probs of them are as scoring has them (`SCORE`)."""

    model: LogProbModel

    @property
    def layout(self) -> Layout:
        return self.model.layout

    def opened(self, part: Sequence[Example], batch: Batch, how: How) -> Comparing:
        device = next(self.model.parameters()).device
        same = batch.labels.device == device and (batch.spans is not None) == (self.layout == "packed")
        rows = self.model.rows(batch if same else collate(part, self.layout).to(device))
        return lambda here, student: _dense(rows(here).to(student.device), student, batch.labels[here], how, True)


@dataclass(frozen=True)
class StoredStates:
    """A teacher whose last hidden states are stored: only its head is computed. states: [T, H], in the order of the
    examples; those of example i from starts[i] to starts[i + 1]."""

    model: LogProbModel
    states: Tensor
    starts: NDArray[np.int64]

    layout = None

    def opened(self, part: Sequence[Example], batch: Batch, how: How) -> Comparing:
        places = places_of([example.index for example in part], self.starts)
        rows = self.model.rows_of(self.states[torch.from_numpy(places)].to(self.model.head.device))
        return lambda here, student: _dense(rows(here).to(student.device), student, batch.labels[here], how, False)


@dataclass(frozen=True)
class TopKTeacher:
    """A teacher that is known by its k largest log-probs at each token, and by that of the token itself, labels [T].

    All other ids are one outcome more: KLs and entropy are then lower bounds, and the overlap is an upper one. What is
    said of the token itself, and which is the likeliest, is exact.
    """

    top: StoredTopK
    labels: NDArray[np.float32]

    layout = None

    def opened(self, part: Sequence[Example], batch: Batch, how: How) -> Comparing:
        target = self.top.of(part, batch.labels.device)
        places = places_of([example.index for example in part], self.top.starts)
        own = torch.from_numpy(self.labels[places]).to(batch.labels.device)

        def comparing(here: slice, student: Tensor) -> dict[str, Tensor]:
            rows = log_probs_of(student, how.vocabulary)
            mine, others = target.outcomes(rows, here)
            theirs = others["teacher"]
            likeliest = target.log_probs[here].argmax(-1)
            return {
                **divergences(theirs, mine),
                "teacher_log_prob": own[here],
                "student_log_prob": _of(batch.labels[here], rows),
                "teacher_top": _of(likeliest, target.ids[here]),
                "student_top": _top(rows),
            }

        return comparing


def _dense(teacher: Tensor, student: Tensor, labels: Tensor, how: How, scored: bool) -> dict[str, Tensor]:
    """Logits [n, V] of both, whose padding may differ → columns [n]."""
    parts = []
    for piece in _pieces(len(labels), how.vocabulary, student.device):
        theirs = log_probs_of(teacher[piece], how.vocabulary, how.temperature)
        mine = log_probs_of(student[piece], how.vocabulary, how.temperature)
        found = compared(theirs, mine, labels[piece])
        if scored:
            same = how.temperature == 1 and how.vocabulary == teacher.shape[1]
            rows = theirs if same else log_probs_of(teacher[piece], teacher.shape[1])
            found[SCORE] = _of(labels[piece], rows)
        parts.append(found)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _pieces(rows: int, vocabulary: int, device: torch.device) -> list[slice]:
    """Of a chunk on a CPU as many rows as stay in its cache; on a GPU all of it."""
    size = max(1, CACHE_NUMBERS // vocabulary) if device.type == "cpu" else rows
    return [slice(start, start + size) for start in range(0, rows, size)]


@torch.no_grad()
def compare(
    student: LogProbModel,
    teacher: Teacher,
    examples: Sequence[Example],
    vocabulary: int,
    temperature: float,
    precision: str,
    batch_tokens: int,
    tick: Tick,
) -> Columns:
    """Columns [T] of `compared`, T counting the response tokens of all examples in their order; with `SCORE`, where the
    teacher is live.

    vocabulary: how many ids the tokenizer and both embeddings have, the first ones; no other is an outcome.
    """
    starts = response_starts(examples)
    row_of = {example.index: row for row, example in enumerate(examples)}
    how = How(vocabulary, temperature)
    columns: Columns = {}
    # an example takes more room padded than packed
    layout: Layout = "padded" if "padded" in (student.layout, teacher.layout) else "packed"
    for part, batch in batches(student, examples, batch_tokens, tick, layout):
        places = places_of([row_of[example.index] for example in part], starts)
        with memory_errors(part, layout, ADVICE):
            with autocast(batch, precision):
                mine, comparing = student.rows(batch), teacher.opened(part, batch, how)
            for here in chunks(len(places), len(student.head)):
                for name, values in comparing(here, mine(here)).items():
                    if name not in columns:
                        columns[name] = np.empty(starts[-1], np.int32 if name in IDS else np.float32)
                    columns[name][places[here]] = values.cpu().numpy()
    return columns
