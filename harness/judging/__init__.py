"""The judge protocol and the judges. Importing this imports no torch."""

from harness.judging.protocol import Answer, Comparison, Judge, Measurement, collect_verdicts, judges

__all__ = ["Answer", "Comparison", "Judge", "Measurement", "collect_verdicts", "judges"]
