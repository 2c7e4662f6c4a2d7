"""The judge protocol and the judges. Importing this imports no torch."""

from harness.judging.opening import judge_kinds, judges, open_judge
from harness.judging.protocol import Answer, Comparison, Judge, Measurement, Question

__all__ = ["Answer", "Comparison", "Judge", "Measurement", "Question", "judge_kinds", "judges", "open_judge"]
