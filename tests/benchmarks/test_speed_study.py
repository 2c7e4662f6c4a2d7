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
    monkeypatch.setattr(study, "in_a_process", study.performed)  # a process's start is not tested
    prompts = {"train": [f"Tell me about {n}." for n in range(10)], "test": ["Sing!", "What is rain?"]}
    given = {"seeds": "0,1", "tune": ["training.learning_rate=1e-3,1e-2"], "prompts": prompts}
    request = tiny_runs.request(tmp_path / "work", checkpoints, "ddpo,dadpo", **given)
    asked = study.options(request) | {"set": [*(request.set or ()), "validation=0.3"]}
    command = ["study", "--request", json.dumps(asked), "--json", str(tmp_path / "study.json")]
    monkeypatch.setattr(sys, "argv", command)
    study.main()
    found = json.loads((tmp_path / "study.json").read_text())
    one, separate = found["sides"]["study"], found["sides"]["separate"]
    assert one["processes"] == 1 and separate["processes"] == 4  # two values are tried, and there are two seeds
    for what in ("jobs", "passes", "ids", "loads", "written", "trained", "read"):
        assert separate[what] > one[what] > 0, what
    # three methods are each tried twice, and trained with what was found at the other seed; on its own a try needs the
    # SFT student that was found, and a run at the first seed makes again what the study has from its tries
    assert one["stages"]["train"]["jobs"] == 3 * 2 + 3
    assert separate["stages"]["train"]["jobs"] == 3 + 4 + 3 + 3
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
