"""What a checkpoint still can, by a task of one's own, as the stage leaves it."""

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
from harness.run.jobs import RETENTION, RetentionJob
from harness.run.retention import retention_jobs
from harness.store import Store
from tests.harness.making import make, model_at
from tests.harness.measures.task_files import task_file


def job_of(store: Store, file: Path, checkpoint: Path, **changed: Any) -> RetentionJob:
    tasks = find_tasks([str(file)])
    short = {"scoring_precision": "fp32", "generation_batch_size": 2}
    given: Mapping[str, Any] = {"student": "s", "retention": [str(file)], **short, **changed}
    found = retention_jobs(layers.resolve([given]), tasks, {"sft": model_at(checkpoint, store)})
    return found["sft"]


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
