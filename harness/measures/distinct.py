"""How many different words, and pairs of words, the responses to a prompt have (Li et al. 2016, arXiv 1510.03055)."""

from __future__ import annotations

from functools import partial

import numpy as np

from harness.core.words import n_grams
from harness.measures.measure import Answered, Measure, Values


def distinct(answered: Answered, n: int) -> Values:
    """[n-grams]: of all n words in a row, in all samples of a prompt, 1 where they stand for the first time, else 0.

    The mean is the paper's, different n-grams by all n-grams, and over prompts Σ different / Σ all. None goes from one
    answer to the next. Responses without n words have none."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for answers in answered.words:
        for answer in answers:
            for gram in n_grams(answer, n):
                found.append(float(gram not in seen))
                seen.add(gram)
    return np.array(found)


DISTINCT_1 = Measure(
    name="distinct_1",
    reads="responses",
    values=partial(distinct, n=1),
    summary="share of different words among all words of a prompt's samples",
    misses="sense: shuffled words are as distinct; and it falls with length and the number of samples, whoever writes",
    unit="share of words",
    group="text",
    head="distinct-1",
    aside=True,
)
DISTINCT_2 = Measure(
    name="distinct_2",
    reads="responses",
    values=partial(distinct, n=2),
    summary="share of different pairs of neighbouring words among all of them in a prompt's samples",
    misses="as distinct_1; it rises where text falls to pieces",
    unit="share of word pairs",
    group="text",
    head="distinct-2",
    place=2,
)
