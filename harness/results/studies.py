"""A study's folder: its runs, each as a run's folder is, their common board, and study.json, which says what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, JsonValue

import harness
from harness.config import Study
from harness.core.errors import UserError
from harness.core.files import canonical_hash, file_sha256, write_atomically
from harness.core.records import Record
from harness.core.units import first_named
from harness.results.folder import BOARD, RESULTS, as_json, read_part
from harness.store import MANIFEST

STUDY, RUNS = "study.json", "runs"
STUDY_SCHEMA = 1
LONGEST = 100  # characters of a run's folder
Axis = dict[str, tuple[JsonValue, ...]]


class StudyRun(Record):
    """A run of a study."""

    name: str = Field(description="its seed and its point of the grid, in words")
    folder: str = Field(description="where it is, below the study's folder")
    manifest: str = Field(description="sha256 of its manifest.json, which vouches for its other files")


class StudyFacts(Record):
    """All that a study's folder says in study.json."""

    version: int = Field(default=STUDY_SCHEMA, alias="schema", description="version of this schema")
    harness: str = Field(description="version of the harness")
    command: str = Field(description="what reproduces it")
    seeds: tuple[int, ...] = Field(description="of each point of the grid; as they were given, else the one")
    grid: tuple[Axis, ...] = Field(description="settings with their values: those of one axis go together")
    tune: tuple[Axis, ...] = Field(description="settings with the values that each method was tried with")
    tune_by: str = Field(description="by which the best of these was taken")
    runs: tuple[StudyRun, ...] = Field(description="its runs, in their order")
    board: str = Field(description="sha256 of leaderboard.md, their common board")


def folders_of(out: Path, members: Sequence[str]) -> list[Path]:
    """Where the runs of a study are written, by their names; without any, a run's own folder."""
    found: list[str] = []
    for name in members:
        word = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST].strip(".-")
        taken = word.lower() in (other.lower() for other in found)  # some file systems know no case
        found.append(f"{word}-{canonical_hash(name)[:6]}" if taken else word)
    return [out / RUNS / word for word in found] or [out]


def check_place(out: Path, members: Sequence[str]) -> None:
    """Refuse a folder where what is written would lie beside results of another kind, to be read with them.

    members: names of a study's runs; none of a run alone.

    Raises:
        UserError: a run's folder for a study, a study's for a run, or one that holds runs which this study has not.
    """
    advice = "name another folder, or delete that one"
    there = sorted(set(_runs_there(out)) - (set(folders_of(out, members)) if members else set()))
    if members and (out / RESULTS).is_file():
        raise UserError(f"--out {out} holds the results of a run, and this is a study; {advice}")
    if not members and (there or (out / STUDY).is_file()):
        raise UserError(f"--out {out} holds a study, and this is a run; {advice}")
    if there:
        named = first_named([folder.name for folder in there], 3)
        raise UserError(f"--out {out} holds runs that this study does not have ({named}); {advice}")


def _runs_there(out: Path) -> Iterator[Path]:
    yield from (path.parent for path in (out / RUNS).glob(f"*/{MANIFEST}"))


def write_study(out: Path, study: Study, folders: Sequence[Path], command: str, board: str) -> None:
    """The board of the runs in these folders, which are written, and study.json."""
    write_atomically(out / BOARD, board)
    settings = study.settings
    facts = StudyFacts(
        harness=harness.__version__,
        command=command,
        seeds=tuple(study.seeds),
        grid=settings.grid,
        tune=settings.tune,
        tune_by=settings.tune_by,
        runs=tuple(
            StudyRun(
                name=member.name,
                folder=folder.relative_to(out).as_posix(),
                manifest=file_sha256(folder / MANIFEST),
            )
            for member, folder in zip(study.members, folders, strict=True)
        ),
        board=file_sha256(out / BOARD),
    )
    write_atomically(out / STUDY, as_json(facts))


def is_study(folder: Path) -> bool:
    return (folder / STUDY).is_file()


def read_study(folder: Path) -> StudyFacts:
    """What a study's folder says of it.

    Raises:
        UserError: it is damaged, or of another version.
    """
    return read_part(folder, STUDY, "the runs", StudyFacts, STUDY_SCHEMA)


def runs_in(folder: Path) -> list[Path]:
    """The runs of a study's folder; of a run's, itself.

    Raises:
        UserError: as `read_study`.
    """
    return [folder / run.folder for run in read_study(folder).runs] if is_study(folder) else [folder]


def one_run(folder: Path) -> Path:
    """A run's folder, as it is.

    Raises:
        UserError: it is a study's, of several runs.
    """
    if is_study(folder):
        names = [run.folder for run in read_study(folder).runs]
        raise UserError(f"{folder} is a study; name one of its runs, such as {folder / names[0]}")
    return folder


def changed_runs(folder: Path) -> list[str]:
    """In what a study's folder is not what study.json says, one line each; what its runs' own manifests say is not
    looked at."""
    facts = read_study(folder)
    found = []
    for run in facts.runs:
        path = folder / run.folder / MANIFEST
        if not path.is_file():
            found.append(f"{run.folder} holds no {MANIFEST}, and {STUDY} has it as {run.name}")
        elif file_sha256(path) != run.manifest:
            found.append(f"{run.folder}/{MANIFEST} is not the file that {STUDY} has the sha256 of")
    if not (folder / BOARD).is_file():
        found.append(f"{BOARD} is missing")
    elif file_sha256(folder / BOARD) != facts.board:
        found.append(f"{BOARD} is not the file that {STUDY} has the sha256 of")
    others = {path.relative_to(folder).as_posix() for path in _runs_there(folder)} - {run.folder for run in facts.runs}
    return found + [f"{STUDY} does not have {name}" for name in sorted(others)]
