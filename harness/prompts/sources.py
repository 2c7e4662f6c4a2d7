"""Tables of prompts as they are found: JSONL, JSON, CSV, Parquet and saved `datasets` folders."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.parsing import parse_json
from harness.core.records import read_jsonl

RawRow = dict[str, Any]
SAVED = ("dataset_info.json", "dataset_dict.json")  # what a saved `datasets` folder holds one of
SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".parquet"})


@dataclass(frozen=True)
class SourceTable:
    """A table whose rows are read once its columns are chosen: a column may hold far more than the prompts do.

    rows: gives, of the columns asked for, (what an error calls the row, the row). lines: it is a JSONL file."""

    where: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[tuple[str, RawRow]]]
    lines: bool = False


def open_table(path: Path, split: str | None = None) -> SourceTable:
    """The table in a file or folder; any other suffix than those known is read as JSONL.

    Raises:
        UserError: it is not there, or not what its name says.
    """
    if path.is_dir():
        return _saved(path, split)
    if not path.is_file():
        raise UserError(f"prompt file {path} does not exist")
    if split:
        raise UserError(f"{path} is one file and has no split '{split}'")
    readers = {".csv": _csv, ".parquet": _parquet, ".json": _json}
    table = readers.get(path.suffix, _jsonl)(path)
    if twice := [name for name, count in Counter(table.columns).items() if name and count > 1]:
        raise UserError(f"{path}: the column '{twice[0]}' is there twice; leave one out, or rename it")
    return table


def _listed(path: Path, rows: list[tuple[str, RawRow]], lines: bool = False) -> SourceTable:
    """A table that is in memory already; its columns are those of all rows."""
    columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
    return SourceTable(str(path), columns, lambda _: iter(rows), lines)


def _jsonl(path: Path) -> SourceTable:
    return _listed(path, [(f"{path}:{number}", row) for number, row in read_jsonl(path)], lines=True)


def _json(path: Path) -> SourceTable:
    """A list of objects; or JSONL by another name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    if not text.lstrip().startswith("["):
        return _jsonl(path)
    try:
        data = parse_json(text)
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: half a surrogate pair (\\ud800…) is not text") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    for number, row in enumerate(data, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: row {number}: expected a JSON object, found {type(row).__name__}")
    return _listed(path, [(f"{path}: row {number}", row) for number, row in enumerate(data, 1)])


def _csv(path: Path) -> SourceTable:
    """Every cell is a text, as it stands: `NA` and `1.0` too."""
    csv.field_size_limit(2**31 - 1)  # prompts may be longer than the 128 KiB that a cell may have otherwise
    rows: list[tuple[str, RawRow]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for cells in filter(None, reader):  # without blank lines
                where = f"{path}:{reader.line_num}"
                if len(cells) != len(header):
                    raise UserError(f"{where}: {len(cells)} cells, and the first line names {len(header)} columns")
                rows.append((where, dict(zip(header, cells, strict=True))))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({_one_line(error)})") from error
    return SourceTable(str(path), tuple(header), lambda _: iter(rows))


def _parquet(path: Path) -> SourceTable:
    import pyarrow
    import pyarrow.parquet

    try:
        names = tuple(pyarrow.parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({_one_line(error)})") from error

    def rows(columns: Sequence[str]) -> Iterator[tuple[str, RawRow]]:
        try:
            read = pyarrow.parquet.read_table(path, columns=list(columns)).to_pylist()
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as Parquet ({_one_line(error)})") from error
        return ((f"{path}: row {number}", row) for number, row in enumerate(read, 1))

    return SourceTable(str(path), names, rows)


def _saved(path: Path, split: str | None) -> SourceTable:
    if not any((path / name).is_file() for name in SAVED):
        raise UserError(f"{path} is a folder, and not one that `datasets` saved (it holds no {' and no '.join(SAVED)})")
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a saved `datasets` folder ({_one_line(error)})") from error
    if isinstance(data, datasets.DatasetDict):
        if split is None and len(data) > 1:
            raise UserError(f"{path} has the splits {', '.join(data)}; give the folder of one of them")
        split = split or next(iter(data))
        if split not in data:
            raise UserError(f"{path} has no split '{split}'; it has {', '.join(data)}")
        data = data[split]
    elif split:
        raise UserError(f"{path} is one split and has no split '{split}'")
    return of_dataset(data, str(path))


def of_dataset(data: Any, where: str) -> SourceTable:
    """The table in a `datasets.Dataset`."""

    def rows(columns: Sequence[str]) -> Iterator[tuple[str, RawRow]]:
        chosen = data.with_format(None).select_columns(list(columns))
        return ((f"{where}: row {number}", row) for number, row in enumerate(chosen, 1))

    return SourceTable(where, tuple(data.column_names), rows)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
