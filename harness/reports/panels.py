"""Small multiples: a panel a measure, and one of the judge's preference rate, each method a row with its interval.

Panels share no axis: what is compared is rows within a panel. The untrained student and the teacher are upright lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measures.measure import GROUPS, direction
from harness.reports import measured as m
from harness.reports.cells import OWN_LOSS, measure_cell, rate_cell
from harness.reports.charts import WIDTH, colours, short_name, tick_text, ticks
from harness.reports.measured import Measured
from harness.results.schema import MeasureFacts, Results
from harness.run.rows import is_anchor
from harness.statistics.rates import Interval

LEFT, RIGHT, TOP = 112, WIDTH - 8, 6  # of the plot: names stand left of it
ROW = 17  # height of a row
AXIS = 20  # height of the ticks
LONGEST = 19  # characters of a name that there is room for
STRETCH = 3  # a measured line is drawn where it makes the range longer by no more than so many times
STRETCH_TO_BEST = 0.6  # and what no one has reached


@dataclass(frozen=True)
class Line:
    """An upright line, of class `kind`; place is empty where it lies outside, and `label` says where.

    band: an interval's ends.
    """

    kind: str
    label: str
    place: str
    band: tuple[str, str] | None = None


@dataclass(frozen=True)
class PanelRow:
    """A system's value and interval; y is the middle of its row."""

    name: str
    short: str
    colour: str
    title: str
    y: str
    x: str
    low: str
    high: str


@dataclass(frozen=True)
class Panel:
    title: str
    note: str
    rows: Sequence[PanelRow]
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[str, str]]
    said: str  # all of it in words
    size: tuple[int, int]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class _Value:
    name: str
    value: float
    interval: Interval
    said: str
    own_loss: bool = False


def panels(results: Results, prompt_set: str) -> list[Panel]:
    """The panels of a set: the judge's first, then those of fidelity, then those of texts."""
    found = [_preference(results, prompt_set)]
    for group in GROUPS:
        rows = m.systems(results, prompt_set, group)
        found += [_measure(results, facts, rows) for facts in m.present(m.of_group(results, group), rows)]
    return [panel for panel in found if panel is not None]


def _preference(results: Results, prompt_set: str) -> Panel | None:
    values = {
        row.method: (
            row.kind,
            _Value(
                row.method,
                row.preference_rate,
                row.preference_interval,
                rate_cell(row.preference_rate, row.preference_interval, signed=True),
            ),
        )
        for row in results.rows_of(prompt_set)
        if row.preference_rate is not None and row.preference_interval is not None
    }
    lines = [("teacher", "parity with the teacher: 0", 0.0, None)]
    return _panel(results, "preference rate", "by the judge, %; higher is better", values, lines, percent=True)


def _measure(results: Results, facts: MeasureFacts, rows: Sequence[Measured]) -> Panel | None:
    values = {}
    lines: list[tuple[str, str, float, Interval | None]] = []
    for row in rows:
        found = row.values.get(facts.name)
        if found is None or found.value is None:
            continue
        said = measure_cell(found, facts)
        if row.kind == "teacher":
            lines.append(("teacher", f"the teacher's own: {said}", found.value, found.interval))
        else:
            interval = found.interval or (found.value, found.value)
            values[row.method] = (row.kind, _Value(row.method, found.value, interval, said, found.own_loss))
    best = _best(facts)
    if not lines and best is not None:
        lines.append(("teacher", f"at best: {f'{best:.0%}' if facts.share else f'{best:g}'}", best, None))
    unit = f"{facts.unit}, %" if facts.share else facts.unit
    return _panel(results, facts.head, f"{unit}; {direction(facts.better)}", values, lines, percent=facts.share)


def _short(results: Results, found: _Value) -> str:
    """Its name, cut to what there is room for; with a mark where its training minimises the measure."""
    mark = f" {OWN_LOSS}" if found.own_loss else ""
    return short_name(results, found.name, LONGEST - len(mark)) + mark


def _best(facts: MeasureFacts) -> float | None:
    """The best that a distance or an agreement can be; a text measure has none."""
    if facts.group != "fidelity" or facts.better == "neither":
        return None
    return 0.0 if facts.better == "lower" else 1.0 if facts.share else None


def _panel(
    results: Results,
    title: str,
    note: str,
    values: Mapping[str, tuple[str, _Value]],
    lines: Sequence[tuple[str, str, float, Interval | None]],
    percent: bool,
) -> Panel | None:
    """None where no method has a value."""
    methods = [found for kind, found in values.values() if kind in ("method", "control")]
    beside = [(kind, found) for kind, found in values.values() if is_anchor(kind)]
    if not methods:
        return None
    known = colours(results)
    ends = [end for found in methods for end in found.interval]
    low, high = min(ends), max(ends)
    words = {"untrained": "the untrained student", "ceiling": "the teacher's second sample"}
    marks: list[tuple[str, str, float, Interval | None]] = [
        ({"untrained": "start"}.get(kind, kind), f"{words[kind]}: {found.said}", found.value, found.interval)
        for kind, found in beside
    ]
    marks += lines
    length = (high - low) or abs(high) or 1.0
    for _, _, value, band in sorted(marks, key=lambda mark: abs(mark[2] - (low + high) / 2)):
        if max(low - value, value - high) <= (STRETCH_TO_BEST if band is None else STRETCH) * max(length, high - low):
            low, high = min(low, value), max(high, value)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def across(value: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (min(max(value, low), high) - low) / (high - low):.1f}"

    bottom = TOP + ROW * len(methods)
    factor = 100 if percent else 1
    shown = [
        Line(
            kind,
            label
            if low <= value <= high
            else f"{label.partition(' [')[0]}, to the {'left' if value < low else 'right'}",
            across(value) if low <= value <= high else "",
            (across(band[0]), across(band[1])) if band is not None and low <= value <= high else None,
        )
        for kind, label, value, band in marks
    ]
    return Panel(
        title=title,
        note=note,
        rows=[
            PanelRow(
                found.name,
                _short(results, found),
                known.get(found.name, "start"),
                f"{found.name}: {found.said}",
                f"{TOP + ROW * (place + 0.5):.1f}",
                across(found.value),
                across(found.interval[0]),
                across(found.interval[1]),
            )
            for place, found in enumerate(methods)
        ],
        lines=shown,
        x_ticks=[(across(tick / factor), tick_text(tick)) for tick in ticks(low * factor, high * factor, about=4)],
        said="; ".join([*(f"{found.name} {found.said}" for found in methods), *(line.label for line in shown)]),
        size=(WIDTH, bottom + AXIS),
        box=(LEFT, RIGHT, TOP, bottom),
    )
