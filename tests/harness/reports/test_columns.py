"""Columns: what a cell says, sorts by and draws, in text and on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.reports import columns as c
from harness.reports.columns import Cell, Column, markdown
from harness.results.schema import Row
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.summary import comparisons
from tests.harness.results_made import as_results, make_run
from tests.harness.tabular import verdict


def row_of(**values: Any) -> Row:
    return as_results(make_run()).rows[0].model_copy(update=values)


def test_a_cell_holds_one_line_and_no_bar_of_its_own() -> None:
    columns = [c.column("a|b", lambda row: row[0]), c.column("n", lambda row: row[1])]
    text = markdown(columns, [("x | y\nz", "1"), ("1e5", "")])
    head, _, *rows = [[cell.strip() for cell in line[1:-1].split(" |")] for line in text.splitlines()]
    assert head == ["a\\|b", "n"]
    assert rows == [["x \\| y z", "1"], ["1e5", ""]]


def test_no_rows_are_no_table() -> None:
    assert markdown([c.METHOD, c.WINS], []) == ""


def test_one_column_fits_all_that_has_rates() -> None:
    found = from_records([verdict("p0"), verdict("p1", preference=0.0)])
    (compared,) = comparisons(found, outcomes(found)).values()
    for row, said in ((compared, "1"), (row_of(wins=7), "7")):
        assert c.WINS.cell(row).text == said
    assert markdown([c.JUDGE, c.OUTCOMES], [compared]).splitlines()[2] == "| judge   | 1 / 0 / 1   |"


def test_a_column_may_have_another_heading_and_be_of_a_part_of_a_row() -> None:
    within: Column[list[Row]] = c.WINS.named("won").of(lambda rows: rows[0])
    assert (within.head, within.cell([row_of(wins=3)]).sort) == ("won", 3.0)
    assert c.WINS.head == "wins"


def test_how_far_alpaca_eval_s_rate_is_off_is_as_the_page_has_it() -> None:
    """Each pair of figures is one row of the table: models, median, at most."""
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
    for row, said in {
        "| all, difficulty from the 55 others | 40 |": "Of 40 models of that board, with difficulty from the 55 "
        "others, (1 + rate) / 2 was off by {} points in the median, and by {} at most",
        "| the same, difficulty from the 55 others | 7 |": "of the 7 that have 15% of the responses on either side of "
        "equal length, and so a rate, by {} and {} ",
        "| 15% or more on either side, each model alone | 7 |": "(each alone, without a difficulty term, by {} and {})",
    }.items():
        (median, most) = page.split(row)[1].split(" |")[:2]
        assert said.format(median.strip(), most.strip()) in c.NOT_ALPACA_EVALS


def test_a_whole_number_is_grouped_on_a_page_alone() -> None:
    cell = c.WINS.cell(row_of(wins=1200))
    assert (cell.text, cell.grouped, cell.sort) == ("1200", "1,200", 1200.0)
    assert Cell("as it is", 1200.0).grouped == "as it is"


def test_a_page_is_told_what_a_cell_sorts_by_where_that_is_not_its_text() -> None:
    assert [c.text("daDPO").order, c.BLANK.order, Cell("none judged", "").order] == [None, None, ""]
    assert c.number(0.123456789012, "0.123").order == "0.123456789"


@pytest.mark.parametrize(
    ("column", "values", "cell"),
    [
        (c.RANK, {"rank": (2, 3)}, Cell("2–3", 2.0)),
        (c.RANK, {"rank": None}, c.BLANK),
        (
            c.WIN,
            {"win_rate": 0.2, "win_interval": (0.1, 0.4)},
            Cell("20.0% [10.0, 40.0]", 0.2, (0.1, 0.2, 0.4), (0.0, 1.0)),
        ),
        (c.PREFERENCE, {"preference_rate": None, "preference_interval": None}, Cell("none judged", "")),
        (c.TOKENS, {"mean_tokens": 61.4}, Cell("61", 61.4)),
        (c.CUT, {"cut_share": None}, c.BLANK),
        (c.MISSING, {"missing": 3, "missing_share": 0.0312}, Cell("3 (3%)", 3.0)),
        (c.SPREAD, {"by_run": (0.1, 0.2), "spread": 0.05}, Cell("5.0 (2 runs)", 0.05)),
        (c.METHOD, {"method": "daDPO"}, Cell("daDPO", "dadpo")),
    ],
)
def test_what_a_cell_says_sorts_by_and_draws(column: Column[Row], values: dict[str, Any], cell: Cell) -> None:
    assert column.cell(row_of(**values)) == cell


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # a run of before, whose settings were others
        ({"teacher_signal": "online", "top_k": 64, "tail": True}, "teacher_signal online, top_k 64, tail True"),
        (
            {"fresh_share": 0.0, "fresh_every": 1, "stored": "teacher", "samples": 1},
            "fresh_share 0",
        ),
        (
            {"fresh_share": 0.0, "stored": "student"},
            "fresh_share 0, stored student",
        ),
        (
            {"teacher_signal": "online", "support": "full", "top_k": 64},
            "teacher_signal online, support full",
        ),
        (
            {"fresh_share": 1, "fresh_every": 2, "stored": "teacher", "samples": 4, "support": "tail", "top_k": 8},
            "fresh_share 1, fresh_every 2, samples 4, support tail, top_k 8",
        ),
        # a plug-in's own of the same name
        ({"samples": 3, "stored": "here"}, "samples 3, stored here"),
    ],
)
def test_a_setting_that_nothing_reads_is_not_said(settings: dict[str, Any], said: str) -> None:
    run = make_run()
    run["methods"][0]["settings"] |= settings
    assert c.OWN_SETTINGS.cell(as_results(run).methods[0]).text == said
