"""What a step of a method costs, as benchmarks/speed/methods.py measured it."""

from __future__ import annotations

import csv
import datetime
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from harness.core.records import Record


class StepCost(Record):
    """relative: the time of a step, sampling included, by that of an SFT step on the same prompts and as many response
    tokens; the median of steps in turns. sampling_s, training_s: medians of its parts, seconds (sampling_s is 0 where
    no response is fresh). tokens: of a step, prompts included. batch: its responses."""

    method: str
    relative: float
    sampling_s: float
    training_s: float
    tokens: int
    batch: int
    model: str
    machine: str
    date: datetime.date


def read_costs(table: Path | Traversable) -> list[StepCost]:
    """The rows of a table, in its order."""
    return [StepCost.model_validate(row) for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]


def step_costs() -> dict[str, StepCost]:
    """Of methods by name; what was not measured (a plug-in's) is not there."""
    table = resources.files("benchmarks") / "speed" / "results" / "methods.csv"
    return {row.method: row for row in read_costs(table)} if table.is_file() else {}
