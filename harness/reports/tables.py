"""The tables of a report, and the bars beside them: what each cell says, sorts by and draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.config.study import in_words
from harness.core.records import Prompt
from harness.measures.measure import GROUPS, Group, direction
from harness.reports import columns as c
from harness.reports import measured as m
from harness.reports import searched
from harness.reports.cells import (
    HARM_SAID,
    NO_BOUND,
    OWN_LOSS_SAID,
    difference_unit,
    points_cell,
    provenance,
    relation_words,
    resolution,
    temperatures,
)
from harness.reports.charts import Deciding, colours, systems
from harness.reports.columns import Cell, Column, rate, text
from harness.reports.findings import Whom, mark_of, mixed
from harness.reports.judges_apart import Apart
from harness.reports.measured import Measured
from harness.results.schema import (
    ContrastFigures,
    MeasureContrast,
    MeasureFacts,
    MethodFacts,
    Results,
    Row,
    SearchFacts,
    SetFacts,
    TryFacts,
)
from harness.statistics.contrasts import Family
from harness.statistics.effects import Compared
from harness.statistics.outcomes import Outcomes, from_records, outcomes
from harness.statistics.panel import SUMMARIES
from harness.statistics.rates import Rates, rates_of


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


def table(caption: str, columns: Iterable[Column[Any]], rows: Sequence[Any], **more: Any) -> Table:
    shown = list(columns)
    cells = [[column.cell(row) for column in shown] for row in rows]
    return Table(caption, [column.head for column in shown], cells, **more)


def where(shown: bool, *found: Column[Any]) -> Sequence[Column[Any]]:
    """Columns that are there under a condition."""
    return found if shown else ()


# The board
ORDERS = {
    "both": "each pair judged in both orders",
    "one": "each pair judged in one order: a taste for the first place is in the figures",
    "none": "the judge sees no order",
    "mixed": "pairs judged in one order and in both",
}


def board(results: Results, prompt_set: SetFacts) -> Table:
    """The main judge's rows of a set. Columns that would be empty, or the same as another, are not there."""
    rows, known = results.rows_of(prompt_set.name), colours(results)
    orders = sorted({row.orders for row in rows})
    columns = [
        c.method(known),
        *where(any(row.rank for row in rows), c.RANK),
        c.PREFERENCE,
        *where(len(results.runs) > 1, c.SPREAD),
        *c.components(rows),
        c.WIN,
        c.KIND,
        *(c.WINS, c.TIES, c.LOSSES, c.N),
        *where(any(row.prompts != row.n for row in rows), c.PROMPTS),
        c.MISSING,
        c.FAILED,
        *where(len(orders) > 1, c.ORDERS),
        *where(any(row.flips.n for row in rows), c.FLIPS),
        *where(any(row.identical for row in rows), c.IDENTICAL),
        # the table of texts has it
        *where(not m.is_measured(results, prompt_set.name, "length"), c.TOKENS),
        *where(not m.is_measured(results, prompt_set.name, "cut"), c.CUT),
        c.HALF_TIE,
        c.MEAN_PREFERENCE,
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
    if said := relation_words(results):
        parts.append(said)
    if len(orders) == 1 and judge.name not in SUMMARIES:  # a panel sees no order, but its judges may
        parts.append(ORDERS[orders[0]])
    if teacher.mean_tokens is not None and not m.is_measured(results, prompt_set.name, "length"):
        parts.append(f"the teacher's responses: {teacher.mean_tokens:.0f} tokens, {teacher.cut_share:.0%} cut")
    if said := provenance(prompt_set):
        parts.append(said)
    if said := resolution(results, prompt_set):
        parts.append(said)
    return "; ".join(parts)


@dataclass(frozen=True)
class Bar:
    """Shares of wins, ties and losses in percent, with the counts, and the preference rate with its interval."""

    method: str
    swatch: str
    parts: Sequence[tuple[str, int, float, float]]  # name, count, start, width
    cell: Cell


def bars(results: Results, prompt_set: str) -> list[Bar]:
    found, known = [], colours(results)
    for row in results.rows_of(prompt_set):
        start, parts = 0.0, []
        for name, count in (("win", row.wins), ("tie", row.ties), ("loss", row.losses)):
            width = 100 * count / row.n if row.n else 0.0
            parts.append((name, count, start, width))
            start += width
        found.append(Bar(row.method, known[row.method], parts, c.PREFERENCE.cell(row)))
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
        there = [system for system in systems(results) if (prompt_set, system) in judged]
        rows = []
        for name in sorted(ids):
            found = rates_of([_on(judged[prompt_set, system], ids[name]) for system in there])
            by_system = dict(zip(there, found, strict=True))
            cells = [_without_decimals(by_system.get(system)) for system in systems(results)]
            rows.append([text(name), c.number(len(ids[name]), str(len(ids[name]))), *cells])
        if rows:
            tables.append(Table(prompt_set, ["category", "prompts", *systems(results)], rows, swatches=known))
    return tables


def _on(judged: Outcomes, ids: set[str]) -> Outcomes:
    return judged.select(np.array([name in ids for name in judged.prompt_ids], dtype=bool))


def _without_decimals(found: Rates | None) -> Cell:
    """A rate for tables of many columns."""
    if found is None:
        return rate(None, None, signed=True)
    cell = rate(found.preference_rate, found.preference_interval, signed=True)
    if cell.drawn is None:
        return cell
    low, value, high = (100 * end for end in cell.drawn)
    return replace(cell, text=f"{value:+.0f}% [{low:+.0f}, {high:+.0f}]")


# Measures
_CAPTIONS: Mapping[Group, str] = {"fidelity": "Fidelity to the teacher", "text": "What the responses are like"}


def measures(results: Results, prompt_set: SetFacts) -> list[Table]:
    """Every measure of a set with its intervals, a table a group."""
    known, found = colours(results), []
    for group in GROUPS:
        rows = [row for row in m.systems(results, prompt_set.name, group) if row.values]
        shown = m.present(m.of_group(results, group), rows)
        pooled = len(results.runs) > 1 and group == "fidelity"
        columns: list[Column[Any]] = [c.method(known)]
        for one in shown:
            parts = c.measure_components(one, rows) if group == "fidelity" else []
            columns += [
                drawn_measure(one, rows),
                *where(pooled, c.measure_spread(one).named(f"{one.head}: SD of runs")),
                *(part.named(f"{one.head}: {part.head}") for part in parts),
            ]
        read = temperatures(shown, results)
        own = any(value.own_loss for row in rows for value in row.values.values())
        found.append(
            table(
                f"{_CAPTIONS[group]}: {prompt_set.name}",
                columns,
                rows,
                note=f"each column drawn over its own range{f'; {read}' if read else ''}",
                remark=" ".join(
                    text for text, so in ((OWN_LOSS_SAID, own), (HARM_SAID, any(row.harmed for row in rows))) if so
                ),
            )
        )
    return [one for one in found if one.rows]


def drawn_measure(facts: MeasureFacts, rows: Sequence[Measured]) -> Column[Measured]:
    """A measure of each system with its interval, drawn over the range that the rows have."""
    known = [row.values[facts.name] for row in rows if facts.name in row.values]
    ends = [end for one in known for end in one.interval or ()]
    span = (min(ends), max(ends)) if ends and max(ends) > min(ends) else None
    plain = c.measure(facts, rows)

    def cell(row: Measured) -> Cell:
        found = row.values.get(facts.name)
        if found is None or found.value is None or found.interval is None or span is None:
            return plain.cell(row)
        return replace(plain.cell(row), drawn=(found.interval[0], found.value, found.interval[1]), span=span)

    return replace(plain, cell=cell)


def costs(results: Results) -> Table:
    stages = dict.fromkeys(stage for cost in results.costs for stage in cost.seconds)
    return table(
        "What each row took",
        [
            c.method(colours(results)),
            *(c.TRAINED_IN_ALL, c.READ, c.SAMPLED, c.ROLLED),
            c.SECONDS,
            *map(c.stage_seconds, stages),
            *(c.PEAK_MEMORY, c.DEVICE),
        ],
        results.costs,
        note="tokens, and seconds by stage, with all that the row rests on, as if nothing were shared with others; "
        "peak memory is of its own training alone, on a CPU of the whole process",
        remark="Seconds of runs on different devices have no mean."
        if any(m.SEVERAL in cost.device for cost in results.costs)
        else "",
    )


def measure_contrasts(results: Results) -> list[Table]:
    """Each measure's contrasts, a table a measure, methods before anchors; the first one is open."""
    found = []
    for place, facts in enumerate(m.compared(results)):
        rows = sorted(m.contrasts_of(results, facts.name), key=lambda row: row.family == "anchors")
        own = m.own_losses(results, facts.name)
        ends = [abs(end) for row in rows for end in row.interval or ()]
        most = max(ends, default=0.0) or 1.0
        found.append(
            table(
                f"Differences of {facts.head}",
                [
                    *(
                        c.PAIR,
                        _scope(results),
                        c.marked(_drawn_difference(facts, most, place == 0), mark_of(results, facts.name)),
                        c.P,
                        c.P_HOLM,
                        c.measure_power(facts),
                    ),
                    c.measure_finding(facts, own, Whom.of(results, facts.name), power=False).named("in words"),
                    *where(mixed(results), c.WHEN.named("when")),
                    *(c.JUDGED, c.LEFT_OUT),
                ],
                rows,
                note=f"{difference_unit(facts)}; {direction(facts.better)}; methods against each other, and against "
                "the start, are a family each of this measure, as are single sets and domains; left out: not measured "
                "for both",
                remark="" if facts.bound == "exact" else NO_BOUND,
                folded=place > 0,
            )
        )
    return found


def _drawn_difference(facts: MeasureFacts, most: float, power: bool) -> Column[MeasureContrast]:
    """power: whether what can be told is drawn; in all tables it would make the page heavy."""
    plain = c.measure_difference(facts)

    def cell(row: MeasureContrast) -> Cell:
        if row.difference is None or row.interval is None:
            return plain.cell(row)
        low, high = row.interval
        drawn = (low, row.difference, high)
        band = c.band(row.detectable, most) if power else None
        return replace(plain.cell(row), drawn=drawn, span=(-most, most), band=band)

    return replace(plain, cell=cell)


def retention(results: Results) -> Table:
    """What models still can: a row a model and task."""
    return table(
        "What the models still can",
        [c.method(colours(results)).named("model"), c.TASK, c.METRIC, c.RETAINED, c.RETAINED_BETTER, c.DOCUMENTS],
        results.retention,
        note="by lm-evaluation-harness, ± its standard error over documents",
    )


# Method against method, and length
def _scope(results: Results) -> Column[ContrastFigures | MeasureContrast]:
    """On what; a domain of several sets is told from a set of its name."""
    sets = {prompt_set.name for prompt_set in results.prompt_sets}
    return c.column("on", lambda row: row.scope if row.scope in sets else f"{row.scope}, sets pooled")


_FAMILIES: Mapping[Family, str] = {
    "primary": "The primary contrast",
    "methods": "Methods against each other",
    "anchors": "Against the start and the ceiling",
}


def contrasts(results: Results) -> list[Table]:
    """A table a family, each drawn on a scale of its own: the ceiling is far from all others."""
    found = []
    for family, caption in _FAMILIES.items():
        rows = [row for row in results.contrasts if row.family == family]
        ends = [abs(end) for row in rows if row.interval for end in row.interval]
        # as wide as what is there needs: most differences are small, and would be dots in −200 … +200
        most = next(bound for bound in (0.25, 0.5, 1.0, 2.0) if max(ends, default=0.0) <= bound)
        found.append(
            table(
                caption,
                [
                    *(
                        c.PAIR,
                        _scope(results),
                        c.marked(c.difference(most), mark_of(results)).named("difference, points"),
                    ),
                    *(c.P, *where(family != "primary", c.P_HOLM), c.POWER),
                    c.finding(Whom.of(results), power=False).named("in words"),
                    *where(any(row.equivalence for row in rows), c.EQUIVALENCE),
                    *where(mixed(results), c.WHEN.named("when")),
                    *(c.JUDGED, c.LEFT_OUT),
                ],
                rows,
                note=f"judge {', '.join(dict.fromkeys(row.judge for row in rows))}; "
                f"{'corrected for no other' if family == 'primary' else 'a family of its own'}; "
                f"drawn from −{100 * most:.0f} to +{100 * most:.0f} points",
            )
        )
    return [one for one in found if one.rows]


def versus(results: Results) -> Table:
    """Rows that were judged against each other, beside what the same pairs differ by against the teacher."""
    return table(
        "Judged against each other",
        [
            *(c.AGAINST, c.PROMPT_SET, c.DIRECT, c.WINS, c.TIES, c.LOSSES, c.N),
            *where(any(row.prompts != row.n for row in results.versus), c.PROMPTS),
            *(c.MISSING, *where(any(row.flips.n for row in results.versus), c.FLIPS)),
            *(c.indirect(results), c.indirect_finding(results)),
        ],
        results.versus,
        note=f"judge {', '.join(dict.fromkeys(row.judge for row in results.versus))}; wins are the first's",
    )


def moved(results: Results) -> Table:
    """What another seed would move, of the judge's rates and of every measure."""
    facts = {one.name: one for one in results.measured}
    return table(
        "What another seed moves",
        [
            c.column("figure", lambda row: facts[row.measure].head if row.measure in facts else "preference rate"),
            c.moved("in each trained row for itself", lambda row: (row.own, row.own_degrees), facts),
            c.moved("in all trained rows alike", lambda row: (row.shared, row.shared_degrees), facts),
            *(c.counts("rows", lambda row: row.rows), c.counts("seeds", lambda row: row.seeds)),
            c.counts("prompts", lambda row: row.prompts),
        ],
        results.luck,
        note="standard deviations; not seen: estimated at zero or below, which does not say that it is zero",
        folded=True,
    )


def length_controls(results: Results) -> Table:
    rows = results.length
    modelled = any(not row.reason for row in rows)
    return table(
        "At equal length",
        [
            c.method(colours(results)),
            c.PROMPT_SET.named("set"),
            *where(len({row.judge for row in rows}) > 1, c.JUDGE),
            c.AS_IT_IS,
            c.CONTROLLED_OR_WHY,
            c.OWN_LENGTH,
            c.TEACHERS_LENGTH,
            *where(modelled, c.DIFFICULTY, c.SLOPE_AND_SD),
            c.MODELLED,
        ],
        rows,
        remark=c.NOT_ALPACA_EVALS if modelled else "",
        folded=all(row.reason for row in rows),
    )


def no_control(results: Results) -> str:
    """Why no row has a rate at equal length, where that is one reason for all."""
    reasons = {row.reason for row in results.length}
    return reasons.pop() if len(reasons) == 1 else ""


# Judges and trainings
def judges(results: Results, apart: Apart | None = None) -> list[Table]:
    """apart: how far each row's rate is from that by the judge that decides, where the run's verdicts are here."""
    found = [_judging(results), _other_judges(results, apart or {}), _agreement(results)]
    return [one for one in found if one.rows]


def _judging(results: Results) -> Table:
    rows = results.judging
    return table(
        "Each judge's verdicts",
        [
            c.JUDGE,
            c.VERDICTS,
            *c.STATUS,
            c.ALIKE,
            c.CONTRADICTS,
            c.TIES_OF,
            c.TRUNCATED,
            *where(any(row.forms for row in rows), c.FORMS),
        ],
        rows,
        note="All candidates and sets together. Contradictions are of prompts judged in both orders, ties of outcomes.",
    )


def _other_judges(results: Results, apart: Apart) -> Table:
    def of(row: Row) -> Compared | None:
        return apart.get((row.prompt_set, row.method, row.judge))

    def difference(row: Row) -> Cell:
        known = of(row)
        if known is None or known.difference is None:
            return c.BLANK
        return c.number(100 * known.difference, points_cell(known.difference, known.interval))

    return table(
        "The other judges",
        [
            c.method(colours(results)),
            c.PROMPT_SET.named("prompt set"),
            c.JUDGE,
            c.PREFERENCE,
            *where(
                bool(apart),
                Column("difference, points", difference),
                Column("prompts of both", lambda row: c.known(known.n if (known := of(row)) else None, "d")),
            ),
            c.WIN,
            *(c.WINS, c.TIES, c.LOSSES, c.LACKING),
        ],
        [row for row in results.rows if row.judge != results.judge],
        note=f"Rates by each judge alone; the board's judge is {results.judge}."
        + (" Differences to it are over the prompts that both judged, with 95% intervals." if apart else ""),
        folded=True,
    )


def _agreement(results: Results) -> Table:
    noted = any(pair.note for pair in results.agreement)
    return table(
        "Agreement of the judges",
        [c.JUDGES, c.KAPPA.named("Cohen's κ"), c.SAME, c.UNSHARED, *where(noted, c.NOTE)],
        results.agreement,
        note="On win, tie and loss, all rows and sets together; the interval of κ resamples prompts.",
    )


def trained(results: Results) -> Table:
    why: Column[MethodFacts] = c.column(
        "why", lambda row: f"control of {row.controls}: {row.why}" if row.controls else ""
    )
    return table(
        "What was trained",
        [
            c.trained(colours(results)),
            c.START,
            c.LEARNING_RATE,
            c.EPOCHS,
            c.BATCH,
            c.STEPS,
            c.TRAINED_TOKENS,
            c.OWN_SETTINGS.named("settings"),
            why,
        ],
        results.methods,
    )


def tries(search: SearchFacts) -> Table:
    """Every try of a search."""
    found = {one.method: one for one in search.found}

    def said(one: TryFacts) -> str:
        if one.point != found[one.method].point:
            return "not told from it" if searched.as_good(one, search) else ""
        edge = searched.edge_words(found[one.method])
        return f"found; {edge}" if edge else "found"

    def value(one: TryFacts) -> Cell:
        return Cell(searched.value_words(one, search), "" if one.value is None else one.value)

    def tokens(one: TryFacts) -> Cell:
        return Cell("", "") if one.tokens is None else Cell(f"{one.tokens:,}", float(one.tokens))

    return table(
        searched.HEAD,
        [
            c.column("method", lambda one: one.method),
            c.column("settings", lambda one: in_words(one.point)),
            c.Column(search.head, value),
            c.column("", said),
            c.Column("tokens trained", tokens),
            c.Column("seconds", lambda one: Cell(f"{one.seconds:,.0f}", one.seconds)),
        ],
        search.tries,
        note=f"by {search.head} on {search.prompts} validation prompts",
    )
