"""Measures as ratios, Σ of values / how many, with 95% intervals over prompts, and their paired differences.

    r           Σ_p s_p / Σ_p c_p; s_p, c_p: the sum of a prompt's values in all its runs, and how many they are
    interval    r ± t √(var z / P), z_p: what prompt p says of r (`effects`); of a share Wilson's, of as many
                independent draws as its values are worth: by all systems of the set together, or, if these are fewer,
                by its own
    difference  r(first) − r(second) over the prompts, and the runs of each, that both have; `effects` has its variance

A value is a token's or a response's, and a prompt has as many as its responses have tokens: what is drawn is prompts,
each with all of its values in every run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from harness.core.records import Record
from harness.statistics.contrasts import InFamily, Scope, by_family, family_of
from harness.statistics.effects import (
    Cells,
    Compared,
    Components,
    Luck,
    compared,
    components,
    linear,
    luck,
    t_interval,
    told_apart,
)
from harness.statistics.outcomes import Floats
from harness.statistics.rates import NO_WIDTH, Interval, Z, wilson_of


class Ratio(Record):
    """Of one system on one prompt set; null where nothing was measured."""

    value: float | None = Field(description="sum of the measure's values / count")
    interval: Interval | None = Field(
        description="its 95% interval, of these checkpoints; null of one prompt alone, but of a share"
    )
    count: int = Field(description="tokens or responses that it is the mean of")
    prompts: int = Field(description="different prompts in it")


class RatioDifference(Compared):
    """first − second, in the measure's unit, on the same prompts."""


class RatioContrast(RatioDifference, InFamily, Scope):
    """A difference in one measure within one scope."""

    measure: str = Field(description="the measure")

    @property
    def distinguishable(self) -> bool:
        return told_apart(self)


Cell = tuple[float, int]  # the sum of values, and how many they are


@dataclass(frozen=True)
class Sums:
    """What was measured on one set of prompts. total, count: [measures, systems, prompts, runs], sums of values and how
    many they are; 0 where there are none."""

    measures: tuple[str, ...]
    systems: tuple[str, ...]
    total: Floats
    count: Floats

    @classmethod
    def of(
        cls,
        measures: Sequence[str],
        systems: Sequence[str],
        runs: Sequence[Mapping[tuple[str, str], Mapping[str, Cell]]],
    ) -> Self:
        """From what each run has: by (prompt id, system) the cell of each measure; other measures are passed over.

        The prompts are in the order of their ids, whatever the order in which the runs have them.
        """
        prompts = {name: place for place, name in enumerate(sorted({prompt for run in runs for prompt, _ in run}))}
        rows = {name: place for place, name in enumerate(measures)}
        columns = {name: place for place, name in enumerate(systems)}
        total, count = np.zeros((2, len(measures), len(systems), len(prompts), len(runs)))
        for number, run in enumerate(runs):
            for (prompt, system), cells in run.items():
                if system in columns:
                    for name, (value, many) in cells.items():
                        if name in rows:
                            place = rows[name], columns[system], prompts[prompt], number
                            total[place], count[place] = value, many
        return cls(tuple(measures), tuple(systems), total, count)

    @classmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """Several sets of prompts as one; measures, systems and runs are the same."""
        total, count = (np.concatenate([getattr(one, name) for one in parts], axis=2) for name in ("total", "count"))
        return replace(parts[0], total=total, count=count)

    def only(self, measures: Collection[str]) -> Self:
        """Some of the measures, in their order."""
        places = [place for place, name in enumerate(self.measures) if name in measures]
        kept = tuple(self.measures[place] for place in places)
        return replace(self, measures=kept, total=self.total[places], count=self.count[places])

    def joined(self, marks: Sequence[object]) -> Self:
        """Runs of one mark as one run, which has the values of all of them. marks: of each run."""
        where = {mark: [place for place, one in enumerate(marks) if one == mark] for mark in marks}
        total, count = (
            np.stack([found[..., places].sum(axis=-1) for places in where.values()], axis=-1)
            for found in (self.total, self.count)
        )
        return replace(self, total=total, count=count)

    def has_any(self, measure: str) -> bool:
        """Whether any system has a value."""
        return bool(self.count[self.measures.index(measure)].any())

    def has(self, measure: str, system: str) -> bool:
        """Whether any value is there."""
        return bool(self.count[self.measures.index(measure), self.systems.index(system)].any())

    def by_run(self, measure: str, system: str) -> list[float | None]:
        """Each run's ratio; None where it has none."""
        cells = self.cells(measure, system)
        totals, counts = (of.sum(axis=1).tolist() for of in (cells.total, cells.count))
        return [total / count if count else None for total, count in zip(totals, counts, strict=True)]

    def cells(self, measure: str, system: str) -> Cells:
        """Those of one row, a run being a seed."""
        place = self.measures.index(measure), self.systems.index(system)
        return Cells(self.total[place].T, self.count[place].T)


# ---- ratios


def ratios(sums: Sums, shares: Collection[str] = ()) -> dict[tuple[str, str], Ratio]:
    """By (measure, system). shares: the measures whose values lie in 0..1; the systems of a set say together how much
    values of one prompt are alike, as a table's rows do of outcomes (`rates`)."""
    found = {}
    for measure in sums.measures:
        rows = {system: _Row.of(sums.cells(measure, system)) for system in sums.systems}
        table = _effect(rows.values())
        for system, row in rows.items():
            ends = None
            if row.value is not None:
                ends = _of_share(row, row.value, table) if measure in shares else _of_mean(row, row.value)
            found[measure, system] = Ratio(value=row.value, interval=ends, count=row.count, prompts=row.prompts)
    return found


@dataclass(frozen=True)
class _Row:
    """A ratio, of how many values and prompts, and its variance by prompts; None where there are too few."""

    value: float | None
    count: int
    prompts: int
    variance: float | None

    @classmethod
    def of(cls, cells: Cells) -> _Row:
        total, count = cells.total.sum(axis=0), cells.count.sum(axis=0)
        total, count = total[count > 0], count[count > 0]
        n, many = len(count), int(count.sum())
        variance = float(linear(total, count).var(ddof=1)) / n if n > 1 else None
        return cls(float(total.sum()) / many if many else None, many, n, variance)

    @property
    def binomial(self) -> float:
        """The variance that it would have, were it the share of so many independent values of 0 and 1."""
        return self.value * (1 - self.value) / self.count if self.value is not None and 0 < self.value < 1 else 0.0


def _effect(rows: Iterable[_Row]) -> float | None:
    """How many values are worth one independent one: variance over that of independent values; None where nothing
    says."""
    known = [(row.variance, row.binomial) for row in rows if row.variance is not None and row.binomial]
    return sum(variance for variance, _ in known) / sum(alone for _, alone in known) if known else None


def _of_mean(row: _Row, centre: float) -> Interval | None:
    """The interval of a mean; none of one prompt alone, which says nothing of another."""
    if row.variance is None:
        return None
    error = row.variance**0.5
    if error <= NO_WIDTH * abs(centre):  # rounding alone: what they are all the same in has no spread to tell by
        return centre, centre
    return t_interval(centre, error, row.prompts - 1)


def _of_share(row: _Row, centre: float, table: float | None) -> Interval:
    """Wilson's, of as many independent draws as the values are worth by the larger effect, the table's or the row's
    own. Values that are all 0, or all 1, say nothing of how they come together: they are worth no more than prompts,
    as are those of a set of which no system says it."""
    own = _effect([row])
    draws = row.count / max(table, own or 0.0) if table else float(row.prompts)
    if row.prompts > 1 and own is not None:
        # with few prompts the variance is itself uncertain, as Student's t has it
        return wilson_of(centre, draws / (float(stdtrit(row.prompts - 1, 0.975)) / Z) ** 2)
    return wilson_of(centre, min(draws, float(row.prompts)))


def row_components(sums: Sums, measure: str, system: str) -> Components:
    """Of one system in one measure."""
    return components(sums.cells(measure, system))


def luck_in(parts: Sequence[Sums], measure: str, trained: Collection[str]) -> Luck | None:
    """What another seed would move in a measure: of all systems that were trained and have it, on the prompts of all
    sets together."""
    having = [one.only([measure]) for one in parts if one.has_any(measure)]
    rows = [system for system in trained if any(one.has(measure, system) for one in having)]
    if not rows:
        return None
    together = Sums.pooled(having)
    return luck([together.cells(measure, row) for row in rows])


# ---- differences


def ratio_contrasts(
    scopes: Mapping[str, Sums],
    pairs: Sequence[tuple[str, str]],
    shares: Collection[str] = (),
    untrained: Collection[str] = (),
    between: Mapping[str, Luck | None] | None = None,
) -> list[RatioContrast]:
    """Each pair of systems in each measure on each scope, measure by measure: those of one measure are families of
    Holm's. A pair of which one has nothing in the scope has no contrast there. The scopes have the same measures.
    between: of seeds, in each measure."""
    found: list[RatioContrast] = []
    for measure in next(iter(scopes.values())).measures if scopes else ():
        bounds = (-1.0, 1.0) if measure in shares else None
        known = (between or {}).get(measure)
        made = [
            RatioContrast(
                first=first,
                second=second,
                scope=scope,
                family=family_of(first, second, untrained),
                measure=measure,
                **dict(
                    compared(
                        sums.cells(measure, first),
                        sums.cells(measure, second),
                        (first not in untrained, second not in untrained),
                        known,
                        bounds,
                    )
                ),
            )
            for scope, sums in scopes.items()
            for first, second in dict.fromkeys(pairs)
            if {first, second} <= set(sums.systems) and sums.has(measure, first) and sums.has(measure, second)
        ]
        found += by_family(made, None)
    return found
