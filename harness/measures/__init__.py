"""What is measured of single responses, and how. Imports no torch."""

from harness.measures.registry import EMBEDDING, TEACHER_NLL, Measure, measures

__all__ = ["EMBEDDING", "TEACHER_NLL", "Measure", "measures"]
