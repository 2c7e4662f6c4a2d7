"""Templates with fences of their own: one pass over known placeholders.

An imitation of a fence inside a value is broken up with a zero-width space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from harness.models.control_tokens import SPACE


def fill(text: str, values: Mapping[str, str], slots: re.Pattern[str]) -> str:
    """Placeholders replaced in one pass: what is in a value is never looked at again.

    slots: what is replaced; its first group is a value's name, or nothing for a doubled brace, which becomes one.
    """
    plain = slots.sub(lambda found: found[0] if found[1] is not None else found[0][0], text)
    fences = _fences(plain, tuple(values))

    def one(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else _broken(values[found[1]], fences)

    return slots.sub(one, text)


def placeholder(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"\{(" + "|".join(map(re.escape, names)) + r")\}")


def _broken(text: str, fences: re.Pattern[str] | None) -> str:
    # each match is one character, the rest is looked ahead at: occurrences that overlap are all broken up
    return fences.sub(lambda found: found[0] + SPACE, text) if fences else text


@lru_cache(maxsize=64)
def _fences(text: str, names: tuple[str, ...]) -> re.Pattern[str] | None:
    """The first character of what tells a value from what surrounds it: lines of the template without a value, what
    stands beside a value on its line, and a run of three or more of one sign next to a value."""
    value = placeholder(names)
    found = set()
    for line in text.split("\n"):
        pieces = [piece.strip() for piece in value.sub("\0", line).split("\0")]
        for piece in pieces:
            # a single word beside a value ("and") is no fence, nor is a line of signs like "..."
            own = len(pieces) == 1 or re.search(r"[^\w\s]", piece)
            if len(piece) >= 3 and own and re.search(r"[^\W\d_]", piece):
                found.add(piece)
    marked = value.sub("\0", text)
    found |= {run[0] for run in re.finditer(r"([^\w\s\0])\1{2,}(?=\s*\0)", marked)}
    found |= {run[1] for run in re.finditer(r"\0\s*(([^\w\s\0])\2{2,})", marked)}
    if not found:
        return None
    return re.compile("|".join(_ahead(fence) for fence in sorted(found)), re.IGNORECASE)


def _ahead(fence: str) -> str:
    first, *rest = re.split(r"\s+", fence)
    tail = r"\s+".join([re.escape(first[1:]), *map(re.escape, rest)])
    return f"{re.escape(first[0])}(?={tail})"
