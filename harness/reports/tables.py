"""The tables of a report, and the bars beside them: what each cell says, sorts by and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

import numpy as np

from harness.core.records import Prompt, Status
from harness.reports.cells import (
    KINDS,
    contrast_words,
    kappa_cell,
    p_cell,
    points_cell,
    provenance,
    rank_cell,
    rate_cell,
    rows_of,
    slope_cell,
)
from harness.reports.charts import Deciding, colours, systems
from harness.results.schema import ContrastFigures, JudgingFigures, LengthFigures, MethodFacts, Results, Row, SetFacts
from harness.statistics.agreement import JudgeAgreement
from harness.statistics.outcomes import Outcomes, from_records, outcomes
from harness.statistics.panel import SUMMARIES
from harness.statistics.rates import rates_of

Ends = Sequence[float] | None


def text(value: str, swatch: str = "") -> Cell:
    return Cell(value, value.casefold(), swatch=swatch)


@dataclass(frozen=True)
class Cell:
    """text, and what it sorts by; a figure may carry (low, figure, high) to draw, and the range of the drawing.

    swatch: the class of colour of the system that the cell names.
    """

    text: str
    sort: float | str
    drawn: tuple[float, float, float] | None = None
    span: tuple[float, float] = (-1.0, 1.0)
    swatch: str = ""

    def place(self, value: float) -> str:
        """Where a value lies in the drawing, as SVG writes it."""
        least, most = self.span
        return f"{100 * (value - least) / (most - least):.2f}%"


class Column(NamedTuple):
    head: str
    cell: Callable[[Any], Cell]
    shown: bool = True


@dataclass(frozen=True)
class Table:
    """remark: what a reader must know before the rows. swatches: heads that name a system."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    remark: str = ""
    folded: bool = False
    swatches: Mapping[str, str] = field(default_factory=dict)

    def numeric(self, place: int) -> bool:
        """Whether a column's head stands over plain numbers."""
        cells = [row[place] for row in self.rows if row[place].sort != ""]
        return bool(cells) and all(isinstance(cell.sort, float) and not cell.drawn for cell in cells)


def table(caption: str, columns: Iterable[Column], rows: Sequence[Any], **more: Any) -> Table:
    shown = [column for column in columns if column.shown]
    return Table(caption, [c.head for c in shown], [[c.cell(row) for c in shown] for row in rows], **more)


def number(value: float, text: str) -> Cell:
    return Cell(text, float(value))


def _known(value: float | None, form: str, unit: str = "") -> Cell:
    return Cell("", "") if value is None else number(value, format(value, form) + unit)


def share(count: int, of: int) -> Cell:
    return number(count / of, f"{count} of {of}") if of else Cell("", "")


def rate(value: float | None, interval: Ends, signed: bool) -> Cell:
    if value is None or interval is None:
        return Cell("none judged", "")
    drawn = (float(interval[0]), float(value), float(interval[1]))
    return Cell(rate_cell(value, interval, signed), float(value), drawn, (-1.0 if signed else 0.0, 1.0))


def preference(row: Row) -> Cell:
    return rate(row.preference_rate, row.preference_interval, signed=True)


def _unsigned(key: str, ends: str, drawn: bool = True) -> Callable[[Any], Cell]:
    def cell(row: Row) -> Cell:
        found = rate(getattr(row, key), getattr(row, ends), signed=False)
        return found if drawn else replace(found, drawn=None)

    return cell


def _count(head: str, key: str = "", shown: bool = True) -> Column:
    return Column(head, lambda row: number(getattr(row, key or head), f"{getattr(row, key or head):,}"), shown)


# The board
ORDERS = {
    "both": "each pair judged in both orders",
    "one": "each pair judged in one order: a taste for the first place is in the figures",
    "none": "the judge sees no order",
    "mixed": "pairs judged in one order and in both",
}


def board(results: Results, prompt_set: SetFacts) -> Table:
    """The main judge's rows of a set. Columns that would be empty, or the same as another, are not there."""
    rows, known = rows_of(results, prompt_set.name), colours(results)
    orders = sorted({row.orders for row in rows})
    columns = [
        Column("method", lambda row: text(row.method, known[row.method])),
        Column("rank", _rank, any(row.rank for row in rows)),
        Column("preference rate", preference),
        Column("SD between seeds", _between, len(results.runs) > 1),
        Column("win rate", _unsigned("win_rate", "win_interval")),
        Column("kind", lambda row: text(KINDS[row.kind])),
        *(_count(head) for head in ("wins", "ties", "losses")),
        _count("N", "n"),
        _count("prompts", shown=any(row.prompts != row.n for row in rows)),
        Column("missing", _missing),
        _count("failed verdicts", "failed_verdicts"),
        Column("orders", lambda row: text(row.orders), len(orders) > 1),
        Column("flips", _flips, any(row.flips.n for row in rows)),
        _count("identical", shown=any(row.identical for row in rows)),
        Column("tokens", lambda row: _known(row.mean_tokens, ".0f")),
        Column("cut", lambda row: _known(row.cut_share, ".0%")),
        Column("half-tie win rate", _unsigned("half_tie_rate", "half_tie_interval", drawn=False)),
        Column("mean preference", _unsigned("mean_preference", "mean_preference_interval", drawn=False)),
    ]
    return table(
        prompt_set.name, columns, rows, note=_board_note(results, prompt_set, orders), remark=_remark(prompt_set)
    )


def _remark(prompt_set: SetFacts) -> str:
    return f"Not ranked: {prompt_set.unranked}." if prompt_set.unranked else ""


def _board_note(results: Results, prompt_set: SetFacts, orders: Sequence[str]) -> str:
    judge, teacher = results.judge_named(results.judge), prompt_set.teacher
    parts = [
        "in-domain" if prompt_set.in_domain else "out-of-domain",
        f"{prompt_set.prompts} prompts",
        f"judge {judge.name}{' (a proxy)' if judge.misses else ''}",
    ]
    if len(orders) == 1 and judge.name not in SUMMARIES:  # a panel sees no order, but its judges may
        parts.append(ORDERS[orders[0]])
    if teacher.mean_tokens is not None:
        parts.append(f"the teacher's responses: {teacher.mean_tokens:.0f} tokens, {teacher.cut_share:.0%} cut")
    if said := provenance(prompt_set):
        parts.append(said)
    return "; ".join(parts)


def _rank(row: Row) -> Cell:
    return number(row.rank[0], rank_cell(row)) if row.rank else Cell("", "")


def _between(row: Row) -> Cell:
    """The standard deviation of the preference rate from run to run, in points."""
    if row.spread is None:
        return Cell("", "")
    return number(row.spread, f"{100 * row.spread:.1f} ({row.judged_in} runs)")


def _missing(row: Row) -> Cell:
    return number(row.missing, f"{row.missing} ({row.missing_share:.0%})" if row.missing else "0")


def _flips(row: Row) -> Cell:
    return share(row.flips.count, row.flips.n)


@dataclass(frozen=True)
class Bar:
    """Shares of wins, ties and losses in percent, with the counts, and the preference rate with its interval."""

    method: str
    swatch: str
    parts: Sequence[tuple[str, int, float, float]]  # name, count, start, width
    cell: Cell


def bars(results: Results, prompt_set: str) -> list[Bar]:
    found, known = [], colours(results)
    for row in rows_of(results, prompt_set):
        start, parts = 0.0, []
        for name, count in (("win", row.wins), ("tie", row.ties), ("loss", row.losses)):
            width = 100 * count / row.n if row.n else 0.0
            parts.append((name, count, start, width))
            start += width
        found.append(Bar(row.method, known[row.method], parts, preference(row)))
    return found


def categories(results: Results, prompts: Mapping[tuple[str, str], Prompt], deciding: Deciding) -> list[Table]:
    """Preference rates by category, a table a prompt set that has categories. Prompts are by set and id."""
    known, tables = colours(results), []
    judged = {key: outcomes(from_records(verdicts)) for key, verdicts in deciding.items()}
    for prompt_set in (found.name for found in results.prompt_sets):
        ids: dict[str, set[str]] = {}
        for (where, key), prompt in prompts.items():
            if where == prompt_set and prompt.category:
                ids.setdefault(prompt.category, set()).add(key)
        rows = [
            [
                text(name),
                number(len(ids[name]), str(len(ids[name]))),
                *(_within(judged.get((prompt_set, system)), ids[name]) for system in systems(results)),
            ]
            for name in sorted(ids)
        ]
        if rows:
            tables.append(Table(prompt_set, ["category", "prompts", *systems(results)], rows, swatches=known))
    return tables


def _within(judged: Outcomes | None, ids: set[str]) -> Cell:
    """A rate without decimals, for tables of many columns. judged: a comparison; counted are those on `ids`."""
    if judged is None:
        return rate(None, None, signed=True)
    found = rates_of([judged.select(np.array([name in ids for name in judged.prompt_ids], dtype=bool))])[0]
    cell = rate(found.preference_rate, found.preference_interval, signed=True)
    if cell.drawn is None:
        return cell
    low, value, high = (100 * end for end in cell.drawn)
    return replace(cell, text=f"{value:+.0f}% [{low:+.0f}, {high:+.0f}]")


# Method against method, and length
def contrasts(results: Results) -> Table:
    rows = results.contrasts
    sets = {prompt_set.name for prompt_set in results.prompt_sets}
    ends = [abs(end) for row in rows if row.interval for end in row.interval]
    # as wide as what is there needs: most differences are small, and would be dots in −200 … +200
    most = next(bound for bound in (0.25, 0.5, 1.0, 2.0) if max(ends, default=0.0) <= bound)

    def scope(row: ContrastFigures) -> Cell:
        return text(row.scope if row.scope in sets else f"{row.scope}, sets pooled")

    def difference(row: ContrastFigures) -> Cell:
        if row.difference is None or row.interval is None:
            return Cell("none judged for both", "")
        drawn = (float(row.interval[0]), float(row.difference), float(row.interval[1]))
        return Cell(points_cell(row.difference, row.interval), drawn[1], drawn, (-most, most))

    return table(
        "Differences of preference rates",
        [
            Column("first − second", lambda row: text(f"{row.first} − {row.second}")),
            Column("on", scope),
            Column("difference, points", difference),
            Column("p", lambda row: _p(row.p)),
            Column("p (Holm)", lambda row: _p(row.p_holm)),
            _count("N", "n"),
            _count("left out", "left_out"),
            Column("in words", lambda row: text(contrast_words(row))),
        ],
        rows,
        note=f"judge {', '.join(dict.fromkeys(row.judge for row in rows))}; "
        f"drawn from −{100 * most:.0f} to +{100 * most:.0f} points",
    )


def _p(value: float | None) -> Cell:
    return Cell(p_cell(value), "" if value is None else value)


def length_controls(results: Results) -> Table:
    rows, known = results.length, colours(results)

    def mean(key: str) -> Callable[[Any], Cell]:
        return lambda row: _known(getattr(row, key), ".0f", f" {row.unit}")

    def controlled(row: LengthFigures) -> Cell:
        if row.reason:
            return Cell(row.reason, "")
        return rate(row.controlled_rate, row.controlled_interval, signed=True)

    def plain(row: LengthFigures) -> Cell:
        value = row.preference_rate
        return Cell("", "") if value is None else number(value, f"{100 * value:+.1f}%")

    def slope(row: LengthFigures) -> Cell:
        if row.coefficient is None:
            return Cell("", "")
        return number(row.coefficient, f"{slope_cell(row)} for {row.spread:.0f} {row.unit}")

    return table(
        "At equal length",
        [
            Column("method", lambda row: text(row.method, known.get(row.method, "start"))),
            Column("set", lambda row: text(row.prompt_set)),
            Column("judge", lambda row: text(row.judge), len({row.judge for row in rows}) > 1),
            Column("preference rate", plain),
            Column("at equal length", controlled),
            Column("mean length", mean("candidate_mean")),
            Column("the teacher's", mean("reference_mean")),
            Column("logits for one SD of length", slope, any(row.coefficient is not None for row in rows)),
            _count("N", "n"),
        ],
        rows,
        folded=all(row.reason for row in rows),
    )


def no_control(results: Results) -> str:
    """Why no row has a rate at equal length, where that is one reason for all."""
    reasons = {row.reason for row in results.length}
    return reasons.pop() if len(reasons) == 1 else ""


# Judges and trainings
def judges(results: Results) -> list[Table]:
    found = [_judging(results), _other_judges(results), _agreement(results)]
    return [one for one in found if one.rows]


def _judging(results: Results) -> Table:
    def forms(row: JudgingFigures) -> Cell:
        return text(", ".join(f"{form}: {count:,}" for form, count in row.forms.items()))

    rows = results.judging
    return table(
        "Each judge's verdicts",
        [
            Column("judge", lambda row: text(row.judge)),
            _count("verdicts"),
            *(_count(status) for status in get_args(Status)),
            _count("identical"),
            Column("contradicts itself", lambda row: share(row.flips, row.both_orders)),
            Column("ties", lambda row: share(row.ties, row.outcomes)),
            _count("read in part", "truncated"),
            Column("asked for", forms, any(row.forms for row in rows)),
        ],
        rows,
        note="All candidates and sets together. Contradictions are of prompts judged in both orders, ties of outcomes.",
    )


def _other_judges(results: Results) -> Table:
    known = colours(results)
    return table(
        "The other judges",
        [
            Column("method", lambda row: text(row.method, known[row.method])),
            Column("prompt set", lambda row: text(row.prompt_set)),
            Column("judge", lambda row: text(row.judge)),
            Column("preference rate", preference),
            Column("win rate", _unsigned("win_rate", "win_interval")),
            *(_count(head) for head in ("wins", "ties", "losses", "missing")),
        ],
        [row for row in results.rows if row.judge != results.judge],
        note=f"Rates by each judge alone; the board's judge is {results.judge}.",
        folded=True,
    )


def _agreement(results: Results) -> Table:
    def kappa(pair: JudgeAgreement) -> Cell:
        return Cell(kappa_cell(pair), "" if pair.kappa is None else float(pair.kappa))

    return table(
        "Agreement of the judges",
        [
            Column("judges", lambda pair: text(f"{pair.first}, {pair.second}")),
            Column("Cohen's κ", kappa),
            Column("same outcome", lambda pair: share(pair.agreement.count, pair.n)),
            _count("missing"),
            Column("note", lambda pair: text(pair.note), any(pair.note for pair in results.agreement)),
        ],
        results.agreement,
        note="On win, tie and loss, all rows and sets together; the interval of κ resamples prompts.",
    )


def trained(results: Results) -> Table:
    known = colours(results)

    def settings(entry: MethodFacts) -> Cell:
        return text(", ".join(f"{key} {_short(value)}" for key, value in entry.settings.own.items()))

    def of_settings(head: str, key: str, form: str) -> Column:
        return Column(
            head, lambda entry: number(getattr(entry.settings, key), format(getattr(entry.settings, key), form))
        )

    def of_facts(key: str) -> Column:
        return Column(key, lambda entry: number(getattr(entry.facts, key), f"{getattr(entry.facts, key):,}"))

    starts = {"student": "untrained student", "sft": "SFT student"}
    return table(
        "What was trained",
        [
            Column("method", lambda entry: text(entry.name, known.get(entry.name, "start"))),
            Column("starts from", lambda entry: text(starts[entry.settings.start])),
            of_settings("learning rate", "learning_rate", "g"),
            Column("epochs", lambda e: text("by tokens" if e.token_matched else str(e.settings.epochs))),
            of_settings("batch", "batch_size", "d"),
            of_facts("steps"),
            of_facts("tokens"),
            Column("settings", settings),
            Column("why", lambda e: text(f"control of {e.controls}: {e.why}" if e.controls else "")),
        ],
        results.methods,
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
