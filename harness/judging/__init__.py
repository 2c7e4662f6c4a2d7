"""The judge protocol and the judges. Importing this imports no torch."""

from __future__ import annotations

from harness.judging.protocol import Answer, Comparison, Judge, Measurement, Question
from harness.judging.registry import judge_families, judges, open_judge

__all__ = ["Answer", "Comparison", "Judge", "Measurement", "Question", "judge_families", "judges", "open_judge"]
