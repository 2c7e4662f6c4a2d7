"""Method against method on the same prompts: paired differences of preference rate, as `effects` has their variance.

    difference  rate(first) − rate(second) on the prompts, and the seeds of each, that were judged for both; a rate is
                the mean of outcomes, 1 win, 0 tie, −1 loss against the teacher
    d_p         what prompt p says of it: where each has as many outcomes, the mean of the first's − that of the
                second's over samples, turns and seeds

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
    Components,
    Luck,
    compared,
    components,
    detectable,
    luck,
    t_interval,
    told_apart,
)
from harness.statistics.outcomes import Outcomes, joint_codes

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
    """Each pair of candidates on each prompt set, and pooled over each domain of several sets. In a pool a set weighs
    as much as it has prompts.

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


def cells_of(found: Outcomes, rows: Sequence[str]) -> list[Cells]:
    """One judge's outcomes against one reference: the cells of each of these candidates, in every run, a seed, and on
    every prompt that any of them has."""
    judged = found.judged
    where = np.full(len(found.names.candidate), -1)
    for place, name in enumerate(rows):
        if name in found.names.candidate:
            where[found.names.candidate.index(name)] = place
    judged = judged.select(where[judged.candidate] >= 0)
    prompts, prompt = np.unique(judged.prompt, return_inverse=True)
    runs, run = np.unique(judged.run, return_inverse=True)
    shape = len(rows), len(runs), len(prompts)
    index, size = (where[judged.candidate] * shape[1] + run) * shape[2] + prompt, int(np.prod(shape))
    weights = judged.value, np.ones(len(judged))
    totals, counts = (np.bincount(index, of, size).reshape(shape).astype(np.float64) for of in weights)
    return [Cells(total, count) for total, count in zip(totals, counts, strict=True)]


def row_components(found: Outcomes, row: str, runs: Outcomes | None = None) -> Components:
    """Of one candidate. found: as in `cells_of`. runs: the same where runs of one seed are not yet one, whose
    checkpoints are several."""
    return components(cells_of(found, [row])[0], _within_cells((runs or found).where(candidate=row).judged))


def _within_cells(judged: Outcomes) -> float | None:
    """The variance between the outcomes of one checkpoint on one prompt and turn; None where none has several."""
    unit, count = np.unique(
        joint_codes((judged.run, judged.prompt, judged.turn)), return_inverse=True, return_counts=True
    )[1:]
    beyond = int((count - 1).sum())
    if not beyond:
        return None
    mean = np.bincount(unit, judged.value) / count
    return float(((judged.value - mean[unit]) ** 2).sum()) / beyond


def luck_of(found: Outcomes, untrained: Collection[str] = ()) -> Luck | None:
    """What another seed would move in one judge's rates: of all candidates that were trained, on the prompts of all
    sets together, as their checkpoints are the same."""
    if len(np.unique(found.run)) < 2:
        return None
    names = [found.names.candidate[code] for code in np.unique(found.candidate)]
    return luck(cells_of(found, [name for name in names if name not in untrained]))


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
    first, second = cells_of(found, pair)
    trained = pair[0] not in untrained, pair[1] not in untrained
    judges = {found.names.judge[code] for code in np.unique(found.judge)}
    return Contrast(
        first=pair[0],
        second=pair[1],
        scope=scope,
        family=family_of(*pair, untrained),
        judge=", ".join(sorted(judges)),
        **dict(compared(first, second, trained, between, BOUNDS)),
    )


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
    ends = t_interval(found.difference, found.error, found.degrees, 2 * LEVEL, bounds)
    if ends[0] <= -margin:
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
    is found to be better, Holm-corrected over all neighbours (the other way round where one of them has seeds that the
    other has not: that is no order). A group says nothing of its two ends, which may well
    be distinguishable; nor is the test quite fair, as who are neighbours was learnt from the same data.
    """
    tests = corrected(
        [
            contrast(_within(found, pair, found.names.prompt_set), pair, scope, untrained, between)
            for pair in pairwise(candidates)
        ]
    )
    opens = [test.distinguishable and (test.difference or 0) > 0 for test in tests]
    return tests, [0, *np.cumsum(opens).tolist()][: len(candidates)]
