from __future__ import annotations

from harness.measures import Answered
from harness.measures.cut import CUT
from tests.harness.measures.made import answered


def test_it_is_one_for_each_response_that_was_cut() -> None:
    one, other = answered("a", "b"), answered("c", finish="length")
    assert CUT.values(Answered(one.prompt, (*one.responses, *other.responses))).tolist() == [0, 0, 1]
