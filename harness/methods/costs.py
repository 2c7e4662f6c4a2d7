"""What a step of a method costs, as measured by benchmarks/speed/methods.py on the machine that the row names."""

from __future__ import annotations

import csv
import datetime
from importlib import resources

from harness.core.records import Record


class StepCost(Record):
    """relative: the time of a step, sampling included, by that of an SFT step on the same prompts and as many response
    tokens; the median of steps in turns. sampling_s, training_s: medians of the parts, seconds (sampling_s is 0 where no
    response is fresh). tokens: of a step, prompts included. batch: its responses."""

    method: str
    relative: float
    sampling_s: float
    training_s: float
    tokens: int
    batch: int
    model: str
    machine: str
    date: datetime.date


def step_costs() -> dict[str, StepCost]:
    """By the method's name, in alphabetical order; what was not measured (a plug-in's method) is not there."""
    table = resources.files("benchmarks") / "speed" / "results" / "methods.csv"
    if not table.is_file():
        return {}
    rows = (StepCost.model_validate(row) for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    return {row.method: row for row in sorted(rows, key=lambda row: row.method)}
