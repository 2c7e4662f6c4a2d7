"""Small files are whole or as before, wherever their name leads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import check_writable, leads_to_stdout, write_atomically


@pytest.fixture
def umask() -> Iterator[Any]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_small_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(path, "é\n")
    assert path.read_bytes() == "é\n".encode()


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_rights_that_the_umask_gives(tmp_path: Path, umask: Any, mask: int, rights: int) -> None:
    umask(mask)
    write_atomically(tmp_path / "file", "new")
    assert mode(tmp_path / "file") == rights


def test_a_file_that_was_there_keeps_its_rights(tmp_path: Path, umask: Any) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o660)
    write_atomically(tmp_path / "file", "new")
    assert (mode(tmp_path / "file"), (tmp_path / "file").read_text()) == (0o660, "new")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, error: BaseException
) -> None:
    path = tmp_path / "out" / "file.txt"
    write_atomically(path, "old")

    def interrupt(*_: Any) -> None:
        raise error

    monkeypatch.setattr(*((os, "fsync") if moment == "fsync" else (Path, "replace")), interrupt)
    with pytest.raises((KeyboardInterrupt, UserError)) as caught:
        write_atomically(path, "new")
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"{path}: the disk is full; free some")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


# ---- where a name leads


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    real = tmp_path / "disk" / "real"
    if there:
        write_atomically(real, "old")
    (tmp_path / "other").symlink_to("disk/real")
    (tmp_path / "link").symlink_to("other")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "other").is_symlink()
    assert real.read_text() == "new" and not real.is_symlink()
    assert list(real.parent.iterdir()) == [real]


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, "new")
    reader.join(20)
    assert read == ["new"] and pipe.is_fifo()


def test_an_open_file_of_this_process_goes_on_where_it_is(tmp_path: Path) -> None:
    """As standard output that was sent to a file: what was printed before and after stands around it."""
    with (tmp_path / "printed").open("w") as file:
        file.write("before ")
        file.flush()
        write_atomically(Path(f"/dev/fd/{file.fileno()}"), "new")
        file.write(" after")
    assert (tmp_path / "printed").read_text() == "before new after"


def test_a_device_is_written_and_its_refusal_told() -> None:
    write_atomically(Path("/dev/null"), "new")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(UserError, match="/dev/full: the disk is full"):
        write_atomically(Path("/dev/full"), "new")


def test_what_leads_to_standard_output_is_known(tmp_path: Path, capfd: Any) -> None:
    assert leads_to_stdout(Path("/dev/stdout"))
    assert not any(map(leads_to_stdout, (None, tmp_path, tmp_path / "missing")))


def looped(folder: Path) -> Path:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    return folder / "one"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("old")
    return folder / "file" / "out"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (looped, "its links lead in a circle"),
        (below_a_file, "a file is where a folder must be"),
        (lambda folder: folder / ("x" * 300), "the name is longer than the disk allows; choose a shorter one"),
        (lambda folder: folder, "it is a folder, not a file"),
        (lambda folder: Path("/dev/fd/987"), "cannot be written (Bad file descriptor)"),
    ],
)
def test_where_no_file_can_be_one_line_says_why(tmp_path: Path, make: Any, says: str) -> None:
    path = make(tmp_path)
    with pytest.raises(UserError) as caught:
        write_atomically(path, "new")
    (line,) = caught.value.lines
    assert says in line
    assert not list(tmp_path.glob(".*"))


def test_the_longest_name_that_a_disk_allows_is_taken(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


# ---- whether it could be


def test_what_may_be_written_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights do not bind root, so that they are asked for here in its place."""
    target = tmp_path / "there" / "file"
    write_atomically(target, "old")
    for path in (target, target.with_name("new"), tmp_path / "new" / "file", Path("/dev/null")):
        check_writable(path)
    for denied, paths in ((target, [target]), (tmp_path / "there", [target, target.with_name("new")])):
        monkeypatch.setattr(os, "access", lambda path, mode, denied=denied: Path(path) != denied)
        for path in paths:
            with pytest.raises(UserError, match=f"^{denied}: this user may not read or write there; choose another"):
                check_writable(path)


def test_rights_that_are_missing(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("rights do not bind root")
    tmp_path.chmod(0o500)
    for write in (check_writable, lambda path: write_atomically(path, "new")):
        with pytest.raises(UserError, match="this user may not read or write there"):
            write(tmp_path / "file")
