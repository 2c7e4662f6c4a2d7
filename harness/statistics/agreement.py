"""How far judges agree with one another and with themselves: Cohen's κ, flips and ties, each with a 95% interval.

    κ = (p_o − p_e) / (1 − p_e)      p_o  share of prompts with the same outcome
                                     p_e  that share, were the two judges' outcomes independent

Outcomes are win, tie and loss of a prompt, as in `outcomes`. Source: Cohen (1960), Educational and Psychological
Measurement 20:37.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.core.records import Record, Verdict
from harness.statistics.contrasts import BOUNDS
from harness.statistics.effects import Cells, Compared, compared
from harness.statistics.outcomes import Outcome, Outcomes, Unit, from_records, outcomes, unit_of
from harness.statistics.rates import Interval, wilson

RESAMPLES = 10_000
KAPPA_SEED = 0  # of its resamples
K = TypeVar("K", bound=Hashable)
CATEGORIES: tuple[Outcome, ...] = ("win", "tie", "loss")
# p_e is a sum of products of counts over n²: the nearest that it can come to 1 without being 1 is about 1/n.
_ONE = 1 - 1e-12


def share(count: int, n: int) -> Share:
    if not n:
        return Share(count=0, n=0, share=None, interval=None)
    return Share(count=count, n=n, share=count / n, interval=wilson(count, n))


class Share(Record):
    """A count of n, and their share; null where n is 0."""

    count: int = Field(description="how many")
    n: int = Field(description="of how many")
    share: float | None = Field(description="count / n")
    interval: Interval | None = Field(description="its interval, Wilson's")


def mean(values: Sequence[float], bounds: Interval = (0.0, 1.0), seed: int = 0, resamples: int = RESAMPLES) -> Mean:
    """Mean of one value a prompt, with a bootstrap interval that resamples prompts.

    bounds: the least and the largest value there can be. Where all values are alike a bootstrap has no width: the
    interval then supposes that the share of prompts that Wilson's interval leaves open is at one bound or the other.
    """
    n = len(values)
    if n == 0:
        return Mean(0, None, None)
    found = np.asarray(values, dtype=np.float64)
    centre = float(found.mean())
    if np.ptp(found) == 0:
        rest = 1 - wilson(n, n)[0]
        return Mean(n, centre, (centre - rest * (centre - bounds[0]), centre + rest * (bounds[1] - centre)))
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    low, high = np.quantile(found[drawn].mean(axis=1), [0.025, 0.975])
    return Mean(n, centre, (float(low), float(high)))


@dataclass(frozen=True)
class Mean:
    """A mean over n prompts with its interval; None where n is 0."""

    n: int
    mean: float | None
    interval: Interval | None


def agreement(
    first: Mapping[K, Outcome],
    second: Mapping[K, Outcome],
    seed: int = KAPPA_SEED,
    resamples: int = RESAMPLES,
    cluster: Callable[[K], Hashable] = lambda key: key,
) -> Agreement:
    """Agreement of two judges' outcomes, joined on their keys.

    κ's interval is a percentile bootstrap over clusters of outcomes (a prompt, with all that was judged on it), drawn
    whole, with replacement. Where every prompt agrees (or none does) p_o has no spread in it: the interval is widened
    to what κ would be at the end of Wilson's interval of p_o.
    """
    ids = first.keys() | second.keys()
    tables: dict[Hashable, NDArray[np.int64]] = {}
    for key in ids:
        a, b = first.get(key, "missing"), second.get(key, "missing")
        if a != "missing" and b != "missing":
            table = tables.setdefault(cluster(key), np.zeros((3, 3), dtype=np.int64))
            table[CATEGORIES.index(a), CATEGORIES.index(b)] += 1
    by_cluster = np.array(list(tables.values()), dtype=np.int64).reshape(-1, 3, 3)
    whole = by_cluster.sum(axis=0)
    n, same = int(whole.sum()), int(np.trace(whole))
    cells = tuple((int(row[0]), int(row[1]), int(row[2])) for row in whole)
    kappa, interval, undefined, note = _kappa(by_cluster, seed, resamples)
    return Agreement(
        n=n,
        missing=len(ids) - n,
        table=cells,
        agreement=share(same, n),
        kappa=kappa,
        kappa_interval=interval,
        undefined_resamples=undefined,
        note=note,
    )


class Agreement(Record):
    """Two judges on the same prompts."""

    n: int = Field(description="outcomes that both have")
    missing: int = Field(description="outcomes that at least one of them lacks; not in n")
    table: tuple[tuple[int, int, int], ...] = Field(description="counts: the first's win, tie, loss by the second's")
    agreement: Share = Field(description="of n, the same outcome")
    kappa: float | None = Field(description="Cohen's κ; null where it is undefined")
    kappa_interval: Interval | None = Field(description="its interval: a bootstrap over prompts")
    undefined_resamples: int = Field(description="bootstrap resamples without a κ, left out of its interval")
    note: str = Field(description="why there is no κ, or no interval of it; empty where there is")


class _Judges(Record):
    first: str = Field(description="a judge")
    second: str = Field(description="another")


class JudgeAgreement(Agreement, _Judges):
    """How far two judges agree on win, tie and loss, over all candidates and prompt sets."""


def difference(a: Mean, b: Mean) -> tuple[float | None, Interval | None]:
    """a − b of two independent samples, with the interval that follows from theirs.

    Source: Newcombe (1998), Statistics in Medicine 17:873, method 10; for means in general Zou and Donner (2008),
    Statistics in Medicine 27:1693 (MOVER). It keeps a width where one of the samples is all alike.
    """
    if a.mean is None or b.mean is None or a.interval is None or b.interval is None:
        return None, None
    apart = a.mean - b.mean
    low = apart - hypot(a.mean - a.interval[0], b.interval[1] - b.mean)
    high = apart + hypot(a.interval[1] - a.mean, b.mean - b.interval[0])
    return apart, (low, high)


def kappas(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., 3, 3] counts → [...] Cohen's κ; NaN where it is undefined (p_e = 1: both always gave the same outcome)."""
    n = tables.sum(axis=(-2, -1))
    observed = np.trace(tables, axis1=-2, axis2=-1) / n
    chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < _ONE, (observed - chance) / (1 - chance), np.nan)


def _kappa(by_cluster: NDArray[np.int64], seed: int, resamples: int) -> tuple[float | None, Interval | None, int, str]:
    table = by_cluster.sum(axis=0)
    n = int(table.sum())
    if n == 0:
        return None, None, 0, "no prompt was judged by both"
    kappa = float(kappas(table))
    if np.isnan(kappa):
        return None, None, 0, "both gave one and the same outcome throughout: κ is undefined"
    if 1 in (np.count_nonzero(table.sum(axis=0)), np.count_nonzero(table.sum(axis=1))):
        return kappa, None, 0, "one of the two gave a single outcome throughout: κ is 0 whatever the other says"
    # clusters with the same table are of one kind; how many of each kind are drawn is multinomial
    alike, counts = np.unique(by_cluster.reshape(-1, 9), axis=0, return_counts=True)
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples) @ alike
    found = kappas(drawn.reshape(-1, 3, 3))
    defined = found[~np.isnan(found)]
    low, high = (float(end) for end in np.quantile(defined, [0.025, 0.975]))
    same = int(np.trace(table))
    if same in (0, n):
        chance = float((table.sum(axis=0) * table.sum(axis=1)).sum()) / n**2
        # of clusters, not of outcomes: what is judged on one prompt is not judged independently
        ends = [(end - chance) / (1 - chance) for end in wilson(total if same else 0, total)]
        low, high = min(low, ends[0]), max(high, ends[1])
    return kappa, (low, high), len(found) - len(defined), ""


def agreements(found: Outcomes, judges: Sequence[str]) -> list[JudgeAgreement]:
    """Agreement of each pair of judges over all candidates and prompt sets."""
    by_judge = {judge: _by_comparison(found.where(judge=judge)) for judge in judges}
    return [
        JudgeAgreement(
            first=one, second=other, **dict(agreement(by_judge[one], by_judge[other], cluster=lambda key: key[0]))
        )
        for one, other in combinations(judges, 2)
    ]


def _by_comparison(found: Outcomes) -> dict[tuple[int, ...], Outcome]:
    """One judge's outcomes by prompt, turn, run, sample, candidate and reference, as codes."""
    columns = (found.prompt, found.turn, found.run, found.sample, found.candidate, found.reference)
    keys = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(keys, found.words, strict=True))


def judges_apart(found: Outcomes, first: str, second: str) -> Compared:
    """How far two judges are apart in one candidate's preference rate: first − second over the prompts that both have
    an outcome on, of these checkpoints. found: both judges' outcomes on one candidate on one prompt set."""
    prompts, place = np.unique(found.prompt, return_inverse=True)

    def cells(judge: str) -> Cells:
        mine = (found.judge == found.names.judge.index(judge)) & ~np.isnan(found.value)
        size = len(prompts)
        total, count = np.bincount(place[mine], found.value[mine], size), np.bincount(place[mine], minlength=size)
        return Cells(total[None].astype(np.float64), count[None].astype(np.float64))

    return compared(cells(first), cells(second), bounds=BOUNDS)


def flips(verdicts: Iterable[Verdict]) -> Share:
    """Of the prompts judged ok in both orders, those whose two preferences for the candidate lie on different sides of
    0.5; a preference of exactly 0.5 is on neither side. n is 0 for a judge that sees no order."""
    pairs = both_orders(verdicts).values()
    return share(sum((a - 0.5) * (b - 0.5) < 0 for a, b in pairs), len(pairs))


def both_orders(verdicts: Iterable[Verdict]) -> dict[Unit, tuple[float, float]]:
    """Preferences for the candidate, shown first and shown second, of the responses judged ok in both orders, of one
    comparison."""
    found: dict[Unit, dict[str, float]] = {}
    for verdict in verdicts:
        if verdict.preference is not None:
            found.setdefault(unit_of(verdict), {})[verdict.order] = verdict.preference
    return {
        key: (by_order["candidate_first"], by_order["reference_first"])
        for key, by_order in found.items()
        if by_order.keys() == {"candidate_first", "reference_first"}
    }


def tie_rate(verdicts: Iterable[Verdict]) -> Share:
    """Ties (as in `outcomes`) among the outcomes of one comparison."""
    found = [outcome for outcome in outcomes(from_records(verdicts)).words if outcome != "missing"]
    return share(found.count("tie"), len(found))
