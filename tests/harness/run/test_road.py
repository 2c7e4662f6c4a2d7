"""The road as it is planned: nothing here computes an artifact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor

from harness.config import resolve, to_yaml
from harness.core.records import Ref
from harness.core.section import parse_yaml
from harness.methods import Control, MethodSettings, SequenceInputs, methods
from harness.prompts import read_set
from harness.run.jobs import (
    CompareJob,
    ConvertJob,
    DistributionsJob,
    Job,
    JudgeJob,
    PromptsJob,
    PruneJob,
    RespondJob,
    ScoreJob,
    StatesJob,
    TrainJob,
)
from harness.run.road import Road, ask_again, lay, run_digest
from harness.run.rows import entries_of
from harness.store import Store
from tests.harness.run.roads import SERVED, URL, Build, jsonl, made_sources, read_by

ROOT = Path(__file__).parents[3]
EMBEDDED = {"student": "smollm2-135m-pruned20", "teacher": None}
REF = re.compile(r"[a-z]+/[0-9a-f]{32}")


def references(data: Any) -> Iterator[Ref]:
    """Every artifact that a job's data names."""
    if isinstance(data, str) and REF.fullmatch(data):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from references(value)


def assert_in_order(road: Road) -> None:
    made: set[Ref] = set()
    for ref, job in road.jobs.items():
        assert ref == job.ref
        for needed in references(job.model_dump(mode="json")):
            assert needed in made, f"{job.label} reads {needed}, which no earlier job makes"
        made.add(ref)


def of(road: Road, kind: type[Job]) -> list[Any]:
    return [job for job in road.jobs.values() if isinstance(job, kind)]


def draws(road: Road, purpose: str) -> set[Ref]:
    return {job.ref for job in of(road, RespondJob) if job.purpose == purpose}


# ---- laying


def test_a_road_is_laid_without_store_network_or_models(monkeypatch: pytest.MonkeyPatch) -> None:
    config, sources = made_sources(controls="full")
    methods.names()  # code is read, and nothing else

    def refuse(what: Any, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{what} is looked at")

    with monkeypatch.context() as patched:
        for name in ("pathlib.Path.is_file", "pathlib.Path.is_dir", "pathlib.Path.glob", "socket.socket.connect"):
            patched.setattr(name, refuse)
        one, two = (lay(config, sources) for _ in range(2))
    assert one == two and list(one.jobs) == list(two.jobs) and run_digest(one) == run_digest(two)
    assert_in_order(one)
    stages = {job.stage for job in one.jobs.values()}
    assert stages == {
        "prompts",
        "convert",
        "prune",
        "respond",
        "score",
        "train",
        "states",
        "compare",
        "measure",
        "judge",
    }
    assert {found.name for found in one.prompts.values()} == {"train", "near", "far", "calibration"}
    assert (config.generator, one.config.generator) == ("auto", "transformers")


def test_a_road_is_frozen() -> None:
    road: Any = lay(*made_sources())
    with pytest.raises(FrozenInstanceError):
        road.jobs = {}
    for mapping in (road.jobs, road.prompts, road.trainings, road.weights, road.shapes):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["new"] = None


# ---- the order of jobs


@pytest.mark.parametrize("controls", ["none", "basic", "full"])
@pytest.mark.parametrize(
    "names", [["sft"], ["kd"], ["ddpo"], ["dadpo"], ["sft", "kd", "ddpo", "dadpo"], ["dadpo", "kd"]]
)
def test_everything_that_a_job_reads_is_made_before_it(build: Build, names: list[str], controls: str) -> None:
    road = build(methods=names, controls=controls)
    assert_in_order(road)
    assert set(road.trainings.values()) <= set(road.jobs)
    verdicts = [ref for e in road.evaluations for c in e.candidates for ref in (c.responses, *c.verdicts.values())]
    assert set(verdicts) <= set(road.jobs)


@pytest.mark.parametrize("judge", ["embedding", "proxy"])
def test_the_embedded_road_is_in_order_too(build: Build, judge: str) -> None:
    road = build(**EMBEDDED, judge=judge, controls="full")
    assert_in_order(road)
    assert len(of(road, ConvertJob)) == len(of(road, PruneJob)) == 1  # the teacher is what the student is pruned from


def test_evaluation_reads_each_model_once_a_stage(build: Build) -> None:
    road = build()
    order = [(job.stage, job.model) for job in road.jobs.values() if isinstance(job, RespondJob)]
    order = order[
        [job.prompts for job in of(road, RespondJob)].index(road.jobs[road.evaluations[0].reference].prompts) :
    ]
    changes = [pair for place, pair in enumerate(order) if place == 0 or pair != order[place - 1]]
    assert len(changes) == len(set(map(str, changes)))


MATCHED = Control("kd-as-long", "kd", {"epochs": 7}, "", match_tokens=True)


def against_the_reference(inputs: SequenceInputs, settings: MethodSettings) -> Tensor:
    return (inputs.reference - inputs.policy)[:, 0]


NEEDS_SFT = {
    "responses against the reference": {
        "level": "sequence",
        "per": "example",
        "reads": ("reference",),
        "loss": against_the_reference,
    },
    "a token-matched control that starts from the student": {"controls": lambda _settings: [MATCHED]},
}


@pytest.mark.parametrize("fields", NEEDS_SFT.values(), ids=NEEDS_SFT)
def test_the_sft_student_is_trained_whenever_something_reads_it(
    build: Build, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = replace(methods.get("kd"), **{"name": "own", "controls": lambda _settings: [], **fields})
    monkeypatch.setattr(methods, "_entries", {**dict(methods.items()), "own": method})
    assert_in_order(build(methods=["own"]))


# ---- random numbers


@pytest.mark.parametrize("seed", [0, 1])
def test_no_two_draws_share_random_numbers(build: Build, tmp_path: Path, seed: int) -> None:
    road = build(**EMBEDDED, seed=seed, controls="full", eval=[str(tmp_path / "far.jsonl")])
    numbers = [(job.purpose, job.seed) for job in of(road, RespondJob) if job.purpose != "candidate"]
    assert len(numbers) == 6  # chosen, rejected, calibration, reference, second and judging
    assert len(set(numbers)) == len(numbers)


def test_candidates_share_their_random_numbers(build: Build) -> None:
    road = build(seed=3)
    candidates = [
        road.jobs[candidate.responses]
        for evaluation in road.evaluations
        for candidate in evaluation.candidates
        if candidate.kind != "ceiling"
    ]
    assert {(job.purpose, job.seed) for job in candidates if isinstance(job, RespondJob)} == {("candidate", 3)}


def test_the_ceiling_is_a_draw_of_the_teacher_beside_the_reference(build: Build) -> None:
    for evaluation in build().evaluations:
        (ceiling,) = [candidate for candidate in evaluation.candidates if candidate.kind == "ceiling"]
        assert ceiling.responses != evaluation.reference


def test_another_seed_is_another_student_but_the_same_teacher(build: Build) -> None:
    one, two = build(**EMBEDDED), build(**EMBEDDED, seed=1)
    for kind in (ConvertJob, PruneJob, PromptsJob):
        assert {job.ref for job in of(one, kind)} == {job.ref for job in of(two, kind)}
    for purpose in ("chosen", "calibration"):
        assert draws(one, purpose) == draws(two, purpose) != set()
    for purpose in ("rejected", "reference", "second", "judging", "candidate"):
        assert draws(one, purpose).isdisjoint(draws(two, purpose))
    assert set(one.trainings.values()).isdisjoint(two.trainings.values())
    assert run_digest(one) != run_digest(two)


# ---- rows of the board


def entries(**layer: Any) -> dict[str, Any]:
    found = entries_of(resolve([{"student": "s", "teacher": "t", "methods": ["ddpo", "dadpo", "kd"]}, layer]))
    assert len({entry.name for entry in found}) == len(found)
    return {entry.name: entry for entry in found}


@pytest.mark.parametrize(
    ("level", "controls"),
    [
        ("none", []),
        ("basic", ["ddpo-beta0.15"]),
        (
            "full",
            [
                *("ddpo-beta0.15", "ddpo-beta0.142857", "dadpo-permuted", "dadpo-mean", "sft-continued"),
                *("gopd-same-target", "kd-from-sft"),
            ],
        ),
    ],
)
def test_controls_come_by_level_after_the_methods(level: str, controls: list[str]) -> None:
    found = entries(controls=level)
    assert list(found) == ["ddpo", "dadpo", "kd", *controls]
    assert [entry.controls for entry in found.values() if entry.controls] == [
        "kd" if name == "kd-from-sft" else "dadpo" for name in controls
    ]


def test_a_control_that_equals_a_method_is_not_trained_twice() -> None:
    assert list(entries(settings={"ddpo": {"beta": 0.15}})) == ["ddpo", "dadpo", "kd"]
    assert list(entries(settings={"ddpo": {"beta": 0.15, "epochs": 9}}))[3:] == ["ddpo-beta0.15"]
    assert "kd-from-sft" not in entries(settings={"kd": {"start": "sft"}}, controls="full")


def test_a_control_that_is_only_computed_in_another_way_is_the_method() -> None:
    settings = {"ddpo": {"beta": 0.15, "micro_batch_tokens": 512, "compile": True}}
    assert list(entries(settings=settings)) == ["ddpo", "dadpo", "kd"]


HOW_TO_COMPUTE = {"micro_batch_tokens": 512, "gradient_checkpointing": True, "compile": True, "checkpoint_steps": 3}


def test_the_advice_for_too_little_memory_changes_no_key_and_what_was_asked_for_is_done(build: Build) -> None:
    plain, advised = build(), build(training=HOW_TO_COMPUTE, scoring_batch_tokens=512)
    assert list(plain.jobs) == list(advised.jobs)
    assert run_digest(plain) == run_digest(advised)
    for job in of(advised, TrainJob):
        assert {name: job.settings[name] for name in HOW_TO_COMPUTE} == HOW_TO_COMPUTE
    assert {job.batch_tokens for job in of(advised, ScoreJob)} == {512}
    again = resolve([parse_yaml(to_yaml(advised.config), "config.yaml")])
    assert again.settings == advised.config.settings and again.scoring_batch_tokens == 512


def test_two_controls_that_are_equal_are_one() -> None:
    names = list(entries(methods=["dadpo"], settings={"dadpo": {"beta_teacher": 0.0}}, controls="full"))
    assert names == ["dadpo", "ddpo-beta0.1", "dadpo-permuted", "dadpo-mean", "sft-continued", "gopd-same-target"]


def test_controls_whose_names_round_to_one_have_names_of_their_own() -> None:
    found = entries(methods=["dadpo"], settings={"dadpo": {"beta_teacher": 1e-8}}, controls="full")
    assert {"ddpo-beta0.1", "ddpo-beta0.1 (for dadpo)"} <= set(found)


@pytest.mark.parametrize("first_matched", [True, False])
def test_a_token_matched_control_is_not_the_same_training_without_it(
    monkeypatch: pytest.MonkeyPatch, first_matched: bool
) -> None:
    wanted = [
        Control("one", "kd", {"epochs": 7}, "", match_tokens=first_matched),
        Control("two", "kd", {"epochs": 7}, "", match_tokens=not first_matched),
    ]
    method = replace(methods.get("kd"), name="own", controls=lambda _settings: wanted)
    monkeypatch.setattr(methods, "_entries", {**dict(methods.items()), "own": method})
    assert list(entries(methods=["own"])) == ["own", "one", "two"]


def test_a_control_trains_as_the_method_that_it_controls() -> None:
    own = {"learning_rate": 3e-5, "epochs": 5, "batch_size": 3, "precision": "fp32", "warmup_ratio": 0.5}
    found = entries(settings={"dadpo": own, "ddpo": {"learning_rate": 1e-3}}, controls="full")
    for name in ("ddpo-beta0.15", "ddpo-beta0.142857", "dadpo-permuted", "dadpo-mean"):
        assert {key: getattr(found[name].settings, key) for key in own} == own, name
    assert found["ddpo"].settings.learning_rate == 1e-3


def test_sft_continued_starts_from_sft_and_sees_as_many_tokens(build: Build) -> None:
    road = build(methods=["dadpo"], controls="full", settings={"dadpo": {"epochs": 4}, "sft": {"epochs": 2}})
    job, dadpo = road.jobs[road.trainings["sft-continued"]], road.jobs[road.trainings["dadpo"]]
    assert isinstance(job, TrainJob) and isinstance(dadpo, TrainJob)
    sft = road.jobs[str(job.start.artifact)]
    assert isinstance(sft, TrainJob) and sft.method == "sft" and sft.start.artifact is None
    assert sft.match is None and sft.settings["epochs"] == 2
    assert job.method == "sft" and job.match == dadpo.ref and dadpo.match is None
    assert job.responses == (road.teacher_responses,)


def test_pair_methods_start_from_the_sft_student_that_drew_the_rejected_responses(build: Build) -> None:
    road = build(methods=["ddpo"])
    job = road.jobs[road.trainings["ddpo"]]
    assert isinstance(job, TrainJob)
    chosen, rejected = (road.jobs[ref] for ref in job.responses)
    assert isinstance(rejected, RespondJob) and rejected.model == job.start and rejected.purpose == "rejected"
    assert isinstance(chosen, RespondJob) and chosen.ref == road.teacher_responses and chosen.purpose == "chosen"


# ---- what a change of the configuration shares with the run before


@pytest.mark.parametrize("before", [["sft"], ["dadpo"]])
@pytest.mark.parametrize("added", ["kd", "ddpo"])
def test_another_method_only_adds_its_own_jobs(build: Build, before: list[str], added: str) -> None:
    one, two = build(methods=before), build(methods=[*before, added])
    assert set(one.jobs) <= set(two.jobs)
    new = [job for ref, job in two.jobs.items() if ref not in one.jobs]
    assert {job.stage for job in new} <= {"train", "respond", "score", "compare", "measure", "embed", "judge"}
    assert [job.label for job in new if isinstance(job, TrainJob) and job.method != "sft"] == [f"train {added}"]
    drawn = {job.purpose for job in new if isinstance(job, RespondJob)}
    assert drawn == ({"rejected", "candidate"} if (before, added) == (["sft"], "ddpo") else {"candidate"})


def test_the_pruned_student_is_one_model_whatever_the_run(build: Build, checkpoints: dict[str, Path]) -> None:
    roads = [
        build(**EMBEDDED),
        build(**EMBEDDED, limits={"train": 2, "eval": 1}),
        build(**EMBEDDED, methods=["kd"], seed=5),
        build(**EMBEDDED, train_sampling={"max_new_tokens": 9}, eval_sampling={"temperature": 0.0}),
        build(**EMBEDDED, prune={"ratio": 0.2}),
        build(**EMBEDDED, train_prompts="everyday-train"),
        build(student=EMBEDDED["student"], teacher=str(checkpoints["llama-teacher"])),
    ]
    assert len({job.ref for road in roads for job in of(road, PruneJob)}) == 1


def test_the_batch_size_of_a_run_does_not_change_the_pruned_student(build: Build) -> None:
    one, two = (of(build(**EMBEDDED, generation_batch_size=size), PruneJob) for size in (8, 64))
    assert one == two


def test_the_importance_of_units_is_measured_on_responses_of_the_model_itself(build: Build) -> None:
    for road in (build(**EMBEDDED), build(prune={"ratio": 0.3})):
        (job,) = of(road, PruneJob)
        calibration = road.jobs[job.responses]
        assert isinstance(calibration, RespondJob)
        assert (calibration.model, calibration.prompts, calibration.purpose) == (job.model, job.prompts, "calibration")


def test_the_configuration_prunes_otherwise_than_the_entry(build: Build) -> None:
    (by_entry,) = of(build(**EMBEDDED), PruneJob)
    (by_config,) = of(build(**EMBEDDED, prune={"ratio": 0.1}), PruneJob)
    assert (by_entry.ratio, by_config.ratio) == (0.2, 0.1)
    assert by_config.model == by_entry.model


def test_the_configuration_prunes_a_local_folder(build: Build, checkpoints: dict[str, Path]) -> None:
    assert not of(build(), PruneJob)
    road = build(prune={"ratio": 0.3, "calibration": 5})
    (job,) = of(road, PruneJob)
    prompts, sft = road.jobs[job.prompts], road.jobs[road.trainings["sft"]]
    assert job.model.path == str(checkpoints["llama"]) and job.ratio == 0.3
    assert isinstance(prompts, PromptsJob) and prompts.limit == 5
    assert isinstance(sft, TrainJob) and sft.start.artifact == job.ref
    untrained = [c for e in road.evaluations for c in e.candidates if c.kind == "untrained"]
    assert {road.jobs[c.responses].model.artifact for c in untrained} == {job.ref}


# ---- a teacher's distributions, online or stored

STORED = {"settings": {"kd": {"teacher_signal": "stored"}}}


def stored(**settings: Any) -> dict[str, Any]:
    return {"settings": {"kd": {"teacher_signal": "stored", **settings}}}


def test_a_teacher_that_is_run_at_every_step_is_named_in_the_training(build: Build) -> None:
    road = build(methods=["sft", "kd"])
    job = road.jobs[road.trainings["kd"]]
    teacher = road.jobs[road.teacher_responses]
    assert isinstance(job, TrainJob) and isinstance(teacher, RespondJob)
    assert job.teacher == teacher.model and job.distributions is None
    assert not of(road, DistributionsJob)


@pytest.mark.parametrize("names", [["kd"], ["sft", "kd", "ddpo", "dadpo"]])
@pytest.mark.parametrize("controls", ["none", "full"])
def test_a_stored_teacher_is_a_job_of_its_own(build: Build, names: list[str], controls: str) -> None:
    road = build(**STORED, methods=names, controls=controls)
    assert_in_order(road)
    teacher = road.jobs[road.teacher_responses]
    (made,) = of(road, DistributionsJob)  # the control that starts from the SFT student reads the same
    assert isinstance(teacher, RespondJob)
    assert (made.model, made.prompts, made.responses) == (teacher.model, teacher.prompts, teacher.ref)
    assert (made.top_k, made.precision, made.batch_tokens, made.max_prompt_tokens) == (64, "bf16", 4096, None)
    assert made.label == "top 64 log-probs: teacher"
    token_level = [job for job in of(road, TrainJob) if job.method == "kd"]
    assert len(token_level) == (2 if controls == "full" else 1)
    for job in of(road, TrainJob):
        assert (job.teacher is None) == (job.sampling is None)  # what is sampled as it trains nobody could have stored
        assert job.distributions == (made.ref if job in token_level else None)


def test_a_method_with_a_setting_of_that_name_that_is_not_token_level_reads_nothing(build: Build) -> None:
    assert not of(build(**STORED, methods=["sft", "dadpo"]), DistributionsJob)


@pytest.mark.parametrize(
    ("layer", "moves"),
    [
        (stored(top_k=65), True),
        ({**STORED, "scoring_precision": "fp32"}, True),
        ({**STORED, "scoring_batch_tokens": 512}, False),
        ({**STORED, "max_prompt_tokens": 300}, True),
        ({**STORED, "train_sampling": {"max_new_tokens": 9}}, True),
        ({**STORED, "limits": {"train": 2}}, True),
        ({**STORED, "tracker": "tensorboard"}, False),
        ({**STORED, "seed": 1}, False),
        (stored(support="truncated"), False),
        (stored(epochs=7, learning_rate=1e-3, lora_rank=4), False),
        ({**STORED, "eval_sampling": {"max_new_tokens": 9}}, False),
    ],
    ids=str,
)
def test_stored_distributions_are_made_anew_where_they_would_differ(
    build: Build, layer: dict[str, Any], moves: bool
) -> None:
    (before,) = of(build(**STORED, methods=["sft", "kd"]), DistributionsJob)
    (after,) = of(build(**layer, methods=["sft", "kd"]), DistributionsJob)
    assert (after.ref != before.ref) is moves


def test_another_teacher_s_distributions_are_others(build: Build, checkpoints: dict[str, Path]) -> None:
    (before,) = of(build(**STORED, methods=["sft", "kd"]), DistributionsJob)
    (after,) = of(build(**STORED, methods=["sft", "kd"], teacher=str(checkpoints["llama"])), DistributionsJob)
    assert after.ref != before.ref


# ---- settings of all trainings


def test_where_metrics_are_shown_changes_no_key(build: Build) -> None:
    one, two = build(), build(tracker="wandb")
    assert list(one.jobs) == list(two.jobs) and run_digest(one) == run_digest(two)
    assert {job.tracker for job in of(two, TrainJob)} == {"wandb"}


def test_a_limit_of_prompts_reaches_everything_that_reads_them_for_training(build: Build) -> None:
    one, two = (build(**STORED, methods=["sft", "kd", "dadpo"], max_prompt_tokens=limit) for limit in (None, 300))

    def in_training(road: Road, kind: Any) -> list[Any]:
        trainings = of(road, TrainJob)
        signals = {ref for job in trainings for ref in (*job.signals.values(), job.distributions)}
        return [job for job in of(road, kind) if kind is TrainJob or job.ref in signals]

    for kind in (ScoreJob, DistributionsJob, TrainJob):
        assert {job.max_prompt_tokens for job in in_training(one, kind)} == {None}
        assert {job.max_prompt_tokens for job in in_training(two, kind)} == {300}
        assert {job.ref for job in in_training(one, kind)}.isdisjoint(job.ref for job in in_training(two, kind))
    # responses to judge are drawn after whole prompts, and read after them
    in_evaluation = [job for kind in (ScoreJob, StatesJob, CompareJob) for job in of(two, kind)]
    assert {job.max_prompt_tokens for job in in_evaluation if job not in in_training(two, ScoreJob)} == {None}
    assert draws(one, "chosen") == draws(two, "chosen") and draws(one, "reference") == draws(two, "reference")
    assert draws(one, "rejected").isdisjoint(draws(two, "rejected"))  # of another SFT student


def test_a_training_setting_reaches_every_training(build: Build) -> None:
    road = build(training={"lora_rank": 8}, controls="full")
    assert {job.settings["lora_rank"] for job in of(road, TrainJob)} == {8}


def test_a_limit_cuts_the_prompts_that_the_road_knows(build: Build) -> None:
    road = build(limits={"train": 2, "eval": 1})
    assert len(road.train.prompts) == 2
    assert {one.name: len(one.prompt_set.prompts) for one in road.evaluations} == {"near": 1, "far": 1}
    assert {ref: len(found.prompts) for ref, found in road.prompts.items()} == {
        job.ref: job.limit for job in of(road, PromptsJob)
    }
    assert {job.limit for job in of(road, PromptsJob)} == {1, 2}


def test_where_a_prompt_file_lies_changes_nothing_and_its_content_does(build: Build, tmp_path: Path) -> None:
    same = jsonl(tmp_path / "elsewhere" / "train.jsonl", ["Say one.", "Say two.", "Say three."])
    other = jsonl(tmp_path / "other" / "train.jsonl", ["Say one.", "Say two.", "Say 3."])
    assert build(train_prompts=same).jobs.keys() == build().jobs.keys()
    assert build(train_prompts=other).teacher_responses != build().teacher_responses


def test_a_table_is_cut_into_training_and_test_by_its_prompts(build: Build, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("prompt\n" + "".join(f"Count to {n}.\n" for n in range(100)))
    road = build(train_prompts=f"{table}@train", eval=[f"in:{table}@test"], test_share=0.3)
    test = road.evaluations[0].prompt_set
    assert (test.name, len(road.train.prompts) + len(test.prompts)) == ("table-test", 100)
    assert (road.train.source, test.source) == ("table.csv", "table.csv")
    for job in of(road, PromptsJob):
        assert read_set("", job.source, download=False).digest == job.digest


# ---- judges that read


def judgings(road: Road) -> dict[str, list[JudgeJob]]:
    found: dict[str, list[JudgeJob]] = {}
    for job in of(road, JudgeJob):
        found.setdefault(job.judge, []).append(job)
    return found


def test_a_judge_that_reads_needs_neither_samples_nor_measures(build: Build) -> None:
    road = build(judge=read_by("openai:m"))
    assert_in_order(road)
    assert draws(road, "judging") == set()
    (jobs,) = judgings(road).values()
    assert all(job.samples is None and job.measures == {} and job.checkpoint is None for job in jobs)


def test_each_judge_of_a_panel_judges_everything_and_one_after_the_other(build: Build) -> None:
    road = build(judge=read_by("openai:a,proxy,openai:b"))
    assert_in_order(road)
    found = judgings(road)
    assert list(found) == ["openai:a", "proxy", "typicality", "embedding", "openai:b"]
    assert len({len(jobs) for jobs in found.values()}) == 1
    order = [job.judge for job in of(road, JudgeJob)]
    assert sum(one != other for one, other in pairwise(order)) == len(found) - 1
    assert {job.samples is None for job in found["openai:a"]} == {True}
    assert {job.samples is None for job in found["typicality"]} == {False}


def test_a_local_judge_s_checkpoint_is_part_of_its_judgings(build: Build, checkpoints: dict[str, Path]) -> None:
    found = {}
    for name in ("llama", "llama-teacher"):
        road = build(judge=read_by(f"transformers:{checkpoints[name]}"))
        (jobs,) = judgings(road).values()
        assert all(job.checkpoint and job.checkpoint.digest for job in jobs)
        found[name] = {job.ref for job in jobs}
    assert not found["llama"] & found["llama-teacher"]


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"concurrency": 3, "timeout": 1.0, "tries": 1, "prices": {"input": 1, "output": 1}, "max_cost": 5}, True),
        ({"base_url": URL.replace("//", "//me:pa55word@")}, True),
        ({"samples": 5}, True),
        ({"temperature": 0.5}, False),
        ({"form": "rationale"}, False),
        ({"base_url": "http://127.0.0.1:8/v1"}, False),
    ],
)
def test_a_judging_is_another_with_what_shapes_its_answers_alone(
    build: Build, settings: dict[str, Any], same: bool
) -> None:
    before, after = (build(judge=read_by("openai:m", **more)) for more in ({}, settings))
    judged = [{job.ref for job in of(road, JudgeJob)} for road in (before, after)]
    assert (judged[0] == judged[1]) is same and (same or not judged[0] & judged[1])
    assert (run_digest(before) == run_digest(after)) is same
    assert "pa55" not in "".join(job.model_dump_json() for job in after.jobs.values())


def test_a_refresh_asks_those_that_read_and_no_others(build: Build, own_store: Path) -> None:
    road, store = build(judge=read_by("openai:a,typicality")), Store(own_store)
    for job in of(road, JudgeJob):
        with store.making(job.ref) as work:
            store.commit(job.ref, work, job.model_dump(mode="json"), {}, 0.0)
    refs = list(road.jobs)
    road = ask_again(road, store)
    assert list(road.jobs) == refs
    for job in of(road, JudgeJob):
        assert job.refresh is (job.judge == "openai:a")
        assert store.has(job.ref) is (job.judge == "typicality")


# ---- several samples, and rows against each other


def test_everyone_answers_as_often_as_the_run_says_and_everything_reads_all_of_it(build: Build) -> None:
    one, two = build(methods=["sft", "dadpo"]), build(methods=["sft", "dadpo"], samples=2)
    drawn = {job.label: job for job in of(two, RespondJob)}
    for label, job in drawn.items():
        in_training = "training prompts" in label
        assert job.samples == (1 if in_training else two.config.judge.samples if "for judging" in label else 2), label
    for road in (one, two):
        assert_in_order(road)
    # as many jobs, of which those of the evaluation are others
    assert [job.label for job in one.jobs.values()] == [job.label for job in two.jobs.values()]
    anew = {job.label for ref, job in one.jobs.items() if ref not in two.jobs}
    assert {label for label in anew if "training prompts" in label or label.startswith(("train ", "read "))} == set()
    # pairs are of the same samples
    for job in of(two, ScoreJob):
        refs = [two.jobs[ref] for ref in job.responses]
        assert len({ref.samples for ref in refs if isinstance(ref, RespondJob)}) == 1


def test_rows_are_judged_against_each_other_by_every_judge_on_every_set(build: Build) -> None:
    layer: dict[str, Any] = {"methods": ["sft", "kd"], "judge": read_by("openai:m,typicality")}
    before, road = build(**layer), build(**layer, versus=[["kd", "sft"], ["teacher (second sample)", "kd"]])
    assert_in_order(road)
    added = [job for ref, job in road.jobs.items() if ref not in before.jobs]
    assert before.jobs.keys() <= road.jobs.keys() and all(isinstance(job, JudgeJob) for job in added)
    assert sorted(job.label for job in added) == sorted(
        f"judge {judge}: {first} against {second}, {where}"
        for judge in ("openai:m", "typicality")
        for first, second in road.config.versus
        for where in ("near", "far")
    )
    for evaluation in road.evaluations:
        said = {candidate.name: candidate for candidate in evaluation.candidates}
        for versus in evaluation.versus:
            for judge, ref in versus.verdicts.items():
                job = road.jobs[ref]
                assert isinstance(job, JudgeJob) and job.judge == judge
                assert (job.candidate_name, job.candidate) == (versus.first, said[versus.first].responses)
                assert (job.reference_name, job.reference) == (versus.second, said[versus.second].responses)
                if job.measures:  # of either one, what is read of it against the teacher
                    other = road.jobs[said[versus.second].verdicts[judge]]
                    assert isinstance(other, JudgeJob)
                    assert job.measures["teacher_nll/reference"] == other.measures["teacher_nll/candidate"]
                    assert job.measures["teacher_nll/samples"] == other.measures["teacher_nll/samples"]
    assert run_digest(before) != run_digest(road)
    assert run_digest(before) == run_digest(build(**layer))


# ---- what draws responses


def test_a_generator_is_told_to_every_sampling_but_the_one_that_a_model_is_pruned_by(build: Build) -> None:
    one = build(**EMBEDDED)
    two = build(**EMBEDDED, generator="vllm", vllm={"python": "/p", "engine": {"tensor_parallel_size": 2}})
    assert {(job.generator, str(job.engine)) for job in of(one, RespondJob)} == {("transformers", "{}")}
    for job in of(two, RespondJob):
        here = job.purpose == "calibration"
        assert (job.generator, job.engine) == (("transformers", {}) if here else ("vllm", {"tensor_parallel_size": 2}))
    assert draws(one, "calibration") == draws(two, "calibration")
    assert {job.ref for job in of(one, PruneJob)} == {job.ref for job in of(two, PruneJob)}
    assert draws(one, "chosen").isdisjoint(draws(two, "chosen"))


@pytest.mark.parametrize(("gpu", "chosen"), [(False, "transformers"), (True, "vllm")])
def test_the_fastest_generator_is_chosen_once_and_said_in_full(
    build: Build, monkeypatch: pytest.MonkeyPatch, gpu: bool, chosen: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    road = build(vllm={"python": "/somewhere/python"})
    assert road.config.generator == chosen
    assert {job.generator for job in of(road, RespondJob)} == {chosen}
    named = build(vllm={"python": "/elsewhere/python"}, generator=chosen)
    assert list(named.jobs) == list(road.jobs)  # where the interpreter lies changes no key


def test_how_vllm_is_started_changes_no_key_of_the_sampler(build: Build) -> None:
    assert list(build(vllm={"engine": {"dtype": "float32"}}, generator="transformers").jobs) == list(build().jobs)


# ---- a teacher behind a server


def by_server(build: Build, checkpoints: dict[str, Path], server: dict[str, Any] | None = None, **layer: Any) -> Road:
    """Without the teacher's weights: the student's tokenizer, or the one that the server's settings name."""
    layer = {"methods": ["sft", "ddpo", "dadpo"], **layer}
    return build(teacher=None, teacher_server={**SERVED, **(server or {})}, **layer)


def test_a_served_teacher_s_tokenizer_needs_no_weights_beside_it(
    build: Build, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    alone = tmp_path / "tokenizer"
    alone.mkdir()
    for file in checkpoints["llama"].iterdir():
        if file.suffix != ".safetensors":
            (alone / file.name).write_bytes(file.read_bytes())
    road = by_server(build, checkpoints, {"tokenizer": str(alone)})
    assert {job.model.path for job in of(road, ScoreJob) if job.model.served} == {str(alone)}


def test_a_served_teacher_answers_and_scores_and_its_weights_are_not_looked_for(
    build: Build, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    road = by_server(build, checkpoints)
    assert_in_order(road)
    assert (road.pair.teacher, road.config.teacher) == ("teacher-7b", "teacher-7b")
    served = [job for job in (*of(road, RespondJob), *of(road, ScoreJob)) if job.model.served]
    assert {job.model.path for job in served} == {str(checkpoints["llama"])}
    assert {job.purpose for job in served if isinstance(job, RespondJob)} == {
        "chosen", "reference", "second", "judging"
    }  # fmt: skip
    assert {job.generator for job in of(road, RespondJob) if job.model.served} == {"server"}
    assert {job.generator for job in of(road, RespondJob) if not job.model.served} == {"transformers"}
    labels = {job.label.split(":")[0] for job in of(road, ScoreJob) if job.model.served}
    assert labels == {"log-probs", "teacher's log-probs"}
    (reference,) = [job for job in of(road, ScoreJob) if job.label == "log-probs: reference"]
    assert reference.model.served is None
    assert road.weights["teacher"].weights == "teacher-7b at http://host:8000/v1"


def test_a_served_teacher_s_tokenizer_may_be_another_model_s(build: Build, checkpoints: dict[str, Path]) -> None:
    road = by_server(build, checkpoints, {"tokenizer": str(checkpoints["llama-teacher"])})
    assert road.weights["teacher"].path == str(checkpoints["llama-teacher"])
    assert road.teacher_responses != by_server(build, checkpoints).teacher_responses


def test_a_pruned_student_s_served_teacher_has_the_unpruned_model_s_tokenizer(
    build: Build, checkpoints: dict[str, Path]
) -> None:
    road = by_server(build, checkpoints, student="smollm2-135m-pruned20")
    assert_in_order(road)
    (converted,) = of(road, ConvertJob)
    assert road.weights["teacher"].artifact == converted.ref
    assert road.config.teacher == "teacher-7b"


@pytest.mark.parametrize(
    ("server", "same"),
    [
        ({"base_url": "http://me:pa55word@host:8000/v1/"}, True),
        ({"concurrency": 3, "timeout": 1.0, "tries": 1, "requests_per_minute": 9, "tokens_per_minute": 9}, True),
        ({"key_variable": "OTHER_KEY"}, True),
        ({"model": "teacher-70b"}, False),
        ({"base_url": "http://host:8001/v1"}, False),
    ],
)
def test_a_served_teacher_is_known_by_its_public_url_and_its_model(
    build: Build, checkpoints: dict[str, Path], server: dict[str, Any], same: bool
) -> None:
    before, after = by_server(build, checkpoints), by_server(build, checkpoints, server)
    assert (before.teacher_responses == after.teacher_responses) is same
    assert (list(before.jobs) == list(after.jobs)) is same and (run_digest(before) == run_digest(after)) is same
    assert "pa55" not in "".join(job.model_dump_json() for job in after.jobs.values()) + to_yaml(after.config)


def test_a_run_s_resolved_configuration_names_the_same_served_teacher(
    build: Build, checkpoints: dict[str, Path]
) -> None:
    road = by_server(build, checkpoints, {"base_url": "http://me:pa55word@host:8000/v1"})
    again = build(**yaml.safe_load(to_yaml(road.config)))
    assert list(again.jobs) == list(road.jobs)


def test_a_matched_sft_is_a_row_beside_the_one_that_others_start_from() -> None:
    layer: dict[str, Any] = {"methods": ["sft", "kd", "dadpo"], "controls": "none"}
    plain, matched = (lay(*made_sources(**layer, match=match)) for match in (None, "dadpo"))
    start = matched.jobs[matched.trainings["dadpo"]].start.artifact
    assert start == plain.trainings["sft"] != matched.trainings["sft"]  # what it was without a budget
    assert matched.trainings["dadpo"] == plain.trainings["dadpo"]
    labels = [job.label for job in of(matched, TrainJob)]
    assert labels == ["train the SFT student", "train dadpo", "train sft", "train kd"]
    assert_in_order(matched)
    # nobody starts from it, and none is trained for nothing
    alone = lay(*made_sources(methods=["sft", "kd"], controls="none", match="kd"))
    assert [job.label for job in of(alone, TrainJob)] == ["train kd", "train sft"]
