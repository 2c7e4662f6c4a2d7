from __future__ import annotations

from harness.core.records import Response
from harness.measures import Answered
from harness.measures.length import LENGTH
from tests.harness.measures.made import answered


def of(*responses: tuple[int, str]) -> list[float]:
    prompt = answered("").prompt
    rows = [Response(prompt_id="a", token_ids=(7,) * n, text=text, finish="stop") for n, text in responses]
    return list(LENGTH.values(Answered(prompt, tuple(rows))).tolist())


def test_it_is_the_tokens_of_each_response_with_the_end_of_the_turn() -> None:
    assert of((4, "Some text."), (1, "")) == [4, 1]


def test_an_empty_response_has_no_tokens_where_the_end_was_not_generated() -> None:
    assert of((0, ""), (0, " \n")) == [0, 0]


def test_text_whose_tokens_are_not_known_has_no_length() -> None:
    assert of((0, "Some text."), (2, "More.")) == [2]
