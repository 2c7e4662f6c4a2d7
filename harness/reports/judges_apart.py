"""How far judges differ: each row's preference rate by each judge, side by side, and its difference to that by the
judge that decides, on the same prompts. Only where there is more than one judge.

Colours are systems', as on the whole page; a judge is a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.records import Verdict
from harness.reports.cells import points_cell, rate_cell
from harness.reports.charts import WIDTH, Deciding, colours, short_name, tick_text, ticks
from harness.reports.panels import AXIS, LEFT, LONGEST, RIGHT, TOP
from harness.results.schema import JudgeFacts, Results, Row
from harness.statistics.agreement import judges_apart
from harness.statistics.effects import Compared
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.panel import SUMMARIES
from harness.statistics.rates import Interval

MARK = 13  # height of a judge's mark in a row
GAP = 7  # between rows
# Around its own middle; those that follow are the same, and hollow.
SHAPES = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z",
    "M-3.2-3.2h6.4v6.4h-6.4Z",
    "M0-4.6 4.6 0 0 4.6-4.6 0Z",
    "M0-4.4 4.3 3.4h-8.6Z",
    "M0 4.4-4.3-3.4h8.6Z",
)


_SHORT = {"untrained": "untrained", "ceiling": "second sample"}  # of rows whose names are long


@dataclass(frozen=True)
class Shape:
    """How a judge is drawn."""

    path: str
    hollow: bool


@dataclass(frozen=True)
class Judged:
    """One row by one judge. apart: its preference rate less that by the judge that decides; None for that judge, and
    where the run's verdicts do not say it."""

    row: Row
    apart: Compared | None


@dataclass(frozen=True)
class Mark:
    """As drawn."""

    judge: Shape
    title: str
    x: str
    y: str
    low: str
    high: str


@dataclass(frozen=True)
class Group:
    """A system's marks, one a judge; y is the middle of them."""

    short: str
    colour: str
    y: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class JudgesPanel:
    """The figures themselves stand in a table of the page."""

    title: str
    note: str
    groups: Sequence[Group]
    zero: tuple[str, str]  # where an upright line stands, and what it is
    x_ticks: Sequence[tuple[str, str]]
    size: tuple[int, int]
    box: tuple[int, int, int, int]


Apart = Mapping[tuple[str, str, str], Compared]  # (set, system, judge) → its rate less that by the judge that decides


def shown(results: Results) -> list[JudgeFacts]:
    """The judge that decides, and all others that are no panel; none where there is no other."""
    others = [judge for judge in results.judges if judge.name not in SUMMARIES and judge.name != results.judge]
    return [results.judge_named(results.judge), *others] if others else []


def legend(results: Results) -> list[tuple[Shape, str]]:
    """Each judge's shape and name, with how it is related to the teacher where that is known."""
    shapes = _shapes(results)
    return [
        (shapes[judge.name], f"{judge.name} ({judge.relation})" if judge.relation else judge.name)
        for judge in shown(results)
    ]


def panels(results: Results, apart: Apart) -> list[tuple[str, list[JudgesPanel]]]:
    """Each set's panels; nothing where there is one judge alone."""
    found = []
    for prompt_set in results.prompt_sets:
        by_judge = {(row.method, row.judge): row for row in results.rows if row.prompt_set == prompt_set.name}
        judged = [
            [
                Judged(row, apart.get((prompt_set.name, first.method, judge.name)))
                for judge in shown(results)
                if (row := by_judge.get((first.method, judge.name)))
            ]
            for first in results.rows_of(prompt_set.name)
        ]
        kept = [panel for panel in (_rates(results, judged), _differences(results, judged)) if panel is not None]
        if kept:
            found.append((prompt_set.name, kept))
    return found


def differences(results: Results, verdicts: Sequence[Verdict], deciding: Deciding) -> Apart:
    """verdicts: the run's; deciding: those that the board's figures rest on."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.prompt_set, verdict.candidate, verdict.judge), []).append(verdict)
    names = {judge.name for judge in shown(results)[1:]}
    return {
        key: judges_apart(outcomes(from_records([*said, *deciding[key[:2]]])), key[2], results.judge)
        for key, said in groups.items()
        if key[2] in names and deciding.get(key[:2])
    }


def _shapes(results: Results) -> dict[str, Shape]:
    names = [judge.name for judge in shown(results)]
    return {
        name: Shape(SHAPES[place % len(SHAPES)], hollow=place % (2 * len(SHAPES)) >= len(SHAPES))
        for place, name in enumerate(names)
    }


def _rates(results: Results, judged: Sequence[Sequence[Judged]]) -> JudgesPanel | None:
    def value(one: Judged) -> tuple[float, Interval, str] | None:
        rate, interval = one.row.preference_rate, one.row.preference_interval
        if rate is None or interval is None:
            return None
        return rate, interval, rate_cell(rate, interval, signed=True)

    return _panel(results, "preference rate", "by each judge, %", "parity with the teacher: 0", judged, value)


def _differences(results: Results, judged: Sequence[Sequence[Judged]]) -> JudgesPanel | None:
    def value(one: Judged) -> tuple[float, Interval, str] | None:
        apart = one.apart
        if apart is None or apart.difference is None or apart.interval is None:
            return None
        return apart.difference, apart.interval, f"{points_cell(apart.difference, apart.interval)} points"

    note = f"of preference rates on the same prompts: each judge less {results.judge}, points"
    return _panel(results, "difference of judges", note, f"as by {results.judge}: 0", judged, value)


def _panel(
    results: Results,
    title: str,
    note: str,
    zero: str,
    judged: Sequence[Sequence[Judged]],
    value: Callable[[Judged], tuple[float, Interval, str] | None],
) -> JudgesPanel | None:
    """None where nothing has a value."""
    rows = [[(one.row, found) for one in group if (found := value(one)) is not None] for group in judged]
    rows = [group for group in rows if group]
    if not rows:
        return None
    known, shapes = colours(results), _shapes(results)
    ends = [0.0, *(end for group in rows for _, (_, interval, _) in group for end in interval)]
    margin = 0.06 * (max(ends) - min(ends)) or 0.1
    low, high = min(ends) - margin, max(ends) + margin

    def across(at: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (at - low) / (high - low):.1f}"

    groups, top = [], float(TOP)
    for group in rows:
        name = group[0][0].method
        marks = [
            Mark(
                shapes[row.judge],
                f"{name} by {row.judge}: {said}",
                across(rate),
                f"{top + MARK * (place + 0.5):.1f}",
                across(interval[0]),
                across(interval[1]),
            )
            for place, (row, (rate, interval, said)) in enumerate(group)
        ]
        short = _SHORT.get(group[0][0].kind) or short_name(results, name, LONGEST)
        groups.append(Group(short, known[name], f"{top + MARK * len(group) / 2:.1f}", marks))
        top += MARK * len(group) + GAP
    bottom = round(top - GAP + TOP)
    return JudgesPanel(
        title=title,
        note=note,
        groups=groups,
        zero=(across(0.0), zero),
        x_ticks=[(across(tick / 100), tick_text(tick)) for tick in ticks(low * 100, high * 100, about=4)],
        size=(WIDTH, bottom + AXIS),
        box=(LEFT, RIGHT, TOP, bottom),
    )
