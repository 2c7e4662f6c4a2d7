"""Rates against the teacher, with 95% intervals that know which outcomes belong to one prompt.

    preference rate     (wins − losses) / N, signed, 0 is parity
    win rate            wins / N, ties are not wins
    half-tie win rate   (wins + ties / 2) / N = (1 + preference rate) / 2
    mean preference     of the judge's preferences, 0..1

Wins, ties and losses are as in `outcomes`; a missing one is not counted in N, but shown as missing. A prompt with all
that was judged on it (its turns, in every run, of every sample) is one cluster of outcomes. Intervals are Wilson's, of
as many independent outcomes as the N are worth, and hold the checkpoints that were judged fixed:

    ρ    Σ (MSB − MSW) / Σ (MSB + (m₀ − 1) MSW) over a table's rows, in 0..1: how alike outcomes of a prompt are
    n_e  N / (1 + (m − 1) ρ), ρ the larger of the table's and the row's own; m outcomes a prompt
    win rate            Wilson(W / N, n_e)
    preference rate r   Wilson((1 + r) / 2, n_e / φ), turned back; φ = (w + l − (w − l)²) / (1 − (w − l)²): the variance
                        of wins, ties and losses over that of two outcomes of the same mean, with one more of each in
                        the shares w and l
    half-tie win rate   the same, not turned back
    mean preference m   Wilson(m, n_e / φ), φ = variance / (m (1 − m)), likewise

Sources: Wilson (1927), JASA 22:209; Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, ch.
15, for ρ by analysis of variance; Kish (1965), Survey Sampling, for n_e.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import stdtrit

from harness.core.records import Record, Verdict
from harness.statistics.outcomes import (
    ComparisonKey,
    Floats,
    Orders,
    Outcomes,
    comparisons,
    from_records,
    joint_codes,
    outcomes,
)

Z = 1.959963984540054  # the normal distribution's 97.5% point
Interval = tuple[float, float]
MAX_MISSING = 0.10  # share of missing prompts above which a table is not ranked: they are seldom missing at random
NO_WIDTH = 1e-12


class Rates(Record):
    """Counts of outcomes, each of one prompt in one run, and rates with their 95% intervals; null where n is 0."""

    n: int = Field(description="outcomes: wins, ties and losses")
    wins: int = Field(description="preferred over the reference in every order")
    ties: int = Field(description="no preference, or orders that contradict each other")
    losses: int = Field(description="the reference preferred in every order")
    missing: int = Field(description="outcomes that are none, as a verdict failed or could not be read; not in n")
    failed_verdicts: int = Field(description="verdicts, one an order, that are not ok")
    preference_rate: float | None = Field(description="(wins − losses) / n, −1..1; 0 is parity")
    preference_interval: Interval | None = Field(description="its interval, of these checkpoints")
    win_rate: float | None = Field(description="wins / n, 0..1")
    win_interval: Interval | None = Field(description="its interval, of these checkpoints")
    half_tie_rate: float | None = Field(description="(wins + ties / 2) / n, 0..1")
    half_tie_interval: Interval | None = Field(description="its interval, of these checkpoints")
    mean_preference: float | None = Field(description="mean of the judge's own strengths of preference, 0..1")
    mean_preference_interval: Interval | None = Field(description="its interval, of these checkpoints")
    prompts: int = Field(description="different prompts in n: of several runs a prompt has an outcome each")
    missing_share: float = Field(description="missing / (n + missing)")
    orders: Orders = Field(description="that the verdicts have: both, one, none (the judge sees no order) or mixed")


# ---- Wilson's interval


def wilson(count: int, n: int) -> Interval:
    """Wilson's 95% interval of a proportion."""
    return wilson_of(count / n, n)


def wilson_of(p: float, n: float, z: float = Z) -> Interval:
    """The same of a mean p in 0..1 of what is worth n independent draws; z: another distribution's 97.5% point."""
    z2 = z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(max(0.0, p * (1 - p)) / n + z2 / (4 * n * n))
    # exact at the ends, where rounding would leave the proportion itself outside
    return 0.0 if p <= 0 else centre - half, 1.0 if p >= 1 else centre + half


# ---- how alike outcomes of one prompt are


@dataclass(frozen=True)
class OneWay:
    """One-way analysis of variance on prompts. between, within: mean squares; each: m₀, outcomes a prompt."""

    between: float
    within: float
    each: float

    @property
    def above(self) -> float:
        return self.between - self.within

    @property
    def whole(self) -> float:
        return self.between + (self.each - 1) * self.within


def one_way(values: Floats, prompts: NDArray[np.int64]) -> OneWay | None:
    """values: [N], prompts: [N] the place of each one's prompt from 0; None where none has several, or there is one
    prompt alone, which says nothing of how alike others are."""
    count = np.bincount(prompts)
    n, k = len(values), len(count)
    if k < 2 or n == k:
        return None
    mean = np.bincount(prompts, values) / count
    between = float((count * (mean - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - mean[prompts]) ** 2).sum()) / (n - k)
    return OneWay(between, within, (n - float((count**2).sum()) / n) / (k - 1))


def alike(rows: Sequence[OneWay | None]) -> float:
    """ρ of a table, 0..1, from all of its rows; where none has any spread it is 1: they say nothing else."""
    known = [row for row in rows if row is not None]
    whole = sum(row.whole for row in known)
    return min(1.0, max(0.0, sum(row.above for row in known) / whole)) if whole > NO_WIDTH else 1.0


def worth(prompts: NDArray[np.int64], own: OneWay | None, table: float) -> float:
    """n_e, how many independent outcomes a row's are worth. prompts: [N] the place of each one's prompt."""
    count = np.bincount(prompts)
    n = len(prompts)
    rho = max(table, alike([own])) if own is not None and own.whole > NO_WIDTH else table
    each = float((count**2).sum()) / n  # as many as n / k where prompts have the same number
    return n / (1 + (each - 1) * rho)


# ---- rates


def rates(verdicts: Iterable[Verdict]) -> Rates:
    """Rates of one judge's verdicts on one candidate on one prompt set."""
    return rates_of([outcomes(from_records(verdicts))])[0]


def comparison_rates(found: Outcomes) -> dict[ComparisonKey, Rates]:
    """The rates of each comparison. Those of one table (set, reference, judge) say together how alike outcomes of a
    prompt are."""
    every = {names: found.select(rows) for names, rows in comparisons(found)}
    tables: dict[tuple[str, ...], list[ComparisonKey]] = {}
    for names in every:
        tables.setdefault((names[0], *names[2:]), []).append(names)
    known = {
        names: one
        for table in tables.values()
        for names, one in zip(table, rates_of([every[names] for names in table]), strict=True)
    }
    return {names: known[names] for names in every}


def rates_of(table: Sequence[Outcomes]) -> list[Rates]:
    """The rates of each row of a table: outcomes on one prompt set against one reference by one judge."""
    rows = [_Row.of(group) for group in table]
    rhos = [alike(known) for known in zip(*(row.analyses for row in rows), strict=True)]
    return [_rates(group, row, rhos) for group, row in zip(table, rows, strict=True)]


@dataclass(frozen=True)
class _Row:
    """What was judged of a row: [N] places of its prompts, values, preferences; analyses: of wins, of values and of
    preferences."""

    prompts: NDArray[np.int64]
    values: Floats
    preferences: Floats
    analyses: tuple[OneWay | None, ...]

    @classmethod
    def of(cls, group: Outcomes) -> _Row:
        judged = group.judged
        prompts = np.unique(judged.prompt, return_inverse=True)[1]
        columns = ((judged.value == 1).astype(np.float64), judged.value, judged.preference)
        return cls(prompts, judged.value, judged.preference, tuple(one_way(column, prompts) for column in columns))


def _rates(group: Outcomes, row: _Row, rhos: Sequence[float]) -> Rates:
    n = len(row.values)
    missing, failed = len(group) - n, int(group.failed.sum())
    lacking = missing / len(group) if len(group) else 0.0
    orders = group.orders_seen if len(group) else "none"
    if n == 0:
        return Rates.model_validate(
            {**dict.fromkeys(Rates.model_fields), **dict.fromkeys(("n", "wins", "ties", "losses", "prompts"), 0)}
            | {"missing": missing, "failed_verdicts": failed, "missing_share": lacking, "orders": orders}
        )
    wins, losses = int((row.values == 1).sum()), int((row.values == -1).sum())
    win_rate, rate, preference = wins / n, (wins - losses) / n, float(row.preferences.mean())
    of_wins, of_values, of_preferences = (
        worth(row.prompts, own, rho) for own, rho in zip(row.analyses, rhos, strict=True)
    )
    half = wilson_of((1 + rate) / 2, of_values / _values_apart(wins / n, losses / n, of_values))
    return Rates(
        n=n,
        wins=wins,
        ties=n - wins - losses,
        losses=losses,
        missing=missing,
        failed_verdicts=failed,
        preference_rate=rate,
        preference_interval=(2 * half[0] - 1, 2 * half[1] - 1),
        win_rate=win_rate,
        win_interval=wilson_of(win_rate, of_wins),
        half_tie_rate=(1 + rate) / 2,
        half_tie_interval=half,
        mean_preference=preference,
        mean_preference_interval=wilson_of(preference, of_preferences / _preferences_apart(row, of_preferences)),
        prompts=int(row.prompts.max()) + 1,
        missing_share=lacking,
        orders=orders,
    )


def _values_apart(wins: float, losses: float, n_e: float) -> float:
    """φ of shares of wins and losses, with one more win, tie and loss beside the n_e that they are worth, so that it is
    never 0, and what leaves n_e as it is, as copies of a prompt's only outcome do, leaves φ."""
    w, l = (n_e * wins + 1) / (n_e + 3), (n_e * losses + 1) / (n_e + 3)  # noqa: E741
    return (w + l - (w - l) ** 2) / (1 - (w - l) ** 2)


def _preferences_apart(row: _Row, n_e: float) -> float:
    """φ of preferences in 0..1, with one more at each of 0, ½ and 1, as far as preferences come again: of a judge that
    grades, and gives no two prompts the same, the variance is what was found, and Student's t says how uncertain."""
    again = 1 - _graded(row)
    own, n = float(row.preferences.mean()), n_e + 3 * again
    mean = (n_e * own + 1.5 * again) / n
    squares = n_e * (float(row.preferences.var()) + (own - mean) ** 2) + again * (0.5 + 3 * (0.5 - mean) ** 2)
    degrees = max(1.0, n_e - 1)
    uncertain = (degrees + 1) / degrees * (float(stdtrit(degrees, 0.975)) / Z) ** 2
    return squares / n / (mean * (1 - mean)) * (again + (1 - again) * uncertain)


def _graded(row: _Row) -> float:
    """Share of preferences, other than 0, ½ and 1, that no second prompt has; none of one prompt alone."""
    preferences = row.preferences.round(9)  # what rounding alone sets apart is alike
    other = np.flatnonzero(2 * preferences % 1)
    if not len(other) or not row.prompts.max():
        return 0.0
    place = np.unique(preferences[other], return_inverse=True)[1]
    first = np.unique(joint_codes((place, row.prompts[other])), return_index=True)[1]
    alone = np.bincount(place[first]) == 1
    return int(alone[place].sum()) / len(preferences)
