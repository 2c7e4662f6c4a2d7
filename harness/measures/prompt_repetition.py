"""How many responses say the prompt again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.words import n_grams, words
from harness.measures.measure import Answered, Measure, Values

RUN = 8  # words in a row that are no coincidence: as many as the overlap of prompt sets is counted by
LEAST = 4  # "Good morning!" is answered with its own words: of shorter prompts nothing is said


def repeats(answer: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether an answer has RUN words in a row of what was asked, or all of it where that is shorter."""
    n = min(RUN, len(asked))
    return not set(n_grams(asked, n)).isdisjoint(n_grams(answer, n))


def values(answered: Answered) -> Values:
    """[responses]: 1 where a response repeats the user's last message (of several turns: where any of its answers
    repeats the turn that it answers), else 0. Messages of fewer than LEAST words are not looked at; where all are such,
    there are no values."""
    asked = [(turn, said) for turn, said in enumerate(map(words, answered.asked)) if len(said) >= LEAST]
    if not asked:
        return np.array([])
    return np.array([float(any(repeats(answers[turn], said) for turn, said in asked)) for answers in answered.words])


PROMPT_REPETITION = Measure(
    name="prompt_repetition",
    reads="responses",
    values=values,
    summary=f"share of responses with {RUN} words in a row of the user's message, or all of a shorter one",
    misses="whether it was asked for, as to correct a text is; a prompt in other words; prompts of up to three words",
    unit="share of responses",
    group="text",
    head="repeats the prompt",
)
