"""The statistics of any verdicts, in one composition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np

from harness.core.errors import UserError
from harness.core.registry import did_you_mean
from harness.statistics.agreement import Share, agreements, share
from harness.statistics.alpaca import alpaca_eval_metrics
from harness.statistics.contrasts import Contrast, contrasts, indistinguishable, ranks
from harness.statistics.length import length_controls
from harness.statistics.outcomes import (
    OK,
    ORDERS,
    STATUSES,
    ComparisonKey,
    Ints,
    Outcomes,
    Verdicts,
    comparisons,
    joint_codes,
    outcomes,
)
from harness.statistics.rates import MAX_MISSING, Rates, comparison_rates, wilson

Figures = dict[str, Any]


COMPARISON = ("prompt_set", "candidate", "reference", "judge")


TABLE = ("prompt_set", "reference", "judge")  # what candidates are ranked within


def statistics_of(
    verdicts: Verdicts, contrasts: Sequence[tuple[str, str]] = (), seed: int = 0, rank_incomplete: bool = False
) -> Figures:
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
        "length": [{**dict(zip(COMPARISON, names, strict=True)), **asdict(made)} for names, made in lengths],
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


def _comparisons(verdicts: Verdicts, rates: dict[ComparisonKey, Rates]) -> list[Figures]:
    """Comparisons are in the order of the same codes here as in `outcomes.comparisons`, and so in `rates`."""
    key = joint_codes((verdicts.prompt_set, verdicts.candidate, verdicts.reference, verdicts.judge))
    places, kinds = np.unique(key, return_inverse=True)[1], len(STATUSES)
    counts = np.bincount(places * kinds + verdicts.status, minlength=len(rates) * kinds).reshape(-1, kinds)
    flips = _flips(verdicts, places, len(rates))
    return [
        {
            **dict(zip(COMPARISON, names, strict=True)),
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


def _neighbours(found: Outcomes, rates: dict[ComparisonKey, Rates], seed: int, incomplete: bool) -> list[Figures]:
    tables: dict[tuple[str, ...], dict[str, Rates]] = {}
    for (prompt_set, candidate, reference, judge), known in rates.items():
        tables.setdefault((prompt_set, reference, judge), {})[candidate] = known
    return [
        _ranked(found, dict(zip(TABLE, names, strict=True)), rows, seed, incomplete)
        for names, rows in tables.items()
        if len(rows) > 1
    ]


def _ranked(found: Outcomes, names: dict[str, str], rates: dict[str, Rates], seed: int, incomplete: bool) -> Figures:
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


def _plain(made: Contrast, names: dict[str, str]) -> Figures:
    told = {**asdict(made), **names, "distinguishable": made.distinguishable}
    return {"prompt_set": told.pop("scope"), **told}


def _contrasts(found: Outcomes, pairs: Sequence[tuple[str, str]], seed: int) -> list[Figures]:
    """Each pair on each prompt set: a family for each reference and judge."""
    made = []
    for reference, judge in dict.fromkeys(names[2:] for names, _ in comparisons(found)) if pairs else ():
        names = {"reference": reference, "judge": judge}
        family = contrasts(found.where(**names), list(dict.fromkeys(pairs)), seed=seed)
        made += [_plain(one, names) for one in family if one.n or one.left_out]  # else neither was judged there
    return made


def _agreement(found: Outcomes, names: Iterable[ComparisonKey]) -> list[Figures]:
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


def _alpaca_eval(verdicts: Verdicts) -> list[Figures]:
    """AlpacaEval's figures of each candidate and reference, over all sets and judges; prompts: how many were judged."""
    known = verdicts.names
    made = []
    for pair in np.unique(np.stack([verdicts.candidate, verdicts.reference], axis=1), axis=0).tolist():
        rows = verdicts.select((verdicts.candidate == pair[0]) & (verdicts.reference == pair[1]))
        told = {"candidate": known.candidate[pair[0]], "reference": known.reference[pair[1]]}
        prompts = len(np.unique(rows.prompt[rows.status == OK]))
        made.append({**told, "prompts": prompts, **alpaca_eval_metrics(rows.preference)})
    return made
