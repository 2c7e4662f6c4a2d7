"""How a judge is asked for its verdict, and how the verdict is read from what it says.

letter      one token; the preference is the normalised probability of the two letters
rationale   a few sentences, then the verdict in double brackets
structured  a JSON object with a rationale and the verdict, where the server constrains the reply to it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
# A line that says the verdict and nothing else ("**Final verdict:** [[A]]"); behind a > it quotes.
_ALONE = re.compile(
    r"[^\w>]*(?:(?:(?:so|thus|hence|therefore|my|the|final|overall)[^\w>]+)*"
    r"(?:verdict|decision|judge?ment|answer|choice)[^\w>]+(?:is[^\w>]+)?)?\[\[[ABC]\]\][^\w>]*",
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

    A judge may quote a response that holds one too. Where the reply has another verdict beside it, it counts only if
    it stands alone in its line, as it was asked for, and no other one does: else which of them is meant is not known,
    and none is read.
    """
    lines = [(line, set(_BRACKETS.findall(line))) for line in text.splitlines()]
    held = [(line, found) for line, found in lines if found]
    if not held:
        return UNREAD
    line, verdicts = held[-1]
    others = [(other, found) for other, found in held[:-1] if found != verdicts]
    alone = [_ALONE.fullmatch(one.strip()) is not None for one in (line, *(other for other, _ in others))]
    if len(verdicts) > 1 or (others and (not alone[0] or any(alone[1:]))):
        return Reading(None, CONTRADICTION)
    return Reading(PREFERENCES[verdicts.pop()])


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
