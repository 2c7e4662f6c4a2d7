"""What people take away from a run: each trained student as a stock folder, RUN_DIR/students/NAME.

Weights are the store's own files under a second name (a hard link), so that they take no room; where that cannot be,
copies. Everything that people may want to edit is a copy: an edit reaches no artifact.
"""

from __future__ import annotations

import filecmp
import fnmatch
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.core.files import canonical_hash, write_atomically
from harness.core.records import Ref
from harness.methods import methods
from harness.models.folders import SAVED
from harness.models.specs import ModelSpec, model_spec
from harness.results.schema import Results
from harness.run.road import Road
from harness.store import Store
from harness.students.card import Origin, Source, card_markdown

STUDENTS, CARD = "students", "README.md"


def write_students(out: Path, road: Road, store: Store, results: Results) -> dict[str, Path]:
    """The folder of each trained student, controls too, by its row's name; those of rows that are gone are removed."""
    folders = {name: out / STUDENTS / word for name, word in folder_names(road.trainings).items()}
    gone = set((out / STUDENTS).glob("*")) - set(folders.values())
    for folder in gone:
        if folder.is_dir() and not folder.is_symlink():
            _clear(folder, keep=())
    for entry in road.entries:
        folder = folders[entry.name]
        _take(road.trainings[entry.name], store, folder)
        _write(folder / CARD, card_markdown(results, entry.name, student_origin(road, entry.method)))
    return folders


def as_word(text: str, longest: int = 32) -> str:
    """A name as a word that every file system, shell and hub takes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", re.sub(r"\.\.+", ".", text))[:longest].strip("-._") or "student"


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """A folder's name for each row, no other row's."""
    found: dict[str, str] = {}
    for name in names:
        word = as_word(name)
        taken = word.lower() in (other.lower() for other in found.values())  # some file systems know no case
        found[name] = f"{word}-{canonical_hash(name)[:6]}" if taken else word
    return found


def student_origin(road: Road, method: str) -> Origin:
    """Where a method's student comes from."""
    known, served = methods.get(method), road.config.teacher_server
    specs = road.pair.specs  # of models that a pair's own file describes
    teacher = Source(road.pair.teacher, "", "") if served else source_of(road.pair.teacher, specs)
    said = f"{known.summary}; {known.source}"
    return Origin(source_of(road.pair.student, specs), teacher, said, road.train.license)


def source_of(name: str, specs: Mapping[str, ModelSpec] | None = None) -> Source:
    """A model's hub id and licence, as its entry says; a pruned model's are those of the model that was pruned."""
    spec = (specs or {}).get(name) or model_spec(name)
    base = model_spec(spec.base) if spec.base else spec
    return Source(name, base.hub or base.origin, spec.license or base.license)


def is_stock(name: str) -> bool:
    """Whether a file is one that `from_pretrained` reads: the rest of an artifact is the harness's own."""
    return "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in SAVED)


def _take(ref: Ref, store: Store, folder: Path) -> None:
    """The stock files of a training in a folder of their own; nothing is touched that is there already."""
    artifact = store.read(ref)
    names = [name for name in artifact.manifest["files"] if is_stock(name)]
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder, keep=(*names, CARD))
    for name in names:
        if not _same(artifact.path / name, folder / name):
            _put(artifact.path / name, folder / name)


def _same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    if source.suffix == ".safetensors":
        mine, theirs = source.stat(), target.stat()
        copied = (mine.st_size, mine.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
        return copied or source.samefile(target)
    return filecmp.cmp(source, target, shallow=False)


def _put(source: Path, target: Path) -> None:
    """Whole or as before: made beside it, then renamed."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        if not (source.suffix == ".safetensors" and _linked(source, partial)):
            shutil.copy2(source, partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, one without links, or files of another user
        return False
    return True


def _clear(folder: Path, keep: Iterable[str]) -> None:
    """Remove the files that a run put here, but those to keep; the folder too where nothing is left in it."""
    kept = set(keep)
    for path in folder.iterdir():
        ours = is_stock(path.name) or path.name == CARD or path.name.endswith(".partial")
        if ours and path.name not in kept and (path.is_file() or path.is_symlink()):
            path.unlink()
    if not kept and not any(folder.iterdir()):
        folder.rmdir()


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)
