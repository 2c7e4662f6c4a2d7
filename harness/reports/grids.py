"""A study on a page: its seeds and its grid in words, and a curve for each setting of the grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10, prod
from typing import Any

from harness.config.study import short
from harness.core.records import plain
from harness.measures.measure import direction
from harness.reports.cells import measure_value, rate_cell
from harness.reports.charts import COLOURS, LOG_FROM, Chart, Level, Point, Series, chart
from harness.results.naming import point_words, value_words
from harness.results.schema import LuckFigures, MeasureFacts, MethodFacts, Results
from harness.statistics.effects import Part, widened
from harness.statistics.rates import Interval

PREFERENCE, WIN = "preference rate", "win rate"  # beside the measures: no measure has a blank in its name
STRETCH = 2  # the untrained student is drawn where it makes the range longer by no more than so many times
ASIDE = 0.012  # of the range of x between two lines: their intervals would lie on each other
Steps = Sequence[Mapping[str, Any]]  # the values of settings that go together, from the first on


# ---- in words


def axes(points: Sequence[Mapping[str, Any]]) -> list[Steps]:
    """The settings in which points differ. Those of which each value of the one goes with one of the other are one
    axis."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    groups: list[list[str]] = []
    for key in keys:
        values = {value_words(point[key]) for point in points if key in point}
        if len(values) < 2:
            continue
        group = next((group for group in groups if _together(points, group[0], key)), None)
        if group is None:
            groups.append([key])
        else:
            group.append(key)
    return [_steps(points, group) for group in groups]


def _together(points: Sequence[Mapping[str, Any]], one: str, other: str) -> bool:
    both = {(value_words(point.get(one)), value_words(point.get(other))) for point in points}
    return len(both) == len({first for first, _ in both}) == len({second for _, second in both})


def _steps(points: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Steps:
    """Numbers rise; others stand in the order of the runs."""
    found = {
        _words(point, keys): {key: point[key] for key in keys} for point in points if all(key in point for key in keys)
    }
    steps = list(found.values())
    number = next((key for key in keys if all(_is_number(step[key]) for step in steps)), None)
    return sorted(steps, key=lambda step: step[number]) if number else steps


def _words(point: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(value_words(point[key]) if key in point else "" for key in keys)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def study_words(results: Results) -> str:
    """What a board of a study is of; empty where the runs are of none."""
    runs, points = results.runs, [one.point for one in results.runs]
    if len(runs) == 1:
        return f"A run of a study, at {point_words(points[0])}." if points[0] else ""
    if not any(points) and len({one.command for one in runs}) > 1:
        return ""
    seeds, found = sorted({one.seed for one in runs}), axes(points)
    parts = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}", *map(_axis_words, found)]
    whole = len(seeds) * prod(len(steps) for steps in found)
    some = f" ({len(runs)} of {whole} combinations)" if len(runs) != whole else ""
    same = {
        key: value
        for key, value in points[0].items()
        if all(value_words(value) == value_words(one.get(key)) for one in points)
    }
    at = f", all at {point_words(same)}" if same else ""
    said = [f"A study of {len(runs)} runs: {' × '.join(parts)}{some}{at}."]
    if len(seeds) > 1:
        said.append("The seeds of a training are one row.")
    if found:
        said.append(
            "A training that the grid changes is a row for each setting, and named by it; a row without is the same at "
            "every point."
        )
    return " ".join(said)


def _axis_words(steps: Steps) -> str:
    return f"{', '.join(steps[0])} = {', '.join(' with '.join(map(value_words, step.values())) for step in steps)}"


# ---- curves


@dataclass(frozen=True)
class Curve:
    """A chart that a reader can choose. first: whether it is seen before anything is chosen."""

    prompt_set: str
    measure: str
    chart: Chart
    first: bool


@dataclass(frozen=True)
class Grid:
    """The curves of one axis. measures: the heads of those to choose from, by their names. notes: what is not drawn."""

    title: str
    measures: Mapping[str, str]
    sets: Sequence[str]
    curves: Sequence[Curve]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Line:
    """Rows that differ in one axis alone: step by step of it, where there is one."""

    label: str
    rows: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class _Axis:
    steps: Steps
    lines: Sequence[_Line]
    level: Sequence[str]  # trained rows that are the same at all of its steps
    elsewhere: Sequence[str]  # trained rows of other axes


@dataclass(frozen=True)
class _Value:
    value: float
    ends: Interval
    said: str


@dataclass(frozen=True)
class _Quantity:
    """What a curve shows. values: by set and row."""

    name: str
    head: str
    unit: str
    percent: bool
    values: Mapping[tuple[str, str], _Value]


def grids(results: Results) -> list[Grid]:
    """The curves of each setting of a study's grid; without one, of numbers in which rows of one method differ."""
    found = list(_of_the_grid(results)) or list(_of_rows(results))
    return [_grid(results, axis) for axis in found]


def seeds_in_curves(results: Results) -> str:
    """What the intervals of curves hold."""
    if not results.luck:
        return "Intervals are 95%, over prompts: they hold these checkpoints fixed, and another seed is not in them."
    heads = {"": "preference rate", **{one.name: one.head for one in results.measured}}
    moved = {one.measure for one in results.luck}
    fixed = ["the win rate", *(head for name, head in heads.items() if name not in moved)]
    return (
        "Intervals are 95%, over prompts and seeds: what another seed would move is in them, but in those of "
        f"{', '.join(fixed)}, which hold the checkpoints fixed. Part of that is shared by all rows, and cancels "
        "between two: whether two points differ, only a contrast says."
    )


def _of_the_grid(results: Results) -> Iterator[_Axis]:
    rows = [one for one in results.methods if one.point]
    level = [one.name for one in results.methods if not one.point]
    for steps in axes([one.point for one in rows]):
        lines: dict[str, list[tuple[int, str]]] = {}
        places = {_words(step, list(step)): place for place, step in enumerate(steps)}
        there = [one for one in rows if all(key in one.point for key in steps[0])]
        for one in there:
            rest = {short(key): value for key, value in one.point.items() if key not in steps[0]}
            label = (one.own_name or one.name) + (f" ({point_words(rest)})" if rest else "")
            lines.setdefault(label, []).append((places[_words(one.point, list(steps[0]))], one.name))
        elsewhere = [one.name for one in rows if one not in there]
        yield _Axis(steps, [_Line(label, sorted(found)) for label, found in lines.items()], level, elsewhere)


def _of_rows(results: Results) -> Iterator[_Axis]:
    """Rows of one method that differ in one number alone."""
    groups: dict[tuple[str, str, str], list[tuple[float, MethodFacts]]] = {}
    for one in results.methods:
        for key, value in one.settings.own.items():
            if _is_number(value):
                rest = {name: other for name, other in plain(one.settings).items() if name != key}
                same = f"{one.matches}, {sorted(rest.items(), key=str)}"
                groups.setdefault((one.method, key, same), []).append((value, one))
    for (method, key, _), found in groups.items():
        values = sorted({value for value, _ in found})
        if len(values) > 1:
            rows = sorted((values.index(value), one.name) for value, one in found)
            yield _Axis([{f"settings.{method}.{key}": value} for value in values], [_Line(method, rows)], [], [])


def _grid(results: Results, axis: _Axis) -> Grid:
    known = [
        found
        for found in _quantities(results)
        if any(row in _rows_of(found) for line in axis.lines for _, row in line.rows)
    ]
    first = {PREFERENCE, results.first_measure}
    curves = [
        Curve(entry.name, one.name, made, one.name in first)
        for one in known
        for entry in results.prompt_sets
        if (made := _chart(results, axis, entry.name, one)) is not None
    ]
    notes = []
    if axis.elsewhere:
        notes.append(f"Not drawn here, being of another setting: {', '.join(axis.elsewhere)}.")
    sets = list(dict.fromkeys(one.prompt_set for one in curves))
    heads = {one.name: one.head for one in known if any(curve.measure == one.name for curve in curves)}
    return Grid(" with ".join(axis.steps[0]), heads, sets, curves, notes)


def _rows_of(found: _Quantity) -> set[str]:
    return {row for _, row in found.values}


def _quantities(results: Results) -> list[_Quantity]:
    """Rates by the judge that decides, then measures."""
    trained = {one.name for one in results.methods}
    luck = {one.measure: one for one in results.luck}
    rows = [row for row in results.rows if row.judge == results.judge]
    preference, win = {}, {}
    for row in rows:
        place = (row.prompt_set, row.method)
        if row.preference_rate is not None and row.preference_interval is not None:
            parts = _parts(luck.get(""), _seeds(results, row.by_run)) if row.method in trained else []
            ends = widened(row.preference_rate, row.preference_interval, parts, (-1.0, 1.0))
            preference[place] = _Value(row.preference_rate, ends, rate_cell(row.preference_rate, ends, signed=True))
        if row.win_rate is not None and row.win_interval is not None:
            win[place] = _Value(row.win_rate, row.win_interval, rate_cell(row.win_rate, row.win_interval))
    by = f"by {results.judge}, %"
    found = [_Quantity(PREFERENCE, PREFERENCE, by, True, preference), _Quantity(WIN, WIN, by, True, win)]
    for facts in results.measured:
        values = {}
        for one in results.measures:
            if one.measure != facts.name or one.value is None or one.kind == "teacher":
                continue
            parts = _parts(luck.get(facts.name), _seeds(results, one.by_run)) if one.method in trained else []
            bounds = (0.0, 1.0) if facts.share else None
            ends = widened(one.value, one.interval or (one.value, one.value), parts, bounds)
            values[one.prompt_set, one.method] = _Value(one.value, ends, measure_value(one.value, ends, facts.unit))
        found.append(_Quantity(facts.name, facts.head, _unit(facts), facts.share, values))
    return found


def _unit(facts: MeasureFacts) -> str:
    return f"{facts.unit}{', %' if facts.share else ''}; {direction(facts.better)}"


def _seeds(results: Results, by_run: Sequence[float | None]) -> int:
    """How many seeds have a value; what several runs of one seed share is in the first of them alone."""
    return len({run.seed for run, value in zip(results.runs, by_run, strict=True) if value is not None})


def _parts(luck: LuckFigures | None, seeds: int) -> list[Part]:
    """What seeds add to the variance of a row's figure."""
    if luck is None or not seeds:
        return []
    return [(luck.own**2 / seeds, luck.own_degrees), (luck.shared**2 / seeds, luck.shared_degrees)]


def _chart(results: Results, axis: _Axis, prompt_set: str, shown: _Quantity) -> Chart | None:
    """None where no row of the axis has a value."""
    places, ticks, x_label, joined = _across(axis.steps)
    aside = ASIDE * ((max(places) - min(places)) or 1.0)
    series = []
    for number, line in enumerate(axis.lines):
        rows = [(step, row, found) for step, row in line.rows if (found := shown.values.get((prompt_set, row)))]
        if rows:
            shift = aside * (number - (len(axis.lines) - 1) / 2)
            points: list[Point] = [(places[step] + shift, found.value) for step, _, found in rows]
            titles = [f"{row}: {found.said}" for _, row, found in rows]
            spread = [found.ends for *_, found in rows]
            series.append(Series(line.label, f"c{number % COLOURS}", points, joined, spread, titles))
    if not series:
        return None
    levels = []
    for number, row in enumerate(axis.level, len(axis.lines)):
        if found := shown.values.get((prompt_set, row)):
            levels.append(Level(row, f"c{number % COLOURS}", found.value, found.ends, f"{row}: {found.said}"))
    start = next((row.method for row in results.rows if row.kind == "untrained"), "")
    if (found := shown.values.get((prompt_set, start))) and _fits(found.value, series, levels):
        levels.append(Level(start, "start", found.value, (found.value, found.value), f"{start}: {found.said}"))
    return chart(
        f"{shown.head}, {prompt_set}",
        x_label,
        shown.unit,
        series,
        percent=shown.percent,
        levels=levels,
        x_ticks=ticks,
    )


def _fits(value: float, series: Sequence[Series], levels: Sequence[Level]) -> bool:
    ends = [end for one in series for pair in one.spread if pair for end in pair]
    ends += [end for level in levels for end in level.ends]
    low, high = min(ends), max(ends)
    return max(low - value, value - high) <= STRETCH * (high - low)


def _across(steps: Steps) -> tuple[list[float], list[tuple[float, str]], str, bool]:
    """Where steps stand, the ticks, the label, and whether they are numbers, which a line goes through."""
    label = ", ".join(map(short, steps[0]))
    number = next((key for key in steps[0] if all(_is_number(step[key]) for step in steps)), None)
    if number is None:
        places = [float(place) for place in range(len(steps))]
        said = [", ".join(map(value_words, step.values())) for step in steps]
        return places, list(zip(places, said, strict=True)), label, False
    values = [float(step[number]) for step in steps]
    said = [value_words(step[number]) for step in steps]
    if min(values) > 0 and max(values) >= LOG_FROM * min(values):
        values, label = [log10(value) for value in values], f"{label} (log)"
    return values, list(zip(values, said, strict=True)), label, True
