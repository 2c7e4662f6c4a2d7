"""Preference rate and win rate against the teacher, with 95% intervals that resample prompts.

    preference rate  (wins − losses) / N, signed, 0 is parity      win rate  wins / N, ties are not wins

A prompt is a win only if the judge prefers the candidate in every order it sees, a loss only if it prefers the
reference in every one; a disagreement between orders is a tie. A prompt with a verdict missing in any order is
not counted in N, but shown as missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.records import Verdict

Outcome = Literal["win", "tie", "loss", "missing"]
RESAMPLES = 10_000
Z = 1.959963984540054  # the normal distribution's 97.5% point
Interval = tuple[float, float]


@dataclass(frozen=True)
class Rates:
    """Counts of prompts, and rates in −1..1 and 0..1; `missing` prompts are not in `n`."""

    n: int
    wins: int
    ties: int
    losses: int
    missing: int
    failed_verdicts: int
    preference_rate: float | None
    preference_interval: Interval | None
    win_rate: float | None
    win_interval: Interval | None


def outcomes(verdicts: Iterable[Verdict]) -> dict[str, Outcome]:
    """One outcome a prompt, from the verdicts of one judge on one candidate."""
    by_prompt: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_prompt.setdefault(verdict.prompt_id, []).append(verdict)
    return {prompt_id: _outcome(found) for prompt_id, found in by_prompt.items()}


def _outcome(verdicts: list[Verdict]) -> Outcome:
    orders = {verdict.order for verdict in verdicts}
    whole = orders in ({"none"}, {"candidate_first", "reference_first"}) and len(orders) == len(verdicts)
    preferences = [verdict.preference for verdict in verdicts if verdict.status == "ok"]
    if not whole or len(preferences) < len(verdicts):
        return "missing"
    if all(preference is not None and preference > 0.5 for preference in preferences):
        return "win"
    if all(preference is not None and preference < 0.5 for preference in preferences):
        return "loss"
    return "tie"


def wilson(count: int, n: int) -> Interval:
    """Wilson's 95% interval of a proportion."""
    p, z2 = count / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # exact at the ends, where rounding would leave the proportion itself outside
    return 0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half


def resampled_counts(wins: int, ties: int, losses: int, seed: int) -> NDArray[np.int64]:
    """[RESAMPLES, 3] counts of wins, ties and losses in bootstrap resamples of the prompts.

    Drawing N prompts with replacement from N outcomes of three kinds is a multinomial draw.
    """
    n = wins + ties + losses
    return np.random.default_rng(seed).multinomial(n, [wins / n, ties / n, losses / n], size=RESAMPLES)


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def rates(verdicts: Iterable[Verdict], seed: int = 0) -> Rates:
    """Rates of one judge's verdicts on one candidate on one prompt set.

    A bootstrap has no width where all outcomes are alike; Wilson's interval of that outcome's share serves
    there: for all losses, the preference rate's upper end supposes that the rest of the share were wins.
    """
    verdicts = list(verdicts)
    found = list(outcomes(verdicts).values())
    wins, ties, losses = found.count("win"), found.count("tie"), found.count("loss")
    n = wins + ties + losses
    failed = sum(verdict.status != "ok" for verdict in verdicts)
    if n == 0:
        return Rates(0, 0, 0, 0, len(found), failed, None, None, None, None)
    counts = resampled_counts(wins, ties, losses, seed)
    if max(wins, ties, losses) == n:
        rest = 1 - wilson(n, n)[0]
        rate = (wins - losses) / n
        preference_interval = (max(-1.0, rate - 2 * rest), min(1.0, rate + 2 * rest)) if ties < n else (-rest, rest)
    else:
        preference_interval = _percentiles((counts[:, 0] - counts[:, 2]) / n)
    win_interval = wilson(wins, n) if wins in (0, n) else _percentiles(counts[:, 0] / n)
    return Rates(
        n,
        wins,
        ties,
        losses,
        found.count("missing"),
        failed,
        (wins - losses) / n,
        preference_interval,
        wins / n,
        win_interval,
    )
