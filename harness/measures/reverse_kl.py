"""KL(student ‖ teacher) on the student's own responses: what on-policy distillation minimises."""

from __future__ import annotations

from harness.measures.measure import Measure, Tokens, Values


def values(tokens: Tokens) -> Values:
    """[n]: Σ q log(q / p) at each token, in nats."""
    return tokens.reverse_kl


REVERSE_KL = Measure(
    name="reverse_kl",
    reads="own_tokens",
    values=values,
    summary="KL(student ‖ teacher) on the student's own responses: what the student says that the teacher would not",
    misses="what the teacher says and the student never does: one narrow, likely kind of response can have a low one",
    unit="nats a token",
    better="lower",
    group="fidelity",
    head="reverse KL",
    bound="lower",
    place=1,
)
