"""Method against method on the same prompts: paired differences of preference rate, as `effects` has their variance.

    d_p         value of the first − value of the second on prompt p; a value is 1 win, 0 tie, −1 loss against the
                teacher, its mean over samples, turns and seeds where there are several
    difference  mean of d_p over the prompts that were judged for both

Source of the correction: Holm (1979), Scand. J. Statistics 6:65.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
from pydantic import Field

from harness.core.records import Record
from harness.statistics.effects import (
    LEVEL,
    Cells,
    Compared,
    Luck,
    Shared,
    compared,
    detectable,
    luck,
    t_interval,
    told_apart,
)
from harness.statistics.outcomes import Outcomes

Family = Literal["primary", "methods", "anchors"]
BOUNDS = (-2.0, 2.0)  # of a difference of preference rates


class Candidates(Record):
    first: str = Field(description="a candidate")
    second: str = Field(description="the one that it is set against")


class Scope(Candidates):
    scope: str = Field(description="a prompt set, or a domain of several")


class Tested(Protocol):
    """A record with a `p`, and a `p_holm` beside it."""

    @property
    def p(self) -> float | None: ...

    @property
    def error(self) -> float | None: ...

    @property
    def degrees(self) -> float | None: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


T = TypeVar("T", bound=Tested)


class Difference(Compared):
    """first − second, in preference rate, −2..2."""

    judge: str = Field(description="by whose verdicts")


class InFamily(Record):
    family: Family = Field(
        description="primary: the one that was named, corrected for none; methods: all others between rows that were "
        "trained; anchors: with the start or the ceiling. Each of the last two is corrected by itself, single sets and "
        "domains apart"
    )


class Contrast(Difference, InFamily, Scope):
    """A difference within one scope. (A record's fields are in the order of its bases, the last one first.)"""

    @property
    def distinguishable(self) -> bool:
        return told_apart(self)


def contrasts(
    found: Outcomes,
    pairs: Sequence[tuple[str, str]],
    domains: Mapping[str, Sequence[str]] | None = None,
    untrained: Collection[str] = (),
    primary: tuple[str, str, str] | None = None,
) -> list[Contrast]:
    """Each pair of candidates on each prompt set, and pooled over each domain of several sets. In a pool every prompt
    counts alike.

    found: one judge's outcomes against one reference; runs are seeds. untrained: candidates that no training made.
    primary: (first, second, scope) of the one that is corrected for no other.
    """
    sets = [(name, [name]) for name in found.names.prompt_set if len(found.where(prompt_set=name))]
    pools = [(name, list(names)) for name, names in (domains or {}).items() if len(names) > 1]
    between = luck_of(found, untrained)
    made: list[Contrast] = []
    for scopes in (sets, pools):
        some = [
            contrast(_within(found, pair, scope), pair, name, untrained, between)
            for name, scope in scopes
            for pair in pairs
        ]
        made += by_family(some, primary)
    return made


def by_family(made: Sequence[Any], primary: tuple[str, str, str] | None) -> list[Any]:
    """The same, in their order, with each one's family, and corrected within it."""
    named = [
        one.model_copy(update={"family": "primary"}) if primary == (one.first, one.second, one.scope) else one
        for one in made
    ]
    places: dict[str, list[int]] = {}
    for place, one in enumerate(named):
        places.setdefault(one.family, []).append(place)
    for family, where in places.items():
        if family != "primary":
            for place, one in zip(where, corrected([named[place] for place in where]), strict=True):
                named[place] = one
    return named


def luck_of(found: Outcomes, untrained: Collection[str] = ()) -> Luck | None:
    """What another seed would move in one judge's rates: of all candidates that were trained, on the prompts of all
    sets together, as their checkpoints are the same."""
    names = [found.names.candidate[code] for code in np.unique(found.candidate)]
    return luck(Cells.of(found, [name for name in names if name not in untrained]).values)


def family_of(first: str, second: str, untrained: Collection[str]) -> Family:
    return "anchors" if first in untrained or second in untrained else "methods"


def _within(found: Outcomes, candidates: Sequence[str], sets: Sequence[str]) -> Outcomes:
    codes = [code for code, name in enumerate(found.names.prompt_set) if name in sets]
    rows = [code for code, name in enumerate(found.names.candidate) if name in candidates]
    return found.select(np.isin(found.prompt_set, codes) & np.isin(found.candidate, rows))


def contrast(
    found: Outcomes,
    pair: tuple[str, str],
    scope: str,
    untrained: Collection[str] = (),
    between: Luck | None = None,
) -> Contrast:
    """One contrast, not corrected: p_holm is p. found: outcomes of both within the scope. between: of seeds."""
    cells = Cells.of(found, pair)
    first, second = cells.values
    shared = Shared.of(~np.isnan(first), ~np.isnan(second))
    apart = _mean(first, shared.mine) - _mean(second, shared.theirs)
    trained = sum(name not in untrained for name in pair)
    judges = {found.names.judge[code] for code in np.unique(found.judge)}
    return Contrast(
        first=pair[0],
        second=pair[1],
        scope=scope,
        family=family_of(*pair, untrained),
        judge=", ".join(sorted(judges)),
        **dict(
            compared(apart[~np.isnan(apart)], shared.left_out, shared.seeds, shared.parts(between, trained), BOUNDS)
        ),
    )


def _mean(values: Any, known: Any) -> Any:
    """[prompts] mean over the seeds that count; NaN where none does."""
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


# ---- equivalence


class Equivalence(Record):
    """Whether a difference is small: by its 90% interval, which is two one-sided tests of 5%."""

    margin: float = Field(description="what counts as small, in the rate's unit: 0.05 is five points")
    interval: tuple[float, float] | None = Field(description="the difference's 90% interval")
    finding: Literal["equivalent", "not worse", "neither"] = Field(
        description="equivalent: the interval lies within ± margin; not worse: it lies above −margin"
    )


def equivalence(found: Compared, margin: float, bounds: tuple[float, float] = BOUNDS) -> Equivalence:
    """Source: Schuirmann (1987), J. Pharmacokinetics and Biopharmaceutics 15:657, for the two one-sided tests."""
    if found.difference is None or found.error is None or found.degrees is None:
        return Equivalence(margin=margin, interval=None, finding="neither")
    # of prompts that are all alike t has no width: what is left open by them is wider than 90%, and stands in for it
    ends = (
        t_interval(found.difference, found.error, found.degrees, 2 * LEVEL, bounds) if found.error else found.interval
    )
    if ends is None or ends[0] <= -margin:
        return Equivalence(margin=margin, interval=ends, finding="neither")
    return Equivalence(margin=margin, interval=ends, finding="equivalent" if ends[1] < margin else "not worse")


# ---- corrections, and rows in their order


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: the i-th smallest of m times m − i + 1, at least the one before it, at most 1."""
    m, order = len(values), np.argsort(values, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(values)[order] * np.arange(m, 0, -1)))
    return [float(p) for p in adjusted]


def corrected(family: Sequence[T]) -> list[T]:
    """The same with p_holm, and what they could have told, over all of them that have a p."""
    ps = [made.p for made in family if made.p is not None]
    adjusted = iter(holm(ps))
    return [
        made
        if made.p is None
        else made.model_copy(
            update={"p_holm": next(adjusted), "detectable": detectable(made.error, made.degrees, len(ps))}
        )
        for made in family
    ]


def ranks(groups: Sequence[int]) -> list[tuple[int, int]]:
    """First and last place, from 1, of each row's group; groups are those of `indistinguishable`."""
    return [(groups.index(group) + 1, groups.index(group) + groups.count(group)) for group in groups]


def indistinguishable(
    found: Outcomes, candidates: Sequence[str], scope: str, untrained: Collection[str] = (), between: Luck | None = None
) -> tuple[list[Contrast], list[int]]:
    """Of rows in the order of their rates: each against the next one, and each row's group, counted from 0.

    `found` holds one judge's outcomes on what the rows are sorted by. A row opens a new group where the row before it
    is distinguishable from it, Holm-corrected over all neighbours. A group says nothing of its two ends, which may well
    be distinguishable; nor is the test quite fair, as who are neighbours was learnt from the same data.
    """
    tests = corrected(
        [
            contrast(_within(found, pair, found.names.prompt_set), pair, scope, untrained, between)
            for pair in pairwise(candidates)
        ]
    )
    return tests, [0, *np.cumsum([test.distinguishable for test in tests]).tolist()][: len(candidates)]
