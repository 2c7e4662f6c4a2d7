"""Judgments of other tools, read as what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import refused, written


def judged(*games: dict[str, str | int | None], key: str) -> dict[str, Any]:
    return {"question_id": key, "model": "ours", "judge": "a judge", "games": list(games)}


def said(label: str | int | None) -> dict[str, str | int | None]:
    return {"judgment": f"So: [[{label}]]", "score": label}


def test_arena_hard_with_one_game_a_question(cli: Any, tmp_path: Path) -> None:
    """The baseline stands first: B is the model's answer."""
    rows = [judged(said("B>>A"), key="1"), judged(said("A>B"), key="2"), judged(said("B=A"), key="3")]
    source, out = written(tmp_path / "judgments.jsonl", rows), tmp_path / "verdicts.jsonl"
    ended = cli("import", "arena-hard", source, "--out", out)
    assert ended.status == 0, ended.err
    found = json.loads(cli("stats", out, "--json").out)
    (row,) = found["comparisons"]
    assert (row["wins"], row["ties"], row["losses"], row["orders"]) == (1, 1, 1, "one")


@pytest.mark.parametrize("grade", [8, "8"])
def test_arena_hard_that_graded_each_answer_by_itself_is_no_comparison(cli: Any, tmp_path: Path, grade: Any) -> None:
    source = written(tmp_path / "judgments.jsonl", [judged(said(grade), key="1")])
    ended = cli("import", "arena-hard", source, "--out", tmp_path / "verdicts.jsonl")
    assert "'score' is a grade (8)" in refused(ended)
    assert not (tmp_path / "verdicts.jsonl").exists()
