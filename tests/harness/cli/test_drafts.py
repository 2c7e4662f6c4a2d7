"""`new-method` writes what runs as it is, and nothing over what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.methods import methods

ROOT = Path(__file__).parents[3]
KINDS = [(level, fresh) for level in ("sequence", "token", "distribution") for fresh in (False, True)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def new(cli: Any, name: str, level: str = "token", fresh: bool = False) -> Any:
    return cli("new-method", name, "--level", level, *(["--fresh"] if fresh else []))


def test_a_method_its_test_and_its_page_are_written_and_how_to_run_them_is_said(cli: Any, here: Path) -> None:
    ended = new(cli, "my-loss")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "my_loss.py, test_my_loss.py and my-loss.md written; they run as they are:",
        "  python -m pytest test_my_loss.py",
        "  python -m harness run --preset embedded --plugin my_loss.py --methods my-loss",
    ]
    assert {path.name for path in here.iterdir()} == {"my_loss.py", "test_my_loss.py", "my-loss.md"}
    assert "def my_loss(" in (here / "my_loss.py").read_text()


@pytest.mark.parametrize(("level", "fresh"), KINDS)
def test_what_is_written_is_a_method_of_its_level(level: str, fresh: bool, cli: Any) -> None:
    assert new(cli, "first-one", level, fresh).status == 0
    methods.use(["first_one.py"])
    made = methods.get("first-one")
    assert made.level == level
    assert made.fresh_share(made.settings()) == fresh
    methods.use(())


@pytest.mark.slow
def test_its_test_passes_and_fails_where_formula_or_page_are_edited(cli: Any, here: Path) -> None:
    for level, fresh in KINDS:
        assert new(cli, f"{level}-{fresh}".lower(), level, fresh).status == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "30 passed" in done.stdout
    for path in here.glob("[!t]*.py"):
        path.write_text(
            path.read_text().replace("return (policy", "return 2 * (policy").replace("/ 2).exp()", "/ 3).exp()")
        )
    for path in here.glob("*.md"):
        path.write_text(path.read_text().replace("| mixture weight | none |", "| mixture weight | half |"))
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    failed = {line.split()[1].split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")}
    for path in here.glob("test_*.py"):
        assert f"{path.name}::test_its_page_says_what_it_computes" in failed


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My Loss", "a method cannot be called 'My Loss': a method's name is of lower-case letters, digits and single"),
        ("my--loss", "a method cannot be called 'my--loss': a method's name is of"),
        ("9lives", "a method cannot be called '9lives': a method's name is of"),
        ("../loss", "a method cannot be called '../loss': a method's name is of"),
        ("all", "a method cannot be called 'all': a method's name is of"),
        ("teacher", "a method cannot be called 'teacher': a method's name is of"),
        ("lambda", "a method cannot be called 'lambda': it is a keyword of Python, and names a module"),
        ("random", "a method cannot be called 'random': its file would have the name of a Python module"),
        ("sft", "there is a method 'sft' already ("),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, said: str, cli: Any, here: Path) -> None:
    ended = new(cli, name)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {said}") and ended.err.count("\n") == 1
    assert not list(here.iterdir())


def test_an_unknown_level_is_refused(cli: Any) -> None:
    ended = new(cli, "my-loss", "tokens")
    assert (ended.status, ended.err) == (2, "error: unknown level 'tokens'; did you mean 'token'?\n")


@pytest.mark.parametrize("there", ["my_loss.py", "test_my_loss.py", "my-loss.md"])
def test_nothing_is_written_over(there: str, cli: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))  # as `python -m` has it
    (here / there).write_text("mine")
    ended = new(cli, "my-loss")
    assert ended.status == 2
    assert ended.err == f"error: {there} is there already; choose another name, or move it away\n"
    assert {path.name: path.read_text() for path in here.iterdir()} == {there: "mine"}
