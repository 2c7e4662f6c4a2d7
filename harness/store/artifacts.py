"""Content-addressed artifacts: what a stage made, under the hash of everything that shaped it.

<store>/<stage>/<key>/…            an artifact: its files and manifest.json, complete or not there at all
<store>/work/<stage>-<key>/…       a stage's workspace: survives a kill, becomes the artifact by one rename
<store>/locks/<stage>-<key>.lock   one lock a key, released by the system when its holder dies
<store>/corrupt/<stage>-<key>-<n>/… an artifact whose files are no longer those of its manifest
<store>/kept/<what>/<key>.json     what was found out of things outside once, and follows from its key alone
<store>/stamps/<what>/<key>.json   what was said once, and when: it follows from nothing, and nothing takes it away
<store>/digests.json               digests of artifacts' files, and of files outside the store, by path, size and mtime
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.core.disk import writing
from harness.core.errors import UserError
from harness.core.files import canonical_hash, file_sha256, write_atomically

MANIFEST = "manifest.json"
MANIFEST_FIELDS: dict[str, type | tuple[type, ...]] = {
    "job": dict,
    "facts": dict,
    "seconds": (int, float),
    "created": str,
    "files": dict,
}
NO_STAGES = frozenset({"work", "locks", "corrupt", "kept", "stamps"})  # folders of a store that hold no artifacts
STORE_VARIABLE = "DADPO_HARNESS_STORE"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact. `manifest` holds the job, what it was made with, sizes and digests of files, date, seconds,
    peak_memory (not in older ones) and facts."""

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
        self._known: dict[str, list[Any]] = {}
        self._known_stamp: tuple[int, ...] | None = None

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
        manifest = read_manifest(path)
        damaged = MANIFEST if manifest is None else _cut_file(path, manifest)
        if manifest is None or damaged:
            raise UserError(f"{path / (damaged or MANIFEST)} is damaged; run the command again to make it anew")
        return Artifact(ref, path, manifest)

    def intact(self, ref: str) -> bool:
        """Whether an artifact is there with the files that were written."""
        return self.has(ref) and self.damage(ref) is None

    def set_aside_if_damaged(self, ref: str) -> str | None:
        """Move an artifact whose files are not those that were written to `corrupt/`; what is wrong with it and where
        it is now, or None where there is nothing to move."""
        if self.damage(ref) is None:
            return None
        name = self.workspace(ref).name
        with self._lock(name):
            damaged = self.damage(ref)  # another process may have moved it, and made it anew, meanwhile
            if damaged is None:
                return None
            place = self.set_aside(ref)
        return f"{damaged} is not what was written; the artifact is now in {place}"

    def set_aside(self, ref: str) -> Path | None:
        """Move an artifact, whole, to `corrupt/`, where nothing looks for one; None where it is not there. The caller
        holds its lock."""
        name = self.workspace(ref).name
        places = (self.root / "corrupt" / f"{name}-{n}" for n in itertools.count(1))
        place = next(place for place in places if not place.exists())
        place.parent.mkdir(exist_ok=True)
        try:
            return self.path(ref).replace(place)
        except FileNotFoundError:
            return None

    def damage(self, ref: str, digest: Callable[[Path], str] | None = None) -> str | None:
        """The first file of an artifact that is missing or not the one that was written; None where there is none,
        or no artifact. A file is read only where its size and time of change are not remembered, unless another
        `digest` is given."""
        digest = digest or self.digest
        path = self.path(ref)
        if not (path / MANIFEST).is_file():
            return None
        try:
            manifest = read_manifest(path)
            if manifest is None:
                return MANIFEST
            digests = {name: known["sha256"] for name, known in manifest["files"].items()}
            cut = _cut_file(path, manifest)
            return cut or next((name for name in digests if digest(path / name) != digests[name]), None)
        except FileNotFoundError:  # another process is moving it
            return MANIFEST

    def workspace(self, ref: str) -> Path:
        """Where an artifact is being made, or was when it could not be finished."""
        return self.root / "work" / ref.replace("/", "-")

    @contextlib.contextmanager
    def making(self, ref: str) -> Iterator[Path]:
        """The workspace for an artifact, under its lock. What an interrupted attempt left is still in it."""
        work = self.workspace(ref)
        with writing(work), self._lock(work.name):
            work.mkdir(parents=True, exist_ok=True)
            yield work

    def commit(
        self,
        ref: str,
        work: Path,
        job: dict[str, Any],
        facts: dict[str, Any],
        seconds: float,
        environment: dict[str, Any] | None = None,
        peak_memory: int | None = None,
    ) -> None:
        """Turn a workspace into the artifact: manifest last, then one rename. environment: what it was made with.
        peak_memory: the most bytes that it took of its device; None where that is not known."""
        (work / MANIFEST).unlink(missing_ok=True)  # of an attempt that was killed before the rename
        target = self.path(ref)
        files = {}
        digests = {}
        for file in sorted(work.rglob("*")):
            if file.is_file():
                stamp, digest = _stamp(file), file_sha256(file)
                files[file.relative_to(work).as_posix()] = {"bytes": stamp[0], "sha256": digest}
                digests[str((target / file.relative_to(work)).resolve())] = [*stamp, digest]
        manifest = {
            "job": job,
            "facts": facts,
            "seconds": round(seconds, 3),
            "peak_memory": peak_memory,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "environment": environment,
            "files": files,
        }
        write_atomically(work / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        usual = stat.S_IMODE((work / MANIFEST).stat().st_mode)
        for name in files:  # safetensors' are their owner's alone, whatever the umask
            (work / name).chmod(usual)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # without a manifest: not an artifact
            shutil.rmtree(target)
        work.replace(target)
        self._remember(digests)

    def discard(self, ref: str) -> None:
        """Remove an artifact, so that it is made anew."""
        with self._lock(self.workspace(ref).name):
            if self.path(ref).exists():
                shutil.rmtree(self.path(ref))

    def refs(self) -> list[str]:
        """The refs of all artifacts, damaged ones too, by name."""
        found = (path.parent for path in self.root.glob(f"*/*/{MANIFEST}"))
        return sorted(f"{p.parent.name}/{p.name}" for p in found if p.parent.name not in NO_STAGES)

    @contextlib.contextmanager
    def unless_held(self, ref: str) -> Iterator[bool]:
        """Whether no other process holds this artifact's lock; if so, it is held here meanwhile."""
        lock = self._lock(self.workspace(ref).name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """The manifests of one stage's artifacts, newest last."""
        folders = [path.parent for path in (self.root / stage).glob(f"*/{MANIFEST}")]
        found = [manifest for manifest in map(read_manifest, folders) if manifest is not None]
        yield from sorted(found, key=lambda manifest: str(manifest["created"]))

    def digest(self, path: Path) -> str:
        """sha256 of a file, remembered by its path, size and mtime."""
        name, stamp = str(path.resolve()), _stamp(path)
        known = self._digests().get(name)
        if known is None or known[:2] != stamp:
            known = [*stamp, file_sha256(path)]
            self._remember({name: known})
        return str(known[2])

    def recall(self, what: str, key: Any, find_out: Callable[[], Any]) -> Any:
        """Plain data that follows from `key` alone: as it was kept, else found out now, and kept. Nothing is lost where
        it is gone."""
        file = self.root / "kept" / what / f"{canonical_hash(key)[:32]}.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            found = find_out()
            write_atomically(file, json.dumps(found, ensure_ascii=False) + "\n")
            return found

    def stamp(self, what: str, key: Any, fact: Callable[[], Any]) -> Any:
        """Plain data that was so when it was first asked for: as it was kept then, else `fact` now, and kept.

        Of several processes the first one's counts; a damaged one is not believed, and made now.

        Raises:
            UserError: it is not there yet, and the store may not be written.
        """
        found = self.stamped(what, key)
        if found is None:
            with writing(self.root), self._lock(f"stamps-{what}"):
                found = self.stamped(what, key)
                if found is None:
                    found = fact()
                    text = json.dumps(found, ensure_ascii=False) + "\n"
                    write_atomically(self._stamp_file(what, key), text)
        return found

    def stamped(self, what: str, key: Any) -> Any:
        """The same where it was kept; None where it was not."""
        try:
            return json.loads(self._stamp_file(what, key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def stamps(self, what: str) -> Iterator[Any]:
        """All that was kept of a kind, in no order; damaged ones are passed over."""
        for file in (self.root / "stamps" / what).glob("*.json"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                yield json.loads(file.read_text(encoding="utf-8"))

    def _stamp_file(self, what: str, key: Any) -> Path:
        return self.root / "stamps" / what / f"{canonical_hash(key)[:32]}.json"

    def _digests(self) -> dict[str, list[Any]]:
        """What is remembered; read again where it has been written since."""
        book = self.root / "digests.json"
        try:
            stat = book.stat()
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if stamp != self._known_stamp:
                self._known, self._known_stamp = json.loads(book.read_text()), stamp
        except (FileNotFoundError, ValueError):  # nothing is lost: files are read again
            self._known, self._known_stamp = {}, None
        return self._known

    def _remember(self, digests: dict[str, list[Any]]) -> None:
        with self._lock("digests"):
            text = json.dumps({**self._digests(), **digests}, indent=1)
            write_atomically(self.root / "digests.json", text + "\n")

    def _lock(self, name: str) -> FileLock:
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{name}.lock")


def _stamp(file: Path) -> list[int]:
    """What changes when a file's content does: taken before the content is read."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """An artifact's manifest; None where it is damaged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        whole = all(isinstance(manifest[name], kind) for name, kind in MANIFEST_FIELDS.items())
        whole = whole and all(set(known) >= {"bytes", "sha256"} for known in manifest["files"].values())
    except (ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def _cut_file(folder: Path, manifest: dict[str, Any]) -> str | None:
    """The first file of an artifact that is missing or has another size than when it was written."""
    for name, known in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != known["bytes"]:
            return str(name)
    return None
