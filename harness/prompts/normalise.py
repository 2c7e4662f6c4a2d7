"""Any source as one JSONL file of our own in the store; plain JSONL of our own stays where it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash, write_atomically
from harness.core.records import Prompt, write_jsonl
from harness.prompts import fetch
from harness.prompts.columns import chosen, prompt_of
from harness.prompts.rows import parse
from harness.prompts.settings import Columns, PromptSource
from harness.prompts.sources import Table, files_of, open_table
from harness.store import Store

VERSION = 1  # raise it when a source becomes other prompts than before


@dataclass(frozen=True)
class Normal:
    """A JSONL file of our own. source: what it was made from, a file's name or hub id@commit. duplicates: prompts left
    out as another of the set says the same; skipped: rows of a hub's set left out as they hold no prompt."""

    path: Path
    source: str
    duplicates: int = 0
    skipped: int = 0


def normal(name: str, source: PromptSource, test_share: float, store: Store, download: bool) -> Normal:
    """The prompts of a source.

    Raises:
        UserError: by file and row: no prompt, or a repeated id in a file of our own format; or it holds no prompts.
        MissingPromptsError: a hub's set that is not here and cannot be had.
    """
    share = source.test_share or test_share
    identity: dict[str, Any] = {"version": VERSION, "part": [source.part, share] if source.part else None}
    identity |= source.model_dump(include={"columns", "split"})
    if source.path is None:
        # What was fetched once stays as it is, with no hub asked again: its commit is in the file beside it.
        identity |= source.model_dump(include={"hub", "config", "revision", "file"})
    else:
        path = source.path.expanduser()
        files = {file.relative_to(path).as_posix(): store.digest(file) for file in files_of(path)}
        identity["files"] = [path.suffix, files]
    book = _Book(store, name, canonical_hash(identity))
    kept = book.read()
    if kept:
        return kept
    if source.path is None:
        table, commit = fetch.fetch(source, download)
        return book.write(_read(table, source, share), f"{source.hub}@{commit}")
    table = open_table(path, source.split)
    found = _read(table, source, share)
    if found.plain and not source.part:
        return Normal(path, path.name)
    return book.write(found, path.name)


@dataclass(frozen=True)
class _Read:
    prompts: list[Prompt]
    duplicates: int
    skipped: int
    plain: bool  # the source is a file of our own that says just this


def _read(table: Table, source: PromptSource, share: float) -> _Read:
    """A table's prompts: those of one part, without exact duplicates, each with an id of its own."""
    own = table.lines and source.columns == Columns() and _is_own(table)
    errors: list[str] | None = [] if source.hub else None  # who reads a hub's set cannot mend its rows
    parsed = _own(table) if own else _foreign(table, source.columns, errors)
    prompts: dict[tuple[Any, ...], Prompt] = {}
    ids: dict[str, str] = {}
    duplicates = 0
    for where, prompt in parsed:
        if source.part and part_of(prompt, share) != source.part:
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
    more = any(prompt.turns or prompt.answer for prompt in prompts.values())
    return _Read(list(prompts.values()), duplicates, len(errors or ()), own and not duplicates and not more)


def _is_own(table: Table) -> bool:
    """Whether a JSONL file is of our own format, by its first row; that of an empty file is."""
    for where, row in table.rows(table.columns):
        try:
            parse(row, where)
        except UserError:
            return False
        break
    return True


def _own(table: Table) -> Iterator[tuple[str, Prompt]]:
    return ((where, parse(row, where)) for where, row in table.rows(table.columns))


def _foreign(table: Table, said: Columns, errors: list[str] | None) -> Iterator[tuple[str, Prompt]]:
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


class _Book:
    """A normalised file in the store, with what is known of it in a file beside it."""

    def __init__(self, store: Store, name: str, digest: str) -> None:
        self._store = store
        stem = re.sub(r"[^\w.-]", "-", name)[:80]
        self._path = store.root / "sources" / f"{stem}-{digest[:16]}.jsonl"
        self._facts = self._path.with_suffix(".json")

    def read(self) -> Normal | None:
        """What was written before; None where nothing was, or it is no longer what was written."""
        try:
            facts = json.loads(self._facts.read_text(encoding="utf-8"))
            if facts["sha256"] == self._store.digest(self._path):
                return Normal(self._path, facts["source"], facts["duplicates"], facts["skipped"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, read: _Read, source: str) -> Normal:
        write_jsonl(self._path, (prompt.model_dump(mode="json", exclude_defaults=True) for prompt in read.prompts))
        facts = {"source": source, "duplicates": read.duplicates, "skipped": read.skipped}
        facts["sha256"] = self._store.digest(self._path)
        write_atomically(self._facts, json.dumps(facts, ensure_ascii=False) + "\n")
        return Normal(self._path, source, read.duplicates, read.skipped)
