from __future__ import annotations

import random

import pytest

from harness.measures.distinct import DISTINCT_1, DISTINCT_2
from tests.harness.measures.made import answered, talk


def test_a_word_is_new_once_in_all_samples_of_a_prompt() -> None:
    said = answered("The cat saw the cat.", "A cat!")
    assert DISTINCT_1.values(said).tolist() == [1, 1, 1, 0, 0, 1, 0]  # the cat saw · a
    assert DISTINCT_2.values(said).tolist() == [1, 1, 1, 0, 1]  # the-cat cat-saw saw-the · a-cat


def test_no_pair_goes_from_one_answer_to_the_next() -> None:
    assert DISTINCT_2.values(answered("a b", "c d")).tolist() == [1, 1]
    assert DISTINCT_2.values(talk(["One?", "Two?"], ["a b", "c d"])).tolist() == [1, 1]


@pytest.mark.parametrize("said", [answered(""), answered("", "?!"), answered()])
def test_a_response_without_words_has_none_of_either(said: object) -> None:
    assert DISTINCT_1.values(said).tolist() == DISTINCT_2.values(said).tolist() == []


def test_one_word_is_no_pair() -> None:
    assert DISTINCT_1.values(answered("Yes.")).tolist() == [1]
    assert DISTINCT_2.values(answered("Yes.")).tolist() == []


@pytest.mark.parametrize(("measure", "n"), [(DISTINCT_1, 1), (DISTINCT_2, 2)])
def test_its_mean_is_the_different_n_grams_by_all(measure: object, n: int) -> None:
    rng = random.Random(0)
    for _ in range(50):
        texts = [" ".join(rng.choices("abcd", k=rng.randint(0, 9))) for _ in range(3)]
        grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
        values = measure.values(answered(*texts))  # type: ignore[attr-defined]
        assert (values.sum(), len(values)) == (len(set(grams)), len(grams))
