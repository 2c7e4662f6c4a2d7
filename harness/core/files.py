"""Hashes of content, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Any

from harness.core.disk import check_access, writing
from harness.core.errors import UserError


def canonical_hash(data: Any) -> str:
    """sha256 of plain data, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def absolute(named: str | Path) -> str:
    """Where a file is that somebody names: of the current folder, without `..`, and with links as they are."""
    return os.path.abspath(Path(named).expanduser())  # noqa: PTH100


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, whole.

    A link stays, and what it leads to is written. A device or a pipe is written through. A file that was there keeps
    its rights; a new one has those that the umask gives.

    Raises:
        UserError: it cannot be written; by its name.
    """
    try:
        with writing(path):
            number = _own_descriptor(path)
            if number is not None:
                sys.stdout.flush()
                _through(os.dup(number), text)
            elif path.exists() and not path.is_file():
                _through(os.open(path, os.O_WRONLY), text)
            else:
                _replace(_destination(path), text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def check_writable(path: Path) -> None:
    """Refuse a file that `write_atomically` could not write, before anything is done for it.

    Raises:
        UserError: it, or the nearest folder above it that there is, may not be written by this user or by anyone.
    """
    with writing(path):
        target = _destination(path)
        if target.exists():
            check_access(target)
        if not target.exists() or target.is_file():  # it is made beside it
            check_access(next(parent for parent in target.parents if parent.exists()))


def leads_to_stdout(path: Path | None) -> bool:
    """Whether what is written there comes out where this process prints."""
    try:
        return path is not None and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _destination(path: Path) -> Path:
    """The file that a path leads to, there or not."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _own_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that a path such as /dev/stdout or /dev/fd/63 stands for. Opened
    anew, a file behind it would be cut, and what is written and what is printed would lie over one another."""
    for _ in range(40):  # links that lead in a circle are refused later
        if os.path.realpath(path.parent) == f"/proc/{os.getpid()}/fd" and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _through(handle: int, text: str) -> None:
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with beside.open("x", encoding="utf-8") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):  # nobody knows the other's name
            error.filename, error.filename2 = str(path), None
        raise
