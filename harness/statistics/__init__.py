"""Rates from verdicts, contrasts of methods, length control: with their uncertainty."""

from __future__ import annotations

from harness.statistics.rates import Rates, rates

__all__ = ["Rates", "rates"]
