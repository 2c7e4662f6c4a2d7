"""What is measured of responses, and how: one file a measure. Imports no torch."""

from harness.measures.measure import READS, Answered, Measure, PairLogProbs, Tokens, Values
from harness.measures.registry import measures

__all__ = ["READS", "Answered", "Measure", "PairLogProbs", "Tokens", "Values", "measures"]
