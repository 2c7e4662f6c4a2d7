"""AlpacaEval's published figures, from preferences for one candidate."""

from __future__ import annotations

from math import sqrt

import numpy as np

from harness.statistics.outcomes import Floats


def alpaca_eval_metrics(preferences: Floats) -> dict[str, float | int | None]:
    """The figures of AlpacaEval's `get_winrate` (alpaca_eval/metrics), under its names and unrounded.

    preferences: [verdicts] for the candidate, 0..1; NaN where a verdict has none, and left out.
    Rates are in percent. win_rate is the mean preference for the candidate, with draws as a half; standard_error is
    that mean's, with n − 1; discrete_win_rate rounds each preference to win, draw or loss first. None where
    AlpacaEval has NaN: a mean of none, an error of one.
    """
    known = preferences[~np.isnan(preferences)]
    n = len(known)
    wins, draws = int((known > 0.5).sum()), int((known == 0.5).sum())
    return {
        "win_rate": 100 * float(known.mean()) if n else None,
        "standard_error": 100 * float(known.std(ddof=1)) / sqrt(n) if n > 1 else None,
        "n_wins": wins,
        "n_wins_base": n - wins - draws,
        "n_draws": draws,
        "n_total": n,
        "discrete_win_rate": 100 * (wins + draws / 2) / n if n else None,
    }
