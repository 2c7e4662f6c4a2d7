"""Measures as ratios, Σ of values / how many, with 95% intervals over prompts, and their paired differences.

    r           Σ_p s_p / Σ_p c_p; s_p, c_p: the sum of a prompt's values in all its runs, and how many they are
    z_p         r + (s_p − r c_p) / c̄: what prompt p says of r, to first order; their mean is r
    interval    r ± t √(var z / P); of a share Wilson's, of as many independent draws as leave this variance
    difference  r(first) − r(second) over the prompts, and the runs of each, that both have; where they have no run in
                common, over all runs of each. Its variance is that of z_p(first) − z_p(second), and of seeds
                (`effects`)

A value is a token's or a response's, and a prompt has as many as its responses have tokens: what is drawn is prompts,
each with all of its values in every run. Source: Cochran (1977), Sampling Techniques, ch. 6, for ratios.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from harness.core.records import Record
from harness.statistics.contrasts import InFamily, Scope, by_family, family_of
from harness.statistics.effects import (
    Compared,
    Components,
    Luck,
    Shared,
    compared,
    components,
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
        totals, counts = (of.sum(axis=1).tolist() for of in self.of_row(measure, system))
        return [total / count if count else None for total, count in zip(totals, counts, strict=True)]

    def of_row(self, measure: str, system: str) -> tuple[Floats, Floats]:
        """Totals and counts, [runs, prompts] each."""
        place = self.measures.index(measure), self.systems.index(system)
        return self.total[place].T, self.count[place].T


# ---- ratios


def linear(total: Floats, count: Floats) -> Floats:
    """What each cell, [...] totals and counts of one system, says of the ratio of all of them, to first order: the mean
    of those that have a count is the ratio; NaN of others."""
    known = count > 0
    if not known.any():
        return np.full(count.shape, np.nan)
    value = total.sum() / count.sum()
    return np.where(known, value + (total - value * count) / count[known].mean(), np.nan)


def ratios(sums: Sums, shares: Collection[str] = ()) -> dict[tuple[str, str], Ratio]:
    """By (measure, system). shares: the measures whose values lie in 0..1."""
    found = {}
    for measure in sums.measures:
        for system in sums.systems:
            total, count = (of.sum(axis=0) for of in sums.of_row(measure, system))
            total, count = total[count > 0], count[count > 0]
            many = int(count.sum())
            value = float(total.sum()) / many if many else None
            ends = None
            if value is not None:
                z = linear(total, count)
                ends = _of_share(z) if measure in shares else _of_mean(z)
            found[measure, system] = Ratio(value=value, interval=ends, count=many, prompts=len(count))
    return found


def _of_mean(z: Floats) -> Interval | None:
    """[prompts] → the interval of their mean; none of one prompt alone, which says nothing of another."""
    n, centre = len(z), float(z.mean())
    if n == 1:
        return None
    error = float(z.std(ddof=1)) / n**0.5
    if error <= NO_WIDTH * abs(centre):  # rounding alone: what they are all the same in has no spread to tell by
        return centre, centre
    return t_interval(centre, error, n - 1)


def _of_share(z: Floats) -> Interval:
    """Wilson's, of as many independent draws as would have the variance of their mean; of prompts that are all alike,
    as many as there are."""
    n, centre = len(z), float(z.mean())
    error = float(z.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    if error <= NO_WIDTH:
        return wilson_of(centre, n)
    # with few prompts the variance is itself uncertain, as Student's t has it
    error *= float(stdtrit(n - 1, 0.975)) / Z
    return wilson_of(centre, centre * (1 - centre) / error**2)


def row_components(sums: Sums, measure: str, system: str) -> Components:
    """Of one system in one measure."""
    return components(linear(*sums.of_row(measure, system)))


def luck_in(parts: Sequence[Sums], measure: str, trained: Collection[str]) -> Luck | None:
    """What another seed would move in a measure: of all systems that were trained and have it, on the prompts of all
    sets together."""
    having = [one.only([measure]) for one in parts if one.has_any(measure)]
    rows = [system for system in trained if any(one.has(measure, system) for one in having)]
    if not rows:
        return None
    together = Sums.pooled(having)
    return luck(np.stack([linear(*together.of_row(measure, row)) for row in rows]))


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
                first=pair[0],
                second=pair[1],
                scope=scope,
                family=family_of(*pair, untrained),
                measure=measure,
                **dict(difference(sums, measure, pair, bounds, sum(name not in untrained for name in pair), known)),
            )
            for scope, sums in scopes.items()
            for pair in dict.fromkeys(pairs)
            if set(pair) <= set(sums.systems) and all(sums.has(measure, name) for name in pair)
        ]
        found += by_family(made, None)
    return found


def difference(
    sums: Sums,
    measure: str,
    pair: tuple[str, str],
    bounds: Interval | None = None,
    trained: int = 2,
    between: Luck | None = None,
) -> RatioDifference:
    """Not corrected: p_holm is p."""
    (total, count), (others, many) = (sums.of_row(measure, system) for system in pair)
    shared = Shared.of(count > 0, many > 0)
    z = [
        linear(*(np.where(cells, of, 0).sum(axis=0) for of in part))
        for cells, part in ((shared.mine, (total, count)), (shared.theirs, (others, many)))
    ]
    apart = z[0] - z[1]
    return RatioDifference(
        **dict(compared(apart[~np.isnan(apart)], shared.left_out, shared.seeds, shared.parts(between, trained), bounds))
    )
