"""Where results, the store and what is printed go, and what lies deeper, or is there twice, in what is read."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import Case, refused, written
from tests.conftest import Ended

# ---- --out


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """One judgment of another tool."""
    names = {"generator_1": "base", "generator_2": "ours", "annotator": "a judge"}
    row = {"instruction": "Why?", "output_1": "So.", "output_2": "Thus.", "preference": 2.0, **names}
    source = tmp_path / "annotations.json"
    source.write_text(json.dumps([row]), encoding="utf-8")
    return source


@pytest.fixture
def imported(cli: Any, annotations: Path) -> Callable[[str | Path], Ended]:
    """Import it to a place."""
    return lambda out: cli("import", "alpaca-eval", annotations, "--out", out)


def is_verdict(text: str) -> bool:
    (line,) = text.splitlines()
    return bool(json.loads(line)["prompt_set"] == "alpaca-eval")


def test_a_device_is_written_and_stays(imported: Callable[[str | Path], Ended], tmp_path: Path) -> None:
    """A private copy of /dev/null: what replaces that is gone for the whole machine."""
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("a device is made by root alone")
    assert imported(null).status == 0
    assert null.is_char_device()


def test_a_link_stays_and_its_target_is_written(imported: Callable[[str | Path], Ended], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.jsonl").write_text("old")
    (tmp_path / "latest.jsonl").symlink_to("disk/real.jsonl")
    assert imported(tmp_path / "latest.jsonl").status == 0
    assert (tmp_path / "latest.jsonl").is_symlink()
    assert is_verdict((tmp_path / "disk" / "real.jsonl").read_text())


def test_a_pipe_is_written_and_stays(imported: Callable[[str | Path], Ended], tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert imported(pipe).status == 0
    reader.join(20)
    assert pipe.is_fifo() and is_verdict(read[0])


def test_another_programs_input_is_written(imported: Callable[[str | Path], Ended]) -> None:
    """As a shell's >(program) names it."""
    read, write = os.pipe()
    assert imported(f"/dev/fd/{write}").status == 0
    os.close(write)
    with os.fdopen(read) as reader:
        assert is_verdict(reader.read())


def test_standard_output_holds_the_file_and_nothing_else(annotations: Path) -> None:
    command = [sys.executable, "-m", "harness", "import", "alpaca-eval", str(annotations), "--out", "/dev/stdout"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert is_verdict(ended.stdout)
    assert "written to /dev/stdout" in ended.stderr


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("/dev/full", "/dev/full: the disk is full; free some (python -m harness store gc"),
        ("{folder}", "{folder} is a folder; name a file"),
        ("{folder}/loop", "its links lead in a circle"),
        ("{folder}/" + "x" * 300, "the name is longer than the disk allows; choose a shorter one"),
        ("{folder}/annotations.json/out", "annotations.json is a file, not a folder"),
        ("/dev/fd/987", "cannot be written (Bad file descriptor)"),
    ],
)
def test_a_place_that_takes_no_file_is_one_line(
    imported: Callable[[str | Path], Ended], tmp_path: Path, out: str, says: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    assert says.format(folder=tmp_path) in refused(imported(out.format(folder=tmp_path)))
    assert sorted(tmp_path.iterdir()) == before


def test_a_leaderboard_goes_to_a_pipe_as_markdown(cli: Any) -> None:
    read, write = os.pipe()
    assert cli("leaderboard", "--out", f"/dev/fd/{write}").status == 0
    os.close(write)
    with os.fdopen(read) as reader:
        assert reader.read().startswith("# Leaderboard")


# ---- full disks, and such as may only be read


def test_a_store_on_a_full_disk(case: Case, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = refused(case.plan())
    assert line.startswith(f"error: {own_store}/digests.json: the disk is full; free some (python -m harness store gc")
    assert "DADPO_HARNESS_STORE" in line
    assert not list(own_store.glob("*.json"))


def test_a_disk_that_takes_no_weights(case: Case, own_store: Path) -> None:
    """The library that writes them names no file, and the run goes on from there where there is room again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        line = refused(case.run())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert line.startswith(f"error: {own_store}/work/train-") and "it would be larger than a file may be there" in line
    assert not list(own_store.glob("train/*"))


def test_a_store_where_none_may_write(case: Case, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_read(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", only_read)
    line = refused(case.plan())
    assert line.startswith(f"error: {own_store}") and "this disk may only be read; choose another place" in line


def test_a_store_below_a_file(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    case.settings["store"] = tmp_path / "file" / "store"
    assert "a file is where a folder must be" in refused(case.run())


def test_an_output_folder_where_this_user_may_not_write(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a model is read."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != case.root)
    assert f"{case.root}: this user may not read or write there" in refused(case.run())


def test_a_disk_that_is_full_and_then_may_only_be_read(case: Case, tmp_path: Path) -> None:
    """As it is, not as if: a disk of its own in a name space of its own."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("a disk is mounted by root alone, in a name space of its own")
    small = tmp_path / "small"
    small.mkdir()
    script = """
mount -t tmpfs -o size=64k tmpfs "$0" && head -c 60k /dev/zero >"$0/fill" || exit 9
"$@"; echo "status $?" >&2
mount -o remount,ro "$0"
"$@"; echo "status $?" >&2
"""
    case.settings["store"] = small / "store"
    command = [sys.executable, "-m", "harness", *map(str, case.command())]
    ended = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, str(small), *command], capture_output=True, text=True, check=False
    )
    if ended.returncode == 9:
        pytest.skip("no disk can be mounted here")
    lines = [line for line in ended.stderr.splitlines() if line.startswith(("error", "status"))]
    assert [line for line in lines if line.startswith("status")] == ["status 2", "status 2"], ended.stderr
    full, only_read = (line for line in lines if line.startswith("error"))
    assert full.startswith(f"error: {small}/store/") and "the disk is full; free some" in full
    assert only_read.startswith(f"error: {small}/store/") and "this disk may only be read; choose another" in only_read


# ---- what lies deep, or is there twice

DEEP = "[" * 20_000 + "]" * 20_000
VERDICT = {"prompt_set": "s", "prompt_id": "1", "candidate": "c", "reference": "r", "order": "none", "judge": "j"}


def row_with(text: str, **row: Any) -> str:
    """A JSON object with one value more, as text."""
    return json.dumps({**row, "more": "HERE"}).replace('"HERE"', text) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", row_with(DEEP, prompt="Hi.")),
        ("a.json", f"[{row_with(DEEP, prompt='Hi.')}]"),
        ("a.jsonl", row_with("9" * 5000, prompt="Hi.")),
        ("a.jsonl", '{"prompt": "Hi.", "prompt": "Ho."}\n'),
        ("a.csv", "prompt,category,prompt\nHi.,x,Ho.\n"),
        ("a.jsonl", '\ufeff{"prompt": "Hi."}\n'),
        ("a.jsonl", '{"prompt": NaN}\n'),
    ],
    ids=["deep", "deep list", "long number", "name twice", "column twice", "byte order mark", "no number"],
)
def test_prompts(case: Case, name: str, text: str) -> None:
    path = case.root / name
    path.write_text(text, encoding="utf-8")
    line = refused(case.example("--train-prompts", path))
    assert line.startswith(f"error: {path}") and line.count("\n") == 0


@pytest.mark.parametrize(
    "command",
    [
        ("import", "alpaca-eval", "FILE", "--out", "out.jsonl"),
        ("import", "arena-hard", "FILE", "--out", "out.jsonl"),
        ("import", "fastchat", "FILE", "--out", "out.jsonl"),
        ("judge", "--candidate", "FILE", "--reference", "FILE", "--judge", "pairrm", "--out", "out.jsonl"),
        ("stats", "FILE"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_judgments_that_are_nested_too_deep(cli: Any, tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(row_with(DEEP, **VERDICT, status="ok", preference=1, response="Hi."), encoding="utf-8")
    line = refused(cli(*(str(path) if part == "FILE" else part for part in command)))
    assert line.startswith(f"error: {path}") and "JSON" in line


@pytest.mark.parametrize("text", [f"training: {DEEP}", "training: {epochs: 1}\ntraining: {batch_size: 4}\n"])
def test_a_configuration(case: Case, text: str) -> None:
    path = case.root / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert refused(case.example("--config", path)).startswith(f"error: {path}")


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "added_tokens.json"]
)
@pytest.mark.parametrize("text", [DEEP, "{"], ids=["deep", "cut short"])
def test_a_checkpoint(case: Case, name: str, text: str) -> None:
    path = case.student / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(row_with(text, **known), encoding="utf-8")
    assert str(case.student) in refused(case.example())


def test_results(case: Case, cli: Any) -> None:
    written(case.root / "results.json", [])
    (case.root / "results.json").write_text(row_with(DEEP, schema=1), encoding="utf-8")
    assert "not valid JSON (it is nested too deep)" in refused(cli("leaderboard", case.root))


def test_a_cell_of_a_megabyte_is_a_cell(case: Case) -> None:
    (case.root / "a.csv").write_text(f"prompt,more\nHi.,{'x' * 2**20}\n", encoding="utf-8")
    assert case.example("--train-prompts", case.root / "a.csv").status == 0
