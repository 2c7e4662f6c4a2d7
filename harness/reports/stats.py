"""Figures of verdict files, whoever judged: as plain data, as Markdown, and a few lines after an import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.core.records import Record, Verdict
from harness.reports.cells import contrast_words, kappa_cell, markdown, p_cell, points_cell, rank_cell, rate_cell
from harness.statistics.agreement import JudgeAgreement
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.summary import (
    AlpacaEval,
    Compared,
    ComparedLength,
    Comparison,
    Ranking,
    SetContrast,
    Statistics,
    Table,
)

NAMED_AT_MOST = 10  # names in a line


_ONE_ORDER = "no prompt was judged in its other order; a preference for the first place is in these figures"


_ORDERS = {
    "both": "both",
    "one": f"one: {_ONE_ORDER}",
    "none": "none: the judge sees no order",
    "mixed": "not the same for all candidates and judges",
}


def stats_text(found: Statistics) -> str:
    """Markdown of what `statistics_of` found; a section that has nothing to say is left out."""
    if not found.comparisons:
        return "No verdicts.\n"
    sections = {
        "Rates": _rates_text(found.comparisons),
        "Ranks": _ranks_text(found.neighbours),
        "Declared contrasts": _contrasts_text(found.contrasts),
        "Length": _length_text(found.length),
        "Agreement of judges": _agreement_text(found.agreement),
        "AlpacaEval": _alpaca_text(found.alpaca_eval),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text) + "\n"


def _section(rows: list[dict[str, Any]], *notes: str) -> str:
    return "\n\n".join([*([markdown(pd.DataFrame(rows))] if rows else []), *filter(None, notes)])


def _cells(row: Record, kind: type[Record]) -> dict[str, Any]:
    return {name.replace("_", " "): getattr(row, name) for name in kind.model_fields}


def _line(text: str) -> str:
    """A text from a file, within a line."""
    return " ".join(text.split())


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(_line(name) for name in names[:NAMED_AT_MOST]) + rest


def _within(row: Comparison | ComparedLength | Ranking) -> str:
    return f"on {row.prompt_set} against {row.reference} by {row.judge}"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:+.1f}%"


def _rates_text(rows: Sequence[Comparison]) -> str:
    one = f"Orders *one*: {_ONE_ORDER}." if any(row.orders == "one" for row in rows) else ""
    cells = [
        {
            **_cells(row, Compared),
            "preference rate": rate_cell(row.preference_rate, row.preference_interval, signed=True),
            "win rate": rate_cell(row.win_rate, row.win_interval),
            "half-tie win rate": rate_cell(row.half_tie_rate, row.half_tie_interval),
            "mean preference": rate_cell(row.mean_preference, row.mean_preference_interval),
            "W / T / L": f"{row.wins} / {row.ties} / {row.losses}",
            "N": f"{row.n}" + (f" ({row.prompts} prompts)" if row.prompts != row.n else ""),
            "missing": f"{row.missing} ({row.missing_share:.1%})",
            "failed verdicts": row.failed_verdicts,
            "orders": row.orders,
            "flips": f"{row.flips.count} of {row.flips.n}" if row.flips.n else "",
        }
        for row in rows
    ]
    return _section(cells, "Brackets hold 95% intervals; docs/statistics.md says how each figure is made.", one)


def _ranks_text(tables: Sequence[Ranking]) -> str:
    cells = [
        {
            **_cells(known, Table),
            "rank": rank_cell(row),
            "candidate": row.candidate,
            "preference rate": _rate(row.preference_rate),
        }
        for known in tables
        for row in known.rows
    ]
    note = (
        "Where rows share their ranks, none is distinguishable from the next; the first and last of them may well be."
    )
    reasons = [_line(f"- not ranked {_within(known)}: {known.reason}") for known in tables if known.reason]
    return _section(cells, note if cells else "", "\n".join(reasons))


def _contrasts_text(rows: Sequence[SetContrast]) -> str:
    cells = [
        {
            **_cells(row, Table),
            "contrast": f"{row.first} − {row.second}",
            "difference in points": points_cell(row.difference, row.interval),
            "p": p_cell(row.p),
            "p after Holm": p_cell(row.p_holm),
            "N": row.n,
            "left out": row.left_out,
            "verdict": contrast_words(row),
        }
        for row in rows
    ]
    return _section(cells, "Differences of preference rates, on prompts judged for both." if cells else "")


def _length_text(rows: Sequence[ComparedLength]) -> str:
    cells = [
        {
            **_cells(row, Compared),
            "mean length": f"{row.candidate_mean:.0f} against {row.reference_mean:.0f} {row.unit}",
            "preference rate": _rate(row.preference_rate),
            "at equal length": "" if row.reason else rate_cell(row.controlled_rate, row.controlled_interval, True),
        }
        for row in rows
        if row.unit
    ]
    reasons: dict[str, list[str]] = {}
    for row in filter(lambda row: row.reason, rows):
        reasons.setdefault(row.reason, []).append(f"{row.candidate} {_within(row)}")
    lines = [
        f"- no rate at equal length for {'any' if len(names) == len(rows) else _listed(names)}: {reason}"
        for reason, names in reasons.items()
    ]
    return _section(cells, "\n".join(lines))


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
        figures = pair.model_dump(exclude={"candidate", "reference", "prompts"})
        shown = (f"{name} {f'{v:.2f}' if isinstance(v, float) else v}" for name, v in figures.items() if v is not None)
        lines.append(_line(f"- AlpacaEval's figures for {pair.candidate} against {pair.reference}: {', '.join(shown)}"))
    several = any(pair.n_total > pair.prompts for pair in pairs)
    note = "A prompt has several verdicts, and standard_error takes each for a draw of its own: it may be too small."
    return _section([], "\n".join(lines), note if several else "")


def imported(verdicts: list[Verdict], source: str) -> str:
    """What an import found, as lines for people; source: the format, or the files."""
    keys = [(v.prompt_id, v.prompt_set, v.candidate, v.reference, v.judge, v.order) for v in verdicts]
    there = set(keys)
    cut = [(prompt.rpartition("#"), names) for prompt, *names in keys]
    again = [number.isdecimal() and (before, *names) in there for (before, _, number), names in cut]
    prompts = {(v.prompt_set, v.prompt_id) for v, repeat in zip(verdicts, again, strict=True) if not repeat}
    lines = [f"{len(verdicts)} verdicts from {_line(source)}", f"- prompts: {len(prompts)}"]
    for column in Compared.model_fields:
        names = list(dict.fromkeys(getattr(verdict, column) for verdict in verdicts))
        lines.append(f"- {column.replace('_', ' ')}s: {len(names)} ({_listed(names)})")
    lines.append(f"- orders: {_ORDERS[outcomes(from_records(verdicts)).orders_seen]}")
    for status in ("failed", "unparsable"):
        lines.append(f"- {status}: {sum(verdict.status == status for verdict in verdicts)}")
    if any(again):
        lines.append(f"- repeats: {sum(again)}; they count too, and their prompts' ids end with #2, #3 …")
    return "\n".join(lines)
