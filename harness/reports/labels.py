"""What people's labels say of a board: in Markdown, and as tables of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.reports import columns as c
from harness.reports.cells import kappa_cell, points_cell
from harness.reports.charts import colours
from harness.reports.columns import Cell, Column
from harness.reports.tables import Table, table
from harness.results.labelled import LabelFigures, LabelledContrast, LabelledRate, labels_of
from harness.results.schema import Results
from harness.statistics.agreement import Agreement
from harness.statistics.labelled import Corrected
from harness.statistics.rates import Interval

HEAD = "By people's labels"


def section(run: Results) -> str:
    """For the board; empty where there are no labels."""
    found = labels_of(run)
    if found is None:
        return ""
    tables = (c.markdown(_rate_columns(), found.rates), c.markdown(_contrast_columns(), found.contrasts))
    return "\n\n".join([f"### {HEAD}", lead(run), *(text for text in tables if text)])


def tables(run: Results) -> list[Table]:
    """For a page; none where there are no labels."""
    found = labels_of(run)
    if found is None:
        return []
    columns: list[Column[Any]] = [c.method(colours(run)), *_rate_columns()[1:]]
    shown = [
        table("Preference rates of these checkpoints", columns, found.rates),
        table("First − second, in points", _contrast_columns(), found.contrasts),
    ]
    return [one for one in shown if one.rows]


def lead(run: Results) -> str:
    """What a reader must know before the tables; empty where there are no labels."""
    found = labels_of(run)
    if found is None:
        return ""
    said = [
        f"{found.labels} outcomes were labelled by {_listed(found)}, blind",
        "Each figure by the labels alone, by the judge alone, and by the judge corrected with the labels "
        "(prediction-powered inference: right whatever the judge is worth, and narrower the better it is); the last is "
        "the one to read. Rates hold their checkpoints fixed",
    ]
    if len(run.runs) > 1:
        said.append(
            f"{len(found.runs)} of {len(run.runs)} runs have labels, and the figures are of those; a difference over "
            "several seeds has what seeds move in its interval"
        )
    said.append(f"{run.judge} and people: {_kappa(found.agreement)}")
    said += [f"{pair.first} and {pair.second}: {_kappa(pair)}" for pair in found.between]
    return ". ".join(said) + "."


def _listed(found: LabelFigures) -> str:
    several = (
        f" ({len(found.people)} people; what several labelled counts by its mean)" if len(found.people) > 1 else ""
    )
    return f"{', '.join(found.people)}{several}"


def _kappa(pair: Agreement) -> str:
    note = f" ({pair.note})" if pair.note else ""
    return f"Cohen's κ {kappa_cell(pair)} over {pair.n} outcomes{note}"


# ---- columns


def _rate(value: float | None, interval: Interval | None) -> Cell:
    return c.BLANK if value is None or interval is None else c.rate(value, interval, signed=True)


def _points(value: float | None, interval: Interval | None) -> Cell:
    if value is None or interval is None:
        return c.BLANK
    return Cell(points_cell(value, interval), value, (interval[0], value, interval[1]), (-2.0, 2.0))


LABELS: Column[Corrected] = Column("labels", lambda row: c.number(row.labels, f"{row.labels} of {row.judged}"))
ON: Column[LabelledRate | LabelledContrast] = c.column("on", lambda row: row.scope)
KAPPA: Column[LabelledRate] = Column(
    "κ with people",
    lambda row: Cell(kappa_cell(row.agreement), "" if row.agreement.kappa is None else row.agreement.kappa),
)


def _figures(cell: Callable[[float | None, Interval | None], Cell]) -> list[Column[Any]]:
    return [
        Column("labels alone", lambda row: cell(row.by_people, row.people_interval)),
        Column("judge alone", lambda row: cell(row.by_judge, row.judge_interval)),
        Column("corrected", lambda row: cell(row.corrected, row.corrected_interval)),
    ]


def _rate_columns() -> list[Column[Any]]:
    return [c.METHOD, ON, LABELS, *_figures(_rate), KAPPA, c.column("of the judge", _of_the_judge)]


def _contrast_columns() -> list[Column[Any]]:
    return [c.PAIR, ON, LABELS, *_figures(_points), c.column("of the judge", _of_the_judge)]


def _of_the_judge(row: Corrected) -> str:
    """In words, whether what it says is in the corrected interval."""
    if row.reason:
        return f"not corrected: {row.reason}"
    if not row.judge_is_off or row.by_judge is None:
        return "within the corrected interval"
    return f"off: its {100 * row.by_judge:+.1f} lies outside the corrected interval"
