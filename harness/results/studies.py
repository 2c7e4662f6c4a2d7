"""A study's folder: its runs, each as a run's folder is, and their common board."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.parsing import parse_json
from harness.core.records import Record
from harness.results.folder import BOARD, as_file_name

STUDY, RUNS = "study.json", "runs"


class StudyFacts(Record):
    """What a study's folder says in study.json. command: what reproduces it. runs: the folders of its runs, in their
    order, below its own."""

    schema_version: int = 1
    command: str
    runs: tuple[str, ...]


def folders_of(out: Path, members: Sequence[str]) -> list[Path]:
    """Where the runs of a study are written, by their names; without any, a run's own folder."""
    return [out / RUNS / as_file_name(name) for name in members] or [out]


def write_study(out: Path, folders: Sequence[Path], command: str, board: str) -> None:
    runs = tuple(folder.relative_to(out).as_posix() for folder in folders)
    text = json.dumps(StudyFacts(command=command, runs=runs).model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_atomically(out / BOARD, board)
    write_atomically(out / STUDY, text + "\n")


def runs_in(folder: Path) -> list[Path]:
    """The runs of a study's folder; of a run's, itself.

    Raises:
        UserError: it is a study's and damaged.
    """
    path = folder / STUDY
    if not path.is_file():
        return [folder]
    try:
        found = StudyFacts.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{path}: damaged; run the study again (nothing is computed twice)") from error
    return [folder / name for name in found.runs]
