"""What the pages say of the tree is so."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from harness.cli.app import app
from harness.cli.options import RunRequest
from harness.config import Study, study_of

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*/*.md")]
STUDIES = ROOT / "docs" / "studies.md"
ROW = re.compile(r"^\| \[(\w+)\]\(\.\./harness/\1\) \| ([^|]+) \|", re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    here = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in here if not (page.parent / link).exists()] == []


def test_architecture_shows_the_rooms_in_their_order_with_all_that_is_in_them() -> None:
    rows = dict(ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (rooms,) = [contract for contract in lint["contracts"] if contract["id"] == "rooms"]
    assert list(rows) == rooms["layers"]
    for room, listed in rows.items():
        named = re.findall(r"`([^`]+)`", listed)
        folder = ROOT / "harness" / room
        there = {path.stem for path in folder.glob("*.py")} | {f"{path.parent.name}/" for path in folder.glob("*/*.py")}
        assert set(named) == there - {"__init__", "settings"}, room


def studied(command: str) -> Study | None:
    """The study that a command of a page declares; None of a command that declares none. Every option is one."""
    name, *arguments = shlex.split(command.replace("\\\n", " "), comments=True)
    known = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    given = known.make_context(name, arguments).params
    if name not in ("run", "plan"):
        return None
    return study_of(RunRequest(**{field.name: given[field.name] or None for field in fields(RunRequest)}).layers()[1])


def test_the_commands_and_the_file_of_studies_are_read_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = STUDIES.read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n# study.yaml\n(.*?)```", page, re.S)
    (tmp_path / "study.yaml").write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^ +python -m harness ((?:.*\\\n)*.*)", page, re.M)
    found = {command: studied(command) for command in commands}
    assert sum(study is not None for study in found.values()) >= 4
    first, written = found[commands[0]], studied("run --preset embedded --config study.yaml")
    assert first is not None and written is not None
    assert first.settings == written.settings and len(first.members) == len(written.members) == 9
    assert first.base == written.base  # the file is the first command, written down
