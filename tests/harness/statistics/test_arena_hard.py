"""Arena-Hard's scores: by hand, and as its own two programs find them, with scipy and pandas."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from harness.judging.importers import from_arena_hard
from harness.statistics.arena_hard import LABELS
from harness.statistics.outcomes import from_records
from harness.statistics.summary import ArenaHard, statistics_of

Row = dict[str, Any]
OWN = ("A>>B", "A>B", "A=B", "B>A", "B>>A")  # v0.1's own labels
WON = {"A>>B": [1] * 3, "A>B": [1], "A=B": [0.5], "B>A": [0], "B>>A": [0] * 3}
WON |= {"A<<B": WON["B>>A"], "A<B": [0], "B=A": [0.5], "B<A": [1], "B<<A": WON["A>>B"]}


def row(question: int, *labels: str | None, model: str = "model", **more: Any) -> Row:
    games = [{"judgment": "Said.", "score": label} for label in labels]
    return {"question_id": question, "model": model, "judge": "gpt-4", "games": games, **more}


def scores(folder: Path, rows: list[Row]) -> dict[str, ArenaHard]:
    """By model, what `stats` has of a file with these rows."""
    path = folder / "judged.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = statistics_of(from_records(from_arena_hard([path]))).arena_hard
    return {one.candidate: one for one in found}


def drawn(models: int, labels: tuple[str | None, ...], seed: int) -> list[Row]:
    """60 questions for each model, which wins more the higher its number is."""
    made, rng = [], random.Random(seed)
    for model in range(models):
        weights = [1 + model * place for place in range(len(labels))]
        for question in range(60):
            first, second = rng.choices(labels, weights)[0], rng.choices(labels, weights[::-1])[0]
            made.append(row(question, first, second, model=f"m{model}"))
    return made


def bradley_terry(rows: list[Row]) -> dict[str, float]:
    """v0.1: one strength a model from the battles of all, a tie half of each, then the chance to beat the baseline."""
    models = sorted({one["model"] for one in rows})
    won = dict.fromkeys(models, 0.0)
    fought = dict.fromkeys(models, 0.0)
    for one in rows:
        for game, sign in zip(one["games"], (-1, 1), strict=False):
            for result in WON[game["score"]] if game["score"] in OWN else ():
                fought[one["model"]] += 1
                won[one["model"]] += result if sign > 0 else 1 - result
    w, n = np.array([won[name] for name in models]), np.array([fought[name] for name in models])

    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        """Strengths of the models, the baseline's last: each of its battles is with the baseline."""
        apart = strengths[:-1] - strengths[-1]
        slope = n / (1 + np.exp(-apart)) - w
        return float((n * np.logaddexp(0, apart) - w * apart).sum()), np.append(slope, -slope.sum())

    found = minimize(loss, np.zeros(len(models) + 1), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    return {name: 100 / (1 + np.exp(found[-1] - at)) for name, at in zip(models, found, strict=False)}


def mean_scores(rows: list[Row]) -> dict[str, float]:
    """v2: rows with a game that has no score are dropped, and scores of all the others are averaged by model."""
    whole = [one for one in rows if None not in [game["score"] for game in one["games"]]]
    table = pd.DataFrame(whole)
    table["scores"] = [
        WON[second["score"]] + [1 - s for s in WON[first["score"]]] for first, second in (one["games"] for one in whole)
    ]
    return dict(table.explode("scores").astype({"scores": float}).groupby("model")["scores"].mean() * 100)


def test_by_hand(tmp_path: Path) -> None:
    """The model wins 3 + 1 + 1, ties once and loses 3 of 9; in v2 a game that is lacking takes the other one away."""
    rows = [row(1, "B>>A", "A>B"), row(2, "A=B", "B>>A"), row(3, None, "A>B")]
    (found,) = scores(tmp_path, rows).values()
    assert (found.prompt_set, found.reference, found.judge) == ("arena-hard", "baseline", "gpt-4")
    assert (found.games, found.left_out) == (5, 1)
    assert found.score == pytest.approx(100 * 5.5 / 9)
    assert found.score_v2 == pytest.approx(100 * 4.5 / 8)


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_v01_s_of_a_bradley_terry_model_of_all_models(tmp_path: Path, seed: int) -> None:
    rows = drawn(4, (*OWN, None, "A<B"), seed)
    found = {name: one.score for name, one in scores(tmp_path, rows).items()}
    assert found == pytest.approx(bradley_terry(rows), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_v2_s_mean_without_rows_that_lack_a_game(tmp_path: Path, seed: int) -> None:
    rows = drawn(3, (*LABELS, None), seed)
    found = scores(tmp_path, rows)
    assert {name: one.score_v2 for name, one in found.items()} == pytest.approx(mean_scores(rows))
    whole = [one for one in rows if None not in [game["score"] for game in one["games"]]]
    whole = [one for one in whole if all(game["score"] in OWN for game in one["games"])]
    for one in scores(tmp_path, whole).values():
        assert one.score == pytest.approx(one.score_v2)


def test_a_question_that_is_there_twice_counts_twice(tmp_path: Path) -> None:
    rows = [row(1, "B>A", "A>B"), row(1, "A>B", None), row(1, "A>B", "A>B")]
    (found,) = scores(tmp_path, rows).values()
    assert found.score == pytest.approx(100 * 3 / 5)
    assert found.score_v2 == pytest.approx(75)
    assert mean_scores(rows) == {"model": pytest.approx(75)}


def test_of_one_game_alone_there_is_v01_s_score(tmp_path: Path) -> None:
    (found,) = scores(tmp_path, [row(1, "B>A"), row(2, "A>>B"), row(3, None)]).values()
    assert (found.score, found.score_v2, found.games, found.left_out) == (pytest.approx(25), None, 2, 1)


def test_without_a_label_there_is_no_score(tmp_path: Path) -> None:
    assert scores(tmp_path, [row(1, None, None), row(2, "A>>>B", None)]) == {}
