from __future__ import annotations

from harness.measures.forward_kl import FORWARD_KL
from tests.harness.measures.made import tokens


def test_it_is_that_of_each_token_and_not_the_other_direction() -> None:
    made = tokens(forward_kl=[0.5, 0, 1.25], reverse_kl=[1, 2, 3])
    assert FORWARD_KL.values(made).tolist() == [0.5, 0, 1.25]


def test_it_is_read_along_the_teacher_s_text() -> None:
    assert (FORWARD_KL.reads, FORWARD_KL.better, FORWARD_KL.bound) == ("teacher_tokens", "lower", "lower")
