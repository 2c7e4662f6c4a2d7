"""How long responses are."""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Answered, Measure, Values


def values(answered: Answered) -> Values:
    """[responses]: the tokens of each, the end of the turn included where it was generated. A response with text whose
    tokens are not known has no value."""
    said = zip(answered.responses, answered.answers, strict=True)
    return np.array([float(len(r.token_ids)) for r, texts in said if r.token_ids or not "".join(texts).strip()])


LENGTH = Measure(
    name="length",
    reads="responses",
    values=values,
    summary="mean tokens of a response, the end of the turn included",
    misses="whether the words say anything; and two tokenizers cut one text into different numbers of tokens",
    unit="tokens a response",
    group="text",
    head="tokens",
    place=0,
)
