"""The HTML report of a run: one file without a network, a pure function of what the run's folder holds.

Plots are small SVGs of their own: text keeps its size on a phone, colours follow the theme through CSS, names are
escaped by the template like all other text, and the same run gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from harness.config import MethodSettings
from harness.jobs import VERDICTS
from harness.judging.panel import SUMMARIES, panel_verdicts
from harness.records import Prompt, Record, Verdict, read_jsonl, read_records
from harness.reporting.board import KINDS, RANKABLE_PROMPTS, ordered, rate_cell, sampling_text, smallest_set
from harness.reporting.results import CONFIG, Results, read_results
from harness.statistics import outcomes, rates
from harness.statistics.agreement import both_orders
from harness.statistics.rates import Outcome

RUN_PROMPTS, RUN_RESPONSES, CURVES = "prompts.jsonl", "responses.jsonl", "metrics"
TEACHER = "teacher"
COLOURS = 8  # c0 … c7 in report.css
MOST_POINTS = 400  # of one line or one method's cloud: more is not seen, and makes the page heavy
FEW_POINTS = 30  # a line of so few shows its points

# Controls and bidirectional overrides are invisible, or disguise text: shown by code point, here and in report.js.
UNSEEN = re.compile("[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]")


class RunPrompt(Prompt):
    prompt_set: str


class RunResponse(Record):
    """What one system (the teacher, a method, …) answered to one prompt."""

    prompt_set: str
    prompt_id: str
    system: str
    text: str
    tokens: int
    finish: str


@dataclass(frozen=True)
class ReportData:
    """What a run's folder holds. None: the run was made before that was kept."""

    results: Results
    verdicts: Sequence[Verdict]
    metrics: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    prompts: Sequence[RunPrompt] | None = None
    responses: Sequence[RunResponse] | None = None
    config: str | None = None


def read_run(folder: Path) -> ReportData:
    """A finished run's folder, or a record of one.

    Raises:
        UserError: no results there, or a file that is not what it should be.
    """
    curves = sorted((folder / CURVES).glob("*.jsonl"))
    prompts, responses, config = folder / RUN_PROMPTS, folder / RUN_RESPONSES, folder / CONFIG
    return ReportData(
        results=read_results(folder),
        verdicts=read_records(folder / VERDICTS, Verdict),
        metrics={path.stem: [row for _, row in read_jsonl(path)] for path in curves} or None,
        prompts=read_records(prompts, RunPrompt) if prompts.is_file() else None,
        responses=read_records(responses, RunResponse) if responses.is_file() else None,
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
    )


def render(run: ReportData) -> str:
    """The page. Nothing in it is fetched, and nothing of the run's text can become code."""
    results, deciding = run.results, _deciding(run)
    style, script = (_beside(name) for name in ("report.css", "report.js"))
    return _template().render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        run=results,
        judge=_judge(results),
        warnings=_warnings(results),
        facts=_facts(results),
        colours=_colours(results),
        kinds=KINDS,
        boards=[_board(results, prompt_set) for prompt_set in results["prompt_sets"]],
        bars=[(prompt_set["name"], _bars(results, prompt_set["name"])) for prompt_set in results["prompt_sets"]],
        categories=_categories(run, deciding),
        curves=_curves(run),
        lengths=_lengths(results),
        clouds=_clouds(run, deciding),
        sweeps=_sweeps(results),
        details=_details(results),
        config=run.config,
        without=[name for name, part in (("prompts", run.prompts), ("responses", run.responses)) if part is None],
        island=_island(run, deciding),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("harness", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    return environment.get_template("report.html.j2")


def visible(value: Any) -> Any:
    """Text with its unseen characters written out; anything else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSEEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", value)
    return value


def _beside(name: str) -> str:
    return (resources.files("harness.reporting") / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# What is said of the run


def _judge(results: Results) -> Results:
    return next(judge for judge in results["judges"] if judge["name"] == results["judge"])


def _warnings(results: Results) -> list[tuple[str, str]]:
    """What a reader must know before any figure."""
    smallest = smallest_set(results)
    proxies = [judge["name"] for judge in results["judges"] if judge["misses"]]
    found = []
    if smallest < RANKABLE_PROMPTS:
        found.append(
            (
                "Too small to rank.",
                f"The smallest set has {smallest} judged prompts and there is one seed: differences of tens of points "
                "are noise. This run demonstrates the road; rows stand in a fixed order.",
            )
        )
    if proxies:
        found.append(
            (
                f"The judge is a declared proxy ({', '.join(proxies)}).",
                "No one, human or model, has read these responses. It says how much a student's responses resemble "
                "its teacher's, not how good they are.",
            )
        )
    return found


def _facts(results: Results) -> list[tuple[str, str]]:
    training, pruned = results["training"], results["pruning"]
    student = "as it comes"
    if pruned:
        change = pruned["parameters"] / pruned["parameters_before"] - 1
        student = f"pruned from {pruned['parameters_before']:,} to {pruned['parameters']:,} parameters ({change:+.1%})"
    return [
        ("student", f"{results['pair']['student']}, {student}"),
        ("teacher", results["pair"]["teacher"]),
        (
            "training",
            f"{training['prompts']} prompts of {training['prompt_set']}; "
            f"teacher at {sampling_text(training['sampling'])} ({training['cut_share']:.0%} of its responses cut)",
        ),
        ("evaluation", f"everyone at {sampling_text(results['evaluation']['sampling'])}"),
        ("run", f"seed {results['seed']}, {results['date']}, harness {results['harness']}, {results['name']}"),
        ("to reproduce", results["command"]),
    ]


def _systems(results: Results) -> list[str]:
    """All that were judged, methods first, each once."""
    place = {"method": 0, "control": 1, "untrained": 2, "ceiling": 3}
    kinds = {row["method"]: row["kind"] for row in results["rows"]}
    return sorted(kinds, key=lambda name: place[kinds[name]])


def _colours(results: Results) -> dict[str, str]:
    """A system's class of colour, the same on the whole page; grey for those that were not trained."""
    kinds = {row["method"]: row["kind"] for row in results["rows"]}
    trained = [name for name in _systems(results) if kinds[name] in ("method", "control")]
    grey = {"untrained": "start", "ceiling": "ceiling"}
    return {name: f"c{trained.index(name) % COLOURS}" if name in trained else grey[kinds[name]] for name in kinds}


# Tables


@dataclass(frozen=True)
class Cell:
    """text, and what it sorts by; a rate may carry (low, rate, high) in −1..1 to draw, and the least of its range."""

    text: str
    sort: float | str
    drawn: tuple[float, float, float] | None = None
    least: float = -1.0
    system: str = ""

    def place(self, value: float) -> str:
        """Where a value lies in the drawing, as SVG writes it."""
        return f"{100 * (value - self.least) / (1 - self.least):.2f}%"


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False


def _text(value: str, system: str = "") -> Cell:
    return Cell(value, value.casefold(), system=system)


def _number(value: float, text: str) -> Cell:
    return Cell(text, float(value))


def _rate(rate: float | None, interval: Sequence[float] | None, signed: bool) -> Cell:
    if rate is None or interval is None:
        return Cell("none judged", "")
    drawn = (float(interval[0]), float(rate), float(interval[1]))
    return Cell(rate_cell(rate, interval, signed), float(rate), drawn, least=-1.0 if signed else 0.0)


def _rounded(cell: Cell) -> Cell:
    """A rate without decimals, for tables of many columns."""
    if cell.drawn is None:
        return cell
    low, rate, high = (100 * value for value in cell.drawn)
    return replace(cell, text=f"{rate:+.0f}% [{low:+.0f}, {high:+.0f}]")


def _ranked(results: Results, prompt_set: str) -> list[Results]:
    """The main judge's rows of a set: by preference rate where the run is large enough, else in a fixed order."""
    rows = [r for r in results["rows"] if r["prompt_set"] == prompt_set and r["judge"] == results["judge"]]
    return ordered(results, rows)


def _board(results: Results, prompt_set: Results) -> Table:
    rows = _ranked(results, prompt_set["name"])
    judge, teacher = _judge(results), prompt_set["teacher"]
    flips = any(row.get("flips", {"n": 0})["n"] for row in rows)
    identical = any("identical" in row for row in rows)
    columns = ["method", "", "preference rate", "win rate", "wins", "ties", "losses", "N", "missing", "failed verdicts"]
    columns += [*(["flips"] if flips else []), *(["identical"] if identical else []), "tokens", "cut"]
    domain = "in-domain" if prompt_set["in_domain"] else "out-of-domain"
    return Table(
        caption=prompt_set["name"],
        columns=columns,
        rows=[
            [
                _text(row["method"], row["method"]),
                _text(KINDS[row["kind"]]),
                _rate(row["preference_rate"], row["preference_interval"], signed=True),
                _rate(row["win_rate"], row["win_interval"], signed=False),
                *(_number(row[key], str(row[key])) for key in ("wins", "ties", "losses", "n", "missing")),
                _number(row["failed_verdicts"], str(row["failed_verdicts"])),
                *([_flips(row)] if flips else []),
                *([_number(row.get("identical", 0), str(row.get("identical", "")))] if identical else []),
                _number(row["mean_tokens"], f"{row['mean_tokens']:.0f}"),
                _number(row["cut_share"], f"{row['cut_share']:.0%}"),
            ]
            for row in rows
        ],
        note=(
            f"{domain}, {prompt_set['prompts']} prompts, judge {judge['name']}{' (a proxy)' if judge['misses'] else ''}"
            f"; the teacher's responses: {teacher['mean_tokens']:.0f} tokens, {teacher['cut_share']:.0%} cut"
        ),
    )


def _flips(row: Results) -> Cell:
    flips = row.get("flips", {"n": 0})
    if not flips["n"]:
        return Cell("", "")
    return _number(flips["count"] / flips["n"], f"{flips['count']} of {flips['n']}")


@dataclass(frozen=True)
class Bar:
    """Shares of wins, ties and losses in percent, with the counts, and the preference rate with its interval."""

    method: str
    parts: Sequence[tuple[str, int, float, float]]  # name, count, start, width
    cell: Cell
    missing: int


def _bars(results: Results, prompt_set: str) -> list[Bar]:
    bars = []
    for row in _ranked(results, prompt_set):
        counts = [("win", row["wins"]), ("tie", row["ties"]), ("loss", row["losses"])]
        n, start, parts = row["n"], 0.0, []
        for name, count in counts:
            width = 100 * count / n if n else 0.0
            parts.append((name, count, start, width))
            start += width
        cell = _rate(row["preference_rate"], row["preference_interval"], signed=True)
        bars.append(Bar(row["method"], parts, cell, row["missing"]))
    return bars


def _details(results: Results) -> list[Table]:
    """Other judges, agreement, contrasts, length, and what was trained."""
    tables: list[Table | None] = [_other_judges(results), _agreement(results)]
    tables += [_plain_table(title, results.get(key)) for title, key in SECTIONS]
    tables.append(_trained(results))
    return [table for table in tables if table and table.rows]


SECTIONS = (("Method against method", "contrasts"), ("Length", "length"))  # sections of results.json shown as they are


def _other_judges(results: Results) -> Table:
    rows = [row for row in results["rows"] if row["judge"] != results["judge"]]
    return Table(
        caption="The other judges",
        columns=["method", "prompt set", "judge", "preference rate", "win rate", "wins", "ties", "losses", "missing"],
        rows=[
            [
                _text(row["method"], row["method"]),
                _text(row["prompt_set"]),
                _text(row["judge"]),
                _rate(row["preference_rate"], row["preference_interval"], signed=True),
                _rate(row["win_rate"], row["win_interval"], signed=False),
                *(_number(row[key], str(row[key])) for key in ("wins", "ties", "losses", "missing")),
            ]
            for row in rows
        ],
        note=f"Rates by each judge alone; the board's judge is {results['judge']}.",
        folded=True,
    )


def _agreement(results: Results) -> Table:
    def kappa(pair: Results) -> Cell:
        if pair["kappa"] is None:
            return Cell("undefined", "")
        ends = pair["kappa_interval"]
        return _number(pair["kappa"], f"{pair['kappa']:.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""))

    return Table(
        caption="Agreement of the judges",
        columns=["judges", "Cohen's κ", "same outcome", "missing", "note"],
        rows=[
            [
                _text(f"{pair['first']}, {pair['second']}"),
                kappa(pair),
                _number(pair["agreement"]["count"], f"{pair['agreement']['count']} of {pair['n']}"),
                _number(pair["missing"], str(pair["missing"])),
                _text(pair["note"]),
            ]
            for pair in results.get("agreement", [])
        ],
        note="On win, tie and loss, all rows and sets together; the interval of κ resamples prompts.",
    )


def _trained(results: Results) -> Table:
    return Table(
        caption="What was trained",
        columns=["method", "starts from", "learning rate", "epochs", "batch", "steps", "tokens", "settings", "why"],
        rows=[
            [
                _text(entry["name"], entry["name"]),
                _text({"student": "untrained student", "sft": "SFT student"}[entry["settings"]["start"]]),
                _number(entry["settings"]["learning_rate"], f"{entry['settings']['learning_rate']:g}"),
                _text("by tokens" if entry["token_matched"] else str(entry["settings"]["epochs"])),
                _number(entry["settings"]["batch_size"], str(entry["settings"]["batch_size"])),
                _number(entry["facts"]["steps"], str(entry["facts"]["steps"])),
                _number(entry["facts"]["tokens"], f"{entry['facts']['tokens']:,}"),
                _text(
                    ", ".join(
                        f"{key} {_short(value)}"
                        for key, value in entry["settings"].items()
                        if key not in MethodSettings.model_fields
                    )
                ),
                _text(f"control of {entry['controls']}: {entry['why']}" if entry["controls"] else ""),
            ]
            for entry in results["methods"]
        ],
    )


def _plain_table(title: str, section: Any) -> Table | None:
    """Rows of plain data as they are: a column a key, nested objects spread over columns."""
    rows = [_flat(row) for row in _as_rows(section)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return None
    return Table(title, [name.replace("_", " ") for name in columns], [[_any(r.get(c)) for c in columns] for r in rows])


def _as_rows(section: Any) -> list[Mapping[str, Any]]:
    if isinstance(section, Mapping):
        if section and all(isinstance(value, Mapping) for value in section.values()):
            return [{"": name, **value} for name, value in section.items()]
        lists = [value for value in section.values() if isinstance(value, list)]
        rows = [row for found in lists for row in found if isinstance(row, Mapping)]
        return rows or ([section] if section else [])
    return [row for row in section or [] if isinstance(row, Mapping)]


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key} ")
        else:
            found[f"{before}{key}"] = value
    return found


def _any(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _number(value, _short(value)) if is_number else _text(_short(value))


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    return str(value)


# Charts

WIDTH, HEIGHT = 290, 195
LEFT, RIGHT, TOP, BOTTOM = 40, WIDTH - 10, 10, HEIGHT - 36  # of the plot within
Point = tuple[float, float]


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
class Mark:
    """A point as drawn."""

    x: str
    y: str
    title: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Drawn:
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
    series: Sequence[Drawn]
    zero: str = ""  # where y = 0 lies, if inside
    rule: str = ""  # an upright line: its x
    rule_label: str = ""
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
) -> Chart:
    """A chart's geometry. Points that are not finite are left out; percent writes y in points of a hundred."""
    kept = [_finite(one) for one in series]
    xs = [x for one in kept for x, _ in one.points] + ([rule[0]] if rule else [])
    ys = [y for one in kept for _, y in one.points] + [
        end for one in kept for ends in one.spread if ends for end in ends
    ]
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
        [(across(tick), _tick(tick)) for tick in ticks(x_low, x_high)],
        [(down(tick / factor), _tick(tick)) for tick in ticks(y_low * factor, y_high * factor)],
        [_drawn(one, across, down) for one in kept],
        zero=down(0) if y_low < 0 < y_high else "",
        rule=across(rule[0]) if rule else "",
        rule_label=rule[1] if rule else "",
    )


def _drawn(series: Series, across: Callable[[float], str], down: Callable[[float], str]) -> Drawn:
    line = " ".join(f"{across(x)},{down(y)}" for x, y in series.points) if series.joined else ""
    spread = series.spread or [None] * len(series.points)
    titles = series.titles or [f"{series.label}: {x:.4g}, {y:.4g}" for x, y in series.points]
    marks = [
        Mark(across(x), down(y), title, *((down(ends[0]), down(ends[1])) if ends else ()))
        for (x, y), ends, title in zip(series.points, spread, titles, strict=True)
    ]
    return Drawn(
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


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.10g}".replace("-", "−") if 1e-4 <= abs(value) < 1e7 else f"{value:.4g}".replace("-", "−")


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points: means of equal runs of neighbours."""
    size = ceil(len(points) / most) if points else 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


# title, y label, (key of a metrics row, label, colour)
PANELS: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    ("loss", "loss", (("loss", "loss", "c0"),)),
    (
        "log-probs",
        "log-prob of a response",
        (
            ("log_prob_chosen", "chosen", "c0"),
            ("log_prob_rejected", "rejected", "c1"),
            ("log_prob", "teacher's response", "c0"),
        ),
    ),
    (
        "margins",
        "nats from the reference",
        (
            ("margin", "margin", "c2"),
            ("shift_chosen", "chosen", "c0"),
            ("shift_rejected", "rejected", "c1"),
        ),
    ),
    ("accuracy", "share of pairs", (("accuracy", "chosen above rejected", "c0"),)),
)


def _curves(run: ReportData) -> list[tuple[str, list[Chart]]] | None:
    """Each training's charts, in the order of the run."""
    if run.metrics is None:
        return None
    order = [entry["name"] for entry in run.results["methods"] if entry["name"] in run.metrics]
    names = order + [name for name in run.metrics if name not in order]
    return [(name, _training_charts(run.metrics[name])) for name in names]


def _training_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    charts = []
    for title, y_label, lines in PANELS:
        series = [
            Series(label, colour, thinned([(float(r["step"]), float(r[key])) for r in rows if _plotted(r, key)]))
            for key, label, colour in lines
        ]
        series = [one for one in series if one.points]
        if series:
            charts.append(chart(title, "step", y_label, series, (0.0, 1.0) if title == "accuracy" else None))
    return charts


def _plotted(row: Mapping[str, Any], key: str) -> bool:
    values = (row.get("step"), row.get(key))
    return all(isinstance(value, int | float) and isfinite(value) for value in values)


def _preference_title(label: str, row: Results) -> str:
    return f"{label}: {rate_cell(row['preference_rate'], row['preference_interval'], signed=True)}"


def _lengths(results: Results) -> list[Chart]:
    """Mean length against preference rate, a chart a prompt set."""
    colours = _colours(results)
    charts = []
    for prompt_set in results["prompt_sets"]:
        rows = [row for row in _ranked(results, prompt_set["name"]) if row["preference_rate"] is not None]
        series = [
            Series(
                row["method"],
                colours[row["method"]],
                [(row["mean_tokens"], row["preference_rate"])],
                joined=False,
                spread=[tuple(row["preference_interval"])],
                titles=[f"{_preference_title(row['method'], row)}, {row['mean_tokens']:.0f} tokens"],
            )
            for row in rows
        ]
        mean = prompt_set["teacher"]["mean_tokens"]
        if series:
            charts.append(
                chart(
                    prompt_set["name"],
                    "mean tokens of a response",
                    "preference rate, %",
                    series,
                    (-1.05, 1.05),
                    rule=(mean, f"teacher: {mean:.0f} tokens"),
                    percent=True,
                )
            )
    return charts


Deciding = Mapping[tuple[str, str], Sequence[Verdict]]  # by prompt set and candidate


def _clouds(run: ReportData, deciding: Deciding) -> list[Chart]:
    """Each prompt's difference in length against its mean preference, a chart a system."""
    colours = _colours(run.results)
    verdicts = [verdict for found in deciding.values() for verdict in found]
    in_tokens = all(None not in (v.candidate_tokens, v.reference_tokens) for v in verdicts)
    unit = "tokens" if in_tokens else "characters"
    charts = []
    for system in _systems(run.results):
        found = [
            _longer(v, in_tokens) for (_, name), group in deciding.items() if name == system for v in _means(group)
        ]
        points = [point for point in found if point is not None]
        if points:
            every = ceil(len(points) / MOST_POINTS)
            shown = [(x, y + _apart(i)) for i, (x, y) in enumerate(points[::every])]
            titles = [f"{x:+g} {unit}, preference {y:.2g}" for x, y in points[::every]]
            label = f"{len(shown)} of {len(points)} prompts" if every > 1 else f"{len(points)} prompts"
            series = Series(label, colours[system], shown, joined=False, titles=titles)
            difference = f"{unit} more than the teacher"
            charts.append(chart(system, difference, "preference", [series], (-0.1, 1.1), rule=(0, "")))
    return charts


def _apart(place: int) -> float:
    """A small shift, so that equal points are seen apart: always the same for the same place."""
    return 0.07 * ((place * 0.618034) % 1 - 0.5) * 2


def _means(verdicts: Iterable[Verdict]) -> list[tuple[Verdict, float]]:
    """A prompt's first verdict and the mean preference of all."""
    by_prompt: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_prompt.setdefault(verdict.prompt_id, []).append(verdict)
    means = []
    for found in by_prompt.values():
        values = [v.preference for v in found if v.preference is not None]
        if len(values) == len(found):
            means.append((found[0], sum(values) / len(values)))
    return means


def _longer(judged: tuple[Verdict, float], in_tokens: bool) -> Point | None:
    verdict, preference = judged
    ends = (
        (verdict.candidate_tokens, verdict.reference_tokens)
        if in_tokens
        else (verdict.candidate_characters, verdict.reference_characters)
    )
    return None if ends[0] is None or ends[1] is None else (float(ends[0] - ends[1]), preference)


def _sweeps(results: Results) -> list[Chart]:
    """Preference against a β that several trainings of one method differ in, all else being equal."""
    groups: dict[str, list[Results]] = {}
    for entry in results["methods"]:
        for key in _betas(entry):
            rest = {name: value for name, value in entry["settings"].items() if name != key}
            same = json.dumps([entry["method"], key, entry["token_matched"], rest], sort_keys=True)
            groups.setdefault(same, []).append(entry)
    charts = []
    for same, entries in groups.items():
        method, key = json.loads(same)[:2]
        if len({entry["settings"][key] for entry in entries}) > 1:
            others = ", ".join(f"{name} {_short(entries[0]['settings'][name])}" for name in _betas(entries[0]) - {key})
            title = f"{method} ({others})" if others else method
            charts.append(_sweep(results, title, key, sorted(entries, key=lambda entry: entry["settings"][key])))
    return charts


def _betas(entry: Results) -> set[str]:
    settings = entry["settings"].items()
    return {name for name, value in settings if name.startswith("beta") and isinstance(value, int | float)}


def _sweep(results: Results, title: str, key: str, entries: Sequence[Results]) -> Chart:
    rows = {(r["prompt_set"], r["method"]): r for r in results["rows"] if r["judge"] == results["judge"]}
    betas = [entry["settings"][key] for entry in entries]
    aside = 0.025 * (betas[-1] - betas[0])  # sets stand beside one another: their intervals overlap
    series = []
    for place, prompt_set in enumerate(results["prompt_sets"]):
        name = prompt_set["name"]
        found = [(entry, rows[name, entry["name"]]) for entry in entries if (name, entry["name"]) in rows]
        found = [(entry, row) for entry, row in found if row["preference_rate"] is not None]
        series.append(
            Series(
                name,
                f"c{place % COLOURS}",
                [(entry["settings"][key] + aside * place, row["preference_rate"]) for entry, row in found],
                spread=[tuple(row["preference_interval"]) for _, row in found],
                titles=[_preference_title(f"{name}, {key} {entry['settings'][key]:g}", row) for entry, row in found],
            )
        )
    return chart(title, key.replace("_", " "), "preference rate, %", series, (-1.05, 1.05), percent=True)


# What the judge said


def _deciding(run: ReportData) -> Deciding:
    """The verdicts that the board's figures follow from; a panel's follow from its members'."""
    judge = run.results["judge"]
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in run.verdicts:
        groups.setdefault((verdict.prompt_set, verdict.candidate), []).append(verdict)
    if judge not in SUMMARIES:
        return {key: [v for v in found if v.judge == judge] for key, found in groups.items()}
    members = _judge(run.results)["setup"]["judges"].split(", ")
    return {
        key: panel_verdicts({name: [v for v in found if v.judge == name] for name in members})[judge]
        for key, found in groups.items()
    }


def _categories(run: ReportData, deciding: Deciding) -> list[Table] | None:
    """Preference rates by category, a table a prompt set; None where no prompt has a category."""
    category = {(p.prompt_set, p.id): p.category for p in run.prompts or () if p.category}
    if not category:
        return None
    systems = _systems(run.results)
    tables = []
    for prompt_set in (known["name"] for known in run.results["prompt_sets"]):
        names = sorted({found for (where, _), found in category.items() if where == prompt_set})
        rows = []
        for name in names:
            ids = {key for (where, key), found in category.items() if where == prompt_set and found == name}
            cells = []
            for system in systems:
                found = rates(v for v in deciding.get((prompt_set, system), ()) if v.prompt_id in ids)
                cells.append(_rounded(_rate(found.preference_rate, found.preference_interval, signed=True)))
            rows.append([_text(name), _number(len(ids), str(len(ids))), *cells])
        if rows:
            tables.append(Table(prompt_set, ["category", "prompts", *systems], rows))
    return tables


def _island(run: ReportData, deciding: Deciding) -> dict[str, Any]:
    """What the browser of prompts reads; tojson writes it so that it cannot end its script."""
    outcome: dict[tuple[str, str], dict[str, Outcome]] = {}
    flipped: dict[tuple[str, str], list[str]] = {}
    for (prompt_set, system), verdicts in deciding.items():
        for prompt_id, found in outcomes(verdicts).items():
            outcome.setdefault((prompt_set, prompt_id), {})[system] = found
        for prompt_id, (first, second) in both_orders(verdicts).items():
            if (first - 0.5) * (second - 0.5) < 0:
                flipped.setdefault((prompt_set, prompt_id), []).append(system)
    responses: dict[tuple[str, str], dict[str, Any]] = {}
    for response in run.responses or ():
        place = responses.setdefault((response.prompt_set, response.prompt_id), {})
        place[response.system] = [response.text, response.tokens, response.finish]
    said: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for verdict in run.verdicts:
        by_system = said.setdefault((verdict.prompt_set, verdict.prompt_id), {})
        row = [verdict.judge, verdict.order, verdict.status, verdict.preference, verdict.detail, verdict.raw]
        by_system.setdefault(verdict.candidate, []).append(row)
    prompts = {(prompt.prompt_set, prompt.id): prompt for prompt in run.prompts or ()}
    keys = list(dict.fromkeys([*prompts, *responses, *said]))
    colours = _colours(run.results)
    return {
        "judge": run.results["judge"],
        "teacher": TEACHER,
        "systems": [[name, colours[name]] for name in _systems(run.results)],
        "prompts": [
            {
                "set": key[0],
                "id": key[1],
                **(_shown(prompts[key]) if key in prompts else {"category": "", "answer": "", "messages": []}),
                "responses": responses.get(key, {}),
                "verdicts": said.get(key, {}),
                "outcomes": outcome.get(key, {}),
                "flips": flipped.get(key, []),
            }
            for key in keys
        ],
    }


def _shown(prompt: RunPrompt) -> dict[str, Any]:
    messages = [[message.role, message.content] for message in prompt.messages]
    return {"category": prompt.category, "answer": prompt.answer, "messages": messages}
