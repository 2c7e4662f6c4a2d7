"""The statistics of any verdicts, in one composition: what `stats` says, and what a board's figures are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field

from harness.core.errors import UserError
from harness.core.records import Record
from harness.core.registry import did_you_mean
from harness.statistics.agreement import JudgeAgreement, Share, agreements, share
from harness.statistics.alpaca import alpaca_eval_metrics
from harness.statistics.arena_hard import NO_LABEL, arena_hard_scores
from harness.statistics.contrasts import (
    Candidates,
    Contrast,
    Difference,
    Equivalence,
    contrasts,
    equivalence,
    indistinguishable,
    luck_of,
    ranks,
)
from harness.statistics.effects import Luck
from harness.statistics.length import LengthControl, length_controls
from harness.statistics.outcomes import (
    OK,
    ORDERS,
    STATUSES,
    ComparisonKey,
    Ints,
    Outcomes,
    Verdicts,
    joint_codes,
    outcomes,
)
from harness.statistics.outcomes import comparisons as by_comparison
from harness.statistics.rates import MAX_MISSING, Rates, comparison_rates, wilson


class _OnSet(Record):
    prompt_set: str


class RankedTable(_OnSet):
    """What candidates are ranked within."""

    reference: str
    judge: str


class Compared(Record):
    """Who was judged against whom, on what, by whom."""

    prompt_set: str
    candidate: str
    reference: str
    judge: str


class _Judged(Record):
    flips: Share
    verdicts: dict[str, int] = Field(description="by status")


class ComparisonRates(_Judged, Rates, Compared):
    """The rates of one comparison, and how its verdicts came out."""


class Ranked(Record):
    """A row in its place: its group of rows that cannot be told from the next, and that group's first and last rank."""

    candidate: str
    preference_rate: float
    group: int
    rank: tuple[int, int]


class SetContrast(Difference, Candidates, _OnSet):
    """A difference on one prompt set."""

    reference: str
    distinguishable: bool
    trained: tuple[bool, bool] = Field(description="which of the two were trained")
    methods: bool = Field(description="whether what another seed moves is in its error, so that it speaks of methods")
    equivalence: Equivalence | None = None


class _Rows(Record):
    rows: tuple[Ranked, ...]
    tests: tuple[SetContrast, ...] = Field(description="each row against the next one")
    reason: str = Field(description="why nothing is ranked; empty where it is")


class Ranking(_Rows, RankedTable):
    """The candidates of a table, by preference rate."""


class ComparedLength(LengthControl, Compared):
    """The length control of one comparison."""


class AlpacaEval(Record):
    """AlpacaEval's figures, as in `alpaca.alpaca_eval_metrics`."""

    candidate: str
    reference: str
    judge: str
    prompts: int
    win_rate: float | None
    standard_error: float | None
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float | None


class ArenaHard(Compared):
    """Arena-Hard's score of one comparison, as in `arena_hard.arena_hard_scores`."""

    games: int = Field(description="with a label")
    left_out: int = Field(description="games without one")
    score: float | None = Field(description="in percent, as v0.1 leaves games out")
    score_v2: float | None = Field(description="as v2 does: of prompts that have both games")


class Statistics(Record):
    """All figures of verdicts."""

    comparisons: tuple[ComparisonRates, ...]
    neighbours: tuple[Ranking, ...]
    contrasts: tuple[SetContrast, ...]
    length: tuple[ComparedLength, ...]
    agreement: tuple[JudgeAgreement, ...]
    alpaca_eval: tuple[AlpacaEval, ...]
    arena_hard: tuple[ArenaHard, ...] = Field(description="comparisons that have Arena-Hard's labels")


def statistics_of(
    verdicts: Verdicts,
    contrasts: Sequence[tuple[str, str]] = (),
    rank_incomplete: bool = False,
    untrained: Collection[str] = (),
    margin: float | None = None,
) -> Statistics:
    """All figures of the verdicts; runs are seeds.

    contrasts: pairs of candidates. rank_incomplete: rank where more than MAX_MISSING of the prompts are missing.
    untrained: candidates that no training made. margin: a difference that counts as none, in the rates' unit.

    Raises:
        UserError: a contrast of what is no candidate, or of a candidate with itself.
    """
    found = outcomes(verdicts)
    _check(found, contrasts)
    compared = comparisons(verdicts, found)
    between = {
        names: luck_of(found.where(reference=names[0], judge=names[1]), untrained)
        for names in dict.fromkeys(names[2:] for names in compared)
    }
    return Statistics(
        comparisons=tuple(compared.values()),
        neighbours=tuple(_neighbours(found, compared, rank_incomplete, untrained, between)),
        contrasts=tuple(_contrasts(found, contrasts, untrained, between, margin)),
        length=tuple(ComparedLength(**_named(key), **dict(made)) for key, made in length_controls(found).items()),
        agreement=tuple(_agreement(found, compared)),
        alpaca_eval=tuple(_alpaca_eval(verdicts)),
        arena_hard=tuple(_arena_hard(verdicts)),
    )


def _named(key: ComparisonKey) -> dict[str, Any]:
    return dict(zip(Compared.model_fields, key, strict=True))


def _check(found: Outcomes, pairs: Sequence[tuple[str, str]]) -> None:
    known = {found.names.candidate[code] for code in np.unique(found.candidate)}
    for pair in pairs:
        for name in pair:
            if name not in known:
                raise UserError(f"unknown candidate '{name}' in a contrast{did_you_mean(name, known)}")
        if pair[0] == pair[1]:
            raise UserError(f"a contrast of '{pair[0]}' with itself says nothing; name two candidates")


def comparisons(verdicts: Verdicts, found: Outcomes) -> dict[ComparisonKey, ComparisonRates]:
    """Every comparison of the verdicts, whose outcomes are `found`.

    They are in the order of the same codes here as in `outcomes.comparisons`, and so in the rates.
    """
    rates = comparison_rates(found)
    key = joint_codes((verdicts.prompt_set, verdicts.candidate, verdicts.reference, verdicts.judge))
    places, kinds = np.unique(key, return_inverse=True)[1], len(STATUSES)
    counts = np.bincount(places * kinds + verdicts.status, minlength=len(rates) * kinds).reshape(-1, kinds)
    flips = _flips(verdicts, places, len(rates))
    return {
        names: ComparisonRates(
            **_named(names), **dict(known), flips=flipped, verdicts=dict(zip(STATUSES, statuses, strict=True))
        )
        for (names, known), statuses, flipped in zip(rates.items(), counts.tolist(), flips, strict=True)
    }


def _flips(verdicts: Verdicts, places: Ints, count: int) -> list[Share]:
    """`agreement.flips` of each of `count` comparisons, those at places [verdicts]; a prompt counts once in each run.

    Wilson's interval is always that of the number of different prompts: runs of one prompt are no draws of their own.
    """
    known = verdicts.status == OK
    ok, places = verdicts.select(known), places[known]
    key = joint_codes((places, ok.prompt, ok.turn, ok.run, ok.sample))
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
        share(flipped, n).model_copy(update={"interval": wilson(round(flipped / n * prompts), prompts)})
        if n
        else share(0, 0)
        for flipped, n, prompts in zip(*columns, strict=True)
    ]


_Between = Mapping[tuple[str, str], Luck | None]  # of seeds, by reference and judge


def _neighbours(
    found: Outcomes,
    compared: dict[ComparisonKey, ComparisonRates],
    incomplete: bool,
    untrained: Collection[str],
    between: _Between,
) -> list[Ranking]:
    tables: dict[tuple[str, str, str], dict[str, ComparisonRates]] = {}
    for (prompt_set, candidate, reference, judge), known in compared.items():
        tables.setdefault((prompt_set, reference, judge), {})[candidate] = known
    return [
        _ranked(
            found,
            dict(zip(RankedTable.model_fields, names, strict=True)),
            rows,
            incomplete,
            untrained,
            between[names[1:]],
        )
        for names, rows in tables.items()
        if len(rows) > 1
    ]


def _ranked(
    found: Outcomes,
    names: dict[str, str],
    compared: dict[str, ComparisonRates],
    incomplete: bool,
    untrained: Collection[str],
    between: Luck | None,
) -> Ranking:
    """Rows by preference rate, each with its group and the first and last rank of that; or the reason why not."""
    mine = found.where(**names)
    prompts = len(np.unique(mine.prompt))
    # a prompt of which a candidate has no verdict at all is missing as much as one whose verdict failed
    missing = {name: max(known.missing_share, 1 - known.prompts / prompts) for name, known in compared.items()}
    worst = max(missing, key=lambda name: missing[name])
    if missing[worst] > MAX_MISSING and not incomplete:
        lacking = f"{missing[worst]:.1%} of the prompts are missing for {worst}"
        reason = f"{lacking}; above {MAX_MISSING:.0%} nothing is ranked unless --rank-incomplete says so"
        return Ranking(**names, rows=(), tests=(), reason=reason)
    tests, rows = ranking(mine, compared.items(), names["prompt_set"], untrained, between)
    told = tuple(_on_set(test, names["reference"], untrained, between) for test in tests)
    return Ranking(**names, rows=tuple(rows), tests=told, reason="")


def ranking(
    found: Outcomes,
    rows: Iterable[tuple[str, Rates]],
    scope: str,
    untrained: Collection[str] = (),
    between: Luck | None = None,
) -> tuple[list[Contrast], list[Ranked]]:
    """The rows that have a rate by it, equal ones by name: each against the next, and each with its places.

    found: one judge's outcomes on what the rows were judged on. between: of seeds, on all sets.
    """
    rates = {name: rate for name, known in rows if (rate := known.preference_rate) is not None}
    ordered = sorted(rates, key=lambda name: (-rates[name], name))
    tests, groups = indistinguishable(found, ordered, scope, untrained, between)
    places = zip(ordered, groups, ranks(groups), strict=True)
    return tests, [
        Ranked(candidate=name, preference_rate=rates[name], group=group, rank=rank) for name, group, rank in places
    ]


def _on_set(
    made: Contrast, reference: str, untrained: Collection[str], between: Luck | None, margin: float | None = None
) -> SetContrast:
    """between: of seeds, that it was tested with."""
    told = {name: value for name, value in made if name not in ("scope", "family")}
    trained = made.first not in untrained, made.second not in untrained
    # of one trained row its own luck is in what rows share: two trained rows are not known by it
    known = between is not None and (not all(trained) or between.own_degrees > 0)
    return SetContrast(
        prompt_set=made.scope,
        **told,
        reference=reference,
        distinguishable=made.distinguishable,
        trained=trained,
        methods=made.seeds > 1 and known,
        equivalence=None if margin is None else equivalence(made, margin),
    )


def _contrasts(
    found: Outcomes,
    pairs: Sequence[tuple[str, str]],
    untrained: Collection[str],
    between: _Between,
    margin: float | None,
) -> list[SetContrast]:
    """Each pair on each prompt set: families for each reference and judge."""
    made = []
    for reference, judge in dict.fromkeys(names[2:] for names, _ in by_comparison(found)) if pairs else ():
        mine = found.where(reference=reference, judge=judge)
        family = contrasts(mine, list(dict.fromkeys(pairs)), untrained=untrained)
        made += [
            _on_set(one, reference, untrained, between[reference, judge], margin)
            for one in family
            if one.n or one.left_out  # else neither was judged there
        ]
    return made


def _agreement(found: Outcomes, names: Iterable[ComparisonKey]) -> list[JudgeAgreement]:
    """`agreements` of each two judges who share a comparison.

    Runs are kept apart only where the judges share some: they may well be in a file each, and then the first outcome
    that one has of a prompt is set against the other's first.
    """
    judged: dict[str, set[tuple[str, ...]]] = {}
    for *others, judge in names:
        judged.setdefault(judge, set()).add(tuple(others))
    made: list[JudgeAgreement] = []
    for pair in combinations(judged, 2):
        if judged[pair[0]] & judged[pair[1]]:
            mine = found.select(np.isin(found.judge, [found.names.judge.index(judge) for judge in pair]))
            runs = [set(mine.run[mine.judge == judge].tolist()) for judge in np.unique(mine.judge)]
            time = _times(mine)
            apart = not time.any() or not set.intersection(*runs)
            made += agreements(replace(mine, run=time, sample=np.zeros_like(time)) if apart else mine, pair)
    return made


def _times(found: Outcomes) -> Ints:
    """[n] of each outcome, how many its judge has of the same before it: outcomes of a prompt stand together."""
    key = joint_codes((found.judge, found.candidate, found.reference, found.prompt, found.turn))
    first = np.flatnonzero(np.diff(key, prepend=-1))
    return np.arange(len(key)) - np.repeat(first, np.diff(first, append=len(key)))


def _alpaca_eval(verdicts: Verdicts) -> list[AlpacaEval]:
    """AlpacaEval's figures of each candidate and reference by each judge (its annotator), over all sets; prompts: how
    many were judged."""
    known = verdicts.names
    made = []
    columns = np.stack([verdicts.candidate, verdicts.reference, verdicts.judge], axis=1)
    for names in np.unique(columns, axis=0):
        rows = verdicts.select((columns == names).all(axis=1))
        figures = {
            "candidate": known.candidate[names[0]],
            "reference": known.reference[names[1]],
            "judge": known.judge[names[2]],
            "prompts": len(np.unique(rows.prompt[rows.status == OK])),
            **alpaca_eval_metrics(rows.preference),
        }
        made.append(AlpacaEval.model_validate(figures))
    return made


def _arena_hard(verdicts: Verdicts) -> list[ArenaHard]:
    """Of each comparison that has a game with a label; a prompt is one each time that it was asked."""
    key = joint_codes((verdicts.prompt_set, verdicts.candidate, verdicts.reference, verdicts.judge))
    made = []
    for comparison in np.unique(key[verdicts.label != NO_LABEL]):
        rows = verdicts.select(key == comparison)
        names = (rows.names.prompt_set, rows.names.candidate, rows.names.reference, rows.names.judge)
        codes = (rows.prompt_set, rows.candidate, rows.reference, rows.judge)
        asked = np.unique(joint_codes((rows.prompt, rows.turn, rows.run, rows.sample)), return_inverse=True)[1]
        one, two, three, four = (known[code[0]] for known, code in zip(names, codes, strict=True))
        figures = arena_hard_scores(rows.preference, rows.label, asked)
        made.append(ArenaHard.model_validate(_named((one, two, three, four)) | figures))
    return made
