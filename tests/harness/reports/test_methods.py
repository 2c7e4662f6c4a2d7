"""What `list methods` and the page to choose from say of methods."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines import kd, sft
from harness.methods import PAIR, POLICY, FreshSettings, Method, Term, TokenSettings, methods
from harness.methods.costs import StepCost
from harness.methods.registry import load_methods
from harness.reports import methods as reported
from harness.reports.methods import from_stored, methods_lines, page_tables, teacher_gives

PAGE = Path(__file__).parents[3] / "docs" / "methods" / "README.md"


def method(base: Method = sft.METHOD, **fields: Any) -> Method:
    return replace(base, **fields)


def fresh(share: float) -> type[TokenSettings]:
    class Fresh(TokenSettings):
        fresh_share: float = share

    return Fresh


PAIRS = {"responses": PAIR, "per": "example"}
ON_POLICY = {"level": "token", "responses": POLICY, "settings": fresh(1.0)}


def sees(messages: list[dict[str, str]], demonstration: str) -> list[dict[str, str]]:
    return messages


@pytest.mark.parametrize("table", page_tables(sorted(load_methods().items())).split("\n\n"))
def test_the_page_has_the_tables_of_the_registry(table: str) -> None:
    assert table in PAGE.read_text(encoding="utf-8"), "put what `python -m harness.reports.methods` prints there"


@pytest.mark.parametrize(
    ("found", "gives", "stored", "data", "needs"),
    [
        (method(), "text", True, "stored", "text alone"),
        (method(**PAIRS, reads=("reference",)), "text", True, "stored: chosen, rejected", "reference"),
        (method(**PAIRS, reads=("reference", "teacher")), "sums", True, None, "reference, teacher: sums"),
        (method(**ON_POLICY, reads=("teacher",)), "tokens", False, "fresh", "teacher: tokens"),
        (
            method(**{**ON_POLICY, "settings": fresh(0.25)}, reads=("teacher",)),
            "tokens",
            False,
            "25% fresh, else stored",
            None,
        ),
        (method(kd.METHOD), "distributions", True, "stored, or fresh", "teacher: distributions"),
        (method(kd.METHOD, teacher_sees=sees), "text", True, None, "its own start as teacher"),
        # further terms are given what their level has
        (
            method(reads=("teacher",), settings=kd.Settings, also=(Term("distribution", kd.METHOD.loss, "token"),)),
            "distributions",
            False,
            None,
            None,
        ),
        # a stored top k is of one response, and of the teacher alone
        (method(kd.METHOD, responses=PAIR), "distributions", False, None, None),
        (method(kd.METHOD, reads=("reference", "teacher")), "distributions", False, None, None),
        (method(responses=POLICY, settings=FreshSettings), "text", True, "stored, or fresh", "text alone"),
    ],
)
def test_what_a_method_needs_follows_from_its_declaration(
    found: Method, gives: str, stored: bool, data: str | None, needs: str | None
) -> None:
    assert (teacher_gives(found), from_stored(found)) == (gives, stored)
    shown = reported._cells(found, {})
    assert data in (None, shown[1]) and needs in (None, shown[2])


def test_a_line_a_method_with_the_measured_cost_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = StepCost(
        method="kd",
        relative=1.637,
        sampling_s=0,
        training_s=1,
        tokens=1,
        batch=8,
        model="m",
        machine="h",
        date=datetime.date(2026, 11, 30),
    )
    monkeypatch.setattr(reported, "step_costs", lambda: {"kd": cost})
    head, *lines = methods_lines([("kd", kd.METHOD), ("sft", sft.METHOD)], 500)
    assert head.split() == list(reported.HEADINGS)
    assert [line.split()[0] for line in lines] == ["kd", "sft"]
    assert "  KL(teacher ‖ policy)  " in lines[0] and "  1.6×  " in lines[0] and "  –  " in lines[1]
    assert all(line.endswith(one.source) for line, one in zip(lines, (kd.METHOD, sft.METHOD), strict=True))


@pytest.mark.parametrize(("width", "papers"), [(80, False), (119, False), (120, True)])
def test_a_narrow_terminal_cuts_no_cell(width: int, papers: bool) -> None:
    lines = methods_lines(methods.items(), width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert ("paper" in lines[0].split()) == papers
    assert set(methods.names()) <= {line.split()[0] for line in lines}


def test_a_bar_in_a_definition_ends_no_cell() -> None:
    defines = replace(sft.METHOD.defines, direction="½ Σ|p − q|")
    table = page_tables([("sft", method(defines=defines))])
    assert r"½ Σ\|p − q\|" in table
