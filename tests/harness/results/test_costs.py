"""What a row took: its own training and all that it rests on, whatever others share with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import plain
from harness.results.costs import Made, costs, mean_costs, rests_on
from harness.results.schema import CostFacts, Results
from harness.run.jobs import CompareJob, Job, JudgeJob, MeasureJob, PromptsJob, StatesJob
from harness.run.road import Road
from tests.harness.tiny_runs import request, road_of

# each its own power of ten, so that a sum says what is in it
TOKENS = {
    "responses: teacher, training prompts": 1,
    "responses: SFT student, training prompts": 10,
    "train sft": 100,
    "log-probs: reference": 1_000,
    "log-probs: teacher": 10_000,
    "top 4 log-probs: teacher": 100_000,
    "responses: the unpruned model, to prune it by": 1_000_000,
}
OWN = 10_000_000  # of any other training
ENVIRONMENT = {"processor": "A processor", "cores": 2, "accelerators": []}


def made(road: Road, **own: Any) -> dict[str, Made]:
    """As if all of a road had been made, each stage in half a second. own: of each training's manifest."""

    def manifest(job: Job) -> dict[str, Any]:
        tokens = TOKENS.get(job.label, OWN if job.stage == "train" else 0)
        return {"facts": {"tokens": tokens}, "seconds": 0.5, "environment": ENVIRONMENT, **own}

    return {ref: Made(job, manifest(job)) for ref, job in road.jobs.items()}


def costs_by_row(road: Road, **own: Any) -> dict[str, CostFacts]:
    found = costs(road.trainings, road.weights["teacher"].weights, made(road, **own))
    return {cost.method: cost for cost in found}


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Road:
    asked = request(tmp_path_factory.mktemp("costs"), checkpoints, "sft,kd,ddpo,dadpo", controls="full")
    return road_of(asked)[0]


def test_a_row_counts_what_it_rests_on_and_no_more(road: Road) -> None:
    found = costs_by_row(road)
    assert found.keys() == road.trainings.keys()
    read, sampled = {}, {}
    for row, cost in found.items():
        read[row] = cost.trained_tokens, cost.teacher_read_tokens
        sampled[row] = cost.teacher_sampled_tokens, cost.student_sampled_tokens
    # SFT starts from the student, and has no start of its own to count
    assert (read["sft"], sampled["sft"]) == ((100, 0), (1, 0))
    # the teacher beside a training reads what the student does
    assert (read["kd"], sampled["kd"]) == ((OWN, OWN), (1, 0))
    assert (read["ddpo"], sampled["ddpo"]) == ((OWN + 100, 0), (1, 10))
    assert (read["dadpo"], sampled["dadpo"]) == ((OWN + 100, 10_000), (1, 10))
    assert found["ddpo"].seconds == {"respond": 1.0, "score": 0.5, "train": 1.0}
    assert found["dadpo"].seconds == {"respond": 1.0, "score": 1.0, "train": 1.0}
    assert found["sft"].seconds == {"respond": 0.5, "train": 0.5}


def test_a_control_whose_tokens_are_matched_rests_on_none_of_what_it_is_matched_by(road: Road) -> None:
    matched = [entry.name for entry in road.entries if entry.match]
    assert matched
    for row in matched:
        cost = costs_by_row(road)[row]
        assert (cost.trained_tokens, cost.student_sampled_tokens) == (OWN + 100, 0)  # SFT on SFT
        assert cost.seconds == {"respond": 0.5, "train": 1.0}


def test_nothing_of_an_evaluation_counts(road: Road) -> None:
    jobs = road.jobs
    for ref in road.trainings.values():
        upstream = [jobs[one] for one in rests_on(ref, jobs)]
        assert not [job for job in upstream if isinstance(job, CompareJob | JudgeJob | MeasureJob | StatesJob)]
        assert sum(isinstance(job, PromptsJob) for job in upstream) == 1


def test_a_stored_top_k_is_read_once_and_a_pruned_student_s_own_responses_train_nobody(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    sets = [
        "settings.kd.teacher_signal=stored",
        "settings.kd.top_k=4",
        "prune.ratio=0.1",
        f"store={tmp_path / 'store'}",
    ]
    found = costs_by_row(road_of(request(tmp_path, checkpoints, "kd,ddpo", set=sets))[0])
    assert (found["kd"].trained_tokens, found["kd"].teacher_read_tokens) == (OWN, 100_000)
    assert found["kd"].seconds == {"distributions": 0.5, "prune": 0.5, "respond": 1.0, "train": 0.5}
    assert (found["ddpo"].teacher_sampled_tokens, found["ddpo"].student_sampled_tokens) == (1, 10)


def test_what_the_policy_wrote_as_it_trained_is_counted_with_what_the_teacher_read_of_it(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """The facts are of each training: the method's own, and SFT's, where it starts."""
    found = costs_by_row(
        road_of(request(tmp_path, checkpoints, "opd"))[0], facts={"tokens": OWN, "fresh_tokens": OWN // 10}
    )["opd"]
    assert (found.student_sampled_tokens, found.teacher_read_tokens) == (2 * OWN // 10, OWN)
    assert found.trained_tokens == 2 * OWN


def test_a_copy_of_the_student_that_reads_is_not_the_teacher(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    found = costs_by_row(road_of(request(tmp_path, checkpoints, "sdft"))[0])["sdft"]
    assert (found.teacher_read_tokens, found.teacher_sampled_tokens) == (0, 1)


def test_a_teacher_that_is_its_own_student_is_still_told_from_it(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    asked = request(tmp_path, checkpoints, "dadpo", teacher=str(checkpoints["llama"]))
    found = costs_by_row(road_of(asked)[0])["dadpo"]
    assert (found.teacher_read_tokens, found.teacher_sampled_tokens, found.student_sampled_tokens) == (10_000, 1, 10)


@pytest.mark.parametrize(
    ("environment", "ranks", "device"),
    [
        (ENVIRONMENT, 1, "A processor, 2 cores"),
        (ENVIRONMENT, 2, "A processor, 2 cores"),
        ({**ENVIRONMENT, "accelerators": ["A GPU", "A GPU"]}, 1, "A GPU"),
        ({**ENVIRONMENT, "accelerators": ["A GPU", "A GPU"]}, 2, "2 × A GPU"),
        ({"python": "3.11"}, 1, ""),
        (None, 1, ""),
    ],
)
def test_the_device_and_its_memory_are_those_of_the_training(
    road: Road, environment: Mapping[str, Any] | None, ranks: int, device: str
) -> None:
    facts = {"tokens": 1, "ranks": ranks}
    found = costs_by_row(road, facts=facts, environment=environment, peak_memory=7)["ddpo"]
    assert (found.device, found.peak_memory) == (device, 7)


def test_what_was_made_before_memory_was_measured_says_none(road: Road) -> None:
    assert costs_by_row(road)["sft"].peak_memory is None


def test_of_several_runs_it_is_the_mean_by_their_common_names() -> None:
    def run(method: str, tokens: int, seconds: dict[str, float], memory: int | None, device: str) -> Results:
        cost = CostFacts(
            method=method,
            trained_tokens=tokens,
            teacher_read_tokens=0,
            teacher_sampled_tokens=4,
            student_sampled_tokens=tokens,
            seconds=seconds,
            peak_memory=memory,
            device=device,
        )
        return Results.model_construct(costs=(cost,))

    runs = [run("dpo", 100, {"train": 1.0}, 5, "a"), run("ddpo", 101, {"train": 2.0, "respond": 1.0}, 9, "b")]
    runs.append(run("ddpo", 90, {"train": 3.0}, None, "b"))
    found = mean_costs(runs, [{"dpo": "ddpo"}, {"ddpo": "ddpo"}, {"ddpo": "ddpo (other)"}])
    assert [plain(cost) for cost in found] == [
        {
            "method": "ddpo",
            "trained_tokens": 100,
            "teacher_read_tokens": 0,
            "teacher_sampled_tokens": 4,
            "student_sampled_tokens": 100,
            "seconds": {"respond": 0.5, "train": 1.5},
            "peak_memory": 9,
            "device": "a; b",
        },
        {**plain(runs[2].costs[0]), "method": "ddpo (other)"},
    ]
