"""What a response is about, as a vector: what the proxy judge `embedding` reads."""

from __future__ import annotations

from harness.measures.measure import Measure, Values


def values(vector: Values) -> Values:
    """[d]: the vector as it is."""
    return vector


EMBEDDING = Measure(
    name="embedding",
    reads="embedding",
    values=values,
    summary="the all-MiniLM-L6-v2 embedding of a response, of unit length",
    misses="grammar, facts, order and style, and what follows the first 256 word pieces",
    unit="a vector of length 1",
    model="all-minilm-l6-v2",
    model_types=frozenset({"bert"}),
)
