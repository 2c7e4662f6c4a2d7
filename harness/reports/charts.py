"""The charts of a report: what is drawn, and where each point of it lies.

Charts are small SVGs of their own: text keeps its size on a phone, and colours follow the theme through CSS.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

from harness.config.study import in_words, short
from harness.core.records import Verdict
from harness.measures.measure import is_share
from harness.reports import searched
from harness.reports.cells import rate_cell
from harness.results.schema import Results, Row, SearchFacts, TryFacts
from harness.statistics.outcomes import Unit, from_records, outcomes, unit_of

COLOURS = 8  # c0 … c7 in report.css
MOST_POINTS = 400  # of one line or one method's cloud: more is not seen, and makes the page heavy
FEW_POINTS = 30  # a line of so few shows its points
WIDTH, HEIGHT = 290, 195
LETTER = 6  # width of one, about
LEFT, RIGHT, TOP, BOTTOM = 40, WIDTH - 10, 10, HEIGHT - 36  # of the plot within
Point = tuple[float, float]
# The verdicts that the board's figures rest on, by prompt set and candidate.
Deciding = Mapping[tuple[str, str], Sequence[Verdict]]
Metrics = Mapping[str, Sequence[Mapping[str, Any]]]  # each training's curve


# Of a run
def systems(results: Results) -> list[str]:
    """All that were judged, methods first, each once."""
    place = {"method": 0, "control": 1, "untrained": 2, "ceiling": 3}
    kinds = {row.method: row.kind for row in results.rows}
    return sorted(kinds, key=lambda name: place[kinds[name]])


def colours(results: Results) -> dict[str, str]:
    """A system's class of colour, the same on the whole page; grey for those that were not trained."""
    kinds = {row.method: row.kind for row in results.rows}
    trained = [name for name in systems(results) if kinds[name] in ("method", "control")]
    grey = {"untrained": "start", "ceiling": "ceiling"}
    return {name: f"c{trained.index(name) % COLOURS}" if name in trained else grey[kinds[name]] for name in kinds}


def short_name(results: Results, name: str, room: int) -> str:
    """A row's name in so many characters. Of one that is named by its settings their values alone stand there, and
    where it is cut it keeps its end: that is what tells it from the others."""
    named = {one.name: re.sub(r"[\w.]+=", "", one.name) for one in results.methods if one.own_name}
    if name in named and list(named.values()).count(named[name]) == 1:
        name = named[name]
    elif name not in named:
        return name if len(name) <= room else f"{name[: room - 1]}…"
    start = room // 3
    return name if len(name) <= room else f"{name[:start]}…{name[start + 1 - room :]}"


# Geometry
@dataclass(frozen=True)
class Series:
    """Points of one colour; `joined` draws a line through them. `spread` holds each point's interval, if it has one."""

    label: str
    colour: str
    points: Sequence[Point]
    joined: bool = True
    spread: Sequence[tuple[float, float] | None] = ()
    titles: Sequence[str] = ()


@dataclass(frozen=True)
class Level:
    """A value that no x moves, with its interval, of a row's colour."""

    label: str
    colour: str
    value: float
    ends: tuple[float, float]
    title: str


@dataclass(frozen=True)
class Band:
    """A level as drawn."""

    label: str
    colour: str
    y: str
    top: str
    height: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A point as drawn."""

    x: str
    y: str
    title: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Curve:
    label: str
    colour: str
    line: str  # an SVG polyline's points, empty where none is drawn
    marks: Sequence[Mark]
    faint: bool


@dataclass(frozen=True)
class Chart:
    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[tuple[str, str]]  # place, text
    y_ticks: Sequence[tuple[str, str]]
    series: Sequence[Curve]
    zero: str = ""  # where y = 0 lies, if inside
    rule: str = ""  # an upright line: its x
    rule_label: str = ""
    bands: Sequence[Band] = ()
    size: tuple[int, int] = (WIDTH, HEIGHT)
    box: tuple[int, int, int, int] = (LEFT, RIGHT, TOP, BOTTOM)


def chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    y_range: tuple[float, float] | None = None,
    rule: tuple[float, str] | None = None,
    percent: bool = False,
    levels: Sequence[Level] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Chart:
    """A chart's geometry. Points that are not finite are left out; percent writes y in points of a hundred.

    x_ticks: places with their texts, from the left, where they are no round numbers; what has no room is left out.
    """
    kept = [_finite(one) for one in series]
    xs = [x for one in kept for x, _ in one.points] + ([rule[0]] if rule else []) + [x for x, _ in x_ticks or ()]
    ys = [y for one in kept for _, y in one.points] + [
        end for one in kept for ends in one.spread if ends for end in ends
    ]
    ys += [end for level in levels for end in (level.value, *level.ends)]
    x_low, x_high = _range(xs)
    y_low, y_high = y_range or _range(ys)

    def across(x: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (x - x_low) / (x_high - x_low):.1f}"

    def down(y: float) -> str:
        return f"{TOP + (BOTTOM - TOP) * (y_high - y) / (y_high - y_low):.1f}"

    factor = 100 if percent else 1
    return Chart(
        title,
        x_label,
        y_label,
        _with_room([(across(x), text) for x, text in x_ticks])
        if x_ticks is not None
        else [(across(tick), tick_text(tick)) for tick in ticks(x_low, x_high)],
        [(down(tick / factor), tick_text(tick)) for tick in ticks(y_low * factor, y_high * factor)],
        [_drawn(one, across, down) for one in kept],
        zero=down(0) if y_low < 0 < y_high else "",
        rule=across(rule[0]) if rule else "",
        rule_label=rule[1] if rule else "",
        bands=[_band(level, down) for level in levels],
    )


def _band(level: Level, down: Callable[[float], str]) -> Band:
    low, high = (down(end) for end in level.ends)
    return Band(level.label, level.colour, down(level.value), high, f"{float(low) - float(high):.1f}", level.title)


def _with_room(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that do not touch the one before."""
    kept: list[tuple[str, str]] = []
    end = -10.0 * LETTER
    for x, text in texts:
        half = LETTER * len(text) / 2
        if float(x) - half >= end + LETTER:
            kept.append((x, text))
            end = float(x) + half
    return kept


def _drawn(series: Series, across: Callable[[float], str], down: Callable[[float], str]) -> Curve:
    line = " ".join(f"{across(x)},{down(y)}" for x, y in series.points) if series.joined else ""
    spread = series.spread or [None] * len(series.points)
    titles = series.titles or [f"{series.label}: {x:.4g}, {y:.4g}" for x, y in series.points]
    marks = [
        Mark(across(x), down(y), title, *((down(ends[0]), down(ends[1])) if ends else ()))
        for (x, y), ends, title in zip(series.points, spread, titles, strict=True)
    ]
    return Curve(
        series.label,
        series.colour,
        line if len(series.points) > 1 else "",
        marks if not series.joined or len(series.points) <= FEW_POINTS else [],
        faint=not series.joined and len(series.points) > FEW_POINTS,
    )


def _finite(series: Series) -> Series:
    keep = [i for i, (x, y) in enumerate(series.points) if isfinite(x) and isfinite(y)]
    return Series(
        series.label,
        series.colour,
        [series.points[i] for i in keep],
        series.joined,
        [series.spread[i] for i in keep] if series.spread else (),
        [series.titles[i] for i in keep] if series.titles else (),
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with a margin; never empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(power * base for base in (1, 2, 5, 10) if rough <= power * base * 1.0001)
    return [round(i * step, 12) for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.10g}".replace("-", "−") if 1e-4 <= abs(value) < 1e7 else f"{value:.4g}".replace("-", "−")


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points: means of equal runs of neighbours."""
    size = ceil(len(points) / most) if points else 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


# What is drawn

# What a training's plots show, in their order: title, y label, the lines by the keys of a metrics row (a key that ends
# in _ has one of each role behind it, as `log_prob_chosen`), and the range of y, where it is known.
Panel = tuple[str, str, tuple[tuple[str, str], ...], tuple[float, float] | None]
PANELS: tuple[Panel, ...] = (
    ("loss", "loss", (("loss", "loss"),), None),
    ("log-probs", "log-prob of a response", (("log_prob", "response"), ("log_prob_", "")), None),
    ("margins", "nats from the reference", (("margin", "margin"), ("shift", "response"), ("shift_", "")), None),
    ("accuracy", "share of pairs", (("accuracy", "chosen above rejected"),), (0.0, 1.0)),
    ("fresh responses", "share", (("fresh", "of examples"), ("ended", "of these, ended of themselves")), (0.0, 1.0)),
    ("their length", "mean tokens", (("response_tokens", "fresh response"),), None),
)
MARGIN = "c2"  # and the roles, in their order, the other colours


def curves(results: Results, metrics: Metrics) -> list[tuple[str, list[Chart]]]:
    """Each training's charts, in the order of the run."""
    order = [entry.name for entry in results.methods if entry.name in metrics]
    names = order + [name for name in metrics if name not in order]
    return [(name, _training_charts(metrics[name])) for name in names]


def _training_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # what a method carries from step to step: each of its own scale
    carried: list[Panel] = [(key, "state", ((key, key),), None) for key in keys if key.startswith("state_")]
    charts = []
    for title, y_label, lines, y_range in (*PANELS, *carried):
        series = [
            Series(label, colour, thinned([(float(r["step"]), float(r[key])) for r in rows if _plotted(r, key)]))
            for key, label, colour in _lines(lines, keys)
        ]
        series = [one for one in series if one.points]
        if series:
            charts.append(chart(title, "step", y_label, series, y_range))
    return charts


def _lines(lines: Sequence[tuple[str, str]], keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each line of a panel as the key of a metrics row, label and colour. keys: of all rows."""
    free = (f"c{number % COLOURS}" for number in itertools.count() if f"c{number % COLOURS}" != MARGIN)
    for start, label in lines:
        for key in (key for key in keys if key == start or (start.endswith("_") and key.startswith(start))):
            yield key, label or key.removeprefix(start), MARGIN if key == "margin" else next(free)


def _plotted(row: Mapping[str, Any], key: str) -> bool:
    values = (row.get("step"), row.get(key))
    return all(isinstance(value, int | float) and isfinite(value) for value in values)


def _preference_title(label: str, row: Row) -> str:
    return f"{label}: {rate_cell(row.preference_rate, row.preference_interval, signed=True)}"


def lengths(results: Results) -> list[Chart]:
    """Mean length against preference rate, a chart a prompt set."""
    known = colours(results)
    charts = []
    for prompt_set in results.prompt_sets:
        series = [
            Series(
                row.method,
                known[row.method],
                [(row.mean_tokens, row.preference_rate)],
                joined=False,
                spread=[row.preference_interval],
                titles=[f"{_preference_title(row.method, row)}, {row.mean_tokens:.0f} tokens"],
            )
            for row in results.rows_of(prompt_set.name)
            if row.preference_rate is not None and row.mean_tokens is not None
        ]
        mean = prompt_set.teacher.mean_tokens
        if series:
            charts.append(
                chart(
                    prompt_set.name,
                    "mean tokens of a response",
                    "preference rate, %",
                    series,
                    (-1.05, 1.05),
                    rule=None if mean is None else (mean, f"teacher: {mean:.0f} tokens"),
                    percent=True,
                )
            )
    return charts


def clouds(results: Results, deciding: Deciding) -> list[Chart]:
    """Each response's difference in length against its mean preference, a chart a system."""
    known = colours(results)
    verdicts = [verdict for found in deciding.values() for verdict in found]
    in_tokens = all(None not in (v.candidate_tokens, v.reference_tokens) for v in verdicts)
    unit = "tokens" if in_tokens else "characters"
    judged = "responses" if any(verdict.sample for verdict in verdicts) else "prompts"
    charts = []
    for system in systems(results):
        found = [
            _longer(v, in_tokens) for (_, name), group in deciding.items() if name == system for v in _means(group)
        ]
        points = [point for point in found if point is not None]
        if points:
            every = ceil(len(points) / MOST_POINTS)
            shown = [(x, y + _apart(i)) for i, (x, y) in enumerate(points[::every])]
            titles = [f"{x:+g} {unit}, preference {y:.2g}" for x, y in points[::every]]
            label = f"{len(shown)} of {len(points)} {judged}" if every > 1 else f"{len(points)} {judged}"
            series = Series(label, known[system], shown, joined=False, titles=titles)
            difference = f"{unit} more than the teacher"
            charts.append(chart(system, difference, "preference", [series], (-0.1, 1.1), rule=(0, "")))
    return charts


def _apart(place: int) -> float:
    """A small shift, so that equal points are seen apart: always the same for the same place."""
    return 0.07 * ((place * 0.618034) % 1 - 0.5) * 2


def _means(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, float]]:
    """The first verdict and the mean preference of each response that has an outcome."""
    first: dict[Unit, Verdict] = {}
    for verdict in verdicts:
        first.setdefault(unit_of(verdict), verdict)
    found = outcomes(from_records(verdicts)).judged
    return [(first[unit], mean) for unit, mean in zip(found.units, found.preference.tolist(), strict=True)]


def _longer(judged: tuple[Verdict, float], in_tokens: bool) -> Point | None:
    verdict, preference = judged
    ends = (
        (verdict.candidate_tokens, verdict.reference_tokens)
        if in_tokens
        else (verdict.candidate_characters, verdict.reference_characters)
    )
    return None if ends[0] is None or ends[1] is None else (float(ends[0] - ends[1]), preference)


LOG_FROM = 10  # how many times the least value the greatest is where a setting has a log axis


def tries(search: SearchFacts) -> list[Chart]:
    """What settings were chosen by, a chart a method: the criterion against a setting, a line for each choice of the
    others, with 95% intervals over prompts."""
    charts = []
    for found in search.found:
        known = [one for one in search.of(found.method) if one.value is not None]
        along, *others = searched.axes(known) or [""]
        values = sorted({value for one in known if isinstance(value := one.point.get(along), int | float)})
        if len(values) < 2 or any(isinstance(value, bool) for value in values):
            continue
        logarithmic = values[0] > 0 and values[-1] >= LOG_FROM * values[0]
        lines: dict[str, list[tuple[float, TryFacts]]] = {}
        for one in known:
            value = float(one.point[along])  # type: ignore[arg-type]
            rest = in_words({key: one.point[key] for key in others}) or short(along)
            lines.setdefault(rest, []).append((log10(value) if logarithmic else value, one))
        series = []
        for place, (label, points) in enumerate(lines.items()):
            points.sort(key=lambda point: point[0])
            series.append(
                Series(
                    label,
                    f"c{place % COLOURS}",
                    [(x, one.value or 0.0) for x, one in points],
                    spread=[_of_error(one, searched.wide(search)) for _, one in points],
                    titles=[f"{in_words(one.point)}: {searched.value_words(one, search)}" for _, one in points],
                )
            )
        shown = [(log10(value), f"{value:g}") for value in values] if logarithmic else None
        charts.append(
            chart(found.method, short(along), search.head, series, percent=is_share(search.unit), x_ticks=shown)
        )
    return charts


def _of_error(one: TryFacts, errors: float) -> tuple[float, float] | None:
    if one.value is None or one.standard_error is None:
        return None
    return one.value - errors * one.standard_error, one.value + errors * one.standard_error
