"""A study through the real command: four methods, three seeds and a search; everything once, and nothing mixed up."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from harness import __main__ as program
from harness.cli.app import app
from harness.cli.options import RunRequest
from harness.config import study_of
from harness.core.records import Ref
from harness.results import recording
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.studies import runs_in
from harness.run.jobs import Job, PromptsJob, TrainJob, job_from
from harness.run.road import Road, build_roads
from harness.store import STORE_VARIABLE, Store
from harness.store.gc import refs_in
from tests.conftest import ALL, Run
from tests.test_end_to_end import jsonl, kill_before

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
RATES = (1e-3, 1e-2)
TRAIN = [f"Tell me about the number {n}, please." for n in range(12)]
TEST = ["Why is bread good?", "Why is rain good?", "Sing!"]


def arguments(folder: Path, checkpoints: dict[str, Path]) -> list[str]:
    """A study of tiny models, without its methods and seeds."""
    folder.mkdir(exist_ok=True)
    return [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--train-prompts", str(jsonl(folder / "train.jsonl", TRAIN))),
        *("--eval", f"in:{jsonl(folder / 'test.jsonl', TEST)}"),
        *("--judge", "typicality", "--controls", "none"),
        *("--set", "train_sampling.max_new_tokens=8", "--set", "eval_sampling.max_new_tokens=8"),
        *("--set", "training.batch_size=4", "--set", "training.checkpoint_steps=1", "--set", "validation=0.3"),
        *("--tune", f"training.learning_rate={','.join(map(str, RATES))}"),
    ]


@dataclass(frozen=True)
class Made:
    """A study that was made. jobs: of all artifacts in its store."""

    command: list[str]
    out: Path
    store: Store

    @property
    def jobs(self) -> dict[Ref, Job]:
        return {ref: job_from(self.store.read(ref).manifest["job"]) for ref in self.store.refs()}

    def prompts(self, ref: Ref) -> set[str]:
        lines = (self.store.path(ref) / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["messages"][-1]["content"] for line in lines}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Made:
    folder = tmp_path_factory.mktemp("study")
    command = [*arguments(folder, checkpoints), "--seeds", ",".join(map(str, SEEDS))]
    with pytest.MonkeyPatch.context() as patch:  # in this process, which has torch and the rest imported
        patch.setenv(STORE_VARIABLE, str(folder / "store"))
        patch.setattr(sys, "argv", ["harness", "run", *command, "--methods", ALL, "--out", str(folder / "out")])
        with pytest.raises(SystemExit) as ended:
            program.main()
    assert not ended.value.code
    return Made(command, folder / "out", Store(folder / "store"))


@pytest.fixture(scope="module")
def roads(made: Made) -> list[Road]:
    """Of its runs, with the search that their settings were found by."""
    context = typer.main.get_command(app).commands["run"].make_context("run", list(made.command))  # type: ignore[attr-defined]
    given = {field.name: context.params[field.name] or None for field in fields(RunRequest)}
    study = study_of(RunRequest(**given | {"methods": ALL}).layers()[1])
    return build_roads(study, made.store, download=False)


def test_each_method_is_tried_as_often_and_what_wins_is_the_first_seeds_training(made: Made, roads: list[Road]) -> None:
    methods = ALL.split(",")
    trainings = [job for job in made.jobs.values() if isinstance(job, TrainJob)]
    assert len(trainings) == len(methods) * (len(RATES) + len(SEEDS) - 1)
    search = roads[0].search
    assert search is not None and not search.open
    for name in methods:
        tries = search.of(name)
        assert [one.point["training.learning_rate"] for one in tries] == list(RATES)
        best = min(tries, key=lambda one: search.values[one.value].value)
        assert search.found[name] == best.point
        for road, run in zip(roads, runs_in(made.out), strict=True):
            (row,) = (row for row in read_results(run).methods if row.name == name)
            assert row.artifact == road.trainings[name]
            assert (row.artifact == best.training) == (road.config.seed == SEEDS[0])
            job = made.jobs[row.artifact]
            assert isinstance(job, TrainJob) and job.seed == road.config.seed
            assert job.settings["learning_rate"] == best.point["training.learning_rate"]


def test_no_training_sees_a_validation_prompt_and_no_search_an_evaluation_prompt(made: Made, roads: list[Road]) -> None:
    jobs = made.jobs
    sets = {ref: job for ref, job in jobs.items() if isinstance(job, PromptsJob)}
    (validation,) = (ref for ref, job in sets.items() if job.validation)
    (training,) = (ref for ref, job in sets.items() if job.held_out and not job.validation)
    (test,) = sets.keys() - {validation, training}
    # read from the files themselves: the two parts are the set that was named, and share nothing
    assert made.prompts(training) | made.prompts(validation) == set(TRAIN)
    assert made.prompts(training).isdisjoint(made.prompts(validation)) and made.prompts(validation)
    assert made.prompts(test) == set(TEST)
    read = {ref: sets.keys() & resting(jobs, ref) for ref in jobs.keys() - sets.keys()}
    for ref, job in jobs.items():
        if isinstance(job, TrainJob):
            assert read[ref] == {training}, job.label
    # what is said of validation prompts is said of tries alone, and of the teacher
    assert roads[0].search is not None
    tries = {one.training for one in roads[0].search.tries}
    for ref, job in jobs.items():
        if ref in read and validation in read[ref]:
            assert test not in read[ref], job.label
            assert {one for one in refs_in(job.model_dump(mode="json")) if one.startswith("train/")} <= tries
    # and every figure of the boards is made of evaluation prompts
    for run in runs_in(made.out):
        lines = (run / "prompts.jsonl").read_text(encoding="utf-8")
        assert all(text in lines for text in TEST) and not any(text in lines for text in TRAIN)


def resting(jobs: dict[Ref, Job], ref: Ref) -> set[Ref]:
    """An artifact and all that it was made from."""
    found: set[Ref] = set()
    ahead = [ref]
    while ahead:
        one = ahead.pop()
        if one in jobs and one not in found:
            found.add(one)
            ahead += refs_in(jobs[one].model_dump(mode="json"))
    return found


def test_seeds_are_one_row_and_the_search_has_its_table(made: Made) -> None:
    (board,) = boards(runs_in(made.out))
    rows = Counter(row.method for row in board.rows)
    assert all(rows[name] == 1 for name in ALL.split(","))
    assert all(row.judged_in == len(SEEDS) for row in board.rows)
    assert "How settings were chosen" in (made.out / "leaderboard.md").read_text(encoding="utf-8")


def test_a_second_study_makes_nothing(made: Made, run: Run) -> None:
    before = (made.out / "leaderboard.md").read_bytes()
    assert "\n0 of " in "\n" + run(made.command, made.out, made.store.root)
    assert (made.out / "leaderboard.md").read_bytes() == before


def test_it_is_verified_recorded_and_on_a_board_with_others(
    made: Made, cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(made.store.root))
    ended = cli("verify", made.out)
    assert ended.status == 0, ended.out
    monkeypatch.setattr(recording, "results_folder", lambda: tmp_path / "recorded")
    assert cli("record", made.out).status == 0
    assert len(recording.recorded()) == len(SEEDS)
    written = tmp_path / "board.md"
    assert cli("leaderboard", *recording.recorded(), "--out", written).status == 0
    assert cli("leaderboard", made.out, "--out", tmp_path / "same.md").status == 0
    assert written.read_bytes() == (tmp_path / "same.md").read_bytes()


def test_killed_in_the_search_and_in_the_last_trainings_it_ends_as_one_that_was_not(
    tmp_path: Path, checkpoints: dict[str, Path], run: Run
) -> None:
    command, methods = [*arguments(tmp_path, checkpoints), "--seeds", "0,1"], "sft,ddpo"
    run(command, tmp_path / "out", tmp_path / "store", methods)
    killed, store = tmp_path / "killed", tmp_path / "other"
    for second in (r"compare/[^/]+", r"judge/[^/]+"):
        kill_before(second, ["run", *command, "--methods", methods, "--out", str(killed)], store)
        assert not (killed / "study.json").exists()
    run(command, killed, store, methods)
    whole, again = runs_in(tmp_path / "out"), runs_in(killed)
    assert [path.name for path in whole] == [path.name for path in again] and len(whole) == 2
    for one, other in zip(whole, again, strict=True):
        for name in ("verdicts.jsonl", "measures.jsonl", "responses.jsonl", "tokens.json", "config.yaml"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
    assert not any((store / "work").iterdir())
