"""Text with quoted control tokens to token ids.

A tokenizer takes a control token out of a text wherever it stands. Here those that a chat template wrote become tokens,
with all that the tokenizer does around them, and those that are quoted in a content are spelled, as any other text.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a second run, which reads no text, has no use for the library
    from tokenizers import AddedToken

# Private-use characters: no template changes or trims them. One is taken that the texts at hand lack.
_STAND_INS = [chr(code) for code in range(0xFFFFD, 0xF0000, -1)]
_MARKS = [chr(code) for code in range(0x10FFFD, 0x100000, -1)]


def quoted(texts: Sequence[str], control: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Texts with a private-use character in place of each control token, and what each character stands for."""
    found = sorted((token for token in control if any(token in text for text in texts)), key=len, reverse=True)
    if not found:
        return list(texts), {}
    taken = set().union(*texts)
    stands_for = dict(zip((mark for mark in _STAND_INS if mark not in taken), found, strict=False))
    marks = {token: mark for mark, token in stands_for.items()}
    pattern = "|".join(map(re.escape, found))
    return [re.sub(pattern, lambda match: marks[match[0]], text) for text in texts], stands_for


def restored(text: str, stands_for: Mapping[str, str]) -> str:
    return "".join(stands_for.get(character, character) for character in text) if stands_for else text


@dataclass(frozen=True)
class Speller:
    """backend: a tokenizer of the tokenizers library, which stays as it is. control: ids of control tokens by text."""

    backend: Any
    control: Mapping[str, int]
    _copies: dict[str, Any] = field(default_factory=dict)

    def ids(self, text: str, stands_for: Mapping[str, str]) -> list[int]:
        """Ids of a text: its control tokens become control tokens, and what its stand-ins stand for is spelled."""
        backend = self._copy(text)[1]
        backend.encode_special_tokens = False
        found = backend.encode(text, add_special_tokens=False)
        texts = {index: token for token, index in self.control.items()}
        ids: list[int] = []
        start = 0
        for index, (left, right) in zip(found.ids, found.offsets, strict=True):
            # with the white space that it swallows; an unknown character has the id of <unk>
            if index in texts and texts[index] in text[left:right]:
                ids += [*self._piece(text[start:left], start, stands_for), index]
                start = right
        return ids + self._piece(text[start:], start, stands_for)

    def _piece(self, text: str, start: int, stands_for: Mapping[str, str]) -> list[int]:
        """Ids of what stands between control tokens."""
        return self.spelled(restored(text, stands_for), behind=start > 0) if text else []

    def spelled(self, text: str, behind: bool = True) -> list[int]:
        """Ids of a text without any control token in it; `behind` one, or at the beginning: there some tokenizers put a
        space first."""
        mark, backend = self._copy(text)
        backend.encode_special_tokens = True
        ids: list[int] = backend.encode(mark + text if behind else text, add_special_tokens=False).ids
        return ids[1:] if behind else ids

    def _copy(self, text: str) -> tuple[str, Any]:
        """A token that `text` lacks, which stands for a control token where none is seen; a backend that has it."""
        mark = next(mark for mark in _MARKS if mark not in text)
        if mark not in self._copies:
            from tokenizers import AddedToken

            made, own = copy.deepcopy(self.backend), self.backend.get_added_tokens_decoder().values()
            made.post_processor = None  # some move offsets
            made.no_padding()
            made.no_truncation()
            # what an ordinary added token is to the tokenizer may be a control token to the template
            made.add_special_tokens([_special(token) for token in own if token.content in self.control])
            made.add_tokens([AddedToken(mark, special=False, normalized=False)])
            self._copies[mark] = made
        return mark, self._copies[mark]


def _special(token: AddedToken) -> AddedToken:
    from tokenizers import AddedToken

    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )
