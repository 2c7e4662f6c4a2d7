"""Figures of verdict files, whoever judged: as plain data, as Markdown, and a few lines after an import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.records import Verdict
from harness.registry import did_you_mean
from harness.reporting.words import contrast_words, kappa_cell, markdown, p_cell, points_cell, rank_cell, rate_cell
from harness.statistics.agreement import Share, agreements, share
from harness.statistics.alpaca import alpaca_eval_metrics
from harness.statistics.contrasts import Contrast, contrasts, indistinguishable, ranks
from harness.statistics.length import length_controls
from harness.statistics.outcomes import (
    OK,
    ORDERS,
    STATUSES,
    Comparison,
    Ints,
    Outcomes,
    Verdicts,
    comparisons,
    from_records,
    joint_codes,
    outcomes,
)
from harness.statistics.rates import MAX_MISSING, Rates, comparison_rates, wilson

Data = dict[str, Any]
NAMED_AT_MOST = 10  # names in a line
_COMPARISON = ("prompt_set", "candidate", "reference", "judge")
_TABLE = ("prompt_set", "reference", "judge")  # what candidates are ranked within
_ONE_ORDER = "no prompt was judged in its other order; a preference for the first place is in these figures"
_ORDERS = {
    "both": "both",
    "one": f"one: {_ONE_ORDER}",
    "none": "none: the judge sees no order",
    "mixed": "not the same for all candidates and judges",
}


def statistics_of(
    verdicts: Verdicts, contrasts: Sequence[tuple[str, str]] = (), seed: int = 0, rank_incomplete: bool = False
) -> Data:
    """All figures of the verdicts, as data that JSON can hold; contrasts: pairs of candidates, declared beforehand.
    rank_incomplete: rank where more than MAX_MISSING of the prompts are missing.

    Raises:
        UserError: a contrast of what is no candidate, or of a candidate with itself.
    """
    found = outcomes(verdicts)
    _check(found, contrasts)
    rates = comparison_rates(found, seed)
    lengths = length_controls(found).items()
    return {
        "seed": seed,
        "comparisons": _comparisons(verdicts, rates),
        "neighbours": _neighbours(found, rates, seed, rank_incomplete),
        "contrasts": _contrasts(found, contrasts, seed),
        "length": [{**dict(zip(_COMPARISON, names, strict=True)), **asdict(made)} for names, made in lengths],
        "agreement": _agreement(found, rates),
        "alpaca_eval": _alpaca_eval(verdicts),
    }


def _check(found: Outcomes, pairs: Sequence[tuple[str, str]]) -> None:
    known = {found.names.candidate[code] for code in np.unique(found.candidate)}
    for pair in pairs:
        for name in pair:
            if name not in known:
                raise UserError(f"unknown candidate '{name}' in a contrast{did_you_mean(name, known)}")
        if pair[0] == pair[1]:
            raise UserError(f"a contrast of '{pair[0]}' with itself says nothing; name two candidates")


def _comparisons(verdicts: Verdicts, rates: dict[Comparison, Rates]) -> list[Data]:
    """Comparisons are in the order of the same codes here as in `outcomes.comparisons`, and so in `rates`."""
    key = joint_codes((verdicts.prompt_set, verdicts.candidate, verdicts.reference, verdicts.judge))
    places, kinds = np.unique(key, return_inverse=True)[1], len(STATUSES)
    counts = np.bincount(places * kinds + verdicts.status, minlength=len(rates) * kinds).reshape(-1, kinds)
    flips = _flips(verdicts, places, len(rates))
    return [
        {
            **dict(zip(_COMPARISON, names, strict=True)),
            **asdict(known),
            "flips": asdict(flipped),
            "verdicts": dict(zip(STATUSES, statuses, strict=True)),
        }
        for (names, known), statuses, flipped in zip(rates.items(), counts.tolist(), flips, strict=True)
    ]


def _flips(verdicts: Verdicts, places: Ints, count: int) -> list[Share]:
    """`agreement.flips` of each of `count` comparisons, those at places [verdicts]; a prompt counts once in each run.

    Wilson's interval is always that of the number of different prompts: runs of one prompt are no draws of their own.
    """
    known = verdicts.status == OK
    ok, places = verdicts.select(known), places[known]
    key = joint_codes((places, ok.prompt, ok.run))
    _, first, unit = np.unique(key, return_index=True, return_inverse=True)
    said = np.full((len(ORDERS), len(first)), np.nan)
    said[ok.order, unit] = ok.preference - 0.5  # of an order that is there twice the last one stays
    by_order = dict(zip(ORDERS, said, strict=True))
    sides = by_order["candidate_first"] * by_order["reference_first"]
    both = ~np.isnan(sides) & np.isnan(by_order["none"]) & np.isnan(by_order["unknown"])
    of, sides = places[first][both], sides[both]
    once = np.unique(joint_codes((of, ok.prompt[first][both])), return_index=True)[1]
    columns = (np.bincount(where, minlength=count).tolist() for where in (of[sides < 0], of, of[once]))
    return [
        replace(share(flipped, n), interval=wilson(round(flipped / n * prompts), prompts)) if n else share(0, 0)
        for flipped, n, prompts in zip(*columns, strict=True)
    ]


def _neighbours(found: Outcomes, rates: dict[Comparison, Rates], seed: int, incomplete: bool) -> list[Data]:
    tables: dict[tuple[str, ...], dict[str, Rates]] = {}
    for (prompt_set, candidate, reference, judge), known in rates.items():
        tables.setdefault((prompt_set, reference, judge), {})[candidate] = known
    return [
        _ranked(found, dict(zip(_TABLE, names, strict=True)), rows, seed, incomplete)
        for names, rows in tables.items()
        if len(rows) > 1
    ]


def _ranked(found: Outcomes, names: dict[str, str], rates: dict[str, Rates], seed: int, incomplete: bool) -> Data:
    """Rows by preference rate, each with its group and the first and last rank of that; or the reason why not."""
    mine = found.where(**names)
    prompts = len(np.unique(mine.prompt))
    # a prompt of which a candidate has no verdict at all is missing as much as one whose verdict failed
    missing = {name: max(known.missing_share, 1 - known.prompts / prompts) for name, known in rates.items()}
    worst = max(missing, key=lambda name: missing[name])
    if missing[worst] > MAX_MISSING and not incomplete:
        lacking = f"{missing[worst]:.1%} of the prompts are missing for {worst}"
        reason = f"{lacking}; above {MAX_MISSING:.0%} nothing is ranked unless --rank-incomplete says so"
        return {**names, "rows": [], "tests": [], "reason": reason}
    judged = {name: rate for name, known in rates.items() if (rate := known.preference_rate) is not None}
    ordered = sorted(judged, key=lambda name: (-judged[name], name))
    tests, groups = indistinguishable(mine, ordered, names["prompt_set"], seed)
    rows = [
        {
            "candidate": name,
            "preference_rate": rates[name].preference_rate,
            "group": group,
            "rank": places,
        }
        for name, group, places in zip(ordered, groups, ranks(groups), strict=True)
    ]
    return {**names, "rows": rows, "tests": [_plain(test, names) for test in tests], "reason": ""}


def _plain(made: Contrast, names: dict[str, str]) -> Data:
    told = {**asdict(made), **names, "distinguishable": made.distinguishable}
    return {"prompt_set": told.pop("scope"), **told}


def _contrasts(found: Outcomes, pairs: Sequence[tuple[str, str]], seed: int) -> list[Data]:
    """Each pair on each prompt set: a family for each reference and judge."""
    made = []
    for reference, judge in dict.fromkeys(names[2:] for names, _ in comparisons(found)) if pairs else ():
        names = {"reference": reference, "judge": judge}
        family = contrasts(found.where(**names), list(dict.fromkeys(pairs)), seed=seed)
        made += [_plain(one, names) for one in family if one.n or one.left_out]  # else neither was judged there
    return made


def _agreement(found: Outcomes, names: Iterable[Comparison]) -> list[Data]:
    """`agreements` of each two judges who share a comparison.

    Runs are kept apart only where a judge has several outcomes of a prompt: the judges may well be in a file each.
    """
    judged: dict[str, set[tuple[str, ...]]] = {}
    for *others, judge in names:
        judged.setdefault(judge, set()).add(tuple(others))
    made = []
    for pair in combinations(judged, 2):
        if judged[pair[0]] & judged[pair[1]]:
            mine = found.select(np.isin(found.judge, [found.names.judge.index(judge) for judge in pair]))
            key = joint_codes((mine.judge, mine.candidate, mine.reference, mine.prompt))
            once = len(np.unique(key)) == len(mine)
            made += agreements(replace(mine, run=np.zeros_like(mine.run)) if once else mine, pair)
    return made


def _alpaca_eval(verdicts: Verdicts) -> list[Data]:
    """AlpacaEval's figures of each candidate and reference, over all sets and judges; prompts: how many were judged."""
    known = verdicts.names
    made = []
    for pair in np.unique(np.stack([verdicts.candidate, verdicts.reference], axis=1), axis=0).tolist():
        rows = verdicts.select((verdicts.candidate == pair[0]) & (verdicts.reference == pair[1]))
        told = {"candidate": known.candidate[pair[0]], "reference": known.reference[pair[1]]}
        prompts = len(np.unique(rows.prompt[rows.status == OK]))
        made.append({**told, "prompts": prompts, **alpaca_eval_metrics(rows.preference)})
    return made


def render(found: Data) -> str:
    """Markdown of what `statistics_of` found; a section that has nothing to say is left out."""
    if not found["comparisons"]:
        return "No verdicts.\n"
    sections = {
        "Rates": _rates_text(found["comparisons"]),
        "Ranks": _ranks_text(found["neighbours"]),
        "Declared contrasts": _contrasts_text(found["contrasts"]),
        "Length": _length_text(found["length"]),
        "Agreement of judges": _agreement_text(found["agreement"]),
        "AlpacaEval": _alpaca_text(found["alpaca_eval"]),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text) + "\n"


def _section(rows: list[Data], *notes: str) -> str:
    return "\n\n".join([*([markdown(pd.DataFrame(rows))] if rows else []), *filter(None, notes)])


def _cells(row: Data, names: Iterable[str]) -> Data:
    return {name.replace("_", " "): row[name] for name in names}


def _line(text: str) -> str:
    """A text from a file, within a line."""
    return " ".join(text.split())


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(_line(name) for name in names[:NAMED_AT_MOST]) + rest


def _within(row: Data) -> str:
    return f"on {row['prompt_set']} against {row['reference']} by {row['judge']}"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:+.1f}%"


def _rates_text(rows: list[Data]) -> str:
    one = f"Orders *one*: {_ONE_ORDER}." if any(row["orders"] == "one" for row in rows) else ""
    cells = [
        {
            **_cells(row, _COMPARISON),
            "preference rate": rate_cell(row["preference_rate"], row["preference_interval"], signed=True),
            "win rate": rate_cell(row["win_rate"], row["win_interval"]),
            "half-tie win rate": rate_cell(row["half_tie_rate"], row["half_tie_interval"]),
            "mean preference": rate_cell(row["mean_preference"], row["mean_preference_interval"]),
            "W / T / L": f"{row['wins']} / {row['ties']} / {row['losses']}",
            "N": f"{row['n']}" + (f" ({row['prompts']} prompts)" if row["prompts"] != row["n"] else ""),
            "missing": f"{row['missing']} ({row['missing_share']:.1%})",
            "failed verdicts": row["failed_verdicts"],
            "orders": row["orders"],
            "flips": f"{row['flips']['count']} of {row['flips']['n']}" if row["flips"]["n"] else "",
        }
        for row in rows
    ]
    return _section(cells, "Brackets hold 95% intervals; docs/statistics.md says how each figure is made.", one)


def _ranks_text(tables: list[Data]) -> str:
    cells = [
        {
            **_cells(known, _TABLE),
            "rank": rank_cell(row),
            "candidate": row["candidate"],
            "preference rate": _rate(row["preference_rate"]),
        }
        for known in tables
        for row in known["rows"]
    ]
    note = (
        "Where rows share their ranks, none is distinguishable from the next; the first and last of them may well be."
    )
    reasons = [_line(f"- not ranked {_within(known)}: {known['reason']}") for known in tables if known["reason"]]
    return _section(cells, note if cells else "", "\n".join(reasons))


def _contrasts_text(rows: list[Data]) -> str:
    cells = [
        {
            **_cells(row, _TABLE),
            "contrast": f"{row['first']} − {row['second']}",
            "difference in points": points_cell(row["difference"], row["interval"]),
            "p": p_cell(row["p"]),
            "p after Holm": p_cell(row["p_holm"]),
            "N": row["n"],
            "left out": row["left_out"],
            "verdict": contrast_words(row),
        }
        for row in rows
    ]
    return _section(cells, "Differences of preference rates, on prompts judged for both." if cells else "")


def _length_text(rows: list[Data]) -> str:
    cells = [
        {
            **_cells(row, _COMPARISON),
            "mean length": f"{row['candidate_mean']:.0f} against {row['reference_mean']:.0f} {row['unit']}",
            "preference rate": _rate(row["preference_rate"]),
            "at equal length": ""
            if row["reason"]
            else rate_cell(row["controlled_rate"], row["controlled_interval"], True),
        }
        for row in rows
        if row["unit"]
    ]
    reasons: dict[str, list[str]] = {}
    for row in filter(lambda row: row["reason"], rows):
        reasons.setdefault(row["reason"], []).append(f"{row['candidate']} {_within(row)}")
    lines = [
        f"- no rate at equal length for {'any' if len(names) == len(rows) else _listed(names)}: {reason}"
        for reason, names in reasons.items()
    ]
    return _section(cells, "\n".join(lines))


def _agreement_text(pairs: list[Data]) -> str:
    return "\n".join(
        _line(f"- {pair['first']} and {pair['second']}: Cohen's κ {kappa_cell(pair)} over {pair['n']} outcomes")
        + f", {pair['missing']} missing"
        + (f" ({pair['note']})" if pair["note"] else "")
        for pair in pairs
    )


def _alpaca_text(pairs: list[Data]) -> str:
    lines = []
    for pair in pairs:
        figures = {name: value for name, value in pair.items() if name not in ("candidate", "reference", "prompts")}
        shown = (f"{name} {f'{v:.2f}' if isinstance(v, float) else v}" for name, v in figures.items() if v is not None)
        lines.append(
            _line(f"- AlpacaEval's figures for {pair['candidate']} against {pair['reference']}: {', '.join(shown)}")
        )
    several = any(pair["n_total"] > pair["prompts"] for pair in pairs)
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
    for column in _COMPARISON:
        names = list(dict.fromkeys(getattr(verdict, column) for verdict in verdicts))
        lines.append(f"- {column.replace('_', ' ')}s: {len(names)} ({_listed(names)})")
    lines.append(f"- orders: {_ORDERS[outcomes(from_records(verdicts)).orders_seen]}")
    for status in ("failed", "unparsable"):
        lines.append(f"- {status}: {sum(verdict.status == status for verdict in verdicts)}")
    if any(again):
        lines.append(f"- repeats: {sum(again)}; they count too, and their prompts' ids end with #2, #3 …")
    return "\n".join(lines)
