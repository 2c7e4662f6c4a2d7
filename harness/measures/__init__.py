"""What is measured of responses, and how: one file a measure. Imports no torch."""

from harness.measures.measure import Answered, Measure, PairLogProbs, Tokens, Values
from harness.measures.registry import measures

__all__ = ["Answered", "Measure", "PairLogProbs", "Tokens", "Values", "measures"]
