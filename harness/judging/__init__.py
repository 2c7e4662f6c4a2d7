"""Who judges and how it is asked: the judge protocol, the judges by name, their settings. Imports no torch."""

from harness.judging.protocol import Answer, Comparison, Judge, Measurement, Question
from harness.judging.registry import Checkpoint, JudgeFactory, judges, open_judge
from harness.judging.settings import Judging, Prices

__all__ = [
    "Answer",
    "Checkpoint",
    "Comparison",
    "Judge",
    "JudgeFactory",
    "Judging",
    "Measurement",
    "Prices",
    "Question",
    "judges",
    "open_judge",
]
