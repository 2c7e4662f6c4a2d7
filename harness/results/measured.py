"""Figures of what was measured: rows, contrasts, and where measures and the judge disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import stdev

from harness.core.records import RunMeasured
from harness.measures.measure import Better
from harness.results.declared import Declared
from harness.results.schema import (
    ContrastFigures,
    Disagreement,
    Harm,
    MeasureContrast,
    MeasuredKind,
    MeasureFacts,
    MeasureRow,
)
from harness.statistics.effects import Luck
from harness.statistics.ratios import (
    RatioContrast,
    RatioDifference,
    Sums,
    luck_in,
    ratio_contrasts,
    ratios,
    row_components,
)


def sums_by_set(
    measures: Sequence[MeasureFacts],
    systems: Sequence[str],
    sets: Iterable[str],
    runs: Sequence[Sequence[RunMeasured]],
) -> dict[str, Sums]:
    """What was measured on each prompt set on which anything was."""
    found = {}
    for name in sets:
        cells = [{(row.prompt_id, row.system): row.values for row in rows if row.prompt_set == name} for rows in runs]
        if any(cells):
            found[name] = Sums.of([measure.name for measure in measures], systems, cells)
    return found


def measure_rows(
    measures: Sequence[MeasureFacts],
    sets: Mapping[str, bool],
    kinds: Mapping[str, MeasuredKind],
    own_losses: Mapping[str, Collection[str]],
    by_set: Mapping[str, Sums],
    joined: Mapping[str, Sums],
) -> list[MeasureRow]:
    """Each system in each measure that it has, set by set. sets: whether each is in-domain. kinds: each system's.
    joined: with runs of one seed as one."""
    rows = []
    for prompt_set, sums in by_set.items():
        known = ratios(sums, shares(measures))
        for measure in (measure.name for measure in measures):
            for system, kind in kinds.items():
                if not sums.has(measure, system):
                    continue
                by_run = sums.by_run(measure, system)
                values = [value for value in by_run if value is not None]
                rows.append(
                    MeasureRow(
                        measure=measure,
                        prompt_set=prompt_set,
                        in_domain=sets[prompt_set],
                        method=system,
                        kind=kind,
                        **dict(known[measure, system]),
                        by_run=tuple(by_run),
                        spread=stdev(values) if len(values) > 1 else None,
                        components=row_components(joined[prompt_set], measure, system),
                        own_loss=measure in own_losses.get(system, ()),
                    )
                )
    return rows


def shares(measures: Iterable[MeasureFacts]) -> set[str]:
    """Those whose values lie in 0..1."""
    return {measure.name for measure in measures if measure.share}


def luck_by_measure(
    measures: Iterable[MeasureFacts], candidates: Iterable[str], untrained: Collection[str], by_set: Mapping[str, Sums]
) -> dict[str, Luck | None]:
    """What another seed would move in each measure."""
    trained = [name for name in candidates if name not in untrained]
    return {measure.name: luck_in(list(by_set.values()), measure.name, trained) for measure in measures}


def measure_contrasts(
    declared: Declared, by_set: Mapping[str, Sums], between: Mapping[str, Luck | None]
) -> list[MeasureContrast]:
    """Each declared pair in each measure. between: of seeds."""
    better = {measure.name: measure.better for measure in declared.measures}
    return [
        _figures(made, better[made.measure], declared.was_declared(made.first, made.second, made.scope))
        for made in _tested(declared, declared.measures, declared.contrasts, by_set, between)
    ]


def harms(declared: Declared, by_set: Mapping[str, Sums], between: Mapping[str, Luck | None]) -> list[Harm]:
    """The rows whose students are further from their teacher than the untrained student, by each measure of fidelity
    that has a direction, whatever was declared. Looked at are all rows that were trained: in each measure those on
    single sets are a family of Holm's, those on domains of several another. between: of seeds."""
    measures = [one for one in declared.measures if one.group == "fidelity" and one.better != "neither"]
    pairs = [
        (row, start)
        for start in (name for name, kind in declared.candidates.items() if kind == "untrained")
        for row in declared.candidates
        if row not in declared.untrained
    ]
    tested = _tested(declared, measures, pairs, by_set, between)
    looks = Counter((made.measure, made.scope in declared.sets) for made in tested if made.p is not None)
    further = {measure.name: -1 if measure.better == "higher" else 1 for measure in measures}
    return [
        Harm(
            method=made.first,
            measure=made.measure,
            scope=made.scope,
            looks=looks[made.measure, made.scope in declared.sets],
            **{name: getattr(made, name) for name in RatioDifference.model_fields},
        )
        for made in tested
        if made.distinguishable and further[made.measure] * (made.difference or 0) > 0
    ]


def _tested(
    declared: Declared,
    measures: Sequence[MeasureFacts],
    pairs: Sequence[tuple[str, str]],
    by_set: Mapping[str, Sums],
    between: Mapping[str, Luck | None],
) -> list[RatioContrast]:
    """Each pair in each of the measures, measure by measure: on every set; and, families of their own, over each domain
    of several sets that have the measure. Of a single one the pool would be that set again, in a smaller family."""
    names = [measure.name for measure in measures]
    by_set = {prompt_set: sums.only(names) for prompt_set, sums in by_set.items()}
    of_all = (shares(measures), declared.untrained, between)
    tested = ratio_contrasts(by_set, pairs, *of_all)
    together: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    for name in names:
        parts = {
            domain: tuple(one for one in sets if one in by_set and by_set[one].has_any(name))
            for domain, sets in declared.domains.items()
        }
        together.setdefault(tuple((domain, sets) for domain, sets in parts.items() if len(sets) > 1), []).append(name)
    for pools, alike in together.items():
        scopes = {domain: Sums.pooled([by_set[one].only(alike) for one in sets]) for domain, sets in pools}
        tested += ratio_contrasts(scopes, pairs, *of_all)
    return sorted(tested, key=lambda made: names.index(made.measure))


def _figures(made: RatioContrast, better: Better, declared: bool) -> MeasureContrast:
    found = ""
    if made.distinguishable and made.difference and better != "neither":
        found = made.first if (made.difference > 0) == (better == "higher") else made.second
    return MeasureContrast(**dict(made), distinguishable=made.distinguishable, declared=declared, better=found)


def disagreements(judged: Sequence[ContrastFigures], measured: Sequence[MeasureContrast]) -> list[Disagreement]:
    """The contrasts that some tell apart with the first better, and others with the second; the judge by its name."""
    better: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in judged:
        if one.distinguishable and one.difference:
            won = one.first if one.difference > 0 else one.second
            better.setdefault((one.scope, one.first, one.second), {})[one.judge] = won
    for other in measured:
        if other.better:
            better.setdefault((other.scope, other.first, other.second), {})[other.measure] = other.better
    return [
        Disagreement(
            scope=scope,
            first=first,
            second=second,
            for_first=tuple(name for name, won in found.items() if won == first),
            for_second=tuple(name for name, won in found.items() if won == second),
        )
        for (scope, first, second), found in better.items()
        if len(set(found.values())) > 1
    ]
