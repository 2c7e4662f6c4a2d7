"""Measures as ratios, Σ of values / how many, with 95% intervals that resample prompts, and their paired differences.

A value is a token's or a response's, and a prompt has as many as its responses have tokens: what is resampled is
prompts, each with all of its values in every run.
"""

from __future__ import annotations

from pydantic import Field

from harness.core.records import Record
from harness.statistics.rates import Interval


class Ratio(Record):
    """Of one system on one prompt set; null where nothing was measured."""

    value: float | None = Field(description="sum of the measure's values / count")
    interval: Interval | None = Field(description="its 95% interval")
    count: int = Field(description="tokens or responses that it is the mean of")
    prompts: int = Field(description="different prompts in it")


class RatioDifference(Record):
    """first − second, in the measure's unit, on the same prompts."""

    n: int = Field(description="prompts measured for both")
    left_out: int = Field(description="prompts of either that were not measured for both")
    differing: int = Field(description="prompts on which the two differ")
    difference: float | None = Field(description="difference of the ratios over these; null where there are none")
    interval: Interval | None = Field(description="its 95% interval")
    p: float | None = Field(description="of a two-sided test in which the two change places prompt by prompt")
    p_holm: float | None = Field(description="p corrected (Holm) over the measure's family")
