"""docs/adding-a-method.md, followed to the letter: its files are written and its commands run, of tiny models in place
of the embedded ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.methods import Method, methods
from harness.results.reading import read_results

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
BLOCKS = {name: text for text, name in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", PAGE, re.S)}
COMMANDS = re.findall(r"^    (python -m .*)$", PAGE, re.M)
WALK = [command for command in COMMANDS if not any(name in command for name in BLOCKS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture
def tiny(folder: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What makes a run of the embedded pair one of a second; all share a store."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DADPO_HARNESS_STORE", str(folder / "store"))
    for name, texts in {"train": ["Hello!", "Why?"], "test": ["Sing!", "What is rain?"]}.items():
        rows = [{"id": f"p{number}", "prompt": text} for number, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--judge", "typicality", "--controls", "none", "--train-prompts", "train.jsonl", "--eval", "in:test.jsonl"),
        *(
            "--set",
            "train_sampling.max_new_tokens=8",
            "--set",
            "eval_sampling.max_new_tokens=8",
            "--measures",
            "length",
        ),
    ]
    methods.use(())


def follow(command: str, tiny: list[str], cli: Any, out: Path) -> None:
    """Run a command of the page."""
    _, _, program, *arguments = shlex.split(command)
    if program == "pytest":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
        return
    assert program == "harness"
    if arguments[0] in ("run", "plan"):
        arguments += tiny
    if arguments[0] == "run":
        arguments += ["--out", str(out)]
    ended = cli(*arguments)
    assert ended.status == 0, ended.err


def test_the_page_has_a_method_of_each_level_and_an_on_policy_one_and_a_command_for_each(tmp_path: Path) -> None:
    made = []
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
        methods.use([str(tmp_path / name)])
        made.append(methods.get(name.removesuffix(".py").replace("_", "-")))
        assert any(f"--plugin {name} --methods {made[-1].name}" in command for command in COMMANDS)
    methods.use(())
    assert {method.level for method in made} == {"sequence", "token", "distribution"}
    assert any(method.fresh_share(method.settings()) == 1 for method in made)


def test_the_page_names_every_field_of_a_method() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    told = {"summary", "source"}  # as every file on the page has them
    assert set(Method.__dataclass_fields__) - told <= named


@pytest.mark.slow
def test_a_newcomer_gets_from_nothing_to_a_board(tiny: list[str], cli: Any, folder: Path) -> None:
    assert [command.split()[2] for command in WALK] == ["harness", "pytest", "harness", "harness", "harness"]
    for command in WALK:
        follow(command, tiny, cli, folder / "walk")
    assert [one.name for one in read_results(folder / "walk").methods] == ["my-loss", "kd"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_a_method_of_the_page_is_trained_and_judged(name: str, tiny: list[str], cli: Any, folder: Path) -> None:
    (folder / name).write_text(BLOCKS[name])
    (command,) = [command for command in COMMANDS if name in command]
    follow(command, tiny, cli, folder / name.removesuffix(".py"))
    (trained,) = read_results(folder / name.removesuffix(".py")).methods
    assert trained.name == name.removesuffix(".py").replace("_", "-")
