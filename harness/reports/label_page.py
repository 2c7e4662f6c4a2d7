"""The page on which people label pairs: one file without a network, which keeps what they said and saves it as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.files import canonical_hash
from harness.core.records import SHORT
from harness.reports.html import page
from harness.results.label_pairs import COLUMNS, PAIR


def label_page(rows: Sequence[Mapping[str, str]], file: str) -> str:
    """rows: what people see of each pair, by column. file: the name under which the page saves them."""
    name = canonical_hash([row[PAIR] for row in rows])[:SHORT]
    island = {"columns": COLUMNS, "pairs": rows, "file": file, "name": name}
    return page("label_page.html.j2", styles=("report.css", "label_page.css"), script="label_page.js", island=island)
