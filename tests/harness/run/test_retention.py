"""Whose jobs ask what a model still can."""

from __future__ import annotations

from pathlib import Path

from harness.config import layers
from harness.measures.tasks import find_tasks
from harness.run.jobs import RetentionJob
from harness.run.retention import retention_jobs
from harness.serving.settings import ModelServer
from harness.store import Store
from tests.harness.making import model_at
from tests.harness.measures.task_files import task_file
from tests.harness.tiny_runs import request, road_of


def test_the_teacher_the_untrained_student_and_every_trained_row_are_asked(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    road, _ = road_of(request(tmp_path, checkpoints, retention=str(task_file(tmp_path / "tasks"))))
    assert list(road.retention) == ["teacher", "student (untrained)", "sft", "ddpo"]
    jobs = {row: road.jobs[ref] for row, ref in road.retention.items()}
    assert {row: job.models[0].weights for row, job in jobs.items()} == {
        "teacher": road.weights["teacher"].weights,
        "student (untrained)": road.weights["student"].weights,
        **road.trainings,
    }
    assert [job.stage for job in list(road.jobs.values())[-4:]] == ["retention"] * 4


def test_a_teacher_behind_a_server_is_not_asked(store: Store, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    teacher = model_at(checkpoints["llama-teacher"], store)
    served = teacher.model_copy(update={"served": ModelServer(base_url="http://host/v1", model="m")})
    tasks, config = find_tasks([str(task_file(tmp_path))]), layers.resolve([{"student": "s"}])
    assert list(retention_jobs(config, tasks, {"teacher": served, "sft": teacher})) == ["sft"]


def test_a_run_that_names_no_task_asks_nobody(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    road, _ = road_of(request(tmp_path, checkpoints))
    assert not road.retention and not any(isinstance(job, RetentionJob) for job in road.jobs.values())
