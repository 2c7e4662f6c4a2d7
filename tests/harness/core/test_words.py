from __future__ import annotations

import pytest

from harness.core.words import n_grams, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The cat, THE cat!", ["the", "cat", "the", "cat"]),
        ("don't don’t", ["don", "t", "don", "t"]),
        ("snake_case 3.14", ["snake_case", "3", "14"]),
        ("Straße", ["strasse"]),
        (
            "caf\u00e9 cafe\u0301 \uff43\uff41\uff46\u00e9",
            ["café"] * 3,
        ),  # one letter, a letter and its accent, full width
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # its vowels are combining marks
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("漢字とABC", ["漢", "字", "と", "abc"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("", []),
        (" \n—…!? 🙂🙂", []),
    ],
)
def test_words_of_any_language(text: str, found: list[str]) -> None:
    assert words(text) == words(text.upper() if text.isascii() else text) == found


def test_n_grams_are_all_words_in_a_row() -> None:
    assert list(n_grams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(n_grams(["a"], 2)) == []
    assert list(n_grams([], 1)) == []
