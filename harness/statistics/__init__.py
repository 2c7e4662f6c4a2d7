"""Rates from verdicts, with their uncertainty."""

from harness.statistics.rates import Rates, outcomes, rates

__all__ = ["Rates", "outcomes", "rates"]
