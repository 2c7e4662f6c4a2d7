"""Content-addressed artifacts: what a stage made, under the hash of everything that shaped it.

<store>/<stage>/<key>/…            an artifact: its files and manifest.json, complete or not there at all
<store>/work/<stage>-<key>/…       a stage's workspace: survives a kill, becomes the artifact by one rename
<store>/locks/<stage>-<key>.lock   one lock a key, released by the system when its holder dies
<store>/digests.json               digests of weight files outside the store, by path, size and mtime
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.errors import UserError

MANIFEST = "manifest.json"


def canonical_hash(data: Any) -> str:
    """sha256 of plain data, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Artifact:
    """A finished artifact. `manifest` holds the job, sizes and digests of files, date, seconds and facts."""

    ref: str
    path: Path
    manifest: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage reported of its work (tokens, counts, the tokenizer's fingerprint, …)."""
        facts: dict[str, Any] = self.manifest["facts"]
        return facts


class Store:
    """A folder of artifacts, shared by every run on the machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, ref: str) -> Path:
        """The folder of an artifact by its ref, `stage/key`."""
        return self.root / ref

    def has(self, ref: str) -> bool:
        return (self.path(ref) / MANIFEST).is_file()

    def read(self, ref: str) -> Artifact:
        """A finished artifact.

        Raises:
            UserError: it is not there, or a file of it is missing or has another size than when written.
        """
        path = self.path(ref)
        if not self.has(ref):
            raise UserError(f"the store has no {ref} ({self.root}); run the command again to make it")
        manifest = json.loads((path / MANIFEST).read_text())
        for name, known in manifest["files"].items():
            file = path / name
            if not file.is_file() or file.stat().st_size != known["bytes"]:
                raise UserError(f"{file} is damaged; delete the folder {path} and run the command again")
        return Artifact(ref, path, manifest)

    def workspace(self, ref: str) -> Path:
        """Where an artifact is being made, or was when it could not be finished."""
        return self.root / "work" / ref.replace("/", "-")

    @contextlib.contextmanager
    def making(self, ref: str) -> Iterator[Path]:
        """The workspace for an artifact, under its lock. What an interrupted attempt left is still in it."""
        work = self.workspace(ref)
        with self._lock(work.name):
            work.mkdir(parents=True, exist_ok=True)
            yield work

    def commit(self, ref: str, work: Path, job: dict[str, Any], facts: dict[str, Any], seconds: float) -> None:
        """Turn a workspace into the artifact: manifest last, then one rename."""
        (work / MANIFEST).unlink(missing_ok=True)  # of an attempt that was killed before the rename
        files = {}
        for file in sorted(work.rglob("*")):
            if file.is_file():
                files[file.relative_to(work).as_posix()] = {
                    "bytes": file.stat().st_size,
                    "sha256": file_sha256(file),
                }
        manifest = {
            "job": job,
            "facts": facts,
            "seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": files,
        }
        write_atomically(work / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        target = self.path(ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # without a manifest: not an artifact
            shutil.rmtree(target)
        work.replace(target)

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """The manifests of one stage's artifacts, newest last."""
        found = [json.loads(path.read_text()) for path in (self.root / stage).glob(f"*/{MANIFEST}")]
        yield from sorted(found, key=lambda manifest: str(manifest["created"]))

    def digest(self, path: Path) -> str:
        """sha256 of a file outside the store, remembered by its path, size and mtime."""
        book = self.root / "digests.json"
        stat = path.stat()
        name, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = json.loads(book.read_text()) if book.is_file() else {}
        if name not in known or known[name][:2] != stamp:
            value = file_sha256(path)
            with self._lock("digests"):
                known = json.loads(book.read_text()) if book.is_file() else {}
                known[name] = [*stamp, value]
                write_atomically(book, json.dumps(known, indent=1) + "\n")
        return str(known[name][2])

    def _lock(self, name: str) -> FileLock:
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{name}.lock")
