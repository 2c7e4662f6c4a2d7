"""How many responses were cut at the limit."""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Answered, Measure, Values


def values(answered: Answered) -> Values:
    """[responses]: 1 where a response was cut at the limit of its tokens (of several answers, one of them), else 0."""
    return np.array([float(response.finish == "length") for response in answered.responses])


CUT = Measure(
    name="cut",
    reads="responses",
    values=values,
    summary="share of responses that were cut at the limit of tokens",
    misses="why: a long answer, a loop, or an end that a student does not find; the limit is the run's, not a reader's",
    unit="share of responses",
    group="text",
    head="cut",
    place=1,
)
