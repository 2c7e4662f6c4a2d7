"""Method against method on the same prompts: paired differences of preference rate, with a test that knows the pairing.

    d_p         value of the first − value of the second on prompt p; a value is 1 win, 0 tie, −1 loss against the
                teacher, its mean over runs where there are several
    difference  mean of d_p over the prompts that were judged for both
    interval    percentile bootstrap over prompts
    p           two-sided sign-flip test: were the two alike, d_p and −d_p were as likely, whatever the prompt

Sources: Fisher (1935), The Design of Experiments, §21, for the test; Phipson and Smyth (2010), Stat. Appl. Genet. Mol.
Biol. 9:39, for (k + 1) / (R + 1); Holm (1979), Scand. J. Statistics 6:65.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from pydantic import Field

from harness.core.records import Record
from harness.statistics.outcomes import Floats, Ints, Outcomes
from harness.statistics.rates import RESAMPLES, Interval, interval, resampled_sums

LEVEL = 0.05
EXACT = 12  # up to so many prompts that differ, all 2^12 sign patterns are fewer than the draws


class Candidates(Record):
    first: str = Field(description="a candidate")
    second: str = Field(description="the one that it is set against")


class Scope(Candidates):
    scope: str = Field(description="a prompt set, or a domain of several")


class Tested(Protocol):
    """A record with a `p`, and a `p_holm` beside it."""

    @property
    def p(self) -> float | None: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


T = TypeVar("T", bound=Tested)


class Difference(Record):
    """first − second, in preference rate."""

    judge: str = Field(description="by whose verdicts")
    n: int = Field(description="prompts judged for both")
    left_out: int = Field(description="prompts of either that were not judged for both")
    differing: int = Field(description="prompts on which the two differ")
    difference: float | None = Field(description="mean difference over the n prompts, −2..2; null where there are none")
    interval: Interval | None = Field(description="its interval")
    p: float | None = Field(description="of a two-sided sign-flip test")
    p_holm: float | None = Field(description="p corrected (Holm) over the family that was tested together")


class Contrast(Difference, Scope):
    """A difference within one scope. (A record's fields are in the order of its bases, the last one first.)"""

    @property
    def distinguishable(self) -> bool:
        return self.p_holm is not None and self.p_holm <= LEVEL


def contrasts(
    found: Outcomes, pairs: Sequence[tuple[str, str]], domains: Mapping[str, Sequence[str]] | None = None, seed: int = 0
) -> list[Contrast]:
    """Each declared pair of candidates on each prompt set, and pooled over each domain of several sets.

    `found` holds one judge's outcomes against one reference. A family of Holm's is all pairs on all sets; the pooled
    contrasts, which answer another question, are a family of their own. In a pool every prompt counts alike.
    """
    sets = [(name, [name]) for name in found.names.prompt_set if len(found.where(prompt_set=name))]
    pools = [(name, list(names)) for name, names in (domains or {}).items() if len(names) > 1]
    return [made for scopes in (sets, pools) for made in _family(found, pairs, scopes, seed)]


def _family(
    found: Outcomes, pairs: Sequence[tuple[str, str]], scopes: Sequence[tuple[str, Sequence[str]]], seed: int
) -> list[Contrast]:
    return corrected(
        [
            contrast(_within(found, first, sets), _within(found, second, sets), (first, second), scope, seed)
            for scope, sets in scopes
            for first, second in pairs
        ]
    )


def _within(found: Outcomes, candidate: str, sets: Sequence[str]) -> Outcomes:
    codes = [code for code, name in enumerate(found.names.prompt_set) if name in sets]
    mine = found.where(candidate=candidate)
    return mine.select(np.isin(mine.prompt_set, codes))


def contrast(first: Outcomes, second: Outcomes, names: tuple[str, str], scope: str, seed: int = 0) -> Contrast:
    """One contrast, not corrected: p_holm is p."""
    shared = np.intersect1d(first.run, second.run)
    if len(shared):  # runs that both have: a seed that one alone has is no part of a pair
        first, second = (found.select(np.isin(found.run, shared)) for found in (first, second))
    judges = {first.names.judge[code] for code in np.unique(np.concatenate([first.judge, second.judge]))}
    (known, mine), (others, theirs) = _values(first), _values(second)
    both, here, there = np.intersect1d(known, others, assume_unique=True, return_indices=True)
    every = len(np.union1d(first.prompt, second.prompt))
    apart = mine[here] - theirs[there]
    n = len(both)
    difference = float(apart.mean()) if n else None
    ends = p = None
    if difference is not None:
        ends = interval(resampled_sums(apart[:, None], seed)[:, 0] / n, difference, n, (-2, 2))
        p = sign_flip_p(apart, seed)
    return Contrast(
        first=names[0],
        second=names[1],
        scope=scope,
        judge=", ".join(sorted(judges)),
        n=n,
        left_out=every - n,
        differing=int(np.count_nonzero(apart)),
        difference=difference,
        interval=ends,
        p=p,
        p_holm=p,
    )


def _values(found: Outcomes) -> tuple[Ints, Floats]:
    """(prompts, mean value of each) of what was judged."""
    judged = found.judged
    prompts, index = np.unique(judged.prompt, return_inverse=True)
    return prompts, np.bincount(index, judged.value, len(prompts)) / np.bincount(index, minlength=len(prompts))


def sign_flip_p(values: Floats, seed: int = 0, draws: int = RESAMPLES) -> float:
    """Two-sided p that the mean is 0, under the hypothesis that each value's sign is a coin's.

    Exact, the share of all sign patterns, where at most EXACT values are not 0; else the values as they are count as
    one more draw, so p is never 0. What is drawn is how many values of each size are positive: a binomial.
    """
    sizes = np.abs(values[values != 0])
    # sums of the same numbers in another order differ by rounding
    least = abs(float(values.sum())) - 1e-7
    if len(sizes) <= EXACT:
        patterns = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float(np.mean(np.abs((2.0 * patterns - 1) @ sizes) >= least))
    rng, sums = np.random.default_rng(seed), np.zeros(draws)
    for size, count in zip(*np.unique(sizes.round(12), return_counts=True), strict=True):
        sums += size * (2.0 * rng.binomial(count, 0.5, draws) - count)
    return float((1 + np.count_nonzero(np.abs(sums) >= least)) / (1 + draws))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: the i-th smallest of m times m − i + 1, at least the one before it, at most 1."""
    m, order = len(values), np.argsort(values, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(values)[order] * np.arange(m, 0, -1)))
    return [float(p) for p in adjusted]


def corrected(family: Sequence[T]) -> list[T]:
    """The same with p_holm over all of them that have a p."""
    adjusted = iter(holm([made.p for made in family if made.p is not None]))
    return [made if made.p is None else made.model_copy(update={"p_holm": next(adjusted)}) for made in family]


def ranks(groups: Sequence[int]) -> list[tuple[int, int]]:
    """First and last place, from 1, of each row's group; groups are those of `indistinguishable`."""
    return [(groups.index(group) + 1, groups.index(group) + groups.count(group)) for group in groups]


def indistinguishable(
    found: Outcomes, candidates: Sequence[str], scope: str, seed: int = 0
) -> tuple[list[Contrast], list[int]]:
    """Of rows in the order of their rates: each against the next one, and each row's group, counted from 0.

    `found` holds one judge's outcomes on what the rows are sorted by. A row opens a new group where the row before it
    is distinguishable from it, Holm-corrected over all neighbours. A group says nothing of its two ends, which may well
    be distinguishable; nor is the test quite fair, as who are neighbours was learnt from the same data.
    """
    rows = [found.where(candidate=name) for name in candidates]
    tests = corrected(
        [
            contrast(one, other, names, scope, seed)
            for (one, other), names in zip(pairwise(rows), pairwise(candidates), strict=True)
        ]
    )
    return tests, [0, *np.cumsum([test.distinguishable for test in tests]).tolist()][: len(rows)]
