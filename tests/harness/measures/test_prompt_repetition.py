from __future__ import annotations

import pytest

from harness.measures.prompt_repetition import PROMPT_REPETITION
from tests.harness.measures.made import answered, talk

ASKED = "Write a short note to thank my neighbour for the plums."  # eleven words


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("Sure: write a short note to THANK my neighbour, then send it.", 1),  # eight in a row
        ("A short note to thank my neighbour.", 0),  # seven
        ("Dear neighbour, thank you for the plums.", 0),
        (ASKED, 1),
        ("", 0),
    ],
)
def test_eight_words_in_a_row_repeat_a_prompt(text: str, repeated: float) -> None:
    assert PROMPT_REPETITION.values(answered(text, prompt=ASKED)).tolist() == [repeated]


def test_a_shorter_prompt_is_repeated_as_a_whole() -> None:
    asked = "What is the capital of France?"
    texts = ("What is the capital of France? Paris.", "The capital of France is Paris.", "Paris.")
    assert PROMPT_REPETITION.values(answered(*texts, prompt=asked)).tolist() == [1, 0, 0]
    assert PROMPT_REPETITION.values(answered("Who wrote it?", "Homer.", prompt="Who wrote it?")).tolist() == []
    assert PROMPT_REPETITION.values(answered("So who wrote this book?", prompt="Who wrote this book?")).tolist() == [1]


@pytest.mark.parametrize("asked", ["Good morning!", "Hi", "", "?!", "Tell a joke."])
def test_of_a_prompt_of_three_words_or_less_nothing_is_said(asked: str) -> None:
    assert PROMPT_REPETITION.values(answered("Good morning! How are you?", asked, prompt=asked)).tolist() == []


def test_each_answer_is_held_against_the_turn_that_it_answers() -> None:
    turns = ["Hi", "Name four large rivers, please."]
    said = talk(turns, ["Hi", "Name four large rivers, please."], ["Name four large rivers, please.", "The Nile."])
    assert PROMPT_REPETITION.values(said).tolist() == [1, 0]
