"""Where the variance of a figure comes from, and what follows for the difference of two.

    y[m, s, p]          value of row m at seed s on prompt p: a mean over what was judged or measured of it there
    y[m, s, p] = μ_m + seed_s + (row × seed)_ms + prompt_p + … + rest_msp      seeds and prompts are random draws

A seed moves all rows that were trained with it alike (what SFT's luck shares), and each in its own way. Of a difference
d̄ of two rows over P prompts and S seeds, with d_p the prompt's mean over the seeds,

    var d̄ = s_d²/P + 2 σ̂²/S                 two rows that were trained
          = s_d²/P + (σ̂²_seed + σ̂²)/S        one that was, and one that was not (the start, the ceiling)
    σ̂²      = max(0, (MS of row×seed − MS of the rest) / P)         with (M−1)(S−1) degrees of freedom
    σ̂²_seed = max(0, (MS of seed − MS of row×seed) / (M P))         with S−1

and p and interval are of Student's t with Satterthwaite's degrees over what is summed. With one seed the variance is
s_d²/P, and what is found is of these checkpoints.

Sources: Satterthwaite (1946), Biometrics Bulletin 2:110; Searle, Casella and McCulloch (1992), Variance Components,
ch. 4, for the mean squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import stdtr, stdtrit

from harness.core.records import Record
from harness.statistics.outcomes import Floats, Ints, Outcomes, joint_codes
from harness.statistics.rates import NO_WIDTH, Interval, left_open

LEVEL = 0.05
POWER = 0.80
Part = tuple[float, float]  # a variance, and its degrees of freedom


class Components(Record):
    """Of what one value of a row is off its mean, as standard deviations in the figure's unit; null where the run
    cannot tell."""

    prompt: float | None = Field(description="of prompts: what all seeds share")
    seed: float | None = Field(description="of seeds: what all prompts share")
    residual: float | None = Field(description="of a prompt at a seed beyond both: mostly the luck of sampling")
    within: float | None = Field(description="of responses of one checkpoint to one prompt; of several samples")


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

    def parts(self, trained: int, seeds: int, paired: bool = True) -> list[Part]:
        """What is added to the variance of a difference of two rows, of which so many were trained, over so many seeds.
        paired: whether both have the same ones, so that what these share cancels."""
        own, shared = trained * self.own / seeds, trained * self.shared / seeds
        parts: list[Part] = [(own, self.own_degrees)]
        return parts if trained == 2 and paired else [*parts, (shared, self.shared_degrees)]


@dataclass(frozen=True)
class Cells:
    """values: [rows, seeds, prompts] mean of what was judged in each cell, NaN where nothing was. within: [rows]
    variance between the responses of a cell, NaN where none has several. samples: responses a cell, at most."""

    rows: tuple[str, ...]
    prompts: tuple[int, ...]
    values: Floats
    within: Floats
    samples: int = 1

    @classmethod
    def of(cls, found: Outcomes, rows: Sequence[str]) -> Self:
        """One judge's outcomes against one reference: the cells of these candidates, in every run that any has."""
        judged = found.judged
        where = np.full(len(found.names.candidate), -1)
        for place, name in enumerate(rows):
            if name in found.names.candidate:
                where[found.names.candidate.index(name)] = place
        judged = judged.select(where[judged.candidate] >= 0)
        prompts, prompt = np.unique(judged.prompt, return_inverse=True)
        runs, run = np.unique(judged.run, return_inverse=True)
        shape = len(rows), len(runs), len(prompts)
        index = (where[judged.candidate] * shape[1] + run) * shape[2] + prompt
        size = int(np.prod(shape))
        count = np.bincount(index, minlength=size).reshape(shape)
        with np.errstate(invalid="ignore"):
            values = np.bincount(index, judged.value, size).reshape(shape) / count
            # what a turn is worth is its own: samples are held against the mean of their turn
            within, samples = _within(judged, index // (shape[1] * shape[2]), len(rows))
        return cls(tuple(rows), tuple(prompts.tolist()), values, within, samples)

    @property
    def runs(self) -> int:
        return int(self.values.shape[1])

    def seeds_of(self, row: str) -> int:
        """How many runs have anything of a row."""
        return int(np.count_nonzero(~np.isnan(self.values[self.rows.index(row)]).all(axis=1)))


def _within(judged: Outcomes, row: Ints, rows: int) -> tuple[Floats, int]:
    """[rows] mean variance between the samples of one checkpoint on one prompt and turn, and how many there are."""
    _, unit, count = np.unique(
        joint_codes((row, judged.run, judged.prompt, judged.turn)), return_inverse=True, return_counts=True
    )
    if count.max(initial=1) < 2:
        return np.full(rows, np.nan), 1
    mean = np.bincount(unit, judged.value) / count
    squares = np.bincount(row, (judged.value - mean[unit]) ** 2, rows)
    units = np.bincount(row, 1 / count[unit], rows)
    return squares / (np.bincount(row, minlength=rows) - units), int(count.max())


# ---- components


def complete(values: Floats) -> Floats | None:
    """[rows, seeds, prompts] without gaps: of values with NaN the seeds that all rows have, without the rows that leave
    fewer than two of them, and the prompts that are known of all these. None where fewer than two of either are."""
    known = np.asarray(~np.isnan(values).all(axis=2))
    rows = np.flatnonzero(known.sum(axis=1) >= 2)
    while len(rows) and known[rows].all(axis=0).sum() < 2:
        rows = np.delete(rows, int(np.argmin(known[rows].sum(axis=1))))
    if not len(rows):
        return None
    block = values[rows][:, known[rows].all(axis=0)]
    block = block[:, :, ~np.isnan(block).any(axis=(0, 1))]
    return block if block.shape[2] >= 2 else None


def luck(values: Floats) -> Luck | None:
    """The components of seeds; values: [rows, seeds, prompts] of the rows that were trained, NaN where there is none.
    None with one seed.

    With one row what it shares with others cannot be told from its own: all of it is `shared`.
    """
    block = complete(values)
    if block is None:
        return None
    rows, seeds, prompts = block.shape
    whole = block.mean()
    row, seed, prompt = block.mean(axis=(1, 2)), block.mean(axis=(0, 2)), block.mean(axis=(0, 1))
    of_seed = rows * prompts * float(((seed - whole) ** 2).sum()) / (seeds - 1)
    seed_prompt = block.mean(axis=0) - seed[:, None] - prompt + whole
    if rows == 1:
        rest = float((seed_prompt**2).sum()) / ((seeds - 1) * (prompts - 1))
        return Luck(0.0, 0, max(0.0, (of_seed - rest) / prompts), seeds - 1, 1, seeds, prompts)
    row_seed = block.mean(axis=2) - row[:, None] - seed + whole
    row_prompt = block.mean(axis=1) - row[:, None] - prompt + whole
    degrees = (rows - 1) * (seeds - 1)
    own = prompts * float((row_seed**2).sum()) / degrees
    rest = block - row_seed[:, :, None] - row_prompt[:, None] - seed_prompt
    rest = rest - row[:, None, None] - seed[:, None] - prompt + 2 * whole
    left = float((rest**2).sum()) / (degrees * (prompts - 1))
    return Luck(
        own=max(0.0, (own - left) / prompts),
        own_degrees=degrees,
        shared=max(0.0, (of_seed - own) / (rows * prompts)),
        shared_degrees=seeds - 1,
        rows=rows,
        seeds=seeds,
        prompts=prompts,
    )


def components(values: Floats, within: float = float("nan")) -> Components:
    """Of one row, by two-way analysis of variance. values: [seeds, prompts], NaN where there is none; within: variance
    between responses of a cell."""
    apart = None if np.isnan(within) else sqrt(within)
    block = complete(values[None])
    if block is None:
        of_prompts = np.nanmean(values, axis=0) if values.size else np.zeros(0)
        of_prompts = of_prompts[~np.isnan(of_prompts)]
        spread = float(of_prompts.std(ddof=1)) if len(of_prompts) > 1 else None
        return Components(prompt=spread, seed=None, residual=None, within=apart)
    found = block[0]
    seeds, prompts = found.shape
    seed, prompt, whole = found.mean(axis=1), found.mean(axis=0), found.mean()
    rest = float(((found - seed[:, None] - prompt + whole) ** 2).sum()) / ((seeds - 1) * (prompts - 1))
    return Components(
        prompt=sqrt(max(0.0, float(prompt.var(ddof=1)) - rest / seeds)),
        seed=sqrt(max(0.0, float(seed.var(ddof=1)) - rest / prompts)),
        residual=sqrt(rest),
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
    apart: Floats, left_out: int, seeds: int, parts: Sequence[Part] = (), bounds: Interval | None = None
) -> Compared:
    """The difference of two rows from that on each prompt, not yet corrected for others: p_holm is p.

    apart: [prompts]. parts: what seeds add to its variance. bounds: of a difference, where it has any.
    """
    n = len(apart)
    known: dict[str, Any] = dict.fromkeys(("difference", "error", "degrees", "interval", "p", "p_holm", "detectable"))
    if n:
        known["difference"] = float(apart.mean())
    if n > 1:
        known |= _tested(apart, parts, bounds)
    found = Compared(n=n, left_out=left_out, differing=int(np.count_nonzero(apart)), seeds=seeds, **known)
    return found.model_copy(update={"detectable": detectable(found.error, found.degrees)})


def _tested(apart: Floats, parts: Sequence[Part], bounds: Interval | None) -> dict[str, Any]:
    n, difference = len(apart), float(apart.mean())
    spread = float(apart.std(ddof=1))
    if spread <= NO_WIDTH * (abs(difference) or 1):
        spread = 0.0  # rounding alone
    added = [part for part in ((spread**2 / n, float(n - 1)), *parts) if part[0] > 0]
    variance = sum(part for part, _ in added)
    if not variance:
        # all prompts alike: t says nothing. By coins for signs they are all on one side in 2 of 2^n
        ends = (difference, difference) if bounds is None else left_open(difference, n, bounds)
        p = 1.0 if difference == 0 else 2.0 ** (1 - n)
        return {"error": 0.0, "degrees": float(n - 1), "interval": ends, "p": p, "p_holm": p}
    error, degrees = sqrt(variance), variance**2 / sum(part**2 / of for part, of in added)
    p = float(2 * stdtr(degrees, -abs(difference) / error))
    return {
        "error": error,
        "degrees": degrees,
        "interval": t_interval(difference, error, degrees, bounds=bounds),
        "p": p,
        "p_holm": p,
    }


def t_interval(
    centre: float, error: float, degrees: float, level: float = LEVEL, bounds: Interval | None = None
) -> Interval:
    """Of 1 − level, cut at the bounds."""
    half = error * float(stdtrit(degrees, 1 - level / 2))
    low, high = centre - half, centre + half
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def detectable(error: float | None, degrees: float | None, tests: int = 1) -> float | None:
    """The true difference that a two-sided test at LEVEL / tests finds with POWER; None without an error."""
    if not error or degrees is None:
        return None
    return error * float(stdtrit(degrees, 1 - LEVEL / tests / 2) + stdtrit(degrees, POWER))


@dataclass(frozen=True)
class Shared:
    """Which cells two rows are compared on. mine, theirs: [seeds, prompts] whether a cell counts. seeds: how many.
    paired: whether they are the same for both. left_out: prompts of either that are not there for both."""

    mine: NDArray[np.bool_]
    theirs: NDArray[np.bool_]
    seeds: int
    paired: bool
    left_out: int

    @classmethod
    def of(cls, known: NDArray[np.bool_], other: NDArray[np.bool_]) -> Self:
        """The cells that both have; of rows without a seed in common all cells of each, on the prompts of both."""
        either = int((known.any(axis=0) | other.any(axis=0)).sum())
        paired = bool((known.any(axis=1) & other.any(axis=1)).any())
        if paired:
            mine = theirs = known & other
            seeds = int(mine.any(axis=1).sum())
        else:
            there = known.any(axis=0) & other.any(axis=0)
            mine, theirs = known & there, other & there
            seeds = int(min(mine.any(axis=1).sum(), theirs.any(axis=1).sum()))
        return cls(mine, theirs, seeds, paired, either - int(mine.any(axis=0).sum()))

    def parts(self, found: Luck | None, trained: int) -> list[Part]:
        """What seeds add to the variance of the difference; nothing is known of them with one."""
        return found.parts(trained, self.seeds, self.paired) if found and trained and self.seeds > 1 else []
