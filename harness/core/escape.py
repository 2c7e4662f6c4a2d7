"""Text from people and models where it is shown: as data, whatever it looks like."""

from __future__ import annotations

import re

# Controls and bidirectional overrides are invisible, or disguise text: shown by code point, here and in report.js.
UNSEEN = re.compile("[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!~&$])")


def visible(text: str) -> str:
    """Text with its unseen characters written out; line feeds, carriage returns and tabs stay."""
    return UNSEEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def plain(text: object) -> str:
    """One line of Markdown that shows the text as it is: no markup, no HTML."""
    return _MARKUP.sub(r"\\\1", visible(" ".join(str(text).split())))


def literal(text: object) -> str:
    """One line of code in Markdown, whatever backticks it holds."""
    line = visible(" ".join(str(text).split()))
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str, language: str = "") -> str:
    """A block of code in Markdown, whatever backticks it holds."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(found) for found in re.findall("`+", text)), default=0)
