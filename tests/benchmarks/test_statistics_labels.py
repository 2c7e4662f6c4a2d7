"""The coverage of corrected rates that the docs print is what was recorded, and it is what it should be."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.statistics.labels import FIELDS, lines, markdown
from benchmarks.statistics.written import RESULTS

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"


def test_the_docs_have_the_recorded_table() -> None:
    with (RESULTS / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == FIELDS
    assert markdown(rows) in DOCS.read_text(encoding="utf-8")
    assert all(0.925 < float(row["covers_corrected"]) < 0.98 for row in rows)
    assert all(float(row["width"]) < 1.01 for row in rows)


def test_a_row_is_made_for_each_figure_truth_judge_and_number_of_labels() -> None:
    found = lines(2)
    assert len(found) == 75
    assert {tuple(row) for row in found} == {FIELDS}
    assert markdown(found).count("\n") == 1 + 25
