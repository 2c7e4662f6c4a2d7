"""Errors of a disk, as several libraries raise them, are one line; others are left alone."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from harness.core.disk import refusal, writing
from harness.core.errors import UserError

NUMBERS = 100_000


def error(number: int, *files: str) -> OSError:
    """As the system raises it of a file."""
    return OSError(number, os.strerror(number), *files)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes no more of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught, files_of_at_most(4096):
        call()
    return caught.value


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full; free some (python -m harness store gc"),
        (errno.EDQUOT, "the quota on this disk is used up; free some"),
        (errno.EROFS, "this disk may only be read; choose another place: --out for results, DADPO_HARNESS_STORE"),
        (errno.EACCES, "this user may not read or write there; choose another place"),
        (errno.EPERM, "not permitted"),
        (errno.EFBIG, "larger than a file may be"),
        (errno.ENAMETOOLONG, "the name is longer"),
        (errno.ENOTDIR, "a file is where a folder must be"),
    ],
)
def test_each_of_a_disks_refusals_has_its_line(number: int, says: str) -> None:
    (line,) = refusal(error(number, "/a"), Path("/place")).lines  # type: ignore[union-attr]
    assert line.startswith("/a: ") and says in line
    assert str(refusal(OSError(number, ""), Path("/place"))).startswith("/place: ")


def test_of_two_files_the_one_that_is_written_is_named() -> None:
    copied = OSError(errno.ENOSPC, "No space left on device", "/from", None, "/to")
    assert str(refusal(copied)).startswith("/to: ")


@pytest.mark.parametrize(
    "other",
    [
        error(errno.ENOENT, "/a"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        PermissionError(errno.EACCES, "Permission denied"),  # of a socket: it has no name
        OSError("Couldn't reach the hub"),
        RuntimeError("CUDA error"),
        ValueError("No space left on device"),
        KeyError("x"),
    ],
)
def test_what_is_no_disks_is_left_alone(other: Exception) -> None:
    assert refusal(other) is None


def test_writing_lets_pass_what_is_no_disks() -> None:
    with pytest.raises(KeyError), writing(Path("/place")):
        raise KeyError("x")


LIBRARIES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x" * NUMBERS),
    "safetensors": lambda path: save_file({"a": torch.zeros(NUMBERS)}, path),
    "numpy": lambda path: np.save(path, np.zeros(NUMBERS)),
    "tokenizers": lambda path: vocabulary().save(str(path)),
    "copy": lambda path: shutil.copyfile("/proc/self/exe", path),
}


def vocabulary() -> Tokenizer:
    return Tokenizer(models.WordLevel({str(n): n for n in range(10_000)}, unk_token="0"))


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_libraries_raise_where_a_disk_takes_no_more(tmp_path: Path, name: str) -> None:
    line = str(refusal(raised(lambda: LIBRARIES[name](tmp_path / "file")), tmp_path / "file"))
    assert line.startswith(f"{tmp_path / 'file'}: it would be larger than a file may be there") or (
        name == "numpy" and "the disk is full" in line  # it says how much was written, and not why
    )


def test_what_torch_raises_where_a_disk_is_full() -> None:
    def save() -> None:
        with Path("/dev/full").open("wb") as file:
            torch.save({"a": torch.zeros(NUMBERS)}, file)

    assert str(refusal(raised(save), Path("/place"))).startswith("/place: the disk is full")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_the_systems_words_in_an_error_of_torch(number: int) -> None:
    said = RuntimeError(f"[enforce fail] . open file failed with strerror: {os.strerror(number)}")
    assert str(refusal(said, Path("/place"))) == str(refusal(error(number), Path("/place")))


@pytest.mark.parametrize(
    ("code", "says"), [(sqlite3.SQLITE_FULL, "the disk is full"), (sqlite3.SQLITE_READONLY, "may not read or write")]
)
def test_what_sqlite_raises(code: int, says: str) -> None:
    broken: Any = sqlite3.OperationalError("database or disk is full")
    broken.sqlite_errorcode = code
    assert says in str(refusal(broken, Path("/place")))
    assert refusal(sqlite3.OperationalError("no such table"), Path("/place")) is None


def test_writing_keeps_a_line_that_is_one_already() -> None:
    with pytest.raises(UserError, match="as it was"), writing(Path("/place")):
        raise UserError("as it was")
