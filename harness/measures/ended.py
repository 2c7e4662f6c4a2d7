"""How many responses end by themselves, having said something.

It is not 1 − the share cut: a student that ends its turn at once, and says nothing, is in neither.
"""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Answered, Measure, Values


def values(answered: Answered) -> Values:
    """[responses]: 1 where a response was not cut and each of its answers has more than white space, else 0."""
    said = [all(text.strip() for text in answers) for answers in answered.answers]
    return np.array([float(r.finish == "stop" and some) for r, some in zip(answered.responses, said, strict=True)])


ENDED = Measure(
    name="ended",
    reads="responses",
    values=values,
    summary="share of responses that end by themselves after saying something: neither cut nor empty",
    misses="whether it is a good place to end, and whether what was said before is an answer",
    unit="share of responses",
    group="text",
    head="ended by itself",
    aside=True,
)
