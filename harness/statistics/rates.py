"""Rates against the teacher, with 95% intervals that resample prompts.

    preference rate     (wins − losses) / N, signed, 0 is parity
    win rate            wins / N, ties are not wins
    half-tie win rate   (wins + ties / 2) / N = (1 + preference rate) / 2
    mean preference     of the judge's preferences, 0..1

Wins, ties and losses are as in `outcomes`; a missing one is not counted in N, but shown as missing. The bootstrap draws
prompts, each with all that was judged on it: both orders, every run and every judge. Source: Efron (1979), Annals of
Statistics 7:1; for clusters Field and Welsh (2007), JRSS B 69:369.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.core.records import Record, Verdict
from harness.statistics.outcomes import ComparisonKey, Floats, Orders, Outcomes, comparisons, from_records, outcomes

RESAMPLES = 10_000
Z = 1.959963984540054  # the normal distribution's 97.5% point
Interval = tuple[float, float]
MAX_MISSING = 0.10  # share of missing prompts above which a table is not ranked: they are seldom missing at random
_DRAWN_AT_ONCE = 2_500_000  # prompts drawn in one piece: 20 MB
NO_WIDTH = 1e-12
_FEW = 6  # drawing a count takes about six times as long as drawing a prompt


class Rates(Record):
    """Counts of outcomes, each of one prompt in one run, and rates with their 95% intervals; null where n is 0."""

    n: int = Field(description="outcomes: wins, ties and losses")
    wins: int = Field(description="preferred over the reference in every order")
    ties: int = Field(description="no preference, or orders that contradict each other")
    losses: int = Field(description="the reference preferred in every order")
    missing: int = Field(description="outcomes that are none, as a verdict failed or could not be read; not in n")
    failed_verdicts: int = Field(description="verdicts, one an order, that are not ok")
    preference_rate: float | None = Field(description="(wins − losses) / n, −1..1; 0 is parity")
    preference_interval: Interval | None = Field(description="its interval")
    win_rate: float | None = Field(description="wins / n, 0..1")
    win_interval: Interval | None = Field(description="its interval")
    half_tie_rate: float | None = Field(description="(wins + ties / 2) / n, 0..1")
    half_tie_interval: Interval | None = Field(description="its interval")
    mean_preference: float | None = Field(description="mean of the judge's own strengths of preference, 0..1")
    mean_preference_interval: Interval | None = Field(description="its interval")
    prompts: int = Field(description="different prompts in n: of several runs a prompt has an outcome each")
    missing_share: float = Field(description="missing / (n + missing)")
    orders: Orders = Field(description="that the verdicts have: both, one, none (the judge sees no order) or mixed")


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


def resampled_sums(values: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """[prompts, columns] → [resamples, columns]: column sums of resamples of the rows.

    Where rows are of few kinds, how many of each kind are drawn is multinomial; else rows are drawn one by one.
    """
    kinds, counts = np.unique(values, axis=0, return_counts=True)
    if _FEW * len(kinds) > len(values):
        return drawn_sums(values, seed, resamples)
    rng = np.random.default_rng(seed)
    return np.asarray(rng.multinomial(len(values), counts / len(values), size=resamples) @ kinds)


def drawn_sums(values: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """As above, row by row. What is drawn depends on the number of rows and the seed alone: columns that are summed
    together have the sums that each would have alone."""
    n, rng = len(values), np.random.default_rng(seed)
    sums = np.empty((resamples, values.shape[1]))
    step = max(1, _DRAWN_AT_ONCE // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        # 16 random bits take a quarter of the time of 64
        drawn = rng.integers(0, n, size=(size, n), dtype=np.uint16 if n <= 2**16 else np.uint32)
        places = (drawn + n * np.arange(size)[:, None]).ravel()
        sums[start : start + size] = np.bincount(places, minlength=size * n).reshape(size, n) @ values
    return sums


def interval(drawn: Floats, centre: float, prompts: int, bounds: Interval) -> Interval:
    """Percentiles of a resampled rate, or, where they have no width, what Wilson's interval leaves open."""
    low, high = np.nanquantile(drawn, [0.025, 0.975]).tolist()
    return (low, high) if high - low > NO_WIDTH else left_open(centre, prompts, bounds)


def left_open(centre: float, prompts: int, bounds: Interval) -> Interval:
    """What Wilson's interval leaves open of a rate for which all `prompts` are alike: the share of prompts that may be
    otherwise is at most 1 − Wilson's lower end of prompts of prompts, and those are supposed to be at one bound or the
    other."""
    rest = 1 - wilson(prompts, prompts)[0]
    return centre - rest * (centre - bounds[0]), centre + rest * (bounds[1] - centre)


def rates(verdicts: Iterable[Verdict], seed: int = 0) -> Rates:
    """Rates of one judge's verdicts on one candidate on one prompt set."""
    return rates_of([outcomes(from_records(verdicts))], seed)[0]


def comparison_rates(found: Outcomes, seed: int = 0) -> dict[ComparisonKey, Rates]:
    """The rates of each comparison. Those on one prompt set are resampled together: one draw of prompts moves all."""
    by_set: dict[str, dict[ComparisonKey, Outcomes]] = {}
    for names, rows in comparisons(found):
        by_set.setdefault(names[0], {})[names] = found.select(rows)
    return {
        names: known
        for parts in by_set.values()
        for names, known in zip(parts, rates_of(list(parts.values()), seed), strict=True)
    }


def rates_of(groups: Sequence[Outcomes], seed: int = 0) -> list[Rates]:
    """The rates of each group of outcomes; the prompts of all groups, judged or not, are what is resampled."""
    prompts = np.unique(np.concatenate([group.prompt for group in groups]))
    sums = [_sums(group.judged, prompts) for group in groups]
    wide = [i for i, found in enumerate(sums) if _FEW * len(np.unique(found[:, 3])) > len(found)]
    drawn = {i: resampled_sums(sums[i][:, [0, 3]], seed) for i in range(len(groups)) if i not in wide and len(prompts)}
    if wide:
        together = drawn_sums(np.concatenate([sums[i][:, [0, 3]] for i in wide], axis=1), seed)
        drawn |= {i: together[:, 2 * place : 2 * place + 2] for place, i in enumerate(wide)}
    return [_rates(group, sums[i], drawn.get(i), seed) for i, group in enumerate(groups)]


def _sums(judged: Outcomes, prompts: NDArray[np.int64]) -> Floats:
    """[prompts, 4]: outcomes, wins, wins − losses, and preferences, summed over each prompt's outcomes."""
    index = np.searchsorted(prompts, judged.prompt)
    columns = (np.ones(len(judged)), judged.value == 1, judged.value, judged.preference)
    return np.stack([np.bincount(index, column, len(prompts)) for column in columns], axis=1)


def _rates(group: Outcomes, sums: Floats, preferences: Floats | None, seed: int) -> Rates:
    """preferences: [RESAMPLES, 2] resampled numbers of outcomes and sums of preferences."""
    n, wins, margin, preference = sums.sum(axis=0).tolist()
    missing, failed = len(group) - int(n), int(group.failed.sum())
    lacking = missing / len(group) if len(group) else 0.0
    orders = group.orders_seen if len(group) else "none"
    if n == 0 or preferences is None:
        return Rates.model_validate(
            {**dict.fromkeys(Rates.model_fields), **dict.fromkeys(("n", "wins", "ties", "losses", "prompts"), 0)}
            | {"missing": missing, "failed_verdicts": failed, "missing_share": lacking, "orders": orders}
        )
    losses, judged = wins - margin, sums[sums[:, 0] > 0]
    prompts = len(judged)
    if prompts == n:
        counts = resampled_counts(int(wins), int(n - wins - losses), int(losses), seed)
        drawn_wins, drawn_margins = counts[:, 0] / n, (counts[:, 0] - counts[:, 2]) / n
    else:
        drawn = resampled_sums(judged[:, :3], seed)
        drawn_wins, drawn_margins = drawn[:, 1] / drawn[:, 0], drawn[:, 2] / drawn[:, 0]
    rate = margin / n
    ends = interval(drawn_margins, rate, prompts, (-1, 1))
    with np.errstate(invalid="ignore"):  # a resample may hold no judged prompt; it has no mean
        drawn_preferences = preferences[:, 1] / preferences[:, 0]
    return Rates(
        n=int(n),
        wins=int(wins),
        ties=int(n - wins - losses),
        losses=int(losses),
        missing=missing,
        failed_verdicts=failed,
        preference_rate=rate,
        preference_interval=ends,
        win_rate=wins / n,
        win_interval=interval(drawn_wins, wins / n, prompts, (0, 1)),
        half_tie_rate=(1 + rate) / 2,
        half_tie_interval=((1 + ends[0]) / 2, (1 + ends[1]) / 2),
        mean_preference=preference / n,
        mean_preference_interval=interval(drawn_preferences, preference / n, prompts, (0, 1)),
        prompts=prompts,
        missing_share=lacking,
        orders=orders,
    )
