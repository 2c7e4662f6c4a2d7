"""Made-up outcomes, of which the truth is known, as the library has them."""

from __future__ import annotations

import numpy as np

from harness.statistics.outcomes import Codes, Floats, Outcomes
from harness.statistics.rates import Interval

Chances = tuple[float, float, float]  # of a win, a tie and a loss
ROUNDING = 1e-12


def outcomes_of(values: Floats, preferences: Floats | None = None) -> Outcomes:
    """One judge's on one set. values: [rows, seeds, prompts] of 1, 0 and −1; rows are called 0, 1, … and so are seeds.
    preferences: of the same shape, 0..1; else a win is 1, a tie ½, a loss 0."""
    rows, seeds, prompts = values.shape
    row, seed, prompt = (places.ravel() for places in np.indices(values.shape))
    none, unknown = np.zeros(values.size, dtype=np.int64), np.full(values.size, np.nan)
    names = Codes(
        run=tuple(map(str, range(seeds))),
        prompt_set=("set",),
        prompt=tuple(("set", str(place), "") for place in range(prompts)),
        candidate=tuple(map(str, range(rows))),
        reference=("teacher",),
        judge=("judge",),
    )
    return Outcomes(
        names,
        run=seed,
        prompt_set=none,
        prompt=prompt,
        asked=prompt,
        turn=none,
        sample=none,
        candidate=row,
        reference=none,
        judge=none,
        value=values.ravel(),
        preference=((1 + values) / 2 if preferences is None else preferences).ravel(),
        candidate_length=unknown,
        reference_length=unknown,
        in_tokens=none == 1,
        failed=none,
        orders=none,
    )


def rows_of(found: Outcomes) -> list[Outcomes]:
    """Each candidate's, in their order."""
    return [found.select(found.candidate == code) for code in range(len(found.names.candidate))]


def values_of(uniform: Floats, wins: Floats | float, losses: Floats | float) -> Floats:
    """1, 0 or −1 of numbers drawn from 0..1: of the highest `wins` of them a win, of the lowest `losses` a loss."""
    return np.where(uniform > 1 - wins, 1.0, np.where(uniform < losses, -1.0, 0.0))


def holds(interval: Interval | None, truth: float) -> bool:
    """An end that is the truth but for rounding holds it."""
    return interval is not None and interval[0] - ROUNDING <= truth <= interval[1] + ROUNDING
