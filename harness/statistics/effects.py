"""Where the variance of a figure comes from, and what follows for the difference of two.

    y[m, s, p]          value of row m at seed s on prompt p: a mean over what was judged or measured of it there
    y[m, s, p] = μ_m + seed_s + (row × seed)_ms + prompt_p + … + rest_msp      seeds and prompts are random draws

A row's figure is a ratio, Σ of values / how many; of a rate every cell has as many, and it is a mean. What a prompt
says of it is, to first order, z_p = r + (s_p − r c_p) / c̄ with the prompt's sum s_p of c_p values: their mean is r, and
of rates z_p is the prompt's own mean. A seed moves all rows that were trained with it alike (what SFT's luck shares),
and each in its own way. Of a difference d̄ of two rows over P prompts and S seeds, d_p = z_p(first) − z_p(second),

    var d̄ = s_d²/P + 2 σ̂²/S                 two rows that were trained
          = s_d²/P + (σ̂²_seed + σ̂²)/S        one that was, and one that was not (the start, the ceiling)
          = s_d²/P                           two that were not
    σ̂²      = max(0, (MS of row×seed − MS of the rest) / P)         with (M−1)(S−1) degrees of freedom
    σ̂²_seed = max(0, (MS of seed − MS of row×seed) / (M P))         with S−1

and p and interval are of Student's t with Satterthwaite's degrees over what is summed. With one seed the variance is
s_d²/P, and what is found is of these checkpoints.

The mean squares are found from pairs: of two rows and two seeds, the prompts that have all four cells say how much
farther apart the rows are at the one seed than at the other. Where no cell is missing the mean over all such pairs is
the analysis of variance above; where some are, no prompt is lost to a pair that has it. Where seeds do not weigh alike
in a row's figure, Σ w_s² of their weights stands for 1/S.

Sources: Satterthwaite (1946), Biometrics Bulletin 2:110; Searle, Casella and McCulloch (1992), Variance Components,
ch. 4, for the mean squares; Cochran (1977), Sampling Techniques, ch. 6, for ratios.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import nctdtr, nctdtrinc, stdtr, stdtrit

from harness.core.records import Record
from harness.statistics.outcomes import Floats
from harness.statistics.rates import NO_WIDTH, Interval

LEVEL = 0.05
POWER = 0.80
_STEP = 1e-4
Part = tuple[float, float]  # a variance, and its degrees of freedom


class Components(Record):
    """Of what one value of a row is off its mean, as standard deviations in the figure's unit; null where the run
    cannot tell."""

    prompt: float | None = Field(
        description="of prompts: what all seeds share; with one seed all in which prompts differ, the residual with it"
    )
    seed: float | None = Field(description="of seeds: what all prompts share")
    residual: float | None = Field(
        description="of a prompt at a seed beyond both: the luck of sampling, where it is not apart, and what a seed "
        "moves on one prompt and not on another"
    )
    within: float | None = Field(
        description="of responses of one checkpoint to one prompt: the luck of sampling; of several samples"
    )


@dataclass(frozen=True)
class Cells:
    """What was judged or measured of one row. total, count: [seeds, prompts], sums of values and how many they are; 0
    where there are none."""

    total: Floats
    count: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.asarray(self.count > 0)

    def at(self, cells: NDArray[np.bool_]) -> Cells:
        """The same without all others. cells: [seeds, prompts]."""
        return Cells(np.where(cells, self.total, 0), np.where(cells, self.count, 0))

    @property
    def weights(self) -> Floats:
        """[seeds] of each seed's ratio in that of all."""
        return np.asarray(self.count.sum(axis=1) / self.count.sum())

    @property
    def by_prompt(self) -> Floats:
        """[prompts] what each says of the ratio of all; NaN of those that say nothing."""
        return linear(self.total.sum(axis=0), self.count.sum(axis=0))

    @property
    def by_seed(self) -> Floats:
        """[seeds, prompts] what each cell says of its seed's ratio; NaN of those that say nothing."""
        return np.array([linear(*of) for of in zip(self.total, self.count, strict=True)]).reshape(self.total.shape)


def linear(total: Floats, count: Floats) -> Floats:
    """z_p of totals and counts, [prompts] each."""
    known = count > 0
    if not known.any():
        return np.full(count.shape, np.nan)
    ratio = total.sum() / count.sum()
    return np.where(known, ratio + (total - ratio * count) / count[known].mean(), np.nan)


# ---- components


@dataclass(frozen=True)
class Luck:
    """The variance between seeds of the rows that were trained. own: σ̂², what a seed moves in each row for itself;
    shared: σ̂²_seed, what it moves in all of them. rows, seeds, prompts: that it was found from."""

    own: float
    own_degrees: int
    shared: float
    shared_degrees: int
    rows: int
    seeds: int
    prompts: int

    def parts(self, first: Floats, second: Floats) -> list[Part]:
        """What is added to the variance of a difference. first, second: [seeds] the weights of two rows; 0 for one that
        was not trained. What the same seeds share in both cancels."""
        own, shared = float((first**2).sum() + (second**2).sum()), float(((first - second) ** 2).sum())
        return [(own * self.own, self.own_degrees), (shared * self.shared, self.shared_degrees)]


class _Mean:
    """A mean over pairs, each weighing as many prompts as it has; of less than two prompts a pair says nothing."""

    def __init__(self) -> None:
        self.total, self.weight = 0.0, 0

    def add(self, value: Any, prompts: Any) -> None:
        enough = np.asarray(prompts) > 1
        self.total += float(np.where(enough, value * prompts, 0).sum())
        self.weight += int(np.where(enough, prompts, 0).sum())

    @property
    def value(self) -> float:
        return self.total / self.weight


def _moments(values: Floats) -> tuple[Any, Any, Any]:
    """How many are known along the last axis, their mean and their variance; NaN where these cannot be told."""
    known = ~np.isnan(values)
    n, filled = known.sum(axis=-1), np.where(known, values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=-1) / n
        variance = (np.where(known, values - mean[..., None], 0) ** 2).sum(axis=-1) / (n - 1)
    return n, mean, variance


def luck(rows: Sequence[Cells]) -> Luck | None:
    """The components of seeds, from the rows that were trained, over the same seeds and prompts; None with one seed.

    Where no two rows have two seeds in common (one row alone, say) what seeds share cannot be told from what is a row's
    own: all of it is `shared`.
    """
    if not rows or len(rows[0].total) < 2:
        return None
    values = np.stack([row.by_seed for row in rows])
    own, shared, alone = _Mean(), _Mean(), _Mean()
    used = np.zeros(values.shape[2], dtype=bool)
    with np.errstate(invalid="ignore"):  # NaN of pairs that have too little, which are passed over
        for one, other in combinations(range(values.shape[1]), 2):
            moved = values[:, one] - values[:, other]
            used |= ~np.isnan(moved).all(axis=0)
            n, mean, variance = _moments(moved)
            alone.add((mean**2 - variance / n) / 2, n)
            for place, mine in enumerate(moved[:-1]):
                theirs = moved[place + 1 :]
                n, mean, variance = _moments(mine - theirs)
                own.add((mean**2 - variance / n) / 4, n)
                both = ~np.isnan(mine - theirs)
                shared.add(np.where(both, mine, 0).sum(-1) / n * np.where(both, theirs, 0).sum(-1) / n / 2, n)
    if not alone.weight:
        return None
    there = (~np.isnan(values)).sum(axis=2) > 1  # [rows, seeds]
    there &= there.sum(axis=1, keepdims=True) > 1
    found = {"rows": int(there.any(axis=1).sum()), "seeds": int(there.any(axis=0).sum()), "prompts": int(used.sum())}
    if not own.weight:
        left = int(there.sum()) - found["rows"]
        return Luck(own=0.0, own_degrees=0, shared=_clipped(alone, values), shared_degrees=left, **found)
    return Luck(
        own=_clipped(own, values),
        own_degrees=_interactions(there),
        shared=_clipped(shared, values),
        shared_degrees=found["seeds"] - 1,
        **found,
    )


def _clipped(variance: _Mean, values: Floats) -> float:
    """Not below 0; what rounding alone leaves of 0 is 0: its root would be seen, and be another one elsewhere."""
    return variance.value if variance.value > NO_WIDTH * float(np.nanvar(values)) else 0.0


def _interactions(there: NDArray[np.bool_]) -> int:
    """Degrees of freedom of row×seed: those of the cells that are there, [rows, seeds], beyond rows and seeds; without
    gaps (M−1)(S−1)."""
    cells = np.argwhere(there)
    design = np.hstack([np.eye(size)[cells[:, axis]] for axis, size in enumerate(there.shape)])
    return len(cells) - int(np.linalg.matrix_rank(design))


def components(cells: Cells, within: float | None = None) -> Components:
    """Of one row, by two-way analysis of variance, from pairs of seeds. within: variance between what was judged of a
    cell, where it has several."""
    values, apart = cells.by_seed, None if within is None else sqrt(within)
    known = cells.known
    sampling = within * float((1 / cells.count[known]).mean()) if within and known.any() else 0.0
    prompt, seed, rest = _Mean(), _Mean(), _Mean()
    with np.errstate(invalid="ignore"):
        for one, other in combinations(values, 2):
            both = ~np.isnan(one - other)
            n, mean, variance = _moments(one - other)
            seed.add((mean**2 - variance / n) / 2, n)
            rest.add(variance / 2, n)
            # the covariance over prompts of the two: of their sum and their difference
            prompt.add((_moments((one + other)[both])[2] - variance) / 4, n)
    if not rest.weight:
        n, _, spread = _moments(cells.by_prompt)
        whole = sqrt(max(0.0, float(spread) - sampling)) if n > 1 else None
        return Components(prompt=whole, seed=None, residual=None, within=apart)
    return Components(
        prompt=sqrt(_clipped(prompt, values)),
        seed=sqrt(_clipped(seed, values)),
        residual=sqrt(max(0.0, rest.value - sampling)),
        within=apart,
    )


# ---- differences


class Compared(Record):
    """first − second on the same prompts."""

    n: int = Field(description="prompts known of both")
    left_out: int = Field(description="prompts of either that are not known of both")
    differing: int = Field(description="prompts on which the two differ")
    seeds: int = Field(description="seeds in it; of one alone all is said of these checkpoints")
    difference: float | None = Field(description="over the n prompts; null where there are none")
    error: float | None = Field(description="its standard error; null of one prompt alone")
    degrees: float | None = Field(description="Satterthwaite's degrees of freedom of that")
    interval: Interval | None = Field(description="its 95% interval, of Student's t; null of one prompt alone")
    p: float | None = Field(description="two-sided, of the same t; null of one prompt alone")
    p_holm: float | None = Field(description="p corrected (Holm) over its family; p itself of a primary contrast")
    detectable: float | None = Field(
        description="the difference that 80% power tells, at the level of Holm's first step; null without an error"
    )


def told_apart(found: Compared) -> bool:
    """Whether p after its correction is at most LEVEL."""
    return found.p_holm is not None and found.p_holm <= LEVEL


def compared(
    first: Cells,
    second: Cells,
    trained: tuple[bool, bool] = (True, True),
    between: Luck | None = None,
    bounds: Interval | None = None,
) -> Compared:
    """The difference of two rows over the same seeds and prompts, on the cells that both have; of rows without a cell
    in common on all of each, on the prompts of both. Not yet corrected for others: p_holm is p.

    trained: which of the two were. between: of seeds. bounds: of a difference, where it has any.
    """
    mine, theirs = first.known, second.known
    either = mine.any(axis=0) | theirs.any(axis=0)
    if (mine & theirs).any():
        mine = theirs = mine & theirs
    else:
        shared = mine.any(axis=0) & theirs.any(axis=0)
        mine, theirs = mine & shared, theirs & shared
    rows = first.at(mine), second.at(theirs)
    seeds = min(int(row.known.any(axis=1).sum()) for row in rows)
    n = int(mine.any(axis=0).sum())
    (total, count), (others, many) = ((row.total.sum(axis=0), row.count.sum(axis=0)) for row in rows)
    known: dict[str, Any] = dict.fromkeys(("difference", "error", "degrees", "interval", "p", "p_holm", "detectable"))
    if n:
        z = rows[0].by_prompt - rows[1].by_prompt
        known["difference"] = float(total.sum() / count.sum() - others.sum() / many.sum())
    if n > 1:
        parts: list[Part] = []
        if between is not None and seeds > 1:
            weights = [row.weights * made for row, made in zip(rows, trained, strict=True)]
            parts = between.parts(*weights)
        known |= _tested(z[~np.isnan(z)], known["difference"], parts, bounds)
        known["detectable"] = detectable(known["error"], known["degrees"])
    return Compared(
        n=n,
        left_out=int(either.sum()) - n,
        differing=int(np.count_nonzero(total * many != others * count)),
        seeds=seeds,
        **known,
    )


def _tested(apart: Floats, difference: float, parts: Iterable[Part], bounds: Interval | None) -> dict[str, Any]:
    n, spread = len(apart), float(apart.std(ddof=1))
    if spread <= NO_WIDTH * (abs(difference) or 1):
        spread = 0.0  # rounding alone
    # prompts that are all alike leave open what the next one is: as if it stood at the farther bound
    of_prompts = spread**2 / n if spread or bounds is None else left_open(difference, n, bounds)
    added = [part for part in ((of_prompts, float(n - 1)), *parts) if part[0] > 0]
    if not added:
        # nothing says how far it may be off; by coins for signs all are on one side in 2 of 2^n
        p = 1.0 if difference == 0 else 2.0 ** (1 - n)
        return {"error": 0.0, "degrees": float(n - 1), "interval": (difference, difference), "p": p, "p_holm": p}
    variance, degrees = summed(added)
    error = sqrt(variance)
    p = float(2 * stdtr(degrees, -abs(difference) / error))
    ends = t_interval(difference, error, degrees, bounds=bounds)
    return {"error": error, "degrees": degrees, "interval": ends, "p": p, "p_holm": p}


def summed(parts: Sequence[Part]) -> Part:
    """Of several variances that are not 0, their sum with Satterthwaite's degrees of freedom."""
    variance = sum(part for part, _ in parts)
    return variance, variance**2 / sum(part**2 / degrees for part, degrees in parts)


def widened(value: float, interval: Interval, parts: Iterable[Part], bounds: Interval | None = None) -> Interval:
    """A row's interval, which holds its checkpoints fixed, with what another seed moves: each side by the root of the
    sum of both squared widths, the second of Student's t (MOVER; Zou and Donner 2008, Statistics in Medicine 27:1693).
    """
    added = [part for part in parts if part[0] > 0]
    if not added:
        return interval
    variance, degrees = summed(added)
    half = sqrt(variance) * float(stdtrit(degrees, 1 - LEVEL / 2))
    low, high = value - hypot(value - interval[0], half), value + hypot(interval[1] - value, half)
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def left_open(difference: float, prompts: float, bounds: Interval) -> float:
    """The variance of a difference that is the same on all prompts: as if one more stood at the farther bound."""
    return max(bounds[1] - difference, difference - bounds[0]) ** 2 / (prompts * (prompts + 1))


def t_interval(
    centre: float, error: float, degrees: float, level: float = LEVEL, bounds: Interval | None = None
) -> Interval:
    """Of 1 − level, cut at the bounds."""
    half = error * float(stdtrit(degrees, 1 - level / 2))
    low, high = centre - half, centre + half
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def detectable(error: float | None, degrees: float | None, tests: int = 1) -> float | None:
    """The true difference that a two-sided test at LEVEL / tests finds with POWER, in the direction that it has; None
    without an error. By the noncentral t distribution."""
    if not error or degrees is None:
        return None
    reached = float(stdtrit(degrees, 1 - LEVEL / tests / 2))
    away = float(nctdtrinc(degrees, 1 - POWER, reached))
    # its root is found to some eight digits; a step of Newton's finds all
    slope = float(nctdtr(degrees, away + _STEP, reached) - nctdtr(degrees, away - _STEP, reached)) / (2 * _STEP)
    return error * (away - (float(nctdtr(degrees, away, reached)) - (1 - POWER)) / slope)
