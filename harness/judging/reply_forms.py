"""How a judge is asked for its verdict, and how the verdict is read from what it says.

letter      one token; the preference is the normalised probability of the two letters
rationale   a few sentences, then the verdict in double brackets
structured  a JSON object with a rationale and the verdict, where the server constrains the reply to it
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import exp
from typing import Literal, NamedTuple

Form = Literal["letter", "rationale", "structured"]
Letters = tuple[str, str]  # what stands for the response shown first, and for the one shown second
# Less than this share of the probability on the two letters, and the judge is not answering the question.
LEAST_MASS = 0.1
PREFERENCES = {"A": 1.0, "B": 0.0, "C": 0.5}
NO_VERDICT = "no verdict"
CONTRADICTION = "verdicts that contradict each other"
_BRACKETS = re.compile(r"\[\[([ABC])\]\]")
_TITLE = r"(?:verdict|decision|judge?ment|answer|choice)"
# A line that says the verdict and nothing else ("**Final verdict:** [[A]]"); behind a > it quotes.
_ALONE = re.compile(
    r"[^\w>]*(?:(?:(?:so|thus|hence|therefore|my|the|final|overall)[^\w>]+)*"
    rf"{_TITLE}[^\w>]+(?:is[^\w>]+)?)?\[\[[ABC]\]\][^\w>]*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""`[^`]*`|"[^"]*"|[“„][^“”„]*[“”]|«[^«»]*»|‘[^‘’]*’|(?<!\w)'[^']*'(?!\w)""")
_FENCE = re.compile(r"\s*(?:`{3,}[^`]*|~~~.*)")  # a line that opens or closes one
_END = 100  # characters of a line that announces, which are looked at
_COLON = re.compile(r":\W*\Z")  # of a line that says that something follows
# … and that this is its own verdict: "so the better response is:"
_OWN = re.compile(
    rf"\b(?:{_TITLE}|conclusion|preference|result|evaluation|rating|summary|short|winner|better|best|choose|pick|prefer)"
    r"(?:\W+(?:one|response|assistant|is|as|follows))*\W*\Z",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """What is read from a reply. preference: for the response shown first (1, 0, or 0.5 for a tie); None where no
    verdict can be read, with why in a few words."""

    preference: float | None
    why: str = ""


UNREAD = Reading(None, NO_VERDICT)


def read_brackets(text: str) -> Reading:
    """The verdict in double brackets of the last line that holds one.

    A judge may quote a response that holds one too. Verdicts outside quotations that differ contradict each other, and
    none is read. Where a quotation alone says another, what counts is a last line with the verdict alone in it, as it
    was asked for. A verdict that is in quotations alone is none.
    """
    own, quoted, last_alone = set[str](), set[str](), False
    for line, quotes in _lines(text):
        verdicts = set(_BRACKETS.findall(line))
        if not verdicts:
            continue
        last_alone = not quotes.whole and _ALONE.fullmatch(line.strip()) is not None
        # marks around a verdict that has a line of its own are how it was asked for ("[[A]]"), and no quotation
        kept = "" if quotes.whole else line if last_alone else "" if quotes.fenced else _QUOTED.sub("", line)
        claimed = set(_BRACKETS.findall(kept))
        own |= claimed
        quoted |= verdicts - claimed
    if not own:
        return UNREAD
    if len(own) > 1 or (quoted - own and not last_alone):
        return Reading(None, CONTRADICTION)
    return Reading(PREFERENCES[own.pop()])


class _Quotes(NamedTuple):
    """whole: the line is behind a > or follows a line that announces something other than a verdict. fenced: it is
    inside a code fence."""

    whole: bool
    fenced: bool


def _lines(text: str) -> Iterator[tuple[str, _Quotes]]:
    """The lines of a reply, and how each is quoted; those that open or close a fence are left out."""
    fenced = announced = False  # what a fence holds is announced by the line before it
    for line in text.splitlines():
        if _FENCE.fullmatch(line):
            fenced = not fenced
            announced = announced and fenced
        elif line.strip():
            yield line, _Quotes(announced or line.lstrip().startswith(">"), fenced)
            if not fenced:
                announced = _COLON.search(line[-_END:]) is not None and _OWN.search(line[-_END:]) is None


def letter_preference(top: Iterable[tuple[str, float]], letters: Letters) -> tuple[float | None, float]:
    """Preference for the response shown first, and the probability of both letters together.

    top: (token's text, log-prob in nats) of the most probable first tokens. A letter counts with or without white
    space around it. The preference is None where the letters have less than LEAST_MASS.
    """
    mass = dict.fromkeys(letters, 0.0)
    for token, log_prob in top:
        if token.strip() in mass:
            mass[token.strip()] += exp(log_prob)
    total = sum(mass.values())
    return (mass[letters[0]] / total if total >= LEAST_MASS else None), total
