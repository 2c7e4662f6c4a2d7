"""Any source as prompts of our own: those of one part, without exact duplicates, each with an id of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Prompt, prompts_digest
from harness.core.units import first_named
from harness.prompts import fetch
from harness.prompts.columns import (
    SYSTEMS,
    LostPartError,
    chosen,
    message_fields,
    not_taken,
    parsed,
    prompt_of,
    require_columns,
    require_whole,
)
from harness.prompts.rows import FIELDS, parse
from harness.prompts.settings import TEST_SHARE, Columns, PromptSource
from harness.prompts.sources import RawRow, SourceTable, open_table

ALSO = {"system": SYSTEMS[1:], "answer": ("reference_answer",)}  # other names of our own format's fields
NAMED_AT_MOST = 10  # columns in a line


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a source, or its first `limit` ones.

    read_from: where they are read again: an absolute path or a commit, and how it is cut into parts. source: what they
    were made from, for people: a file's name or hub id@commit. duplicates: prompts of the source left out as another
    says the same; skipped: rows of a hub's set left out as they hold no prompt (why_skipped: the first one). card: it
    is the set of that name, and not a file that happens to be named so. unused: columns that nothing is taken of.
    contradicted: ids of prompts that are there again with another known answer, which is not taken. held_out: of which
    share of it some prompts stand apart; validation: whether it is these."""

    name: str
    prompts: tuple[Prompt, ...]
    read_from: PromptSource
    source: str = ""
    license: str = ""
    duplicates: int = 0
    skipped: int = 0
    why_skipped: str = ""
    card: bool = False
    limit: int | None = None
    unused: tuple[str, ...] = ()
    contradicted: tuple[str, ...] = ()
    held_out: float = 0.0
    validation: bool = False

    @cached_property
    def digest(self) -> str:
        """Of the prompts alone, wherever they come from."""
        return prompts_digest(self.prompts)

    @property
    def notes(self) -> list[str]:
        """What people are told of it, one line each; a card has said itself what is taken of its set."""
        said = {
            f"columns that are not used: {named(self.unused)}": self.unused and not self.card,
            f"{self.skipped} rows hold no prompt and are left out (the first: {self.why_skipped})": self.skipped,
            f"{len(self.contradicted)} prompts are there again with another answer; the first one's is taken (first: "
            f"'{next(iter(self.contradicted), '')}')": self.contradicted,
        }
        return [f"prompt set '{self.name}': {text}" for text, found in said.items() if found]

    def first(self, limit: int | None) -> PromptSet:
        """The set that a limit leaves; None leaves all."""
        return replace(self, prompts=self.prompts[:limit], limit=limit)

    def hold_out(self, share: float) -> tuple[PromptSet, PromptSet]:
        """The set without the prompts whose own hash puts them into a share of it, and these: a prompt is on one side
        whatever else the set holds."""
        parts: tuple[list[Prompt], list[Prompt]] = ([], [])
        for prompt in self.prompts:
            parts[_falls_into(prompt, share)].append(prompt)
        left, held = (tuple(part) for part in parts)
        return (
            replace(self, prompts=left, held_out=share),
            replace(self, name=f"{self.name} (validation)", prompts=held, held_out=share, validation=True),
        )


def _falls_into(prompt: Prompt, share: float) -> bool:
    # another hash than the one that cuts a set into training and test
    digest = hashlib.sha256(f"validation/{prompt.digest}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def named(columns: Sequence[str]) -> str:
    return first_named((name or "one without a name" for name in columns), NAMED_AT_MOST)


def read_set(name: str, source: PromptSource, download: bool) -> PromptSet:
    """All prompts of a source.

    Raises:
        UserError: by file and row: no prompt, or a repeated id in a file of our own format; or it holds no prompts.
        MissingPromptsError: a hub's set that is not here and cannot be had.
    """
    if source.path is None:
        table, commit = fetch.fetch(source, download)
        place: dict[str, Any] = {"revision": commit}
        said = f"{source.hub}@{commit}"
    else:
        path = source.path.expanduser()
        table = open_table(path, source.split)
        place, said = {"path": path.absolute()}, path.name
    again = PromptSource(**{field: getattr(source, field) for field in PromptSource.model_fields} | place)
    return PromptSet(name, read_from=again, source=said, license=source.license, **_read(table, source))


def _read(table: SourceTable, source: PromptSource) -> dict[str, Any]:
    """A table's prompts, and what is to be said of them: the fields of a PromptSet."""
    own = table.lines and not source.columns.named and _is_own(table, source.columns.ignore)
    errors: list[str] | None = [] if source.hub else None  # who reads a hub's set cannot mend its rows
    unused: dict[str, None] = {}
    parsed = _own(table, source.columns, unused) if own else _foreign(table, source.columns, errors, unused)
    prompts: dict[tuple[Any, ...], Prompt] = {}
    ids: dict[str, str] = {}
    contradicted: dict[str, None] = {}
    duplicates = 0
    for where, prompt in parsed:
        if source.part and part_of(prompt, source.test_share or TEST_SHARE) != source.part:
            continue
        said = (prompt.messages, prompt.turns)
        if said in prompts:
            duplicates += 1
            if any(prompt.references) and prompt.references != prompts[said].references:
                contradicted[prompts[said].id] = None
            continue
        if prompt.id in ids:
            if own:
                line = ids[prompt.id].rpartition(":")[2]
                raise UserError(f"{where}: prompt id '{prompt.id}' was used on line {line} already")
            prompt = prompt.model_copy(update={"id": _free(prompt.id, ids)})
        ids[prompt.id] = where
        prompts[said] = prompt
    if not prompts:
        part = f" part '{source.part}'" if source.part else ""
        why = f" ({errors[0]})" if errors else ""
        advice = "; with a larger test_share it takes more" if source.part == "test" and not why else ""
        raise UserError(f"{table.where}: no prompts in{part or ' it'}{why}{advice}")
    return {
        "prompts": tuple(prompts.values()),
        "duplicates": duplicates,
        "skipped": len(errors or ()),
        "why_skipped": errors[0] if errors else "",
        "unused": tuple(unused),
        "contradicted": tuple(contradicted),
    }


def _is_own(table: SourceTable, ignore: Sequence[str]) -> bool:
    """Whether a JSONL file is of our own format, by its first row; that of an empty file is."""
    for where, row in table.rows(table.columns):
        try:
            parse(_ours(row, ignore), where)
        except UserError:
            return False
        break
    return True


def _own(table: SourceTable, said: Columns, unused: dict[str, None]) -> Iterator[tuple[str, Prompt]]:
    """unused: where columns are put that nothing is taken of."""
    require_columns(said, table)
    kind = "prompt" if "prompt" in table.columns else "messages"
    columns = Columns.model_validate({kind: kind, "ignore": said.ignore})
    taken = {name for field, names in ALSO.items() if field not in table.columns for name in names}
    shaping, rest = not_taken([name for name in table.columns if name not in FIELDS | taken], columns)
    unused.update(dict.fromkeys(rest))
    for where, row in table.rows(table.columns):
        ours = _ours(row, said.ignore)
        require_whole(ours, [*shaping, *taken], columns, where)
        names = {field: name for field, names in ALSO.items() for name in names if name in row and name not in ours}
        yield where, parsed(ours, where, names)


def _ours(row: RawRow, ignore: Sequence[str]) -> RawRow:
    """A row without what is to be left out, its fields by our own names."""
    found = {name: value for name, value in row.items() if name not in ignore}
    for field, names in ALSO.items():
        other = next((name for name in names if name in found), None)
        if other and field not in found:
            found[field] = found.pop(other)
    return found


def _foreign(
    table: SourceTable, said: Columns, errors: list[str] | None, unused: dict[str, None]
) -> Iterator[tuple[str, Prompt]]:
    """The prompts of a foreign table. errors: where rows that hold none are put; else the first is raised."""
    columns = chosen(said, table)
    shaping, rest = not_taken(table.columns, columns)
    unused.update(dict.fromkeys(rest))
    for where, row in table.rows([*dict.fromkeys([*columns.named.values(), *shaping])]):
        try:
            require_whole(row, shaping, columns, where)
            prompt = prompt_of(row, columns, where)
        except LostPartError:
            raise
        except UserError as error:
            if errors is None:
                raise
            errors.append(str(error))
        else:
            unused.update(dict.fromkeys(message_fields(row, columns)))
            yield where, prompt


def part_of(prompt: Prompt, share: float) -> str:
    """`train` or `test`, by a hash of what the prompt says: whatever set, file or order it is in, it stays there."""
    said = json.dumps([[message.role, message.content] for message in prompt.messages], ensure_ascii=False)
    place = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8]) / 2**64
    return "test" if place < share else "train"


def _free(identifier: str, taken: Iterable[str]) -> str:
    number = 2
    while f"{identifier}-{number}" in taken:
        number += 1
    return f"{identifier}-{number}"
