"""What models still can, in a run's results and of several runs together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.files import canonical_hash
from harness.results.retention import mean_retention, retention_of, said
from harness.results.schema import Results, RetentionFacts
from harness.run.jobs import RETENTION, RetentionJob
from harness.store.artifacts import Artifact
from tests.harness.measures.task_files import task_file
from tests.harness.tiny_runs import request, road_of


def test_results_say_what_each_row_reached(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    road, store = road_of(request(tmp_path, checkpoints, retention=str(task_file(tmp_path / "tasks"))))
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
    asked = [road.jobs[ref] for ref in road.retention.values()]
    assert {one.digest for one in found} == {job.tasks["sums"] for job in asked if isinstance(job, RetentionJob)}


def test_a_row_says_which_task_was_asked_for_by_its_digest(tmp_path: Path) -> None:
    """A task of a group is known by the group's; what is in a group of a group, by all that was asked for."""
    score = {"metric": "acc", "value": 0.5, "standard_error": None, "n": 4, "higher_is_better": True}
    rows = [{"task": name, **score} for name in ("alone", "leaf", "inner")]
    (tmp_path / RETENTION).write_text(json.dumps(rows), encoding="utf-8")
    tasks = {"alone": "digest of alone", "group": "digest of group"}
    asked = {"alone": {"documents": {"alone": 4}}, "group": {"documents": {"leaf": 4}}}
    manifest: dict[str, Any] = {"job": {"tasks": tasks}, "facts": {"asked": asked}}
    found = said("sft", "method", Artifact("retention/1", tmp_path, manifest))
    assert [(one.method, one.kind, one.task, one.digest) for one in found] == [
        ("sft", "method", "alone", "digest of alone"),
        ("sft", "method", "leaf", "digest of group"),
        ("sft", "method", "inner", canonical_hash(tasks)),
    ]


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
