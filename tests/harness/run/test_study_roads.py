"""The roads of a study: what its runs share is found, laid and made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import study_of
from harness.core.records import Ref
from harness.run import road as roads_of_runs
from harness.run.jobs import Job, PromptsJob, RespondJob, TrainJob
from harness.run.road import Road, build_roads, together
from harness.run.stages.prepare import prompts_stage
from harness.store import Store
from harness.store.gc import refs_in
from tests.harness.run.roads import jsonl

BETA = "settings.dadpo.beta_teacher"
BuildAll = Callable[..., list[Road]]


@pytest.fixture
def build_all(tmp_path: Path, own_store: Path, checkpoints: dict[str, Path]) -> BuildAll:
    basis = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "methods": ["ddpo", "dadpo"],
        "controls": "none",
        "train_prompts": jsonl(tmp_path / "train.jsonl", [f"Say {n}." for n in range(20)]),
        "eval": ["in:" + jsonl(tmp_path / "near.jsonl", ["Say forty.", "Say fifty."])],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 16},
        "eval_sampling": {"max_new_tokens": 16},
    }
    return lambda **layer: build_roads(study_of([basis, layer]), Store(own_store), download=False)


def counted(jobs: dict[Ref, Job], label: str) -> int:
    return sum(job.label == label for job in jobs.values())


def test_what_no_seed_and_no_point_moves_is_there_once(build_all: BuildAll) -> None:
    jobs = together(build_all(seeds=[0, 1, 2], grid={BETA: [0, 0.1]}))
    assert counted(jobs, "responses: teacher, training prompts") == 1
    assert counted(jobs, "train sft") == counted(jobs, "train ddpo") == 3  # one a seed, whatever daDPO's setting is
    assert counted(jobs, "train dadpo") == 6
    assert counted(jobs, "responses: teacher, near") == counted(jobs, "responses: ddpo, near") == 3


def test_jobs_stand_in_an_order_that_can_be_made_and_students_come_first(build_all: BuildAll) -> None:
    roads = build_all(seeds=[0, 1], grid={BETA: [0, 0.1]})
    jobs = together(roads)
    assert set(jobs) == {ref for road in roads for ref in road.jobs}
    made: set[Ref] = set()
    for ref, job in jobs.items():
        assert set(refs_in(job.model_dump(mode="json"))) <= made
        made.add(ref)
    places = {ref: place for place, ref in enumerate(jobs)}
    trained = max(places[ref] for ref, job in jobs.items() if isinstance(job, TrainJob))
    asked = [job for job in jobs.values() if isinstance(job, RespondJob) and places[job.ref] > trained]
    # each model that writes answers to evaluation prompts writes all of them in a row
    runs = [job.model for place, job in enumerate(asked) if not place or asked[place - 1].model != job.model]
    assert len(runs) == len(set(runs))


def test_what_is_outside_is_looked_for_once(build_all: BuildAll, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    find = roads_of_runs.find
    monkeypatch.setattr(roads_of_runs, "find", lambda *given: looked.append(given) or find(*given))
    build_all(seeds=[0, 1, 2], grid={BETA: [0, 0.1]})
    assert len(looked) == 1
    build_all(seeds=[0, 1], grid={"limits.train": [4, 6]})
    assert len(looked) == 3  # another training set each


def test_every_road_says_its_point(build_all: BuildAll) -> None:
    found = build_all(seeds=[0, 1], grid={BETA: [0, 0.1]})
    assert [(road.config.seed, dict(road.point)) for road in found] == [
        (seed, {BETA: beta}) for seed in (0, 1) for beta in (0, 0.1)
    ]


def test_prompts_that_are_held_out_are_in_no_training(build_all: BuildAll, own_store: Path, tmp_path: Path) -> None:
    (road,) = build_all(validation=0.3)
    (whole,) = build_all()
    assert 0 < len(road.train.prompts) < len(whole.train.prompts)
    (job,) = (job for job in road.jobs.values() if isinstance(job, PromptsJob) and job.held_out)
    assert all(one.prompts == job.ref for one in road.jobs.values() if isinstance(one, TrainJob))
    facts = prompts_stage(job, Store(own_store), tmp_path, lambda *_: None)
    assert facts == {"prompts": len(road.train.prompts)}
