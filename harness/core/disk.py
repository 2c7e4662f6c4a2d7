"""What a disk refuses, whichever library met it, as one line: where it is, what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import UserError

_ELSEWHERE = (
    "choose another place: --out for results, DADPO_HARNESS_STORE for the store, HF_HOME for what comes from the hub"
)
_ROOM = f"free some (python -m harness store gc frees what no recorded run needs), or {_ELSEWHERE}"
# of a disk as a whole: they are its own whether or not they say which file it was
_OF_DISKS = {
    errno.ENOSPC: f"the disk is full; {_ROOM}",
    errno.EDQUOT: f"the quota on this disk is used up; {_ROOM}",
    errno.EROFS: f"this disk may only be read; {_ELSEWHERE}",
}
# of a file: without its name they may be a socket's, or anything's
_OF_FILES = {
    errno.EACCES: f"this user may not read or write there; {_ELSEWHERE}",
    errno.EPERM: f"this is not permitted there; {_ELSEWHERE}",
    errno.EFBIG: "it would be larger than a file may be there (ulimit -f, or the file system's own limit)",
    errno.EIO: f"the disk fails (input/output error); {_ELSEWHERE}",
    errno.EBUSY: f"it is in use, and cannot be replaced (a mount?); {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is longer than the disk allows; choose a shorter one",
    errno.ELOOP: "its links lead in a circle",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "a file is where a folder must be",
    errno.EEXIST: "a file is where a folder must be",
}
_REASONS = _OF_DISKS | _OF_FILES
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers say no more
_OF_SQLITE = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EACCES}
_CUT = re.compile(r"\d+ requested and \d+ written")  # numpy, of a write that was cut


def refusal(error: BaseException, place: Path | None = None) -> UserError | None:
    """The line for an error that is a disk's; None for any other. It names the error's own file, else `place`."""
    number, file = _cause(error)
    reason = _REASONS.get(number)
    if reason is None or (number in _OF_FILES and not (file or place)):
        return None
    return UserError(f"{file or place or 'standard output, or a file'}: {reason}")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What is written inside raises a UserError, by the file or else by `place`, where the disk refuses it."""
    try:
        yield
    except Exception as error:
        refused = refusal(error, place)
        if refused is None:
            raise
        raise refused from error


def check_access(path: Path) -> None:
    """Refuse a file or folder that this user, or anyone, may not write.

    Raises:
        UserError: it says which of the two.
    """
    if not os.access(path, os.W_OK):
        only_read = os.statvfs(path).f_flag & os.ST_RDONLY
        raise UserError(f"{path}: {_REASONS[errno.EROFS if only_read else errno.EACCES]}")


def _cause(error: BaseException) -> tuple[int, str]:
    """An error's number and file; 0 and nothing where they are not known."""
    if isinstance(error, OSError) and error.errno is not None:
        # of two files the second is the one that is written
        file = error.filename2 or error.filename
        return error.errno, os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
    if isinstance(error, sqlite3.Error):
        return _OF_SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, 0), ""
    text = str(error)
    if rust := _RUST.search(text):
        return int(rust[1]), ""
    if isinstance(error, OSError) and _CUT.search(text):
        return errno.ENOSPC, ""
    if isinstance(error, RuntimeError):  # torch: the system's words, or an error of its own about a file that is cut
        number = next((number for number in _OF_DISKS if os.strerror(number) in text), 0)
        return (number, "") if number or error.__context__ is None else _cause(error.__context__)
    return 0, ""
