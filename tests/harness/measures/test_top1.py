from __future__ import annotations

from harness.measures.top1 import TOP1
from tests.harness.measures.made import tokens


def test_it_is_1_where_both_hold_the_same_token_for_the_likeliest() -> None:
    assert TOP1.values(tokens(teacher_top=[5, 6, 7], student_top=[5, 7, 7])).tolist() == [1, 0, 1]
    assert TOP1.bound == "exact"  # a server's top k has the likeliest
