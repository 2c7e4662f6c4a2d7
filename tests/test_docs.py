"""What the pages say of the tree is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*/*.md")]
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
