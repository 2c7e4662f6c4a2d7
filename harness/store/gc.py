"""What is in the store, what needs it, and what may go: `python -m harness store`."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.core.progress import Tick
from harness.core.units import DAY
from harness.store.artifacts import MANIFEST, Store, read_manifest

REF = re.compile(r"[a-z_]+/[0-9a-f]{32}")


@dataclass(frozen=True)
class Kept:
    """An artifact as it lies there. needs: refs of the artifacts that its job reads. manifest damaged: no label,
    no needs, and the folder's own age."""

    ref: str
    label: str
    bytes: int
    created: float
    needs: frozenset[str]

    @property
    def stage(self) -> str:
        return self.ref.partition("/")[0]


@dataclass(frozen=True)
class Rest:
    """A folder that is no artifact: a workspace that an interrupted stage left, or a damaged artifact set aside."""

    path: Path
    bytes: int
    changed: float


def artifacts(store: Store) -> list[Kept]:
    """All artifacts, largest first."""
    found = []
    for ref in store.refs():
        folder = store.path(ref)
        try:
            manifest, size, changed = read_manifest(folder), _size(folder), (folder / MANIFEST).stat().st_mtime
        except FileNotFoundError:  # another process is taking it away
            continue
        job: dict[str, Any] = manifest["job"] if manifest else {}
        label = job.get("label") or ("" if manifest else "its manifest is damaged")
        needs = frozenset(refs_in(job)) - {ref}
        found.append(Kept(ref, str(label), size, _created(manifest) or changed, needs))
    return sorted(found, key=lambda kept: -kept.bytes)


def rests(store: Store) -> list[Rest]:
    """Workspaces and damaged artifacts, by name."""
    folders = [path for part in ("work", "corrupt") for path in sorted((store.root / part).glob("*")) if path.is_dir()]
    return [Rest(path, _size(path), _last_change(path)) for path in folders]


@dataclass(frozen=True)
class Removal:
    """What is to go, and what would but is being made or used now."""

    artifacts: list[Kept] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.artifacts) + sum(rest.bytes for rest in self.rests)


def refs_in(data: Any) -> Iterable[str]:
    """Every ref of an artifact in a job, wherever it stands."""
    if isinstance(data, str):
        if REF.fullmatch(data):
            yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from refs_in(value)
    elif isinstance(data, Sequence):
        for value in data:
            yield from refs_in(value)


def needed_by(roots: Iterable[str], kept: Iterable[Kept]) -> set[str]:
    """These artifacts and all that they were made from, as far back as it goes."""
    needs = {one.ref: one.needs for one in kept}
    found: set[str] = set()
    ahead = list(roots)
    while ahead:
        ref = ahead.pop()
        if ref not in found:
            found.add(ref)
            ahead += needs.get(ref, ())
    return found


def find_removable(store: Store, roots: Iterable[str], days: float) -> Removal:
    """What nobody needs: artifacts that neither these nor an artifact made in the last `days` were made from, and
    workspaces and damaged artifacts that have lain for a day. What another process holds stays, with what it was made
    from.
    """
    now = time.time()
    kept = artifacts(store)
    held = [one.ref for one in kept if _held(store, one.ref)]
    needed = needed_by([*roots, *held, *(one.ref for one in kept if one.created > now - days * DAY)], kept)
    old = [rest for rest in rests(store) if rest.changed < now - DAY]
    going = [rest for rest in old if not (_is_workspace(rest) and _held(store, rest.path.name))]
    held += [rest.path.name for rest in old if rest not in going]
    return Removal([one for one in kept if one.ref not in needed], going, held)


def at_work(store: Store) -> list[str]:
    """The workspaces that a process is at work in: what it reads is known to that process alone."""
    return [rest.path.name for rest in rests(store) if _is_workspace(rest) and _held(store, rest.path.name)]


def free(store: Store, plan: Removal) -> int:
    """Remove what a plan names and nobody holds; the bytes that are free now."""
    freed = 0
    for one in plan.artifacts:
        with store.unless_held(one.ref) as ours:
            if ours:
                freed += _remove(store.set_aside(one.ref), one.bytes)
    for rest in plan.rests:
        held = store.unless_held(rest.path.name) if _is_workspace(rest) else contextlib.nullcontext(True)
        with held as ours:
            if ours:
                freed += _remove(rest.path, rest.bytes)
    return freed


def damaged(store: Store, tick: Tick) -> list[tuple[str, str]]:
    """Every artifact with a file that is not what was written, and that file. All are read again, whatever is
    remembered of them."""
    refs, found = store.refs(), []
    for number, ref in enumerate(refs):
        tick(number, len(refs))
        file = store.damage(ref, digest=file_sha256)
        if file:
            found.append((ref, file))
    tick(len(refs), len(refs))
    return found


def _created(manifest: dict[str, Any] | None) -> float | None:
    try:
        made = datetime.fromisoformat(str(manifest["created"])) if manifest else None
    except ValueError:
        return None
    return made.replace(tzinfo=made.tzinfo or UTC).timestamp() if made else None


def _size(folder: Path) -> int:
    """Bytes on disk; what vanishes meanwhile is not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue
    return total


def _last_change(folder: Path) -> float:
    times = [folder.lstat().st_mtime]
    for path in folder.rglob("*"):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)


def _held(store: Store, ref: str) -> bool:
    with store.unless_held(ref) as ours:
        return not ours


def _is_workspace(rest: Rest) -> bool:
    """A workspace is held by whoever is at work in it; nobody holds what was set aside."""
    return rest.path.parent.name == "work"


def _remove(path: Path | None, size: int) -> int:
    if path is None:  # somebody was faster
        return 0
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror})") from error
    return size
