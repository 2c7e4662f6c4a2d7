"""A study against its runs made one by one: what is counted, and that nothing is done twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import study
from harness.models.reference import Model
from harness.run.jobs import CompareJob, ScoreJob
from tests.harness import tiny_runs


@pytest.mark.slow
def test_a_study_does_each_thing_once_and_separate_runs_do_it_again(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(study, "in_a_process", study.measured)  # a process's start is not tested
    request = tiny_runs.request(tmp_path / "work", checkpoints, "ddpo,dadpo", seeds="0,1")
    asked = study.as_json(request)
    monkeypatch.setattr(sys, "argv", ["study", "--request", asked, "--json", str(tmp_path / "study.json")])
    study.main()
    found = json.loads((tmp_path / "study.json").read_text())
    one, separate = found["sides"]["study"], found["sides"]["separate"]
    # what a run of its own makes again: all that a seed does not move
    assert separate["processes"] == 2 and one["processes"] == 1
    for what in ("jobs", "passes", "ids", "loads", "written"):
        assert separate[what] > one[what] > 0, what
    assert separate["trained"] == one["trained"] > 0  # each seed has its own trainings
    again = {stage: separate["stages"][stage]["jobs"] - done["jobs"] for stage, done in one["stages"].items()}
    assert {stage for stage, more in again.items() if more} == {"prompts", "respond"}
    assert again["respond"] == 1  # the teacher's, on the training prompts
    assert all(one["stages"][stage]["passes"] > 0 for stage in ("respond", "score", "states", "compare", "train"))
    assert found["differing"] == found["made_twice"] == []
    assert "| forward passes | " in capsys.readouterr().out


def test_what_one_model_says_of_the_same_responses_in_two_jobs_is_named() -> None:
    model, other = Model(path="a", digest="1"), Model(path="b", digest="2")
    shared: dict[str, Any] = {"prompts": "prompts/p", "precision": "fp32", "batch_tokens": 8, "max_prompt_tokens": None}
    score = ScoreJob(label="score", model=model, responses=("respond/r", "respond/s"), **shared)
    compare = CompareJob(label="compare", model=other, teacher=model, responses="respond/r", temperature=1, **shared)
    assert study.read_again([score, compare]) == {"compare + score": 1}
    by_states = compare.model_copy(update={"states": "states/t"})
    assert study.read_again([score, by_states]) == {}
