"""What a checkpoint still can, by a task of one's own: as the stage leaves it, and in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.config import layers
from harness.core.errors import UserError
from harness.measures.tasks import find_tasks
from harness.models.reference import ChatTemplate
from harness.results.retention import mean_retention, retention_of
from harness.results.schema import Results, RetentionFacts
from harness.run.jobs import RETENTION, RetentionJob
from harness.run.retention import retention_jobs
from harness.run.road import Road
from harness.serving.settings import ModelServer
from harness.store import Store
from tests.harness.making import make, model_at
from tests.harness.measures.task_files import task_file
from tests.harness.tiny_runs import request, road_of


def job_of(store: Store, file: Path, checkpoint: Path, **changed: Any) -> RetentionJob:
    tasks = find_tasks([str(file)])
    short = {"scoring_precision": "fp32", "generation_batch_size": 2}
    given: Mapping[str, Any] = {"student": "s", "retention": [str(file)], **short, **changed}
    found = retention_jobs(layers.resolve([given]), tasks, {"sft": model_at(checkpoint, store)})
    return found["sft"]


def jobs_of(road: Road) -> list[RetentionJob]:
    return [job for job in road.jobs.values() if isinstance(job, RetentionJob)]


def rows(store: Store, ref: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((store.read(ref).path / RETENTION).read_text())
    return found


def test_an_artifact_has_each_metric_with_its_error_and_says_how_it_was_asked(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    file = task_file(tmp_path / "tasks")
    ref = make(store, job_of(store, file, checkpoints["llama"], retention_limit=5))
    (row,) = rows(store, ref)
    assert row["task"] == "sums" and row["metric"] == "acc" and row["n"] == 5 and row["higher_is_better"] is True
    assert 0 <= row["value"] <= 1 and row["standard_error"] >= 0
    facts = store.read(ref).facts
    assert facts["chat_template"] is True and facts["asked"]["sums"]["documents"] == {"sums": 5}
    assert make(store, job_of(store, file, checkpoints["llama"], retention_limit=5)) == ref


def test_what_shapes_an_answer_is_in_its_key_and_no_path_is(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    file, folder = task_file(tmp_path / "tasks"), checkpoints["llama"]
    job = job_of(store, file, folder)
    assert job_of(store, task_file(tmp_path / "moved", "other.yaml"), folder).ref == job.ref
    others = [
        job_of(store, task_file(tmp_path / "changed", doc_to_text="{{question}}?"), folder),
        job_of(store, file, checkpoints["llama-teacher"]),
        job_of(store, file, folder, retention_limit=5),
        job_of(store, file, folder, generation_batch_size=4),
        job_of(store, file, folder, scoring_precision="bf16"),
    ]
    assert len({job.ref, *(other.ref for other in others)}) == 6


def test_a_task_that_changed_since_its_job_was_made_is_refused(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    file = task_file(tmp_path / "tasks")
    job = job_of(store, file, checkpoints["llama"])
    (tmp_path / "tasks" / "sums.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"sums\.yaml has changed since this job was made"):
        make(store, job)


def test_a_model_without_a_template_of_its_own_is_asked_in_the_one_that_it_is_given(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """What it says in another template is something else."""
    job = job_of(store, task_file(tmp_path / "tasks"), checkpoints["llama"])
    template = ChatTemplate(name="own", text="{% for m in messages %}{{ m.content }}{% endfor %}")
    other = job.model_copy(update={"model": job.model.model_copy(update={"chat_template": template})})
    assert other.ref != job.ref and store.read(make(store, other)).facts["chat_template"] is True


# ---- on the road


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> tuple[Road, Store]:
    root = tmp_path_factory.mktemp("retention")
    return road_of(request(root, checkpoints, retention=str(task_file(root / "tasks"))))


def test_the_teacher_the_untrained_student_and_every_trained_row_are_asked(asked: tuple[Road, Store]) -> None:
    road, _ = asked
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


def test_results_say_what_each_row_reached(asked: tuple[Road, Store]) -> None:
    road, store = asked
    for number, ref in enumerate(road.retention.values()):
        score = {"task": "sums", "metric": "acc", "value": number / 4, "standard_error": None, "n": 4}
        with store.making(ref) as work:
            (work / RETENTION).write_text(json.dumps([{**score, "higher_is_better": True}]))
            store.commit(ref, work, road.jobs[ref].model_dump(mode="json"), {}, 0.0)
    found = retention_of(road, store)
    assert [(one.method, one.kind, one.value) for one in found] == [
        ("teacher", "teacher", 0.0),
        ("student (untrained)", "untrained", 0.25),
        ("sft", "method", 0.5),
        ("ddpo", "method", 0.75),
    ]
    assert {one.digest for one in found} == {job.tasks["sums"] for job in jobs_of(road)}


def test_of_several_runs_it_is_the_mean_over_the_same_documents() -> None:
    def run(method: str, value: float, error: float | None, n: int = 4, digest: str = "d") -> Results:
        one = RetentionFacts(
            method=method,
            kind="method",
            task="sums",
            digest=digest,
            metric="acc",
            value=value,
            standard_error=error,
            n=n,
            higher_is_better=True,
        )
        return Results.model_construct(retention=(one,))

    runs = [run("a", 0.25, 0.125), run("b", 0.75, 0.25), run("b", 0.5, 0.5, n=8), run("teacher", 1.0, None)]
    runs += [run("b", 0.0, 0.5, digest="another task"), Results.model_construct(retention=())]
    found = mean_retention(runs, [{"a": "b"}, {"b": "b"}, {"b": "b"}, {}, {"b": "b"}, {}])
    assert [(one.method, one.n, one.value, one.standard_error) for one in found] == [
        ("b", 4, 0.5, 0.1875),
        ("b", 8, 0.5, 0.5),
        ("teacher", 4, 1.0, None),
        ("b", 4, 0.0, 0.5),
    ]
