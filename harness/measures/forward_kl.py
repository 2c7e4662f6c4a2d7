"""KL(teacher ‖ student) on the teacher's own held-out responses: what KD minimises on the training prompts."""

from __future__ import annotations

from harness.measures.measure import Measure, Tokens, Values


def values(tokens: Tokens) -> Values:
    """[n]: Σ p log(p / q) at each token, in nats."""
    return tokens.forward_kl


FORWARD_KL = Measure(
    name="forward_kl",
    reads="teacher_tokens",
    values=values,
    summary="KL(teacher ‖ student) on the teacher's held-out responses: what the student fails to cover",
    misses="what the student says where the teacher would not have gone: it is read along the teacher's text alone",
    unit="nats a token",
    better="lower",
    group="fidelity",
    head="forward KL",
    bound="lower",
    place=0,
)
