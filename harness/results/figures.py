"""Every figure of a board: a pure function of what was declared, of verdicts, of responses and of what was measured.

`run` makes its results with it, `leaderboard` the pooled ones of several runs, and `verify` holds results against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Any

import numpy as np

from harness.core.records import IDENTICAL, RunMeasured, RunResponse, Verdict
from harness.results.declared import Declared
from harness.results.measured import (
    disagreements,
    harms,
    luck_by_measure,
    measure_contrasts,
    measure_rows,
    sums_by_set,
)
from harness.results.schema import (
    UNTOLD,
    ContrastFigures,
    Figures,
    JudgingFigures,
    LengthFigures,
    Lengths,
    LuckFigures,
    MeasuredKind,
    Row,
    SetFigures,
    VersusFigures,
)
from harness.run.rows import TEACHER
from harness.statistics.agreement import agreements
from harness.statistics.contrasts import Contrast, contrasts, equivalence, luck_of, row_components
from harness.statistics.effects import Luck
from harness.statistics.length import length_controls
from harness.statistics.outcomes import STATUSES, ComparisonKey, Orders, Outcomes, from_runs, outcomes
from harness.statistics.panel import SUMMARIES, panel_verdicts
from harness.statistics.rates import MAX_MISSING, Rates
from harness.statistics.summary import ComparisonRates, comparisons, ranking


@dataclass(frozen=True)
class RunRows:
    """What one run made: the verdicts that were given (a panel's follow from them), the responses, and what was
    measured of them."""

    verdicts: Sequence[Verdict]
    responses: Sequence[RunResponse]
    measured: Sequence[RunMeasured] = ()

    def without(self, left_out: Mapping[str, Collection[str]]) -> RunRows:
        """The same without some prompts of a set, whoever answered them."""
        return RunRows(
            [row for row in self.verdicts if row.prompt_id not in left_out.get(row.prompt_set, ())],
            [row for row in self.responses if row.prompt_id not in left_out.get(row.prompt_set, ())],
            [row for row in self.measured if row.prompt_id not in left_out.get(row.prompt_set, ())],
        )


GroupKey = tuple[str, str, str, str, str]  # run, prompt set, candidate, reference, judge
Groups = Mapping[GroupKey, Sequence[Verdict]]


def figures(
    declared: Declared,
    runs: Mapping[str, RunRows],
    rank_incomplete: bool = False,
    seeds: Mapping[str, int] | None = None,
) -> Figures:
    """All that follows, from one run or several of the same kind.

    rank_incomplete: rank a set where more than MAX_MISSING of a row's prompts are missing. seeds: of each of several
    runs; where rows are set against each other, runs of one seed are one, which has the rows of all of them.
    """
    marks = [seeds[run] if seeds else place for place, run in enumerate(runs)]
    groups = _groups(declared, runs)
    # what was said of rows against each other is in no rate of theirs
    found, known = _compared({key: rows for key, rows in groups.items() if key[3] == TEACHER}, runs)
    _, direct = _compared({key: rows for key, rows in groups.items() if key[3] != TEACHER}, runs)
    seeded = by_seed(found, dict(zip(runs, marks, strict=True)))
    deciding = seeded.where(judge=declared.judge)
    answered = _responses(runs)
    between = luck_of(deciding, declared.untrained)
    rows = [
        Row(
            prompt_set=prompt_set,
            in_domain=in_domain,
            method=candidate,
            kind=kind,
            judge=judge,
            **{name: getattr(known[key], name) for name in Rates.model_fields}
            | {"orders": _orders(declared, known, key)},
            flips=known[key].flips,
            identical=sum(_identical(groups.get((run, prompt_set, candidate, TEACHER, judge), ())) for run in runs),
            **dict(_lengths(answered.get((prompt_set, candidate), ()))),
            **_by_run(found.where(prompt_set=prompt_set, candidate=candidate, judge=judge), runs),
            components=row_components(
                seeded.where(prompt_set=prompt_set, judge=judge),
                candidate,
                found.where(prompt_set=prompt_set, judge=judge),
            ),
            rank=None,
        )
        for prompt_set, in_domain in declared.sets.items()
        for judge in declared.judges_shown
        for candidate, kind in declared.candidates.items()
        if (key := (prompt_set, candidate, TEACHER, judge)) in known
    ]
    sets, places = [], {}
    for prompt_set, in_domain in declared.sets.items():
        shown = [row for row in rows if row.prompt_set == prompt_set and row.judge == declared.judge]
        tests, ranked = ranking(
            deciding.where(prompt_set=prompt_set),
            [(row.method, row) for row in shown],
            prompt_set,
            declared.untrained,
            between,
        )
        reason = unranked(shown, tests, rank_incomplete)
        if not reason:
            for placed in ranked:
                places[prompt_set, placed.candidate, declared.judge] = placed.rank
        teachers = answered.get((prompt_set, TEACHER), ())
        sets.append(
            SetFigures(
                name=prompt_set,
                in_domain=in_domain,
                prompts=len({response.prompt_id for response in teachers}),
                teacher=_lengths(teachers),
                unranked=reason,
                detectable=max((test.detectable for test in tests if test.detectable is not None), default=None),
            )
        )
    rows = [row.model_copy(update={"rank": places.get((row.prompt_set, row.method, row.judge))}) for row in rows]
    controls = length_controls(deciding)
    tested = tuple(
        ContrastFigures(
            **dict(made),
            distinguishable=made.distinguishable,
            declared=declared.was_declared(made.first, made.second, made.scope),
            equivalence=None if declared.margin is None else equivalence(made, declared.margin),
            margin_declared=declared.was_margin_declared(made.first, made.second, made.scope),
            primary=(made.first, made.second, made.scope) == declared.primary_in,
        )
        for made in contrasts(
            deciding, declared.contrasts, declared.domains, declared.untrained, declared.primary_declared
        )
    )
    systems: dict[str, MeasuredKind] = {TEACHER: "teacher", **declared.candidates}
    by_set = sums_by_set(declared.measures, list(systems), declared.sets, [made.measured for made in runs.values()])
    joined = {name: sums.joined(marks) for name, sums in by_set.items()}
    measured_luck = luck_by_measure(declared.measures, [*declared.candidates], declared.untrained, joined)
    compared = measure_contrasts(declared, joined, measured_luck)
    return Figures(
        prompt_sets=tuple(sets),
        rows=tuple(rows),
        judging=tuple(
            _judging(judge, groups, [*known.values(), *direct.values()])
            for judge in declared.judges_shown
            if judge not in SUMMARIES
        ),
        agreement=tuple(agreements(found, declared.judges)),
        contrasts=tested,
        length=tuple(
            LengthFigures(prompt_set=prompt_set, method=candidate, judge=declared.judge, **dict(controls[key]))
            for prompt_set in declared.sets
            for candidate in declared.candidates
            if (key := (prompt_set, candidate, TEACHER, declared.judge)) in controls
        ),
        measures=tuple(measure_rows(declared.measures, declared.sets, systems, declared.own_losses, by_set, joined)),
        measure_contrasts=tuple(compared),
        disagreements=tuple(disagreements(tested, compared)),
        harms=tuple(harms(declared, joined, measured_luck)),
        luck=tuple(_luck(name, one) for name, one in [("", between), *measured_luck.items()] if one is not None),
        versus=tuple(_versus(declared, direct)),
    )


def _luck(measure: str, found: Luck) -> LuckFigures:
    return LuckFigures(**{**vars(found), "measure": measure, "own": found.own**0.5, "shared": found.shared**0.5})


def _compared(groups: Groups, runs: Iterable[str]) -> tuple[Outcomes, dict[ComparisonKey, ComparisonRates]]:
    """The outcomes of these verdicts, and the rates of each comparison."""
    by_run = {run: [v for key in groups if key[0] == run for v in groups[key]] for run in runs}
    verdicts = from_runs(by_run, one_of_a_name=True)  # runs are pooled by their judges' digests
    found = outcomes(verdicts)
    return found, comparisons(verdicts, found)


def _versus(declared: Declared, known: Mapping[ComparisonKey, ComparisonRates]) -> list[VersusFigures]:
    """Rows that were judged against each other, on each set, by the judge that decides."""
    return [
        VersusFigures(
            first=first,
            second=second,
            prompt_set=prompt_set,
            in_domain=in_domain,
            judge=declared.judge,
            **{name: getattr(known[key], name) for name in Rates.model_fields}
            | {"orders": _orders(declared, known, key)},
            flips=known[key].flips,
        )
        for prompt_set, in_domain in declared.sets.items()
        for first, second in declared.versus
        if (key := (prompt_set, first, second, declared.judge)) in known
    ]


def by_seed(found: Outcomes, seeds: Mapping[str, int]) -> Outcomes:
    """The same with runs of one seed as one. seeds: of each run."""
    names = tuple(map(str, dict.fromkeys(seeds.values())))
    codes = np.array([names.index(str(seeds[run])) for run in found.names.run], dtype=np.int64)
    return replace(found, names=replace(found.names, run=names), run=codes[found.run])


def _orders(declared: Declared, known: Mapping[ComparisonKey, ComparisonRates], compared: ComparisonKey) -> Orders:
    """The orders of a comparison's verdicts; a panel's are those of its members."""
    prompt_set, candidate, reference, judge = compared
    members = declared.judges if judge in SUMMARIES else [judge]
    seen = {known[key].orders for member in members if (key := (prompt_set, candidate, reference, member)) in known}
    return seen.pop() if len(seen) == 1 else "mixed"


def unranked(rows: Sequence[Row], tests: Sequence[Contrast], rank_incomplete: bool = False) -> str:
    """Why the rows of a set stand in no order; empty where they do. tests: of each row against the next."""
    if not rows:
        return "nothing is judged"
    worst = max(rows, key=lambda row: row.missing_share)
    if worst.missing_share > MAX_MISSING and not rank_incomplete:
        return (
            f"{worst.missing_share:.0%} of {worst.method}'s prompts are missing, and they are seldom missing at "
            f"random: above {MAX_MISSING:.0%} nothing is ranked unless --rank-incomplete says so"
        )
    if not any(test.distinguishable for test in tests):
        return UNTOLD
    return ""


def _groups(declared: Declared, runs: Mapping[str, RunRows]) -> dict[GroupKey, list[Verdict]]:
    """The verdicts of each run, set, candidate, reference and judge, those of panels too."""
    groups: dict[GroupKey, list[Verdict]] = {}
    for run, made in runs.items():
        for row in made.verdicts:
            groups.setdefault((run, row.prompt_set, row.candidate, row.reference, row.judge), []).append(row)
    if len(declared.judges) > 1:
        for compared in dict.fromkeys(key[:4] for key in list(groups)):
            members = {name: groups.get((*compared, name), []) for name in declared.judges}
            for panel, verdicts in panel_verdicts(members).items():
                groups[(*compared, panel)] = verdicts
    return groups


def _responses(runs: Mapping[str, RunRows]) -> dict[tuple[str, str], list[RunResponse]]:
    """By prompt set and system."""
    found: dict[tuple[str, str], list[RunResponse]] = {}
    for made in runs.values():
        for response in made.responses:
            found.setdefault((response.prompt_set, response.system), []).append(response)
    return found


def _identical(verdicts: Sequence[Verdict]) -> int:
    """Identical responses to a prompt: nobody was asked about those."""
    return len({(verdict.prompt_id, verdict.sample) for verdict in verdicts if verdict.detail == IDENTICAL})


def _lengths(responses: Sequence[RunResponse]) -> Lengths:
    n = len(responses)
    return Lengths(
        mean_tokens=sum(response.tokens for response in responses) / n if n else None,
        cut_share=sum(response.finish == "length" for response in responses) / n if n else None,
    )


def _by_run(found: Outcomes, runs: Mapping[str, RunRows]) -> dict[str, Any]:
    """Each run's preference rate (None where it has none), and their standard deviation: what another seed moves."""
    judged = [found.where(run=run).judged for run in runs]
    by_run = [float(mine.value.mean()) if len(mine) else None for mine in judged]
    known = [rate for rate in by_run if rate is not None]
    return {"by_run": by_run, "spread": stdev(known) if len(known) > 1 else None}


def _judging(judge: str, groups: Groups, known: Iterable[ComparisonRates]) -> JudgingFigures:
    """One judge's verdicts over everything, counted."""
    own = [verdict for key, verdicts in groups.items() if key[4] == judge for verdict in verdicts]
    mine = [comparison for comparison in known if comparison.judge == judge]
    return JudgingFigures(
        judge=judge,
        verdicts=len(own),
        **{status: sum(comparison.verdicts[status] for comparison in mine) for status in STATUSES},
        identical=sum(verdict.detail == IDENTICAL for verdict in own),
        truncated=sum(verdict.truncated for verdict in own),
        forms=dict(Counter(verdict.form for verdict in own if verdict.form)),
        flips=sum(comparison.flips.count for comparison in mine),
        both_orders=sum(comparison.flips.n for comparison in mine),
        ties=sum(comparison.ties for comparison in mine),
        outcomes=sum(comparison.n for comparison in mine),
    )


def judged_outcomes(declared: Declared, runs: Mapping[str, RunRows], seeds: Mapping[str, int]) -> Outcomes:
    """The outcomes against the teacher by the judge that decides; runs of one seed are one."""
    groups = _groups(declared, runs)
    by_run = {
        run: [v for key in groups if key[0] == run and key[3:] == (TEACHER, declared.judge) for v in groups[key]]
        for run in runs
    }
    return by_seed(outcomes(from_runs(by_run, one_of_a_name=True)), seeds)
