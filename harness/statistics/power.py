"""What a comparison of two rows can tell before it is made, and what it takes to tell more.

    error(P, S)   = sqrt(v / (P S))                      v  variance of a prompt's difference at one seed
    detectable    = error · δ, of which the noncentral t says that 80% of runs reach t_{1−α/2}
                    P − 1 degrees; α = 5%, with Holm's first step 5% / tests
    methods'      = sqrt(v / (P S) + 2 L² / S) · δ     L: SD of training luck; Satterthwaite's degrees, of luck's part
                    (rows − 1)(S − 1)
    floor(S)      = (z_{0.975} + z_{0.8}) · sqrt(2 / S) · SD of training luck, whatever the prompts

*Supposes* that a prompt's difference at one seed is independent of that at another one: what the two rows always differ
in on a prompt does not shrink with seeds, and more of these bring less than is said here.

Source: Johnson and Welch (1940), Biometrika 31:362, for the noncentral t.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from scipy.special import ndtri

from harness.statistics.effects import LEVEL, POWER, detectable

Z = float(ndtri(1 - LEVEL / 2) + ndtri(POWER))  # 2.80
FEWEST = 2  # prompts, for anything to be said
MOST = 10**9


@dataclass(frozen=True)
class Spread:
    """Of a prompt's difference between two rows. variance: at one seed, with one response of each row. within: what of
    it are the responses to one prompt; None where that is not known."""

    variance: float
    within: float | None = None

    def at(self, samples: int) -> float:
        """Its standard deviation with so many responses a prompt: what they share does not shrink."""
        if samples == 1 or self.within is None:
            return sqrt(self.variance)
        within = min(self.within, self.variance)
        return sqrt(self.variance - within + within / samples)


def told(sd: float, prompts: int, seeds: int = 1, tests: int = 1) -> float | None:
    """The true difference that is found with POWER, of rows whose training moves nothing; None of too few prompts.

    sd: of a prompt's difference at one seed. tests: of Holm's family, at its first step.
    """
    return detectable(sd / sqrt(prompts * seeds), prompts - 1, tests) if prompts >= FEWEST else None


def told_of_methods(sd: float, prompts: int, seeds: int, luck: float, rows: int, tests: int = 1) -> float | None:
    """The same of rows that another seed moves by this standard deviation each, which is found from all of them: what
    several seeds tell of methods. None of too few prompts, seeds or rows.

    rows: that are trained, by whose seeds the luck is known.
    """
    degrees = (rows - 1) * (seeds - 1)
    if prompts < FEWEST or degrees < 1:
        return None
    of_prompts, of_luck = sd**2 / (prompts * seeds), 2 * luck**2 / seeds
    variance = of_prompts + of_luck
    if not variance:
        return 0.0
    satterthwaite = variance**2 / (of_prompts**2 / (prompts - 1) + of_luck**2 / degrees)
    return detectable(sqrt(variance), satterthwaite, tests)


def floor(seeds: int, luck: float) -> float:
    """The difference below which no number of prompts tells two rows apart that were trained with so many seeds, where
    another seed moves a row by this standard deviation."""
    return Z * sqrt(2 / seeds) * luck


def prompts_for(difference: float, sd: float, seeds: int = 1, tests: int = 1) -> int | None:
    """The fewest prompts by which `told` is at most a difference; None where it would take more than anyone has."""

    def enough(prompts: int) -> bool:
        found = told(sd, prompts, seeds, tests)
        return found is None or found <= difference

    low, high = FEWEST - 1, FEWEST
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def seeds_for(difference: float, sd: float, prompts: int, luck: float) -> int:
    """The fewest seeds by which rows are told apart on these prompts, where another seed moves each by `luck`. By the
    normal distribution: of few seeds it says rather too little."""
    return max(1, ceil(Z**2 * (sd**2 / prompts + 2 * luck**2) / difference**2 - 1e-9))
