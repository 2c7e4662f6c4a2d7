"""Every method has a page that says exactly what its METHOD does; no room of the harness knows a method by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from harness.methods.costs import step_costs
from harness.methods.registry import load_methods
from harness.methods.settings import MethodChoice

ROOT = Path(__file__).parents[2]
METHODS = load_methods()
STARTS = {"student": "the untrained student", "sft": "the SFT student"}
CELL = re.compile(r"(?<!\\)\|")
# the start and the reference of others, and what a run without a preset compares
KNOWN, DEFAULT = "sft", MethodChoice.model_fields["methods"].default


def rows(page: str) -> dict[str, str]:
    """Of the tables of two columns or more: the first cell to the second."""
    found: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("|"):
            _, head, said, *_ = (cell.strip().replace(r"\|", "|") for cell in CELL.split(line))
            found.setdefault(head, said)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_method_s_page_has_its_definition_word_for_word(name: str) -> None:
    path = ROOT / "docs" / "methods" / f"{name}.md"
    assert path.is_file(), f"write {path.relative_to(ROOT)}"
    found, defines = rows(path.read_text(encoding="utf-8")), METHODS[name].defines
    expected = {
        "direction": defines.direction,
        "mixture weight": defines.weight,
        "support": defines.support,
        "normaliser": defines.normaliser,
    }
    assert {head: found.get(head) for head in expected} == expected
    assert "data" in found and found["start"].startswith(STARTS[METHODS[name].settings().start])


def test_every_page_is_of_a_method() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")} - {"README"}
    assert pages == set(METHODS)


def names_in(path: Path) -> set[str]:
    """Names of methods that stand in a file as texts of their own, but for the default of what a run compares."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    default = [
        node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and tuple(map(_value, node.elts)) == DEFAULT
    ]
    passed_over = {id(one) for node in default for one in node.elts}
    return {
        str(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in METHODS and id(node) not in passed_over
    }


def _value(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_no_file_of_the_harness_branches_on_a_method_s_name() -> None:
    files = sorted((ROOT / "harness").rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): names for path in files if (names := names_in(path) - {KNOWN})}
    assert found == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("if method.name == 'kd': pass", {"kd"}),
        ("match name:\n    case 'dadpo': pass", {"dadpo"}),
        ("costs = {'ddpo': 1}", {"ddpo"}),
        ("methods: Names = ('sft', 'kd', 'ddpo', 'dadpo')", set()),
        ("'''of kd and ddpo'''", set()),
    ],
)
def test_it_finds_a_name_wherever_it_is_compared(code: str, found: set[str], tmp_path: Path) -> None:
    path = tmp_path / "room.py"
    path.write_text(code)
    assert names_in(path) == found


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"sft"}))
def test_a_method_s_page_has_its_measured_cost(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert f"{step_costs()[name].relative:.1f} times" in page
