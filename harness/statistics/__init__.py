"""Rates from verdicts, contrasts of methods, length control: with their uncertainty."""

from harness.statistics.rates import Rates, rates

__all__ = ["Rates", "rates"]
