"""Measures as ratios, Σ of values / how many, with 95% intervals that resample prompts, and their paired differences.

    r           Σ_p s_p / Σ_p c_p; s_p, c_p: the sum of a prompt's values in all its runs, and how many they are
    interval    percentile bootstrap over prompts: one draw moves all systems, contrasts and measures of a set; none of
                one prompt alone, but of a share
    difference  r(first) − r(second) over the prompts, and the runs of each, that both have; where they have no run in
                common, over all runs of each
    p           two-sided, by letting the two change places on each prompt with a coin: were they alike, whose values
                are whose would be as likely either way. With equal counts it is the sign-flip test of `contrasts`

A value is a token's or a response's, and a prompt has as many as its responses have tokens: what is resampled, and what
changes places, is prompts, each with all of its values in every run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.core.records import Record
from harness.statistics.contrasts import EXACT, LEVEL, Scope, corrected
from harness.statistics.outcomes import Floats, Ints
from harness.statistics.rates import NO_WIDTH, RESAMPLES, Interval, drawn_sums, left_open

_AT_ONCE = 4_000_000  # numbers in one piece: 32 MB
_ROUNDING = 1e-12  # of sums of the same numbers in another order, relative to the sum of their sizes


class Ratio(Record):
    """Of one system on one prompt set; null where nothing was measured."""

    value: float | None = Field(description="sum of the measure's values / count")
    interval: Interval | None = Field(
        description="its 95% interval; but of a share without a width where prompts are alike, and null of one alone"
    )
    count: int = Field(description="tokens or responses that it is the mean of")
    prompts: int = Field(description="different prompts in it")


class RatioDifference(Record):
    """first − second, in the measure's unit, on the same prompts. Two families of Holm's a measure: on single sets, and
    over pooled domains."""

    n: int = Field(description="prompts measured for both")
    left_out: int = Field(description="prompts of either that were not measured for both")
    differing: int = Field(description="prompts on which the two differ")
    difference: float | None = Field(description="difference of the ratios over these; null where there are none")
    interval: Interval | None = Field(description="its 95% interval; null of one prompt alone, but of a share")
    p: float | None = Field(description="of a two-sided test in which the two change places prompt by prompt")
    p_holm: float | None = Field(description="p corrected (Holm) over the measure's family: single sets, or domains")


class RatioContrast(RatioDifference, Scope):
    """A difference in one measure within one scope."""

    measure: str = Field(description="the measure")

    @property
    def distinguishable(self) -> bool:
        return self.p_holm is not None and self.p_holm <= LEVEL


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
        place = self.measures.index(measure), self.systems.index(system)
        totals, counts = self.total[place].sum(axis=0).tolist(), self.count[place].sum(axis=0).tolist()
        return [total / count if count else None for total, count in zip(totals, counts, strict=True)]


# ---- ratios


def ratios(sums: Sums, shares: Collection[str] = (), seed: int = 0) -> dict[tuple[str, str], Ratio]:
    """By (measure, system).

    shares: the measures whose values lie in 0..1: there, prompts that are all alike leave open what Wilson's interval
    does.
    """
    total, count = sums.total.sum(axis=3), sums.count.sum(axis=3)
    prompts = np.count_nonzero(count, axis=2)
    found = {}
    for few in _in_pieces(len(sums.measures), 2 * len(sums.systems)):
        places = [(m, s) for m in few for s in range(len(sums.systems)) if prompts[m, s]]
        drawn = dict(zip(places, _resampled([(total[at], count[at]) for at in places], seed), strict=True))
        for m, s in product(few, range(len(sums.systems))):
            name, many = sums.measures[m], int(count[m, s].sum())
            value = float(total[m, s].sum()) / many if many else None
            bounds = (0.0, 1.0) if name in shares else None
            n = int(prompts[m, s])
            ends = None if value is None else _interval(drawn[m, s], value, n, bounds)
            found[name, sums.systems[s]] = Ratio(value=value, interval=ends, count=many, prompts=n)
    return found


def _in_pieces(measures: int, columns: int) -> list[range]:
    """Measures, so many at once as may be resampled together. columns: of each."""
    step = max(1, _AT_ONCE // (RESAMPLES * max(1, columns)))
    return [range(start, min(start + step, measures)) for start in range(0, measures, step)]


def _resampled(items: Sequence[Sequence[Floats]], seed: int) -> list[Interval]:
    """The 2.5% and 97.5% quantiles of each item's resampled ratio, or difference of two. items: (totals, counts), or
    the same of the first and the second, [prompts] each.

    What is drawn depends on the number of prompts and the seed alone.
    """
    places: dict[bytes, int] = {}  # most systems have the same counts, and contrasts the sums of their rows
    where = [[places.setdefault(column.tobytes(), len(places)) for column in columns] for columns in items]
    if not places:
        return []
    columns = np.frombuffer(b"".join(places)).reshape(len(places), -1).T
    sums = np.ascontiguousarray(drawn_sums(columns, seed, RESAMPLES).T)
    found = []
    with np.errstate(invalid="ignore"):  # a resample may hold none of a system's prompts; it has no ratio
        for total, count, *other in where:
            drawn = sums[total] / sums[count]
            if other:
                drawn -= sums[other[0]] / sums[other[1]]
            found.append(_ends(drawn))
    return found


def _ends(drawn: Floats) -> Interval:
    """As np.nanquantile has them, in a third of its time."""
    ordered = np.sort(drawn)  # NaN last
    known = len(ordered) - int(np.count_nonzero(np.isnan(ordered)))
    ends = []
    for share in (0.025, 0.975):
        place, rest = divmod(share * (known - 1), 1)
        below, above = ordered[int(place)], ordered[min(int(place) + 1, known - 1)]
        ends.append(float(below + rest * (above - below)))
    return ends[0], ends[1]


def _interval(ends: Interval, centre: float, prompts: int, bounds: Interval | None) -> Interval | None:
    """Where percentiles have no width: what Wilson's interval leaves open of a bounded value, else the value itself,
    and nothing of one prompt alone, which says nothing of another."""
    if bounds is not None:
        return ends if ends[1] - ends[0] > NO_WIDTH else left_open(centre, prompts, bounds)
    if prompts == 1:
        return None
    return ends if ends[1] - ends[0] > NO_WIDTH * abs(centre) else (centre, centre)


# ---- differences


def ratio_contrasts(
    scopes: Mapping[str, Sums], pairs: Sequence[tuple[str, str]], shares: Collection[str] = (), seed: int = 0
) -> list[RatioContrast]:
    """Each pair of systems in each measure on each scope, measure by measure: those of one measure are a family of
    Holm's. A pair of which one has nothing in the scope has no contrast there. The scopes have the same measures."""
    found: dict[str, list[RatioContrast]] = {}
    for scope, sums in scopes.items():
        for (measure, first, second), made in differences(sums, pairs, shares, seed).items():
            named = RatioContrast(first=first, second=second, scope=scope, measure=measure, **dict(made))
            found.setdefault(measure, []).append(named)
    measures = next(iter(scopes.values())).measures if scopes else ()
    return [made for measure in measures for made in corrected(found.get(measure, ()))]


@dataclass(frozen=True)
class _Pair:
    """Of the first and the second, over the runs that both have, or all where they share none: totals and counts [2,
    prompts], 0 where one was not measured. left_out: prompts of either that are not there for both."""

    totals: Floats
    counts: Floats
    left_out: int

    @property
    def n(self) -> int:
        return int(np.count_nonzero(self.counts[0]))

    @property
    def differs(self) -> NDArray[np.bool_]:
        """[prompts] whether it makes a difference that the two change places."""
        return np.asarray((self.totals[0] != self.totals[1]) | (self.counts[0] != self.counts[1]))

    @property
    def difference(self) -> float:
        first, second = self.totals.sum(axis=1) / self.counts.sum(axis=1)
        return float(first - second)

    @property
    def least(self) -> float:
        """The least size that counts as that of the difference."""
        return abs(self.difference) - _ROUNDING * float(
            (np.abs(self.totals).sum(axis=1) / self.counts.sum(axis=1)).sum()
        )


def _pair(sums: Sums, measure: int, first: int, second: int) -> _Pair:
    totals, counts = (of[measure, [first, second]] for of in (sums.total, sums.count))
    if not (counts.any(axis=1).all(axis=0)).any():  # no run in common: all runs of each, as if they were one
        totals, counts = (of.sum(axis=2, keepdims=True) for of in (totals, counts))
    known = counts > 0
    both = np.all(known, axis=0)
    either, shared = np.any(known, axis=(0, 2)), np.any(both, axis=1)
    totals, counts = (np.where(both, of, 0).sum(axis=2) for of in (totals, counts))
    return _Pair(totals, counts, int(np.count_nonzero(either & ~shared)))


def differences(
    sums: Sums, pairs: Sequence[tuple[str, str]], shares: Collection[str] = (), seed: int = 0
) -> dict[tuple[str, str, str], RatioDifference]:
    """By (measure, first, second), where both systems have values; not corrected: p_holm is p."""
    pairs = [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(sums.systems)]
    found = {}
    for few in _in_pieces(len(sums.measures), 4 * len(pairs)):
        made = {
            (sums.measures[m], first, second): _pair(sums, m, sums.systems.index(first), sums.systems.index(second))
            for m in few
            for first, second in pairs
            if sums.has(sums.measures[m], first) and sums.has(sums.measures[m], second)
        }
        some = {key: pair for key, pair in made.items() if pair.n}
        items = [[pair.totals[0], pair.counts[0], pair.totals[1], pair.counts[1]] for pair in some.values()]
        drawn = dict(zip(some, _resampled(items, seed), strict=True))
        ps = dict(zip(some, _exchanged(list(some.values()), seed), strict=True))
        for key, pair in made.items():
            difference = pair.difference if pair.n else None
            bounds = (-1.0, 1.0) if key[0] in shares else None
            found[key] = RatioDifference(
                n=pair.n,
                left_out=pair.left_out,
                differing=int(np.count_nonzero(pair.differs)),
                difference=difference,
                interval=None if difference is None else _interval(drawn[key], difference, pair.n, bounds),
                p=ps.get(key),
                p_holm=ps.get(key),
            )
    return found


def _exchanged(pairs: Sequence[_Pair], seed: int) -> list[float]:
    """Each one's p: exact where at most EXACT prompts differ, else of RESAMPLES draws and the values as they are."""
    drawn = [place for place, pair in enumerate(pairs) if np.count_nonzero(pair.differs) > EXACT]
    found = [float("nan") if place in drawn else _exact_p(pair) for place, pair in enumerate(pairs)]
    if drawn:
        wide = [pairs[place] for place in drawn]
        for place, reached in zip(drawn, _reached(wide, seed), strict=True):
            found[place] = float((1 + reached) / (1 + RESAMPLES))
    return found


def _apart(pairs: Sequence[_Pair], totals: Floats, counts: Floats) -> Floats:
    """[draws, pairs] differences of the ratios. totals, counts: [draws, pairs] of `_halves`, summed with a sign for
    each prompt: the first has half of both, and what these come to; the second half of both, and so much less."""
    total = np.array([pair.totals.sum() / 2 for pair in pairs])
    count = np.array([pair.counts.sum() / 2 for pair in pairs])
    return (total + totals) / (count + counts) - (total - totals) / (count - counts)


def _halves(sums: Floats) -> Floats:
    """[prompts] half of what the first is above the second. sums: [2, prompts]."""
    return np.asarray((sums[0] - sums[1]) / 2)


def _exact_p(pair: _Pair) -> float:
    """The share of all patterns of changed places whose difference is as large."""
    differs = pair.differs
    totals, counts = (_halves(sums)[differs, None] for sums in (pair.totals, pair.counts))
    signs = 1.0 - 2.0 * (np.arange(2 ** len(totals))[:, None] >> np.arange(len(totals)) & 1)
    return float(np.mean(np.abs(_apart([pair], signs @ totals, signs @ counts)) >= pair.least))


def _reached(pairs: Sequence[_Pair], seed: int) -> Ints:
    """[pairs] how many of RESAMPLES draws of changed places have a difference as large; one draw is of all pairs."""
    totals = np.stack([_halves(pair.totals) for pair in pairs], axis=1)
    counts = np.stack([_halves(pair.counts) for pair in pairs], axis=1)
    uneven = np.asarray(np.any(counts, axis=0))
    even, other, counts = totals[:, ~uneven], totals[:, uneven], counts[:, uneven]
    wide = [pair for pair, one in zip(pairs, uneven.tolist(), strict=True) if one]
    least = np.array([pair.least for pair in pairs])
    # where counts are equal, they are whoever stands where: the difference is twice the sum by either's count
    enough = least[~uneven] * np.array([pair.counts[0].sum() / 2 for pair in pairs])[~uneven]
    rng, reached, prompts = np.random.default_rng(seed), np.zeros(len(pairs), dtype=np.int64), len(totals)
    step = max(1, _AT_ONCE // max(prompts, len(pairs)))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        bits = np.unpackbits(rng.integers(0, 256, size=(size, -(-prompts // 8)), dtype=np.uint8), axis=1)
        signs = 1.0 - 2.0 * bits[:, :prompts]
        reached[~uneven] += np.count_nonzero(np.abs(signs @ even) >= enough, axis=0)
        if wide:
            reached[uneven] += np.count_nonzero(
                np.abs(_apart(wide, signs @ other, signs @ counts)) >= least[uneven], axis=0
            )
    return reached
