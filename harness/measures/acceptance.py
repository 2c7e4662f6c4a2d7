"""How often speculative decoding would take the student's drafts (Leviathan et al. 2023, arXiv 2211.17192)."""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Measure, Tokens, Values

DRAFTED = 4  # tokens that are drafted at a time: between the 3 and 5 that serving engines take as a rule


def acceptance(tokens: Tokens) -> Values:
    """[n]: Σ min(p, q) at each token, 1 − their total variation: the probability that a drafted token is taken
    (arXiv 2211.17192, corollary 3.6)."""
    return tokens.overlap


def accepted_length(tokens: Tokens, drafted: int = DRAFTED) -> Values:
    """[starts]: Σ_{k=1..drafted} Π_{i≤k} min(1, q(y_i) / p(y_i)) along the teacher's own response y, from each token.

    As y is drawn from p, the mean of the k-th product over y is the probability that the first k drafted tokens are all
    taken, whatever tokens depend on one another; the formula (1 − α^{γ+1}) / (1 − α) of the paper takes them for
    independent. Nothing is drafted beyond the end of the turn. Of a response that was cut, only those starts count
    after which `drafted` tokens are there.
    """
    ratios = np.minimum(1.0, np.exp(tokens.student_log_prob.astype(np.float64) - tokens.teacher_log_prob))
    n = len(ratios)
    starts = n if tokens.ended else max(0, n - drafted + 1)
    padded = np.concatenate([ratios, np.zeros(drafted)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, drafted)[:starts]
    return np.asarray(np.cumprod(windows, axis=1).sum(axis=1))


ACCEPTANCE = Measure(
    name="acceptance",
    reads="teacher_tokens",
    values=acceptance,
    summary="share of the student's drafted tokens that speculative decoding would take, on the teacher's responses",
    misses="which tokens are refused, and whether that matters; and the draft's own speed",
    unit="share of tokens",
    better="higher",
    group="fidelity",
    bound="upper",
    place=2,
)
ACCEPTED_LENGTH = Measure(
    name="accepted_length",
    reads="teacher_tokens",
    values=accepted_length,
    summary=f"mean number of {DRAFTED} drafted tokens that are taken, in a row",
    misses="as acceptance does; and the token that the teacher adds itself, which makes each step one longer",
    unit=f"tokens of {DRAFTED} drafted",
    better="higher",
    group="fidelity",
    head="accepted length",
    place=3,
)
