from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from harness.measures.repetition import LEAST, REPETITION, TIMES, in_loops
from tests.harness.measures.made import answered, talk


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("no no no no no", 0),  # five words are too few
        ("no no no no no no", 6),
        ("and so and so and so", 6),
        ("and so and so and then so", 0),
        ("a b c a b c", 0),  # twice is no loop
        ("a b c a b c a b c", 9),
        ("x a b c a b c a b c y", 9),
        ("a b c a b c a b c a b", 11),  # the unfinished fourth time is in it
        ("a b c a b c a b x", 0),
        ("a a a a a a x b b b b b b", 12),
        ("one two three four five six", 0),
        ("", 0),
    ],
)
def test_a_loop_is_a_block_said_three_times_in_a_row(text: str, looped: int) -> None:
    words = text.split()
    assert in_loops(words).sum() == looped
    assert len(in_loops(words)) == len(words)


def test_the_words_around_a_loop_are_not_in_it() -> None:
    assert in_loops(["x", "a", "b", "a", "b", "a", "b", "y"]).tolist() == [False, *[True] * 6, False]


def by_trying_all(words: Sequence[str]) -> list[bool]:
    """Every stretch and every block."""
    found = [False] * len(words)
    for start in range(len(words)):
        for end in range(start + LEAST, len(words) + 1):
            for block in range(1, (end - start) // TIMES + 1):
                if all(words[at] == words[at - block] for at in range(start + block, end)):
                    found[start:end] = [True] * (end - start)
    return found


def test_it_finds_what_trying_every_stretch_finds() -> None:
    rng = random.Random(0)
    loops = 0
    for _ in range(400):
        letters, size = rng.choice(["ab", "abc"]), rng.randint(0, 24)
        words = rng.choices(letters, k=size)
        if rng.random() < 0.5:
            block, at = rng.choices("abcd", k=rng.randint(1, 5)), rng.randint(0, size)
            words[at:at] = block * rng.randint(2, 4)
        expected = by_trying_all(words)
        assert in_loops(words).tolist() == expected, words
        loops += any(expected)
    assert 100 < loops < 400


def test_case_and_punctuation_do_not_hide_a_loop() -> None:
    assert REPETITION.values(answered("I see. I SEE! I, see?")).tolist() == [1] * 6


def test_responses_are_pooled_by_words_and_no_loop_goes_from_one_answer_to_the_next() -> None:
    assert REPETITION.values(answered("a b a b", "a b c")).tolist() == [0] * 7
    assert REPETITION.values(talk(["One?", "Two?"], ["a b a b", "a b c"])).tolist() == [0] * 7
    assert REPETITION.values(answered("ha ha ha ha ha ha", "That was all")).tolist() == [1] * 6 + [0] * 3


@pytest.mark.parametrize("said", [answered(""), answered("", "!!!!!!!!"), answered()])
def test_a_response_without_words_has_none(said: object) -> None:
    assert REPETITION.values(said).tolist() == []
