from __future__ import annotations

import random

import numpy as np
import pytest

from harness.measures.acceptance import ACCEPTANCE, ACCEPTED_LENGTH, DRAFTED, accepted_length
from tests.harness.measures.made import tokens


def ratios(*values: float, ended: bool = True) -> object:
    """A response whose tokens have these q / p."""
    p = np.linspace(-3, -1, len(values))
    return tokens(ended, teacher_log_prob=p, student_log_prob=p + np.log(values))


def test_acceptance_is_the_overlap_of_the_two_distributions() -> None:
    assert ACCEPTANCE.values(tokens(overlap=[0.5, 0.75, 1])).tolist() == [0.5, 0.75, 1]


def test_the_accepted_length_adds_up_products_of_ratios_that_are_at_most_1() -> None:
    found = ACCEPTED_LENGTH.values(ratios(0.5, 2, 0.5, 1, 0.25, ended=False))
    # from the first token on: 0.5 + 0.5·1 + 0.5·0.5 + 0.25·1; from the second: 1 + 0.5 + 0.5 + 0.125
    assert found == pytest.approx([1.5, 2.125], rel=1e-6)


def test_nothing_is_drafted_beyond_the_end_of_the_turn() -> None:
    found = ACCEPTED_LENGTH.values(ratios(0.5, 2, 0.5, 1, 0.25))
    assert found == pytest.approx([1.5, 2.125, 0.5 + 0.5 + 0.125, 1.25, 0.25], rel=1e-6)


def test_a_response_shorter_than_what_is_drafted() -> None:
    assert ACCEPTED_LENGTH.values(ratios(1, 0.5)) == pytest.approx([1.5, 0.5], rel=1e-6)
    assert ACCEPTED_LENGTH.values(ratios(1, 0.5, ended=False)).tolist() == []
    assert ACCEPTED_LENGTH.values(tokens(teacher_log_prob=[], student_log_prob=[])).tolist() == []
    assert ACCEPTED_LENGTH.values(tokens(False, teacher_log_prob=[], student_log_prob=[])).tolist() == []


def test_a_response_as_long_as_what_is_drafted_has_one_start_where_it_was_cut() -> None:
    assert ACCEPTED_LENGTH.values(ratios(*[1] * DRAFTED, ended=False)) == pytest.approx([DRAFTED])


def test_the_teacher_s_own_drafts_are_all_taken() -> None:
    assert ACCEPTED_LENGTH.values(ratios(*[1] * 6)) == pytest.approx([4, 4, 4, 3, 2, 1])


def test_a_token_that_the_student_never_says_ends_every_draft() -> None:
    made = tokens(teacher_log_prob=[-1, -1, -1], student_log_prob=[-1, -np.inf, -1])
    assert ACCEPTED_LENGTH.values(made).tolist() == [1, 0, 1]


@pytest.mark.parametrize("drafted", [1, 2, 3, 5])
@pytest.mark.parametrize("ended", [True, False])
def test_it_follows_its_definition(drafted: int, ended: bool) -> None:
    rng = random.Random(drafted)
    for size in range(9):
        drawn = [rng.uniform(0.1, 1.5) for _ in range(size)]
        expected = []
        for start in range(size):
            if ended or start + drafted <= size:
                taken, product = 0.0, 1.0
                for ratio in drawn[start : start + drafted]:
                    product *= min(1, ratio)
                    taken += product
                expected.append(taken)
        found = accepted_length(ratios(*drawn, ended=ended), drafted)  # type: ignore[arg-type]
        assert found == pytest.approx(expected, rel=1e-5)


def test_its_mean_over_the_teacher_s_texts_is_what_speculative_decoding_takes() -> None:
    """Of two tokens that depend on one another: the products' mean over the teacher's texts is the probability that
    both are taken, Σ_a min(p, q)(a) Σ_b min(p, q)(b | a)."""
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    p_then, q_then = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.3, 0.7]])
    mean = 0.0
    for a in range(2):
        for b in range(2):
            made = tokens(
                False,
                teacher_log_prob=np.log([p[a], p_then[a, b]]),
                student_log_prob=np.log([q[a], q_then[a, b]]),
            )
            mean += p[a] * p_then[a, b] * accepted_length(made, 2)[0]
    taken = np.minimum(p, q)
    assert mean == pytest.approx(taken.sum() + (taken @ np.minimum(p_then, q_then)).sum(), rel=1e-6)
