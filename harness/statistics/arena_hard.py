"""Arena-Hard's published score, from the labels of its games (lmarena/arena-hard-auto, show_result.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A label as a preference for the answer shown as A: v0.1's own, and what v2 reads too.
_V01 = {"A>>B": 1.0, "A>B": 0.75, "A=B": 0.5, "B>A": 0.25, "B>>A": 0.0}
LABELS = {**_V01, "B=A": 0.5, "B<<A": 1.0, "B<A": 0.75, "A<B": 0.25, "A<<B": 0.0}
LABEL_CODES = {label: code for code, label in enumerate(LABELS)}
NO_LABEL = -1
_STRONG = 3  # how often `>>` counts


def arena_hard_scores(
    preferences: NDArray[np.float64], labels: NDArray[np.int64], prompts: NDArray[np.int64]
) -> dict[str, float | int | None]:
    """The score of one model against the baseline by both versions' rules, in percent; None of no game.

    preferences: [games] for the model, as LABELS has them. labels: [games] place in LABELS; NO_LABEL where a game has
    none. prompts: [games] which prompt a game is of, and which time it was asked.

    A game is a win (1), a tie (1/2) or a loss (0) of the model, and one with `>>` is three of them; the score is their
    mean. In v0.1 that is the probability of a Bradley-Terry model that is fitted to all models' games: where each has
    met the baseline alone, no other model's games are in it. v0.1 leaves out a game without one of its five labels; v2
    leaves out both games of a prompt.
    """
    known = labels != NO_LABEL
    whole = known & (np.bincount(prompts, known, minlength=1)[prompts] > 1)
    return {
        "games": int(known.sum()),
        "left_out": int((~known).sum()),
        "score": _mean(preferences[known & (labels < len(_V01))]),
        "score_v2": _mean(preferences[whole]),
    }


def _mean(preferences: NDArray[np.float64]) -> float | None:
    if not len(preferences):
        return None
    weights = np.where(np.abs(preferences - 0.5) == 0.5, _STRONG, 1)
    return 100 * float(np.average((1 + np.sign(preferences - 0.5)) / 2, weights=weights))
