"""tokens.json: what a report shows of students and their teacher token by token, of bounded size whatever the run.

A KL is forward, KL(teacher ‖ student), where the teacher wrote the response, and reverse where the student did.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from harness.core.records import Record, plain, read_jsonl
from harness.run.jobs import DEPARTURES, PIECES, TOKENS
from harness.run.rows import TEACHER

TOKENS_SCHEMA = 1
PROMPTS = 6  # of each set, whose responses are shown
LONGEST = 256  # tokens that are shown of a response
BINS = 64  # of positions in a response
DEPARTING = 10  # tokens of each student, and writer
DIGITS = 4


class View(Record):
    """The beginning of one response, token by token."""

    prompt_set: str = Field(description="the prompts")
    prompt_id: str = Field(description="the prompt")
    sample: int = Field(description="which of the responses to it")
    writer: str = Field(description="who wrote it: the teacher, or a row")
    tokens: int = Field(description="how many it has; the first 256 are shown")
    pieces: tuple[str, ...] = Field(description="the text of each; of those that make a character together the last's")
    kl: dict[str, tuple[float, ...]] = Field(description="by row, its KL at each, in nats")


class Positions(Record):
    """The KL by the position in a response, over all responses."""

    prompt_set: str = Field(description="the prompts")
    method: str = Field(description="the row")
    writer: str = Field(description="who wrote the responses: the teacher, or the row itself")
    width: int = Field(description="positions in a bin: the first is of tokens 0 to width − 1")
    total: tuple[float, ...] = Field(description="by bin, the sum of KLs, in nats")
    count: tuple[int, ...] = Field(description="by bin, tokens")


class Departure(Record):
    """A token at which a student departs most from its teacher."""

    prompt_set: str = Field(description="the prompts")
    method: str = Field(description="the row")
    writer: str = Field(description="who wrote the response: the teacher, or the row itself")
    prompt_id: str = Field(description="the prompt")
    sample: int = Field(description="which of the responses to it")
    position: int = Field(description="tokens before it in the response")
    kl: float = Field(description="the KL there, in nats")
    before: str = Field(description="the end of the text before it")
    token: str = Field(description="its text")
    teacher_top: str = Field(description="the token that the teacher holds for the likeliest")
    student_top: str = Field(description="the token that the student does")


class TokenViews(Record):
    """All that a run's folder says in tokens.json. Empty where no tokens were compared."""

    model_config = ConfigDict(populate_by_name=True)

    version: int = Field(default=TOKENS_SCHEMA, alias="schema", description="version of this schema")
    views: tuple[View, ...] = Field(
        default=(), description="of the first 6 prompts of a set: the teacher's response, and each row's own"
    )
    positions: tuple[Positions, ...] = Field(default=(), description="every row on every set, by writer")
    departures: tuple[Departure, ...] = Field(
        default=(), description="of each row and writer the 10 with the largest KL on all sets, the largest first"
    )


@dataclass(frozen=True)
class Compared:
    """A row beside the teacher on responses of one of the two. folder: of the comparison's artifact."""

    prompt_set: str
    method: str
    writer: str
    folder: Path


def token_views(compared: Sequence[Compared], prompts: Mapping[str, Sequence[str]], longest: int) -> TokenViews:
    """From all comparisons of a run, in the order of its rows. prompts: of each set the ids of those that count, in
    their order. longest: tokens of a response at most."""
    views: dict[tuple[str, str, str], View] = {}
    positions: list[Positions] = []
    departures: dict[tuple[str, str], list[Departure]] = {}
    for one in compared:
        table = _Table.of(one)
        for view in table.views(prompts[one.prompt_set][:PROMPTS]):
            known = views.setdefault((view.prompt_set, view.prompt_id, view.writer), view)
            known.kl.update(view.kl)
        known_ids = set(prompts[one.prompt_set])
        positions.append(table.positions(known_ids, -(-longest // BINS)))
        departures.setdefault((one.method, one.writer), []).extend(_departures(one, known_ids))
    return TokenViews(
        views=tuple(views.values()),
        positions=tuple(positions),
        departures=tuple(
            row for rows in departures.values() for row in sorted(rows, key=lambda row: -row.kl)[:DEPARTING]
        ),
    )


def as_compact_json(views: TokenViews) -> str:
    """The file: it is for a page, not for people, and most of it is numbers."""
    return json.dumps(plain(views), ensure_ascii=False, separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class _Table:
    """A comparison's KLs [T], and of its responses, in the order of its rows: ids, samples and where each starts."""

    of_what: Compared
    kl: NDArray[np.float64]
    ids: list[str]
    samples: list[int]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, compared: Compared) -> _Table:
        column = "forward_kl" if compared.writer == TEACHER else "reverse_kl"
        with np.load(compared.folder / TOKENS) as stored:
            starts = np.concatenate([[0], np.cumsum(stored["lengths"], dtype=np.int64)])
            kl = stored[column].astype(np.float64)
            return cls(compared, kl, stored["prompt_ids"].tolist(), stored["samples"].tolist(), starts)

    def views(self, prompts: Sequence[str]) -> Iterator[View]:
        """The first response to each of these prompts."""
        rows = {name: row for row, (name, sample) in enumerate(zip(self.ids, self.samples, strict=True)) if not sample}
        shown = {row: name for name in prompts if (row := rows.get(name)) is not None}
        pieces = _lines(self.of_what.folder / PIECES, shown)
        for row, name in shown.items():
            start, end = self.starts[row : row + 2].tolist()
            yield View(
                prompt_set=self.of_what.prompt_set,
                prompt_id=name,
                sample=0,
                writer=self.of_what.writer,
                tokens=end - start,
                pieces=pieces[row]["pieces"][:LONGEST],
                kl={self.of_what.method: self.kl[start:end][:LONGEST].round(DIGITS).tolist()},
            )

    def positions(self, prompts: Collection[str], width: int) -> Positions:
        lengths = np.diff(self.starts)
        counts = np.repeat([name in prompts for name in self.ids], lengths)
        places = np.arange(len(self.kl)) - np.repeat(self.starts[:-1], lengths)
        bins = np.minimum(places // width, BINS - 1)[counts]
        return Positions(
            prompt_set=self.of_what.prompt_set,
            method=self.of_what.method,
            writer=self.of_what.writer,
            width=width,
            total=np.bincount(bins, self.kl[counts]).round(DIGITS).tolist(),
            count=np.bincount(bins).tolist(),
        )


def _lines(path: Path, numbers: Collection[int]) -> dict[int, dict[str, Any]]:
    """Some rows of a JSONL file, from 0, without reading what comes after the last of them."""
    found: dict[int, dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="\n") as file:
        for number in range(max(numbers, default=-1) + 1):
            line = file.readline()
            if number in numbers:
                found[number] = json.loads(line)
    return found


def _departures(compared: Compared, prompts: Collection[str]) -> Iterator[Departure]:
    for _, row in read_jsonl(compared.folder / DEPARTURES):
        if row["prompt_id"] in prompts:
            place = {name: getattr(compared, name) for name in ("prompt_set", "method", "writer")}
            yield Departure.model_validate({**row, **place, "kl": round(row["kl"], DIGITS)})
