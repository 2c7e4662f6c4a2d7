from __future__ import annotations

from harness.measures.cut import CUT
from harness.measures.ended import ENDED
from tests.harness.measures.made import answered, talk


def test_what_was_cut_has_not_ended_by_itself() -> None:
    assert ENDED.values(answered("Text.", finish="length")).tolist() == [0]
    assert ENDED.values(answered("Text.", "More.")).tolist() == [1, 1]


def test_an_end_without_a_word_before_it_is_neither_cut_nor_counted() -> None:
    empty = answered("", " \n", "?!")
    assert ENDED.values(empty).tolist() == [0, 0, 1]
    assert CUT.values(empty).tolist() == [0, 0, 0]


def test_each_answer_of_a_conversation_has_to_say_something() -> None:
    assert ENDED.values(talk(["One?", "Two?"], ["a", "b"], ["a", ""])).tolist() == [1, 0]
