from __future__ import annotations

from collections import Counter
from math import exp, log

import pytest

from harness.core.words import n_grams
from harness.measures.self_bleu import SELF_BLEU
from tests.harness.measures.made import answered, talk


def by_hand(text: str, others: list[str]) -> float:
    """BLEU of one text by its formula: clipped precisions up to the length of the text, 'exp' smoothing, the closest
    reference's length."""
    words, references = text.split(), [other.split() for other in others]
    logs, halved = [], 1.0
    for n in range(1, min(4, len(words)) + 1):
        grams = Counter(n_grams(words, n))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(n_grams(reference, n))
        matched = sum(min(count, most[gram]) for gram, count in grams.items())
        if n == 1 and not matched:
            return 0.0
        halved *= 1 if matched else 2
        logs.append(log(matched / grams.total() if matched else 1 / (halved * grams.total())))
    closest = min((abs(len(reference) - len(words)), len(reference)) for reference in references)[1]
    return 100 * min(1.0, exp(1 - closest / len(words))) * exp(sum(logs) / len(logs))


def test_it_is_bleu_of_each_sample_against_the_others() -> None:
    # the cat sat on the mat: 5 of 6 words, 3 of 5 pairs, 2 of 4 threes, 1 of 3 fours
    one, other = SELF_BLEU.values(answered("The cat sat on the mat.", "the cat sat on a mat"))
    assert one == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert other == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_it_follows_its_formula() -> None:
    texts = ["a b c d e f", "a b c x y", "b c d", "z z a b"]
    expected = [by_hand(text, [*texts[:place], *texts[place + 1 :]]) for place, text in enumerate(texts)]
    assert SELF_BLEU.values(answered(*texts)) == pytest.approx(expected)


def test_the_same_text_again_has_100_and_no_word_in_common_has_0() -> None:
    assert SELF_BLEU.values(answered("One and the same.", "one, and the SAME", "yes", "Yes!")) == pytest.approx(100)
    assert SELF_BLEU.values(answered("a b c", "d e f")).tolist() == [0, 0]


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    one, other = SELF_BLEU.values(answered("今天天气很好", "今天天气不好"))
    assert one == other == pytest.approx(by_hand("今 天 天 气 很 好", ["今 天 天 气 不 好"]))
    assert 0 < one < 100


def test_samples_without_words_are_alike_only_to_one_another() -> None:
    assert SELF_BLEU.values(answered("", "?!", "a b")).tolist() == [100, 100, 0]
    assert SELF_BLEU.values(answered("", "a b")).tolist() == [0, 0]


def test_one_sample_has_no_other() -> None:
    assert SELF_BLEU.values(answered("a b c")).tolist() == []
    assert SELF_BLEU.samples == 2


def test_conversations_are_compared_by_the_answers_alone() -> None:
    turns = ["What is it?", "What is it, then?"]
    assert SELF_BLEU.values(talk(turns, ["a b", "c d"], ["a b", "c d"])) == pytest.approx([100, 100])
    assert SELF_BLEU.values(talk(turns, ["a b", "c d"], ["e f", "g h"])).tolist() == [0, 0]
