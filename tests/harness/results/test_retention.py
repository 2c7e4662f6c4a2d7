"""What models still can, in a run's results and of several runs together."""

from __future__ import annotations

import json
from pathlib import Path

from harness.results.retention import mean_retention, retention_of
from harness.results.schema import Results, RetentionFacts
from harness.run.jobs import RETENTION
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


def test_of_several_runs_it_is_the_mean_over_the_same_documents() -> None:
    def run(method: str, value: float, error: float | None, n: int = 4) -> Results:
        one = RetentionFacts(
            method=method,
            kind="method",
            task="sums",
            metric="acc",
            value=value,
            standard_error=error,
            n=n,
            higher_is_better=True,
        )
        return Results.model_construct(retention=(one,))

    runs = [run("a", 0.25, 0.125), run("b", 0.75, 0.25), run("b", 0.5, 0.5, n=8), run("teacher", 1.0, None)]
    runs.append(Results.model_construct(retention=()))
    found = mean_retention(runs, [{"a": "b"}, {"b": "b"}, {"b": "b"}, {}, {}])
    assert [(one.method, one.n, one.value, one.standard_error) for one in found] == [
        ("b", 4, 0.5, 0.1875),
        ("b", 8, 0.5, 0.5),
        ("teacher", 4, 1.0, None),
    ]
