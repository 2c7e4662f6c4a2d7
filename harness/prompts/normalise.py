"""Any source as prompts of our own: those of one part, without exact duplicates, each with an id of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Prompt, prompts_digest
from harness.prompts import fetch
from harness.prompts.columns import chosen, prompt_of
from harness.prompts.rows import parse
from harness.prompts.settings import TEST_SHARE, Columns, PromptSource
from harness.prompts.sources import SourceTable, open_table


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a source, or its first `limit` ones.

    read_from: where they are read again: an absolute path or a commit, and how it is cut into parts. source: what they
    were made from, for people: a file's name or hub id@commit. duplicates: prompts of the source left out as another
    says the same; skipped: rows of a hub's set left out as they hold no prompt. card: it is the set of that name, and
    not a file that happens to be named so."""

    name: str
    prompts: tuple[Prompt, ...]
    read_from: PromptSource
    source: str = ""
    license: str = ""
    duplicates: int = 0
    skipped: int = 0
    card: bool = False
    limit: int | None = None

    @cached_property
    def digest(self) -> str:
        """Of the prompts alone, wherever they come from."""
        return prompts_digest(self.prompts)

    def first(self, limit: int | None) -> PromptSet:
        """The set that a limit leaves; None leaves all."""
        return replace(self, prompts=self.prompts[:limit], limit=limit)


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
    prompts, duplicates, skipped = _read(table, source)
    return PromptSet(name, prompts, again, said, source.license, duplicates, skipped)


def _read(table: SourceTable, source: PromptSource) -> tuple[tuple[Prompt, ...], int, int]:
    """A table's prompts; how many were duplicates, and how many rows held none."""
    own = table.lines and source.columns == Columns() and _is_own(table)
    errors: list[str] | None = [] if source.hub else None  # who reads a hub's set cannot mend its rows
    parsed = _own(table) if own else _foreign(table, source.columns, errors)
    prompts: dict[tuple[Any, ...], Prompt] = {}
    ids: dict[str, str] = {}
    duplicates = 0
    for where, prompt in parsed:
        if source.part and part_of(prompt, source.test_share or TEST_SHARE) != source.part:
            continue
        said = (prompt.messages, prompt.turns)
        if said in prompts:
            duplicates += 1
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
    return tuple(prompts.values()), duplicates, len(errors or ())


def _is_own(table: SourceTable) -> bool:
    """Whether a JSONL file is of our own format, by its first row; that of an empty file is."""
    for where, row in table.rows(table.columns):
        try:
            parse(row, where)
        except UserError:
            return False
        break
    return True


def _own(table: SourceTable) -> Iterator[tuple[str, Prompt]]:
    return ((where, parse(row, where)) for where, row in table.rows(table.columns))


def _foreign(table: SourceTable, said: Columns, errors: list[str] | None) -> Iterator[tuple[str, Prompt]]:
    """The prompts of a foreign table. errors: where rows that hold none are put; else the first is raised."""
    columns = chosen(said, table)
    for where, row in table.rows(list(dict.fromkeys(columns.model_dump(exclude_none=True).values()))):
        try:
            yield where, prompt_of(row, columns, where)
        except UserError as error:
            if errors is None:
                raise
            errors.append(str(error))


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
