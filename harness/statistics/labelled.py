"""Rates by people's labels of some outcomes and a judge's verdicts on all: prediction-powered inference.

A judge said f of every outcome, and people said y of those that chance drew. With strata s (a prompt set in a run) of
M_s outcomes, M in all, of which n_s were labelled, each with probability n_s / M_s,

    θ̂ = λ f̄ + Σ_s (M_s / M) · mean of (y − λ f) over the labelled ones of s

which the labels make right whatever the judge is worth; the better it is, the more of their chance it takes away. λ = 0
is labels alone, and λ the least-squares slope of y on f within strata, never below 0, has the least variance. With ψ_u
the influence of outcome u, e = y − λ f, and a prompt with all that was judged on it being a cluster g of G,

    M ψ_u = [λ (f_u − f̄) + ē_s − ē] √(G / (G − 1)) + [labelled] (M_s / n_s) (e_u − ē_s) √(n / (n − k))
    var θ̂ = Σ_g (Σ_{u in g} ψ_u)²

n is how many prompts have a label, and k is 1 for labels alone and 2 where λ was found from them;
t has n − k degrees. For one stratum of one outcome a prompt that is (1/n − 1/N) s_e² + s_y²/N, the variance of a
regression estimator of a subsample. A rate r has Wilson's interval of (1 + r) / 2 with t in place of z, at ν / φ

    ν = n · variance of labels alone / var θ̂, in n..G         how many labels alone it is worth
    φ = (m − r'²) / (1 − r'²)         r', m: mean and mean square of ν values of mean r and variance ν var θ̂, and of
                                      1, 0 and −1: it is never without width

and a difference has t's, cut at its bounds.

Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic (2023), Science 382:669, arXiv:2301.09633, and Angelopoulos,
Duchi and Zrnic (2023), arXiv:2311.01453, for the estimator and λ; Cochran (1977), Sampling Techniques, 12.7 for the
variance where the labelled ones are among those that were judged; Binder (1983), Int. Statist. Rev. 51:279 for ψ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import stdtrit

from harness.core.records import Record
from harness.statistics.effects import LEVEL, Part, left_open, summed, t_interval
from harness.statistics.outcomes import Floats, Ints
from harness.statistics.rates import NO_WIDTH, Interval, wilson_of

ENOUGH = 30  # prompts with a label, below which nothing is corrected: neither λ nor the variance is known well enough
RATE, DIFFERENCE = (-1.0, 1.0), (-2.0, 2.0)  # bounds


@dataclass(frozen=True)
class Units:
    """Arrays [U], an entry an outcome. judged: by the judge; labelled: by people, NaN where nobody was asked; prompts:
    the place of its prompt from 0; strata: that of its stratum, from 0, within which all were as likely to be drawn."""

    judged: Floats
    labelled: Floats
    prompts: Ints
    strata: Ints

    @property
    def drawn(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.labelled)

    @property
    def prompts_labelled(self) -> int:
        return len(np.unique(self.prompts[self.drawn]))

    @property
    def reached(self) -> bool:
        """Whether every stratum has two labels, or all that it can have."""
        size = np.bincount(self.strata)
        return bool((np.bincount(self.strata[self.drawn], minlength=len(size)) >= np.minimum(size, 2)).all())


@dataclass(frozen=True)
class Estimate:
    """variance: of the value, with its degrees of freedom. worth: labelled prompts that would say as much alone."""

    value: float
    variance: float
    worth: float
    degrees: float

    def interval(self, bounds: Interval) -> Interval:
        """95%, of a rate or of a difference of two."""
        if bounds == RATE:
            return self._wilson()
        return t_interval(self.value, sqrt(self.variance), self.degrees, bounds=bounds)

    def _wilson(self) -> Interval:
        n, rate = self.worth, self.value
        mean, square = n * rate / (n + 3), (n * (n * self.variance + rate**2) + 2) / (n + 3)
        apart = (square - mean**2) / (1 - mean**2)
        low, high = wilson_of((1 + rate) / 2, n / apart, float(stdtrit(self.degrees, 1 - LEVEL / 2)))
        return 2 * low - 1, 2 * high - 1

    def with_parts(self, parts: Sequence[Part]) -> Estimate:
        """The same with more variance in it, each part with its degrees (Satterthwaite)."""
        added = [part for part in ((self.variance, self.degrees), *parts) if part[0] > 0]
        if not added:
            return self
        variance, degrees = summed(added)
        return Estimate(self.value, variance, self.worth, degrees)


def slope(units: Units) -> float:
    """λ: of labels on verdicts within strata, each weighted by w (w − 1), w being how many outcomes it stands for, so
    that the variance is the least; 0 where the judge says the same of all, goes against people, or all are labelled."""
    drawn = units.drawn
    stands_for, strata = _weights(units)[drawn], units.strata[drawn]
    weight = stands_for * (stands_for - 1)
    y, f = (_centred(values[drawn], weight, strata) for values in (units.labelled, units.judged))
    spread = float((weight * f * f).sum())
    return max(0.0, float((weight * f * y).sum()) / spread) if spread > NO_WIDTH else 0.0


def estimate(units: Units, weight: float | None = None, bounds: Interval = RATE) -> Estimate:
    """θ̂ of a λ, or of the best one where none is named. All strata have a label, and two prompts or more."""
    fitted = weight is None
    found = slope(units) if weight is None else weight
    drawn, stands_for, total = units.drawn, _weights(units), len(units.judged)
    left = np.where(drawn, units.labelled - found * units.judged, 0.0)
    size = np.bincount(units.strata)
    mean = np.bincount(units.strata, np.where(drawn, left * stands_for, 0.0)) / np.maximum(size, 1)
    rest = float((size * mean).sum()) / total
    judged = float(units.judged.mean())
    n = units.prompts_labelled
    degrees = max(n - (2 if fitted and found > 0 else 1), 1)
    own = np.where(drawn, stands_for * (left - mean[units.strata]), 0.0) * sqrt(n / degrees)
    prompts = len(np.unique(units.prompts))
    of_all = (found * (units.judged - judged) + mean[units.strata] - rest) * sqrt(prompts / (prompts - 1))
    variance = float((np.bincount(units.prompts, of_all + own) ** 2).sum()) / total**2
    value = min(max(found * judged + rest, bounds[0]), bounds[1])
    worth = float(n)
    if fitted and found > 0 and variance > NO_WIDTH:
        worth = min(max(n * estimate(units, 0.0, bounds).variance / variance, worth), float(prompts))
    if bounds != RATE and variance <= NO_WIDTH:
        variance = left_open(value, worth, bounds)
    return Estimate(value, variance, worth, float(degrees))


def _weights(units: Units) -> Floats:
    """[U] how many outcomes of its stratum a labelled one stands for."""
    size, count = np.bincount(units.strata), np.bincount(units.strata[units.drawn], minlength=units.strata.max() + 1)
    return np.asarray((size / np.maximum(count, 1))[units.strata], dtype=np.float64)


def _centred(values: Floats, weight: Floats, strata: Ints) -> Floats:
    mean = np.bincount(strata, weight * values) / np.maximum(np.bincount(strata, weight), NO_WIDTH)
    return np.asarray(values - mean[strata], dtype=np.float64)


class Corrected(Record):
    """A figure by people's labels alone, by the judge alone, and by the judge corrected with the labels; null where
    there is none."""

    labels: int = Field(description="outcomes that people labelled")
    labelled_prompts: int = Field(description="prompts of these")
    judged: int = Field(description="outcomes that the judge has, labelled or not")
    by_people: float | None = Field(description="by the labels alone")
    people_interval: Interval | None = Field(description="its interval")
    by_judge: float | None = Field(description="by the judge alone")
    judge_interval: Interval | None = Field(description="its interval, which supposes a judge that people agree with")
    corrected: float | None = Field(description="by the judge, corrected with the labels")
    corrected_interval: Interval | None = Field(description="its interval")
    slope: float | None = Field(description="λ, how far the judge's verdicts were used: 0 not at all")
    reason: str = Field(description="why it is not corrected; empty where it is")

    @property
    def judge_is_off(self) -> bool:
        """Whether what the judge says lies outside the corrected interval."""
        if self.by_judge is None or self.corrected_interval is None:
            return False
        return not self.corrected_interval[0] <= self.by_judge <= self.corrected_interval[1]


def corrected(
    units: Units, judge: tuple[float, Interval | None], bounds: Interval = RATE, parts: Sequence[Part] = ()
) -> Corrected:
    """The three beside each other. judge: what it alone says, with its interval; parts: what seeds add to the variance
    of a difference."""
    n = units.prompts_labelled
    by_people: Estimate | None = None
    by_both: Estimate | None = None
    reason = ""
    if not units.reached:
        reason = "fewer than 2 labels on a prompt set" if n else "no label"
    elif n >= 2:
        by_people = estimate(units, 0.0, bounds).with_parts(parts)
    if not reason and n < ENOUGH:
        reason = f"labels of {n} prompt{'' if n == 1 else 's'}, and {ENOUGH} are needed"
    if not reason:
        by_both = estimate(units, None, bounds).with_parts(parts)
    return Corrected(
        labels=int(units.drawn.sum()),
        labelled_prompts=n,
        judged=len(units.judged),
        by_people=by_people.value if by_people else None,
        people_interval=by_people.interval(bounds) if by_people else None,
        by_judge=judge[0],
        judge_interval=judge[1],
        corrected=by_both.value if by_both else None,
        corrected_interval=by_both.interval(bounds) if by_both else None,
        slope=slope(units) if by_both else None,
        reason=reason,
    )
