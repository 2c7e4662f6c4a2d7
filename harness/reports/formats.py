"""A leaderboard as a file: Markdown, a page, or data for pandas, by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import leads_to_stdout
from harness.core.records import plain
from harness.reports import board
from harness.reports.cells import comparable
from harness.reports.measured import is_measured, seconds
from harness.results.folder import as_json
from harness.results.labelled import labels_of
from harness.results.schema import CostFacts, MeasureRow, Results, Row, SetFacts
from harness.run.rows import TEACHER


def as_csv(runs: Sequence[Results]) -> str:
    """A row for each row and judge of each board; intervals are two columns, rates are shares of one.

    What was measured of a row, what it took, and what people's labels make of its rate stand where the judge is the
    one that decides; what was measured of the teacher itself stands in rows of kind `teacher`, without a judge.
    """
    rows = [_flat(run, row) for run in runs for row in run.rows]
    known = {name for row in rows for name in row} | set(CostFacts.model_fields)
    names = _names([facts.name for run in runs for facts in run.measured], known)
    found = []
    for run in runs:
        found += [_flat(run, row) | _corrected(run, row) | _measured(run, row, names) for row in run.rows]
        found += [_teacher(run, entry, names) for entry in run.prompt_sets if _of(run, entry.name, TEACHER)]
    import pandas as pd  # it takes longer to import than a board in Markdown to write

    return str(pd.DataFrame(found).to_csv(index=False, lineterminator="\n"))


ENDS = ("", "_low", "_high", "_own_loss", "_bound")  # a measure's columns


def _names(measures: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """What each measure's columns begin with: its name, or `measure_NAME` where one of them is another column."""
    taken, names = set(taken), dict[str, str]()
    for measure in dict.fromkeys(measures):
        name = measure
        while any(f"{name}{end}" in taken for end in ENDS):
            name = f"measure_{name}"
        names[measure] = name
        taken |= {f"{name}{end}" for end in ENDS}
    return names


def _board(run: Results, deciding: bool) -> dict[str, Any]:
    return {
        "board": run.name,
        "student": run.pair.student,
        "teacher": run.pair.teacher,
        "seeds": " ".join(str(one.seed) for one in run.runs),
        "deciding": deciding,
    }


def _flat(run: Results, row: Row) -> dict[str, Any]:
    flat = _board(run, row.judge == run.judge)
    again = {"mean_tokens": "length", "cut_share": "cut"}  # the same of the same responses
    for name, value in row:
        if name in again and is_measured(run, row.prompt_set, again[name]):
            continue
        if name.endswith("_interval"):
            low, high = value or (None, None)
            flat |= {name.replace("_interval", "_low"): low, name.replace("_interval", "_high"): high}
        elif name == "rank":
            flat |= dict(zip(("rank_first", "rank_last"), value or (None, None), strict=True))
        elif name == "flips":
            flat |= {"flips": row.flips.count, "flips_of": row.flips.n}
        elif name == "components":
            several = any(one.components.seed is not None for one in run.rows)
            flat |= {f"sd_{part}": size for part, size in comparable(value, several)}
        elif name == "by_run":
            flat["runs"] = row.judged_in
        else:
            flat[name] = value
    return flat


def _corrected(run: Results, row: Row) -> dict[str, Any]:
    """Nothing where there are no labels of the board."""
    people = labels_of(run)
    if people is None or row.judge != run.judge:
        return {}
    known = (one for one in people.rates if (one.method, one.scope) == (row.method, row.prompt_set))
    found = next(known, None)
    low, high = (found and found.corrected_interval) or (None, None)
    rate = found and found.corrected
    return {"labels": found and found.labels, "corrected_rate": rate, "corrected_low": low, "corrected_high": high}


def _measured(run: Results, row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    if row.judge != run.judge:
        return {}
    flat = _values(run, _of(run, row.prompt_set, row.method), names)
    cost = next((one for one in run.costs if one.method == row.method), None)
    if cost is not None:
        flat |= plain(cost) | {"seconds": seconds(cost)}
    return flat


def _teacher(run: Results, entry: SetFacts, names: Mapping[str, str]) -> dict[str, Any]:
    who = {"prompt_set": entry.name, "in_domain": entry.in_domain, "method": TEACHER, "kind": "teacher"}
    return _board(run, deciding=False) | who | _values(run, _of(run, entry.name, TEACHER), names)


def _of(run: Results, prompt_set: str, method: str) -> dict[str, MeasureRow]:
    """A system's measures on a set."""
    return {one.measure: one for one in run.measures if (one.prompt_set, one.method) == (prompt_set, method)}


def _values(run: Results, known: Mapping[str, MeasureRow], names: Mapping[str, str]) -> dict[str, Any]:
    own = {one.measure for one in run.measures if one.own_loss}
    flat: dict[str, Any] = {}
    for facts in run.measured:
        name, found = names[facts.name], known.get(facts.name)
        low, high = (found and found.interval) or (None, None)
        flat |= {name: found and found.value, f"{name}_low": low, f"{name}_high": high}
        if facts.name in own:
            flat[f"{name}_own_loss"] = found and found.own_loss
        if {facts.bound, facts.teacher_bound} != {"exact"}:
            bound = facts.teacher_bound if found and found.kind == "teacher" else facts.bound
            flat[f"{name}_bound"] = found and bound
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
