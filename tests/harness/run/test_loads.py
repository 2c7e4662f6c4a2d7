"""How often a run opens a checkpoint: a frozen model that several stages read one after another is loaded once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.core.progress import plain_console
from harness.models import loading
from harness.models.locate import folder_of
from harness.run.jobs import CompareJob, RespondJob, ScoreJob, StatesJob, TrainJob
from harness.run.launch import left_in_memory, run_jobs
from harness.run.launchers.inline import inline
from harness.serving.resident import let_go_of_all
from tests.harness.tiny_runs import request, road_of

pytestmark = pytest.mark.slow

HOW = {RespondJob: "drawn", ScoreJob: "read", StatesJob: "read", CompareJob: "read", TrainJob: "trained"}


def test_each_model_of_a_run_is_loaded_once_to_draw_and_once_to_read(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"train": ["Tell me about 1.", "And 2?"], "near": ["Sing!", "What is rain?"], "far": ["Why?"]}
    asked = request(
        tmp_path, checkpoints, "sft,kd,ddpo,dadpo", prompts=sets, eval=f"in:{tmp_path}/near.jsonl,{tmp_path}/far.jsonl"
    )
    road, store = road_of(asked)
    doing: list[str] = []
    loads: list[tuple[Path, str]] = []
    load = loading.load_model

    def counted(folder: Path, *how: Any, **others: Any) -> Any:
        loads.append((folder, doing[-1]))
        return load(folder, *how, **others)

    monkeypatch.setattr(loading, "load_model", counted)
    let_go_of_all()

    def performed(job: Any, *rest: Any) -> Any:
        doing.append(HOW.get(type(job), job.stage))
        return inline(job, *rest)

    run_jobs(road.jobs.values(), store, plain_console(), performed)
    teacher, student = (folder_of(road.weights[role], store) for role in ("teacher", "student"))
    trained = {name: store.path(ref) for name, ref in road.trainings.items()}
    assert Counter(loads) == {
        (teacher, "drawn"): 2,  # for training, and in the evaluation
        (teacher, "read"): 2,  # before the trainings, of which one reads it too, and in the evaluation
        **{(student, how): 1 for how in ("drawn", "read")},
        (student, "trained"): 2,  # sft, kd
        (trained["sft"], "drawn"): 2,
        (trained["sft"], "read"): 2,  # as the reference before trainings, and as a row
        (trained["sft"], "trained"): 2,  # ddpo, dadpo
        **{(trained[name], how): 1 for name in ("kd", "ddpo", "dadpo") for how in ("drawn", "read")},
    }


def test_no_more_is_left_in_memory_than_a_later_job_holds(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    road, store = road_of(request(tmp_path, checkpoints, "sft,ddpo"))
    jobs = list(road.jobs.values())
    most = {frozenset(folder_of(model, store) for model in job.holds) for job in jobs}
    for job, left in zip(jobs, left_in_memory(jobs, store), strict=True):
        own = {folder_of(model, store) for model in job.holds}
        assert own <= left and left in most
        assert left == own or isinstance(job, ScoreJob | StatesJob | CompareJob)
