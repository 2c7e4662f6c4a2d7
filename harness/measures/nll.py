"""How surprised the student is by the teacher's text: what SFT minimises on the training prompts."""

from __future__ import annotations

from harness.measures.measure import Measure, Tokens, Values


def values(tokens: Tokens) -> Values:
    """[n]: −log q of each token of the teacher's response, in nats."""
    return -tokens.student_log_prob


def entropy(tokens: Tokens) -> Values:
    """[n]: the teacher's own entropy at each token, in nats: the least that any student comes to on average."""
    return tokens.teacher_entropy


NLL = Measure(
    name="nll",
    reads="teacher_tokens",
    values=values,
    summary="the student's negative log-prob of the teacher's held-out responses; beside it the teacher's own entropy",
    misses="how much of it is the teacher's own uncertainty: forward KL takes that out, and has less noise",
    unit="nats a token",
    better="lower",
    group="fidelity",
    head="NLL",
    teacher=entropy,
    teacher_bound="lower",
    place=5,
)
