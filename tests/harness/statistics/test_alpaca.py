"""AlpacaEval's figures: by hand, and as its own code computes them with pandas."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.judging.importers import from_alpaca_eval
from harness.statistics.alpaca import alpaca_eval_metrics
from harness.statistics.outcomes import from_records


def metrics(folder: Path, preferences: list[float | None]) -> dict[str, Any]:
    """The figures of an annotations.json with these preferences."""
    texts = dict.fromkeys(("output_1", "output_2", "generator_1", "generator_2", "annotator"), "x")
    rows = [{"instruction": str(i), **texts, "preference": value} for i, value in enumerate(preferences)]
    (folder / "annotations.json").write_text(json.dumps(rows))
    verdicts = from_alpaca_eval([folder / "annotations.json"])
    return alpaca_eval_metrics(from_records(verdicts).preference)


def published(preferences: list[float | None]) -> dict[str, Any]:
    """What alpaca_eval's get_winrate says, step for step: draws to 1.5, what is no preference dropped, minus one."""
    told = pd.Series(preferences, dtype=float).replace({0.0: 1.5})
    told = told[(told >= 1) & (told <= 2)] - 1
    rounded = told.where(told == 0.5, told.round())
    return {
        "win_rate": told.mean() * 100,
        "standard_error": told.sem() * 100,  # type: ignore[operator]
        "n_wins": (told > 0.5).sum(),
        "n_wins_base": (told < 0.5).sum(),
        "n_draws": (told == 0.5).sum(),
        "n_total": len(told),
        "discrete_win_rate": rounded.mean() * 100,
    }


def test_by_hand(tmp_path: Path) -> None:
    # 1, 0, ½, ½, ¾ without the null and the 7: mean 0.55; squares 0.2025 + 0.3025 + 2 · 0.0025 + 0.04 = 0.55
    found = metrics(tmp_path, [2.0, 1.0, 0, 1.5, 1.75, None, 7])
    assert found == {
        "win_rate": pytest.approx(55),
        "standard_error": pytest.approx(100 * (0.55 / 4 / 5) ** 0.5),
        "n_wins": 2,
        "n_wins_base": 1,
        "n_draws": 2,
        "n_total": 5,
        "discrete_win_rate": 60,
    }


@pytest.mark.parametrize("seed", range(5))
def test_to_the_printed_digit_as_pandas(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    weighted = [1 + drawn.betavariate(0.3, 0.7) for _ in range(700)]
    preferences = [*weighted, *drawn.choices([0, 1, 1.5, 2, None, -1], k=105)]
    found, expected = metrics(tmp_path, preferences), published(preferences)
    assert found == pytest.approx(expected, rel=1e-12)
    assert {name: f"{value:.2f}" for name, value in found.items()} == {k: f"{v:.2f}" for k, v in expected.items()}


def test_one_verdict_has_no_standard_error_and_none_no_rate(tmp_path: Path) -> None:
    one, none = metrics(tmp_path, [2]), metrics(tmp_path, [None])
    assert (one["win_rate"], one["standard_error"], one["n_total"]) == (100, None, 1)
    assert (none["win_rate"], none["standard_error"], none["discrete_win_rate"], none["n_total"]) == (None,) * 3 + (0,)
    assert alpaca_eval_metrics(np.array([])) == none


def test_all_alike_has_an_error_of_zero_as_published(tmp_path: Path) -> None:
    assert metrics(tmp_path, [2, 2, 2])["standard_error"] == 0
