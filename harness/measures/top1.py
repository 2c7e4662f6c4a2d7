"""How often student and teacher hold the same token for the likeliest."""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Measure, Tokens, Values


def values(tokens: Tokens) -> Values:
    """[n]: 1 where the likeliest token is the same, else 0."""
    return np.equal(tokens.student_top, tokens.teacher_top).astype(float)


TOP1 = Measure(
    name="top1",
    reads="teacher_tokens",
    values=values,
    summary="share of tokens where student and teacher hold the same one for the likeliest, on the teacher's responses",
    misses="all but the likeliest token: two models may agree on it and differ in everything else",
    unit="share of tokens",
    better="higher",
    group="fidelity",
    head="same top token",
    place=4,
)
