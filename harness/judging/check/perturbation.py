"""Good responses damaged in known steps, and whether a judge's preference falls with them.

A damaged response is judged against itself undamaged: 0.5 where nothing is damaged, less the more is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from re import split
from typing import Literal
from zlib import crc32

import numpy as np

from harness.statistics.agreement import RESAMPLES, Mean, mean

LEVEL = 0.01  # of the one-sided test that a kind of damage lowers the preference; there are four kinds
LONG = 6  # sentences that a response must have to be damaged
Perturbation = Literal["shuffled", "truncated", "off-topic", "repeated"]
DOSES: dict[Perturbation, tuple[float, ...]] = {
    "shuffled": (0.25, 0.5, 1.0),  # share of sentences moved
    "truncated": (0.25, 0.5, 0.75),  # share of sentences cut from the end
    "off-topic": (0.25, 0.5, 1.0),  # share of sentences replaced by another response's
    "repeated": (0.25, 0.5, 0.75),  # share of the text that is its last sentence over again
}


def sentences(text: str) -> list[str]:
    """Sentences of plain prose: what white space after a full stop, a question or an exclamation mark divides."""
    return split(r"(?<=[.!?])\s+", text.strip())


def perturb(kind: Perturbation, text: str, dose: float, rng: np.random.Generator, other: str = "") -> str:
    """A response of at least two sentences with a share of them damaged (see DOSES), joined by single spaces.

    Doses are rounded to whole sentences: at least one, and two for a shuffle.

    With an equal generator a larger dose moves or replaces the places of a smaller one, and more. `other` is what
    `off-topic` takes its sentences from: all of it, in its order, at dose 1. `repeated` takes nothing away, so the
    response grows; `truncated` shortens it: a judge of length alone cannot dislike both.

    Raises:
        ValueError: fewer than two sentences.
    """
    parts = sentences(text)
    if len(parts) < 2:
        raise ValueError("only a response of two sentences or more can be damaged")
    places = rng.permutation(len(parts))  # always drawn whole, so that doses are nested
    if dose == 0:
        return " ".join(parts)
    count = max(1, int(dose * len(parts) + 0.5))
    if kind == "shuffled":
        moved = places[: max(2, count)]
        before = list(parts)
        for to, source in zip(moved, np.roll(moved, 1), strict=True):  # one cycle: none stays where it was
            parts[to] = before[source]
    elif kind == "truncated":
        parts = parts[: max(1, len(parts) - count)]
    elif kind == "off-topic":
        foreign = sentences(other)
        for place in places[:count]:
            parts[place] = foreign[place % len(foreign)]
    else:
        parts += [parts[-1]] * max(1, int(len(parts) * dose / (1 - dose) + 0.5))
    return " ".join(parts)


def doses(responses: Mapping[str, str], seed: int) -> dict[tuple[Perturbation, str, float], str]:
    """(kind, name, dose) → a response damaged; foreign sentences are the next one's, so fewer than two give none."""
    names = list(responses) if len(responses) > 1 else []
    return {
        (kind, name, dose): perturb(
            kind,
            responses[name],
            dose,
            np.random.default_rng([seed, crc32(f"{name}/{kind}".encode())]),
            responses[names[(number + 1) % len(names)]],
        )
        for number, name in enumerate(names)
        for kind in DOSES
        for dose in DOSES[kind]
    }


@dataclass(frozen=True)
class PerturbationCurve:
    """Mean preference for the damaged response by dose; at dose 0 it is 0.5 by construction, and is not asked.

    slope: change of the preference from 0.5 per unit of dose, a least-squares line through (0, 0.5) for each
        response, and the mean of these.
    p: one-sided sign-flip permutation test of slope < 0: for a judge that cannot tell them apart, a response's
        slope is as likely to be positive.
    monotone: the mean curve never rises.
    missing: comparisons with a verdict missing.
    """

    kind: Perturbation
    doses: tuple[float, ...]
    preferences: tuple[Mean, ...]
    slope: Mean
    p: float | None
    monotone: bool
    missing: int

    @property
    def seen(self) -> bool:
        return self.p is not None and self.p < LEVEL


def perturbation_curve(
    kind: Perturbation, preferences: Mapping[tuple[str, float], float | None], seed: int
) -> PerturbationCurve:
    """The curve of one kind, from (name, dose) → the preference for the damaged response, None where it is missing."""
    by_name: dict[str, dict[float, float]] = {}
    for (name, dose), preference in preferences.items():
        if preference is not None:
            by_name.setdefault(name, {})[dose] = preference
    curves = list(by_name.values())
    slopes = [sum(d * (y - 0.5) for d, y in curve.items()) / sum(d * d for d in curve) for curve in curves]
    means = tuple(mean([curve[dose] for curve in curves if dose in curve], seed=seed) for dose in DOSES[kind])
    steepest = 0.5 / min(DOSES[kind])
    levels = [0.5, *(value.mean for value in means if value.mean is not None)]
    return PerturbationCurve(
        kind=kind,
        doses=DOSES[kind],
        preferences=means,
        slope=mean(slopes, (-steepest, steepest), seed),
        p=sign_flip_test(slopes, seed),
        monotone=all(after <= before for before, after in pairwise(levels)),
        missing=list(preferences.values()).count(None),
    )


def sign_flip_test(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> float | None:
    """One-sided p that the mean is below 0, under the hypothesis that each value's sign is a coin's; None for none.

    The observed signs count as one of the draws, so p is never 0.
    """
    if not values:
        return None
    sizes = np.asarray(values, dtype=np.float64)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(sizes)))
    # sums of the same numbers in another order differ by rounding
    as_low = (signs @ sizes) <= sizes.sum() + 1e-9
    return float((1 + np.count_nonzero(as_low)) / (1 + resamples))
