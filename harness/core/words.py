"""What the words of a text are, in any language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

# scripts that are written without spaces: each character counts as a word
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"


@cache
def _word() -> Any:
    import regex  # what only lists or plans does without it

    return regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+")


def words(text: str) -> list[str]:
    """The words of a text, in their order: runs of letters, digits, underscores and their combining marks, compared in
    Unicode's NFKC form and without case. In scripts that are written without spaces (Chinese, Japanese, Thai, Lao,
    Khmer, Burmese) each character, with its marks, is a word. Punctuation, symbols and emoji are none."""
    found: list[str] = _word().findall(unicodedata.normalize("NFKC", text).casefold())
    return found


def n_grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Each n words in a row."""
    return zip(*(words[start:] for start in range(n)), strict=False)
