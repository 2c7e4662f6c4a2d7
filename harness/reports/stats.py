"""Figures of verdict files, whoever judged: as plain data, as Markdown, and a few lines after an import."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from harness.core.records import Record, Verdict
from harness.core.units import first_named
from harness.reports import columns as c
from harness.reports.cells import kappa_cell, told_from
from harness.reports.columns import Column
from harness.reports.findings import POWER, Whom, contrast_words
from harness.statistics.agreement import JudgeAgreement
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.summary import (
    AlpacaEval,
    ArenaHard,
    Compared,
    ComparedLength,
    ComparisonRates,
    Ranked,
    RankedTable,
    Ranking,
    SetContrast,
    Statistics,
)

NAMED_AT_MOST = 10  # names in a line
_NO_DIFFICULTY = (
    "Difficulty *no term*: no other candidate was judged on these prompts, so that nothing says how hard each is."
)
_ONE_ORDER = "no prompt was judged in its other order; a preference for the first place is in these figures"
_ORDERS = {
    "both": "both",
    "one": f"one: {_ONE_ORDER}",
    "none": "none: the judge sees no order",
    "mixed": "not the same for all candidates and judges",
}


_INTERVALS = (
    "Brackets hold 95% intervals over prompts, which hold the checkpoints that were judged fixed; docs/statistics.md "
    "says how each figure is made."
)


def stats_text(found: Statistics) -> str:
    """Markdown of what `statistics_of` found; a section that has nothing to say is left out."""
    if not found.comparisons:
        return "No verdicts.\n"
    sections = {
        "Rates": _rates_text(found.comparisons),
        "Ranks": _ranks_text(found.neighbours),
        "Contrasts, chosen afterwards": _contrasts_text(found.contrasts),
        "Length": _length_text(found.length),
        "Agreement of judges": _agreement_text(found.agreement),
        "AlpacaEval": _alpaca_text(found.alpaca_eval),
        "Arena-Hard": _arena_text(found.arena_hard),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text) + "\n"


def _section(columns: Sequence[Column[Any]], rows: Sequence[Any], *notes: str) -> str:
    return "\n\n".join(filter(None, [c.markdown(columns, rows), *notes]))


def _names(kind: type[Record], within: str = "") -> list[Column[Any]]:
    """A column for each name that says what a row, or a part of it, is about."""
    return [c.column(name.replace("_", " "), attrgetter(within + name)) for name in kind.model_fields]


def _line(text: str) -> str:
    """A text from a file, within a line."""
    return " ".join(text.split())


def _listed(names: Sequence[str]) -> str:
    return first_named(map(_line, names), NAMED_AT_MOST)


def _within(row: ComparisonRates | ComparedLength | Ranking | ArenaHard) -> str:
    return f"on {row.prompt_set} against {row.reference} by {row.judge}"


def _rates_text(rows: Sequence[ComparisonRates]) -> str:
    one = f"Orders *one*: {_ONE_ORDER}." if any(row.orders == "one" for row in rows) else ""
    columns = [
        *_names(Compared),
        c.PREFERENCE,
        c.WIN,
        c.HALF_TIE,
        c.MEAN_PREFERENCE,
        c.OUTCOMES,
        c.N_AND_PROMPTS,
        c.MISSING_SHARE,
        c.FAILED,
        c.ORDERS,
        c.FLIPS_ALONE,
    ]
    return _section(columns, rows, _INTERVALS, one)


def _ranks_text(tables: Sequence[Ranking]) -> str:
    rows = [_Place(table, row) for table in tables for row in table.rows]
    columns: list[Column[_Place]] = [
        *_names(RankedTable, "table."),
        c.RANK.of(lambda place: place.row),
        c.column("candidate", lambda place: place.row.candidate),
        c.AS_IT_IS.of(lambda place: place.row),
    ]
    note = (
        "Where rows share their ranks, none is distinguishable from the next; the first and last of them may well be."
    )
    can = [
        _line(f"- neighbours {_within(table)}: told apart {told_from(size)}")
        for table in tables
        if (size := max((test.detectable for test in table.tests if test.detectable is not None), default=None))
    ]
    reasons = [_line(f"- not ranked {_within(table)}: {table.reason}") for table in tables if table.reason]
    return _section(columns, rows, note if rows else "", "\n".join([*can, *reasons]))


class _Place(NamedTuple):
    table: Ranking
    row: Ranked


def _contrasts_text(rows: Sequence[SetContrast]) -> str:
    columns = [
        *_names(RankedTable),
        c.PAIR.named("contrast"),
        c.difference(),
        c.P,
        c.P_HOLM.named("p after Holm"),
        *([c.EQUIVALENCE] if any(row.equivalence for row in rows) else []),
        c.JUDGED,
        c.LEFT_OUT,
        c.column("finding", lambda row: contrast_words(row, Whom.of_one(row))),
    ]
    notes = [
        "Differences of preference rates, on prompts judged for both. They were named after the verdicts were there: "
        "whoever has looked at the rates above has chosen with their help.",
        f"{POWER}.",
        _whom(rows),
    ]
    return _section(columns, rows, *(notes if rows else []))


def _whom(rows: Sequence[SetContrast]) -> str:
    said = {
        "Of one run: what is found is of these checkpoints.": any(row.seeds == 1 for row in rows),
        "Several files are several seeds: random draws, of which the test has what another one would move.": any(
            row.methods for row in rows
        ),
        "Where no two trained candidates share two files and prompts of both, nothing is known of what a seed moves: "
        "what is found is of these checkpoints.": any(row.seeds > 1 and not row.methods for row in rows),
    }
    return " ".join(text for text, true in said.items() if true)


def _length_text(rows: Sequence[ComparedLength]) -> str:
    columns = [*_names(Compared), c.BOTH_LENGTHS, c.AS_IT_IS, c.CONTROLLED, c.DIFFICULTY]
    sized = [row for row in rows if row.unit]
    modelled = any(not row.reason for row in rows)
    alone = any(row.difficulty is False for row in rows)
    reasons: dict[str, list[str]] = {}
    for row in filter(lambda row: row.reason, rows):
        reasons.setdefault(row.reason, []).append(f"{row.candidate} {_within(row)}")
    lines = [
        f"- no rate at equal length for {'any' if len(names) == len(rows) else _listed(names)}: {reason}"
        for reason, names in reasons.items()
    ]
    return _section(
        columns, sized, "\n".join(lines), _NO_DIFFICULTY if alone else "", c.NOT_ALPACA_EVALS if modelled else ""
    )


def _agreement_text(pairs: Sequence[JudgeAgreement]) -> str:
    return "\n".join(
        _line(f"- {pair.first} and {pair.second}: Cohen's κ {kappa_cell(pair)} over {pair.n} outcomes")
        + f", {pair.missing} missing"
        + (f" ({pair.note})" if pair.note else "")
        for pair in pairs
    )


def _alpaca_text(pairs: Sequence[AlpacaEval]) -> str:
    lines = []
    for pair in pairs:
        figures = pair.model_dump(exclude={"candidate", "reference", "judge", "prompts"})
        shown = (f"{name} {f'{v:.2f}' if isinstance(v, float) else v}" for name, v in figures.items() if v is not None)
        compared = f"{pair.candidate} against {pair.reference} by {pair.judge}"
        lines.append(_line(f"- AlpacaEval's figures for {compared}: {', '.join(shown)}"))
    several = any(pair.n_total > pair.prompts for pair in pairs)
    note = "A prompt has several verdicts, and standard_error takes each for a draw of its own: it may be too small."
    return _section([], [], "\n".join(lines), note if several else "")


def _arena_text(rows: Sequence[ArenaHard]) -> str:
    lines = []
    for row in rows:
        by_version = [(row.score, "v0.1"), (row.score_v2, "v2")]
        known = {f"{score:.2f}%": version for score, version in by_version if score is not None}  # once where alike
        shown = ", ".join(f"{score} by {version}" if len(known) > 1 else score for score, version in known.items())
        out = f", {row.left_out} without a label" if row.left_out else ""
        named = f"{row.candidate} {_within(row)}"
        lines.append(_line(f"- Arena-Hard's score of {named}: {shown or 'none'} ({row.games} games{out})"))
    return "\n".join(lines)


def imported(verdicts: list[Verdict], source: str) -> str:
    """What an import found, as lines for people; source: the format, or the files."""
    prompts = {(verdict.prompt_set, verdict.prompt_id) for verdict in verdicts}
    lines = [f"{len(verdicts)} verdicts from {_line(source)}", f"- prompts: {len(prompts)}"]
    for column in Compared.model_fields:
        names = list(dict.fromkeys(getattr(verdict, column) for verdict in verdicts))
        lines.append(f"- {column.replace('_', ' ')}s: {len(names)} ({_listed(names)})")
    lines.append(f"- orders: {_ORDERS[outcomes(from_records(verdicts)).orders_seen]}")
    for status in ("failed", "unparsable"):
        lines.append(f"- {status}: {sum(verdict.status == status for verdict in verdicts)}")
    if turns := sorted({verdict.turn for verdict in verdicts} - {0}):
        lines.append(f"- turns: {', '.join(map(str, turns))}; those of one prompt have an outcome each")
    if again := sum(verdict.repeat > 0 for verdict in verdicts):
        lines.append(f"- repeats: {again}; they count too, each time as a sample of its prompt")
    return "\n".join(lines)
