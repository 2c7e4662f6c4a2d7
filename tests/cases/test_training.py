"""Trainings of checkpoints that are not like those of the tests."""

from __future__ import annotations

import json
import math

from tests.cases.conftest import Case


def test_dropout_in_ddpo(case: Case) -> None:
    """As IBM's Granite 3 has it: at the first step the policy is the reference, which was scored without."""
    for folder in (case.student, case.teacher):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.1}))
    case.methods = "ddpo"
    case.settings |= {"training.precision": "fp32", "scoring_precision": "fp32"}
    ended = case.run()
    assert ended.status == 0, ended.err
    first = json.loads((case.out / "metrics" / "ddpo.jsonl").read_text().splitlines()[0])
    assert abs(first["loss"] - math.log(2)) < 1e-4
    assert max(abs(first["shift_chosen"]), abs(first["shift_rejected"])) < 1e-2
    board = (case.out / "leaderboard.md").read_text()
    assert "- dropout: the student's checkpoint has attention_dropout 0.1: off for ddpo" in board
    assert "its checkpoint's dropout is on" in ended.err  # while the SFT student was trained
