"""Pairs of a run for people to label: drawn, written blind, and known again when they come back.

A pair is a candidate's response beside the teacher's. Which of the two stands first, and the pair's name, follow by a
hash from both texts, whose they are, and a key that is all of the teacher's responses: who has the run's folder knows
every pair again by its name alone, and who has the file of pairs alone learns nothing from it.

Every prompt of a set is as likely to be drawn, all rows are drawn on the same prompts, and asking for more draws the
same ones first. Pairs of one prompt stand in different parts of the file: the response that they share is the
teacher's.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Prompt, RunPrompt, RunResponse, Verdict
from harness.core.registry import did_you_mean
from harness.core.units import first_named
from harness.results.schema import Results
from harness.run.rows import TEACHER

COLUMNS = PAIR, PROMPT, FIRST, SECOND, LABEL = "pair", "prompt", "response_a", "response_b", "label"
LABELS = ("a", "b", "tie")
_PREFERENCE = {True: {"a": 1.0, "b": 0.0, "tie": 0.5}, False: {"a": 0.0, "b": 1.0, "tie": 0.5}}
# no vowels and no digits: a spreadsheet takes none for a number, a date or a truth value
_LETTERS, _LENGTH = "bcdfghjklmnpqrstvwxz", 12
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Pair:
    """candidate_first: whether the candidate's response is a, and the teacher's b."""

    name: str
    prompt_set: str
    prompt_id: str
    candidate: str
    sample: int
    a: str
    b: str
    candidate_first: bool

    def verdict(self, label: str, who: str) -> Verdict:
        """What somebody said of it, as a judge's verdict."""
        return Verdict(
            prompt_set=self.prompt_set,
            prompt_id=self.prompt_id,
            candidate=self.candidate,
            reference=TEACHER,
            order="none",
            status="ok",
            preference=_PREFERENCE[self.candidate_first][label],
            judge=who,
            sample=self.sample,
        )

    @property
    def known(self) -> str:
        """The label that nobody has to be asked for; empty where there is none."""
        return "tie" if self.a == self.b else ""


@dataclass(frozen=True)
class RunPairs:
    """All pairs of a run, by (prompt set, prompt id, sample) and candidate."""

    key: bytes
    pairs: Mapping[tuple[str, str, int], Mapping[str, Pair]]

    @classmethod
    def of(cls, responses: Iterable[RunResponse]) -> RunPairs:
        by_place: dict[tuple[str, str, int], dict[str, str]] = {}
        for row in responses:
            by_place.setdefault((row.prompt_set, row.prompt_id, row.sample), {})[row.system] = row.text
        taught = {place: texts[TEACHER] for place, texts in by_place.items() if TEACHER in texts}
        key = bytes.fromhex(canonical_hash([[*place, text] for place, text in sorted(taught.items())]))
        found: dict[tuple[str, str, int], dict[str, Pair]] = {}
        for place, texts in by_place.items():
            if place in taught:
                found[place] = {
                    name: _pair(key, place, name, text, taught[place])
                    for name, text in texts.items()
                    if name != TEACHER
                }
        return cls(key, found)

    @property
    def by_name(self) -> dict[str, Pair]:
        return {pair.name: pair for by_row in self.pairs.values() for pair in by_row.values()}

    def drawn(self, rows: Sequence[str], sets: Sequence[str], prompts: int, judged: Collection[Any]) -> list[Pair]:
        """Pairs of so many prompts, or of all, each with every one of the rows, in the order that people see them.

        judged: (prompt set, prompt id, sample, candidate) of the outcomes that there are: no other is drawn. A set has
        as many of the prompts as it has of all prompts.
        """
        frame: dict[tuple[str, str], list[int]] = {}
        for (prompt_set, prompt_id, sample), by_row in self.pairs.items():
            whole = all(name in by_row and (prompt_set, prompt_id, sample, name) in judged for name in rows)
            if prompt_set in sets and whole:
                frame.setdefault((prompt_set, prompt_id), []).append(sample)
        there = {name: [place for place in frame if place[0] == name] for name in sets}
        taken = _shared(prompts, {name: len(of_set) for name, of_set in there.items()})
        places = [
            place
            for name, of_set in there.items()
            for place in sorted(of_set, key=lambda place: self._number("drawn", *place))[: taken[name]]
        ]
        parts: list[list[Pair]] = [[] for _ in rows]
        for place in places:
            sample = min(frame[place], key=lambda number: self._number("sample", *place, number))
            turned = int(self._number("first", *place), 16)
            for number, part in enumerate(parts):
                part.append(self.pairs[*place, sample][rows[(number + turned) % len(rows)]])
        return [pair for part in parts for pair in sorted(part, key=lambda pair: self._number("place", pair.name))]

    def _number(self, *parts: Any) -> str:
        return _digest(self.key, *parts)


def _digest(key: bytes, *parts: Any) -> str:
    return hmac.new(key, canonical_hash(parts).encode(), hashlib.sha256).hexdigest()


def _pair(key: bytes, place: tuple[str, str, int], candidate: str, text: str, teacher: str) -> Pair:
    number = int(_digest(key, "pair", *place, candidate, text, teacher), 16)
    number, first = divmod(number, 2)
    letters = []
    for _ in range(_LENGTH):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    texts = (text, teacher) if first else (teacher, text)
    return Pair("".join(letters), *place[:2], candidate, place[2], *texts, candidate_first=bool(first))


def _shared(count: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """So many, or all, shared among sets by their sizes: the largest remainders have what rounding leaves."""
    whole = sum(sizes.values())
    if count >= whole:
        return dict(sizes)
    taken = {name: count * size // whole for name, size in sizes.items()}
    left = sorted(sizes, key=lambda name: -(count * sizes[name] % whole))
    return {name: taken[name] + (name in left[: count - sum(taken.values())]) for name in sizes}


def rows_and_sets(
    results: Results, rows: Sequence[str] | None, sets: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Whose responses, and of which prompts: by default the primary contrast's rows, in-domain.

    Raises:
        UserError: a name that the run does not have, or no primary contrast where no rows are named.
    """
    known = list(dict.fromkeys(row.method for row in results.rows))
    there = {entry.name: entry.in_domain for entry in results.prompt_sets}
    chosen = list(rows or results.configured.primary or ())
    if not chosen:
        raise UserError(f"{results.name} has no primary contrast; name rows of it: --rows {','.join(known[:2])}")
    inside = [name for name, in_domain in there.items() if in_domain] or list(there)
    for option, names, all_known in (("--rows", chosen, known), ("--sets", sets or (), list(there))):
        for name in names:
            if name not in all_known:
                raise UserError(f"{option}: {results.name} has no '{name}'{did_you_mean(name, all_known)}")
    return list(dict.fromkeys(chosen)), list(dict.fromkeys(sets or inside))


# ---- the file


def shown(prompt: Prompt) -> str:
    """A prompt as people read it: its text alone, or every part of it under a head."""
    if len(prompt.messages) == 1 and not prompt.reference:
        return prompt.messages[0].content
    parts = [f"### {message.role.capitalize()}:\n{message.content}" for message in prompt.messages]
    return "\n\n".join([*parts, *([f"### A right answer:\n{prompt.reference}"] if prompt.reference else [])])


def as_rows(pairs: Sequence[Pair], prompts: Iterable[RunPrompt]) -> list[dict[str, str]]:
    """What people see of each pair, by column."""
    texts = {(prompt.prompt_set, prompt.id): shown(prompt) for prompt in prompts}
    return [
        {
            PAIR: pair.name,
            PROMPT: texts[pair.prompt_set, pair.prompt_id],
            FIRST: pair.a,
            SECOND: pair.b,
            LABEL: pair.known,
        }
        for pair in pairs
    ]


def as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    """The file, with the mark of UTF-8 that spreadsheets look for."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: guarded(value) for name, value in row.items()} for row in rows)
    return "\ufeff" + out.getvalue()


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_labels(path: Path) -> dict[str, str]:
    """The labels of a file by pair; empty where a pair has none yet.

    Raises:
        UserError: no such file, or without labels; a label that is none; a pair with two of them.
    """
    found: dict[str, str] = {}
    for number, row in enumerate(_read(path), 2):
        name, label = (row[column].strip() for column in (PAIR, LABEL))
        label = label.casefold()
        if not name and not label:
            continue
        if label and label not in LABELS:
            raise UserError(f"{path}: row {number}: '{label}' is no label; write a, b or tie")
        if found.get(name) and label and found[name] != label:
            raise UserError(f"{path}: row {number}: the pair {name} is labelled {found[name]} above, and {label} here")
        found[name] = label or found.get(name, "")
    if not any(found.values()):
        raise UserError(f"{path}: nothing is labelled in it yet")
    return found


def _read(path: Path) -> list[dict[str, str]]:
    try:
        # whatever a spreadsheet saved texts as: names and labels are ASCII
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    head = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=head.count)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise UserError(f"{path}: no pair in it")
    lacking = [name for name in (PAIR, LABEL) if name not in rows[0]]
    if lacking:
        raise UserError(f"{path}: no column '{lacking[0]}'; labels are a file that `python -m harness label` wrote")
    return rows


def labels_of_runs(files: Sequence[Path], runs: Mapping[str, RunPairs]) -> tuple[list[str], dict[str, list[Verdict]]]:
    """Who labelled, and what they said of each run's pairs, by the run's name.

    Raises:
        UserError: as `read_labels`; a file twice; pairs that are of none of the runs.
    """
    if len({path.resolve() for path in files}) < len(files):
        raise UserError("--labels names one file twice: its labels would count twice")
    stems = [path.stem for path in files]
    people = [path.stem if stems.count(path.stem) == 1 else str(path) for path in files]
    known: dict[str, tuple[str, Pair]] = {}
    for run, found in runs.items():
        # what two runs have in common is the first one's, as on their board
        known = {**{name: (run, pair) for name, pair in found.by_name.items()}, **known}
    said: dict[str, list[Verdict]] = {run: [] for run in runs}
    for path, who in zip(files, people, strict=True):
        labels = read_labels(path)
        unknown = [name for name in labels if name not in known]
        where = ", ".join(runs)
        if len(unknown) == len(labels):
            raise UserError(f"{path}: labels of another run: none of its pairs is of {where}")
        if unknown:
            raise UserError(f"{path}: not all of its pairs are of {where}: {first_named(unknown, 3)}")
        for name, label in labels.items():
            if label:
                run, pair = known[name]
                said[run].append(pair.verdict(label, who))
    return people, said
