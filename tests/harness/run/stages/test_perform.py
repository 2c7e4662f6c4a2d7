"""A stage is a class of jobs and a function: nothing else has to know of it."""

from __future__ import annotations

import inspect
import io
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
from pydantic import ValidationError
from rich.console import Console

from harness.__main__ import main
from harness.core.progress import Tick
from harness.core.records import Facts, Ref
from harness.models.reference import Model
from harness.planning.cost import Cost, Group, costs_of, grouped
from harness.run.jobs import Job, job_from_json, stages
from harness.run.keys import keys_table
from harness.run.launch import run_job, run_jobs
from harness.run.needs import Needs, Sizes
from harness.store import STORE_VARIABLE, Store
from tests.harness.making import quiet, read_job

COUNTED = "count.txt"


def count_stage(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    ref = job.in_key["responses"]
    lines = sum(len(file.read_text().splitlines()) for file in store.read(ref).path.glob("*.jsonl"))
    (work / COUNTED).write_text(str(lines))
    return {"lines": lines, "tokens": 30}


@pytest.fixture
def count() -> Iterator[type[Job]]:
    """A made-up stage, as its author writes it."""

    class CountJob(Job):
        """The lines of an artifact's files."""

        version: ClassVar[int] = 1
        work: ClassVar[str] = f"{__name__}:count_stage"
        stage: Literal["count"] = "count"
        responses: Ref
        model: Model | None = None

        def tokens(self, sizes: Sizes) -> int:
            return 60

        def needs(self, sizes: Sizes) -> Needs:
            return Needs(self.tokens(sizes), 3.0, memory=5)

        def note(self, facts: Facts | None) -> str:
            return f"{facts['lines']} lines" if facts else ""

    yield CountJob
    del stages["count"]


@pytest.fixture
def responses(store: Store, tmp_path: Path) -> Ref:
    path = tmp_path / "set.jsonl"
    path.write_text('{"id": "a", "prompt": "Hello"}\n{"id": "b", "prompt": "Bye"}\n')
    job = read_job(path)
    run_job(job, store, quiet)
    return job.ref


def test_a_new_stage_runs_and_says_what_it_did(count: type[Job], store: Store, responses: Ref) -> None:
    printed = io.StringIO()
    job = count.model_validate({"label": "count a set", "responses": responses})
    assert run_jobs([job], store, Console(file=printed, width=200)) == 1
    assert (store.read(job.ref).path / COUNTED).read_text() == "2"
    assert printed.getvalue().startswith("[1/1] count a set: done") and printed.getvalue().endswith("; 2 lines\n")
    assert not run_job(job, store, quiet)


def test_a_new_stage_comes_back_from_json_and_runs_from_a_shell(
    count: type[Job],
    store: Store,
    responses: Ref,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = count.model_validate({"responses": responses})
    assert job_from_json(job.model_dump_json()) == job
    (tmp_path / "job.json").write_text(job.model_dump_json())
    monkeypatch.setenv(STORE_VARIABLE, str(store.root))
    monkeypatch.setattr("sys.argv", ["harness", "stage", str(tmp_path / "job.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and f"{job.ref} made" in capsys.readouterr().out
    assert store.read(job.ref).facts["lines"] == 2


def test_a_new_stage_is_planned(count: type[Job], store: Store, responses: Ref) -> None:
    there, new = (
        count.model_validate({"label": "count a set", "responses": ref}) for ref in (responses, "respond/other")
    )
    road: Any = SimpleNamespace(jobs={job.ref: job for job in (there, new)}, judges=[], shapes={}, prompts={})
    assert [cost for _, cost in costs_of(road, store)] == [Cost(60, 3.0, memory=5)] * 2
    with store.making(there.ref) as work:
        store.commit(there.ref, work, there.model_dump(mode="json"), {"tokens": 30}, 10.0)
    found = list(costs_of(road, store))
    assert [cost for _, cost in found] == [None, Cost(60, 20.0, memory=5, measured=True)]
    assert grouped(found) == [Group("count a set", 1, 1, 60, 20.0, 5)]


def test_what_is_in_a_new_stage_s_key_is_in_the_table(count: type[Job]) -> None:
    (row,) = keys_table([count]).splitlines()[2:]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("`count`", "1", "`responses`, `model`", "", "`label` (for people)")
    ]


def test_a_stage_without_a_function_or_of_a_name_that_is_taken_is_refused(count: type[Job]) -> None:
    with pytest.raises(TypeError, match="the stage 'idle' has no work"):
        type("IdleJob", (Job,), {"__annotations__": {"stage": Literal["idle"]}, "stage": "idle", "version": 1})
    with pytest.raises(TypeError, match="the stage 'count' is there twice"):
        type("AgainJob", (count,), {})


def test_a_stage_that_nobody_knows_is_no_job() -> None:
    with pytest.raises(ValidationError, match="'count'"):
        job_from_json('{"stage": "count", "responses": "respond/1"}')


@pytest.mark.parametrize("stage", stages)
def test_a_stage_s_function_is_there_and_takes_its_job(stage: str) -> None:
    function = pkgutil.resolve_name(stages[stage].work)
    assert [*inspect.signature(function).parameters] == ["job", "store", "work", "tick"]
    assert typing.get_type_hints(function)["job"] is stages[stage]
