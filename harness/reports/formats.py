"""A leaderboard as a file: Markdown, a page, or data for pandas, by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.errors import UserError
from harness.core.files import leads_to_stdout
from harness.core.records import plain
from harness.reports import board
from harness.results.folder import as_json
from harness.results.schema import Results, Row


def as_csv(runs: Sequence[Results]) -> str:
    """A row for each row and judge of each board; intervals are two columns, rates are shares of one.

    What was measured of a row, and what it took, stand where the judge is the one that decides.
    """
    rows = [_flat(run, row) | _measured(run, row) for run in runs for row in run.rows]
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _flat(run: Results, row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "board": run.name,
        "student": run.pair.student,
        "teacher": run.pair.teacher,
        "seeds": " ".join(str(one.seed) for one in run.runs),
        "deciding": row.judge == run.judge,
    }
    for name, value in row:
        if name.endswith("_interval"):
            low, high = value or (None, None)
            flat |= {name.replace("_interval", "_low"): low, name.replace("_interval", "_high"): high}
        elif name == "rank":
            flat |= dict(zip(("rank_first", "rank_last"), value or (None, None), strict=True))
        elif name == "flips":
            flat |= {"flips": row.flips.count, "flips_of": row.flips.n}
        elif name == "by_run":
            flat["runs"] = row.judged_in
        else:
            flat[name] = value
    return flat


def _measured(run: Results, row: Row) -> dict[str, Any]:
    if row.judge != run.judge:
        return {}
    known = {one.measure: one for one in run.measures if (one.prompt_set, one.method) == (row.prompt_set, row.method)}
    flat: dict[str, Any] = {}
    for facts in run.measured:
        found = known.get(facts.name)
        low, high = (found and found.interval) or (None, None)
        flat |= {facts.name: found and found.value, f"{facts.name}_low": low, f"{facts.name}_high": high}
    cost = next((one for one in run.costs if one.method == row.method), None)
    if cost is not None:
        flat |= plain(cost) | {"seconds": sum(cost.seconds.values())}
    return flat


def _page(runs: Sequence[Results]) -> str:
    from harness.reports import html  # its templates take a moment to compile

    return html.render_leaderboard(runs)


WRITERS: dict[str, Callable[[Sequence[Results]], str]] = {
    ".md": board.board_markdown,
    ".html": _page,
    ".json": as_json,
    ".csv": as_csv,
}


def writer(path: Path) -> Callable[[Sequence[Results]], str]:
    """What writes a leaderboard into a file of this name; Markdown for a device or a pipe, whose name says nothing.

    Raises:
        UserError: another ending than those of WRITERS.
    """
    if path.suffix.lower() not in WRITERS:
        if leads_to_stdout(path) or (path.exists() and not path.is_file()):
            return board.board_markdown
        raise UserError(f"{path}: a leaderboard is written as {', '.join(WRITERS)}; name a file that ends so")
    return WRITERS[path.suffix.lower()]
