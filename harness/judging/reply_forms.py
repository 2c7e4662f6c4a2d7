"""How a judge is asked for its verdict, and how the verdict is read from what it says.

letter      one token; the preference is the normalised probability of the two letters
rationale   a few sentences, then the verdict in double brackets
structured  a JSON object with a rationale and the verdict, where the server constrains the reply to it
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp
from typing import Literal

Form = Literal["letter", "rationale", "structured"]
Letters = tuple[str, str]  # what stands for the response shown first, and for the one shown second
# Less than this share of the probability on the two letters, and the judge is not answering the question.
LEAST_MASS = 0.1


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
