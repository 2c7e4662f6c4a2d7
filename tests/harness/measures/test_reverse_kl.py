from __future__ import annotations

from harness.measures.reverse_kl import REVERSE_KL
from tests.harness.measures.made import tokens


def test_it_is_that_of_each_token_and_not_the_other_direction() -> None:
    made = tokens(forward_kl=[0.5, 0, 1.25], reverse_kl=[1, 2, 3])
    assert REVERSE_KL.values(made).tolist() == [1, 2, 3]


def test_it_is_read_along_the_student_s_own_text() -> None:
    assert (REVERSE_KL.reads, REVERSE_KL.better, REVERSE_KL.bound) == ("own_tokens", "lower", "lower")
