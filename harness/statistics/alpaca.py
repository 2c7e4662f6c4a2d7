"""AlpacaEval's published figures, from verdicts of one candidate by one judge in one order."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import numpy as np

from harness.records import Verdict


def alpaca_eval_metrics(verdicts: Iterable[Verdict]) -> dict[str, float | int | None]:
    """The figures of AlpacaEval's `get_winrate` (alpaca_eval/metrics), under its names and unrounded.

    Rates are in percent. win_rate is the mean preference for the candidate, 0..1, with draws as a half;
    standard_error is that mean's, with n − 1; discrete_win_rate rounds each preference to win, draw or loss first.
    Verdicts without a preference are left out. None where AlpacaEval has NaN: a mean of none, an error of one.
    """
    preferences = np.array([v.preference for v in verdicts if v.preference is not None], dtype=np.float64)
    n = len(preferences)
    wins, draws = int((preferences > 0.5).sum()), int((preferences == 0.5).sum())
    return {
        "win_rate": 100 * float(preferences.mean()) if n else None,
        "standard_error": 100 * float(preferences.std(ddof=1)) / sqrt(n) if n > 1 else None,
        "n_wins": wins,
        "n_wins_base": n - wins - draws,
        "n_draws": draws,
        "n_total": n,
        "discrete_win_rate": 100 * (wins + draws / 2) / n if n else None,
    }
