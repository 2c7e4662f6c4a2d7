"""What the missing stages of a road would cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import Config, resolve
from harness.core import units
from harness.judging import Answer, JudgeFactory, judges
from harness.judging.settings import Judging
from harness.models import memory
from harness.models.hub import MissingModelError
from harness.models.shapes import Shape, shape_of
from harness.models.specs import models
from harness.models.speed import Speed
from harness.planning import machine, summary
from harness.planning.cost import Cost, Group, costs_of, grouped
from harness.planning.sizes import ENGLISH_CHARACTERS_PER_TOKEN, TEMPLATE_TOKENS, RoadSizes
from harness.planning.summary import judging_bill
from harness.run.jobs import QUESTION_TOKENS, Job, JudgeJob, MeasureJob, PromptsJob, RespondJob
from harness.run.launch import run_job
from harness.run.road import Road, build_road
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.asking import FakeJudge
from tests.harness.making import quiet, saved

TRAIN, TEST = ["Say one.", "Say two to me."], ["Sing to me!", "Dance!", "Go on."]


@pytest.fixture
def config(tmp_path: Path, checkpoints: dict[str, Path]) -> Config:
    paths = []
    for name, texts in (("train", TRAIN), ("test", TEST)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        paths.append(str(path))
    layer = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "methods": ["sft", "dadpo"],
        "train_prompts": paths[0],
        "eval": paths[1:],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 7},
        "eval_sampling": {"max_new_tokens": 5},
        "settings": {"sft": {"epochs": 3}, "dadpo": {"epochs": 2}},
    }
    return resolve([layer])


@pytest.fixture
def road(config: Config, store: Store) -> Road:
    return build_road(config, store, download=False)


def prompt_tokens(texts: list[str]) -> int:
    return round(sum(map(len, texts)) / ENGLISH_CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS * len(texts)


def costs(road: Road, store: Store) -> dict[str, Cost | None]:
    return {job.label: cost for job, cost in costs_of(road, store)}


def make(store: Store, job: Job, tokens: int, seconds: float) -> None:
    """An artifact of a job with the facts that estimates go by, and nothing in it."""
    with store.making(job.ref) as work:
        store.commit(job.ref, work, job.model_dump(mode="json"), {"tokens": tokens}, seconds)


# ---- sizes


def test_every_job_is_estimated_in_the_order_it_runs(road: Road, store: Store) -> None:
    found = list(costs_of(road, store))
    assert [job for job, _ in found] == list(road.jobs.values())
    assert all(cost is not None for _, cost in found)


def test_before_anything_is_made_responses_count_as_long_as_they_may_be(road: Road, store: Store) -> None:
    train, test = prompt_tokens(TRAIN), prompt_tokens(TEST)
    expected = {
        "read train": 0,
        "responses: teacher, training prompts": 2 * 7,
        "train sft": 3 * (train + 2 * 7),
        "responses: SFT student, training prompts": 2 * 7,
        "log-probs: reference": train + 2 * 2 * 7,
        "log-probs: teacher": train + 2 * 2 * 7,
        "train dadpo": 2 * (train + 2 * 2 * 7),
        "responses: teacher, test": 3 * 5,
        "responses: teacher for judging, test": 3 * 2 * 5,
        "hidden states: teacher, test": test + 3 * 5,
        "compare dadpo with the teacher: the teacher, test": test + 3 * 5,
        "compare dadpo with the teacher: its own, test": test + 3 * 5,
        "measure dadpo, test": 0,
        "teacher's log-probs: teacher for judging, test": 2 * test + 3 * 2 * 5,  # each sample behind its prompt
        "judge typicality: dadpo, test": 0,
    }
    found = costs(road, store)
    assert {label: cost.tokens for label, cost in found.items() if cost and label in expected} == expected


def test_stored_distributions_cost_one_reading_of_the_teacher_s_responses(config: Config, store: Store) -> None:
    layer = {"methods": ["sft", "kd"], "settings": {"kd": {"teacher_signal": "stored"}}}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    cost = costs(road, store)["top 64 log-probs: teacher"]
    assert cost and cost.tokens == prompt_tokens(TRAIN) + 2 * 7 and cost.seconds is None


def test_of_several_samples_of_a_prompt_each_is_read_once_behind_one_prompt(config: Config, store: Store) -> None:
    layer = {"methods": ["sft", "pad"], "settings": {"pad": {"epochs": 3}}}
    found = costs(build_road(resolve([config.model_dump(), layer]), store, download=False), store)
    expected = {
        "responses: SFT student, training prompts, 4 each": 4 * 2 * 7,
        "log-probs: teacher, 4 responses": prompt_tokens(TRAIN) + 4 * 2 * 7,
        "train pad": 3 * (prompt_tokens(TRAIN) + 4 * 2 * 7),
    }
    assert {label: cost.tokens for label, cost in found.items() if cost and label in expected} == expected


def test_a_token_matched_control_costs_what_its_method_does(config: Config, store: Store) -> None:
    found = costs(build_road(config.model_copy(update={"controls": "full"}), store, download=False), store)
    matched, own = found["train sft-continued"], found["train dadpo"]
    assert matched and own and matched.tokens == own.tokens


@pytest.mark.parametrize("fresh", [False, True])
def test_a_matched_training_costs_the_tokens_that_its_start_leaves(config: Config, store: Store, fresh: bool) -> None:
    """SFT takes three epochs of one response, dadpo two of a pair: all of that together is what each row takes."""
    layer: dict[str, Any] = {"methods": ["sft", "dadpo", "kd", "gkd"], "controls": "none", "match": "dadpo"}
    layer["settings"] = {"gkd": {"start": "sft" if fresh else "student"}}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    tokens = {label: cost.tokens for label, cost in costs(road, store).items() if cost}
    train = prompt_tokens(TRAIN)
    start, named = 3 * (train + 2 * 7), 2 * (train + 2 * 2 * 7)
    assert (tokens["train the SFT student"], tokens["train dadpo"]) == (start, named)
    assert tokens["train sft"] == tokens["train kd"] == start + named
    assert tokens["train gkd"] == (named if fresh else start + named)


def test_what_is_there_costs_nothing_and_its_real_length_counts(road: Road, store: Store) -> None:
    for job in road.jobs.values():
        if isinstance(job, PromptsJob):
            run_job(job, store, quiet)
    make(store, road.jobs[road.teacher_responses], tokens=9, seconds=0.1)
    found = costs(road, store)
    assert [label for label, cost in found.items() if cost is None] == [
        "read train",
        "responses: teacher, training prompts",
        "read test",
    ]
    train = prompt_tokens(TRAIN)
    sft, dadpo = found["train sft"], found["train dadpo"]
    assert sft and sft.tokens == 3 * (train + 9)
    assert dadpo and dadpo.tokens == 2 * (train + 9 + 2 * 7)


def test_nothing_is_left_when_everything_is_there(road: Road, store: Store) -> None:
    for job in road.jobs.values():
        make(store, job, tokens=1, seconds=0.1)
    assert {cost for _, cost in costs_of(road, store)} == {None}


# ---- time


def test_a_speed_that_nothing_says_is_unknown_and_what_loads_no_model_takes_none(road: Road, store: Store) -> None:
    for job, cost in costs_of(road, store):
        assert cost is not None
        assert cost.seconds == (0.0 if isinstance(job, PromptsJob | MeasureJob | JudgeJob) else None), job.label


def test_a_speed_measured_in_this_store_is_used_for_the_same_model(road: Road, store: Store) -> None:
    make(store, road.jobs[road.teacher_responses], tokens=100, seconds=4.0)
    found = costs(road, store)
    same, other = found["responses: teacher, test"], found["responses: SFT student, training prompts"]
    assert same and same.seconds == pytest.approx(15 / 25)
    assert other and other.seconds is None
    scoring = found["log-probs: teacher"]
    assert scoring and scoring.seconds is None  # another kind of stage


def test_a_measurement_too_short_to_mean_anything_is_not_used(road: Road, store: Store) -> None:
    make(store, road.jobs[road.teacher_responses], tokens=100, seconds=0.5)
    cost = costs(road, store)["responses: teacher, test"]
    assert cost and cost.seconds is None


def test_the_embedded_pair_has_numbers_before_anything_ran_but_by_this_machine_s_speed(
    config: Config, store: Store
) -> None:
    embedded = {"student": "smollm2-135m-pruned20", "teacher": None, "judge": Judging(name="proxy"), "controls": "full"}
    road = build_road(config.model_copy(update=embedded), store, download=False)
    unknown, found = (list(costs_of(road, store, speed)) for speed in (None, Speed(1e9, 1e9)))
    assert {job.stage for job, _ in found} == {
        *("prompts", "convert", "respond", "prune", "score", "states", "compare", "embed", "train", "measure", "judge")
    }
    for (job, cost), (_, before) in zip(found, unknown, strict=True):
        assert cost is not None and not cost.measured
        if job.stage == "convert":  # nothing says how fast a disk is
            assert cost.seconds is None
        elif job.stage in ("prompts", "measure", "judge"):
            assert cost.seconds == 0
        else:
            assert before is not None and before.seconds is None and cost.seconds and cost.memory, job.label


# ---- groups


def took(tokens: int, seconds: float, measured: bool = True) -> Cost:
    return Cost(tokens, seconds, measured=measured)


def respond(label: str) -> RespondJob:
    return RespondJob.model_construct(label=label)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([("a, x", took(2, 1.0)), ("a, y", took(3, 2.0))], [Group("a", 0, 2, 5, 3.0)]),
        ([("a, x", None), ("a, y", took(3, 2.0))], [Group("a", 1, 1, 3, 2.0)]),
        ([("a, x", None), ("a, y", None)], [Group("a", 2, 0, 0, 0.0)]),
        ([("a, x", took(2, 1.0, False)), ("a, y", took(3, 2.0))], [Group("a", 0, 2, 5, 3.0, computed=True)]),
        ([("a, x", took(2, 0.0, False)), ("a, y", took(3, 2.0))], [Group("a", 0, 2, 5, 2.0)]),
        ([("a, x", Cost(2, None)), ("a, y", took(3, 2.0))], [Group("a", 0, 2, 5, None)]),
        ([("a, x", took(3, 2.0)), ("a, y", Cost(2, None)), ("a, z", took(1, 1.0))], [Group("a", 0, 3, 6, None)]),
        (
            [("b, x", took(1, 1.0)), ("a", took(2, 1.0)), ("b, y", took(4, 1.0)), ("c", None)],
            [Group("b", 0, 2, 5, 2.0), Group("a", 0, 1, 2, 1.0), Group("c", 1, 0, 0, 0.0)],
        ),
    ],
)
def test_sets_are_merged_in_order_and_summed(given: list[tuple[str, Cost | None]], expected: list[Group]) -> None:
    assert grouped((respond(label), cost) for label, cost in given) == expected


def test_groups_hold_every_stage_and_token_of_a_road(road: Road, store: Store) -> None:
    make(store, road.jobs[road.teacher_responses], tokens=9, seconds=0.1)
    found = list(costs_of(road, store))
    groups = grouped(found)
    assert sum(group.there + group.to_do for group in groups) == len(road.jobs)
    assert sum(group.there for group in groups) == 1
    assert sum(group.tokens for group in groups) == sum(cost.tokens for _, cost in found if cost)


def test_only_stages_of_one_kind_are_merged(road: Road, store: Store) -> None:
    labels: dict[str, set[Any]] = {}
    for job, _ in costs_of(road, store):
        group = job.label.rsplit(", ", 1)[0]
        labels.setdefault(group, set()).add((job.stage, str(getattr(job, "model", ""))))
    assert all(len(kinds) == 1 for kinds in labels.values())


# ---- judges that read

URL = "http://127.0.0.1:9/v1"


def reading(config: Config, store: Store, **judge: Any) -> Road:
    layer = {"judge": {"base_url": URL, **judge}}
    return build_road(resolve([config.model_dump(), layer]), store, download=False)


@pytest.mark.parametrize(("form", "reply"), [("auto", 1), ("letter", 1), ("rationale", 1024)])
def test_a_judge_behind_a_server_costs_calls_and_tokens_both_ways(
    config: Config, store: Store, form: str, reply: int
) -> None:
    found = costs(reading(config, store, name="openai:m", form=form), store)
    cost = found["judge openai:m: dadpo, test"]
    questions = 2 * len(TEST)
    read = 2 * (prompt_tokens(TEST) + 2 * len(TEST) * 5) + questions * QUESTION_TOKENS
    longest = 1 if form == "letter" else 1024
    assert cost == Cost(read, calls=questions, reply_tokens=questions * reply, longest_reply_tokens=questions * longest)
    assert "responses: teacher for judging, test" not in found  # drawn for proxies alone


def test_every_sample_costs_calls_and_a_prompt_is_read_with_each(config: Config, store: Store) -> None:
    layer = {
        "judge": {"base_url": URL, "name": "openai:m", "form": "letter"},
        "samples": 3,
        "versus": [["dadpo", "sft"]],
    }
    found = costs(build_road(resolve([config.model_dump(), layer]), store, download=False), store)
    calls = 2 * 3 * len(TEST)
    read = 2 * (3 * prompt_tokens(TEST) + 2 * 3 * len(TEST) * 5) + calls * QUESTION_TOKENS
    for label in ("judge openai:m: dadpo, test", "judge openai:m: dadpo against sft, test"):
        assert found[label] == Cost(read, calls=calls, reply_tokens=calls, longest_reply_tokens=calls)
    drawn, compared = found["responses: dadpo, test"], found["compare dadpo with the teacher: its own, test"]
    assert drawn and drawn.tokens == 3 * len(TEST) * 5
    assert compared and compared.tokens == 3 * prompt_tokens(TEST) + 3 * len(TEST) * 5


def test_a_judging_that_is_there_costs_nothing(config: Config, store: Store) -> None:
    road = reading(config, store, name="openai:m")
    for job in road.jobs.values():
        if isinstance(job, JudgeJob):
            make(store, job, tokens=1, seconds=0.1)
    assert judging_bill(list(costs_of(road, store)), road.config.judge) == []


def test_the_bill_is_by_judge_and_sums_its_calls(config: Config, store: Store) -> None:
    own = {"openai:b": {"prices": {"input": 1e6, "output": 2e6}, "form": "rationale", "max_tokens": 10}}
    road = reading(config, store, name="openai:a,openai:b,typicality", own=own)
    found = list(costs_of(road, store))
    lines = judging_bill(found, road.config.judge)
    assert len(lines) == 2
    mine = [cost for job, cost in found if isinstance(job, JudgeJob) and job.judge == "openai:b" and cost]
    calls, tokens = sum(cost.calls for cost in mine), sum(cost.tokens for cost in mine)
    assert calls == 2 * len(TEST) * len(mine)
    assert lines[0].startswith(f"judge openai:a: {calls:,} calls, about {tokens:,} tokens in and {calls:,} out, cost")
    assert "cost unknown (set judge.prices.input and judge.prices.output)" in lines[0]
    assert f"without log-probs up to {1024 * calls:,} out, cost unknown" in lines[0] and "without" not in lines[1]
    assert f"and {10 * calls:,} out, cost {tokens + 2 * 10 * calls:.4g};" in lines[1]


# ---- what the machine needs


def test_stages_that_hold_a_model_have_a_memory_and_what_stays_has_a_size(config: Config, store: Store) -> None:
    layer = {"methods": ["sft", "kd", "dadpo"], "settings": {"kd": {"teacher_signal": "stored"}}}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    found = list(costs_of(road, store))
    with_memory = {job.stage for job, cost in found if cost and cost.memory}
    assert with_memory == {"respond", "score", "distributions", "states", "compare", "train"}
    shape = shape_of(Path(config.student))
    assert shape
    by_label = {job.label: cost for job, cost in found}
    sft, top = by_label["train sft"], by_label["top 64 log-probs: teacher"]
    assert sft and sft.disk == 4 * shape.parameters and sft.scratch == 24 * shape.parameters
    assert sft.memory == sum(memory.training(shape, 2048).values())
    assert top and top.disk == 2 * 7 * 64 * 8
    asked = by_label["responses: teacher, training prompts"]
    assert asked and asked.disk == 2 * 7 * 12


def test_a_teacher_that_runs_beside_the_training_is_in_its_memory(config: Config, store: Store) -> None:
    road = build_road(resolve([config.model_dump(), {"methods": ["sft", "kd"]}]), store, download=False)
    found = costs(road, store)
    sft, kd = found["train sft"], found["train kd"]
    teacher = shape_of(Path(str(config.teacher)))
    assert sft and kd and teacher and sft.memory and kd.memory
    assert kd.memory - sft.memory == sum(memory.reading(teacher, 2048).values())


def test_a_training_that_samples_is_counted_with_what_it_samples(config: Config, store: Store) -> None:
    """Two prompts, answered twice each in every epoch, at most 7 tokens: at once by the micro-batch of a step."""
    own = {"fresh_share": 1, "samples": 2, "epochs": 3, "batch_size": 1, "micro_batch_tokens": 64}
    layer = {"methods": ["opd"], "controls": "none", "settings": {"opd": own}}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    (job,) = (job for job in road.jobs.values() if job.label == "train opd")
    speed = Speed(operations=1e12, bandwidth=1e10)
    needs = job.needs(RoadSizes(road, store, speed))
    shape, teacher = shape_of(Path(config.student)), shape_of(Path(str(config.teacher)))
    assert shape and teacher and needs.memory and needs.seconds
    prompts = prompt_tokens(TRAIN)
    assert needs.tokens == 3 * 2 * (prompts + 2 * 7)
    drawn = speed.generation(shape, rows=4, batch=2, prompt_tokens=2 * prompts, new_tokens=7)
    trained = speed.training(shape, needs.tokens, False, False) + speed.reading(teacher, needs.tokens)
    assert needs.seconds == pytest.approx(trained + 3 * drawn)
    longest = max(map(len, TRAIN)) / ENGLISH_CHARACTERS_PER_TOKEN
    sampled = memory.generation(shape, 2, round(longest) + TEMPLATE_TOKENS, 7)
    step = memory.training(shape, 64)
    more = sum(sampled.values()) - step["activations"] - step["logits"]
    held = sum(memory.reading(teacher, 64).values())
    assert needs.memory == sum(step.values()) + held + max(0, more)


def test_of_a_share_of_fresh_responses_each_example_is_counted_with_what_it_reads(config: Config, store: Store) -> None:
    """Four samples to a prompt, half of them fresh, and one stored example in the place of the others."""
    own = {"fresh_share": 0.5, "samples": 4}
    layer = {"methods": ["gkd"], "controls": "none", "settings": {"gkd": {**own, "max_new_tokens": 7, "epochs": 3}}}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    (job,) = (job for job in road.jobs.values() if job.label == "train gkd")
    prompts = prompt_tokens(TRAIN)
    drawn, stored = 4 * 0.5 * (prompts + 2 * 7), (1 - 0.5**4) * (prompts + 2 * 7)
    assert job.tokens(RoadSizes(road, store, None)) == 3 * round(drawn + stored)


@pytest.mark.parametrize("other", [{"fresh_share": 1}, {"samples": 2}], ids=str)
def test_a_training_that_samples_more_is_not_measured_by_one_that_samples_less(
    other: dict[str, Any], config: Config, store: Store
) -> None:
    def training(**settings: Any) -> tuple[Road, Job]:
        layer = {"methods": ["gkd"], "controls": "none", "settings": {"gkd": settings}}
        road = build_road(resolve([config.model_dump(), layer]), store, download=False)
        return road, next(job for job in road.jobs.values() if job.label == "train gkd")

    _, first = training()
    make(store, first, tokens=100, seconds=4.0)
    for settings, measured in (({"learning_rate": 1e-3}, True), (other, False)):
        found = costs(training(**settings)[0], store)["train gkd"]
        assert found is not None and found.measured is measured, settings


def test_a_frozen_model_takes_what_its_checkpoint_s_type_takes(
    config: Config, store: Store, checkpoints: dict[str, Path], tokenizer: Any, tmp_path: Path
) -> None:
    teacher = saved(tmp_path / "bf16", tiny_model("llama", 2, 48).bfloat16(), tokenizer)
    layer = {"teacher": str(teacher), "methods": ["sft", "kd", "dadpo"]}
    found = costs(build_road(resolve([config.model_dump(), layer]), store, download=False), store)
    shape = shape_of(teacher)
    scores, sft, kd = found["log-probs: teacher"], found["train sft"], found["train kd"]
    assert shape and scores and sft and kd and sft.memory and kd.memory
    narrow = sum(memory.reading(shape, 2048, memory.BF16).values())
    assert narrow < sum(memory.reading(shape, 2048, memory.FP32).values())
    assert (scores.memory, kd.memory - sft.memory) == (
        sum(memory.reading(shape, config.scoring_batch_tokens, 2).values()),
        narrow,
    )


def test_a_teacher_behind_a_server_takes_nothing_of_this_machine(config: Config, store: Store) -> None:
    """Its folder holds a tokenizer, and may hold another model beside it."""
    server = {"base_url": URL, "model": "m", "tokenizer": config.student}
    layer = {"teacher": None, "teacher_server": server}
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    found = {job.label: cost for job, cost in costs_of(road, store, Speed(1e9, 1e9))}
    for label in ("log-probs: teacher", "responses: teacher, training prompts"):
        cost = found[label]
        assert cost and cost.tokens and (cost.memory, cost.seconds) == (None, None)
    reference = found["log-probs: reference"]
    assert reference and reference.memory


def test_a_machine_s_speed_gives_a_time_to_what_never_ran_and_to_nothing_else(road: Road, store: Store) -> None:
    make(store, road.jobs[road.teacher_responses], tokens=100, seconds=4.0)
    found = {job.label: cost for job, cost in costs_of(road, store, Speed(1e9, 1e9))}
    measured, computed = found["responses: teacher, test"], found["train sft"]
    assert measured and measured.seconds == pytest.approx(15 / 25) and measured.measured
    shape = shape_of(Path(str(road.config.student)))
    assert shape and computed and not computed.measured
    assert computed.seconds == pytest.approx(6 * shape.parameters * computed.tokens / (0.4 * 1e9))
    assert all(cost is None or cost.seconds is not None for cost in found.values())


def test_a_pair_that_is_not_here_is_planned_by_its_published_size(
    config: Config, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    layer = {"student": "vicuna-7b-pruned20", "teacher": None, "methods": ["sft", "dadpo"]}
    with pytest.raises(MissingModelError, match="vicuna-7b"):
        build_road(resolve([config.model_dump(), layer]), store, download=True)
    road = build_road(resolve([config.model_dump(), layer]), store, download=False)
    assert any("vicuna-7b-v1.5 is not in the local hub cache" in note for note in road.notes)
    found = costs(road, store)
    whole = models.get("vicuna-7b").shape
    assert whole
    train, prune, convert = found["train sft"], found["prune vicuna-7b-pruned20"], found["convert vicuna-7b"]
    assert train and prune and convert
    assert train.memory == sum(memory.training(whole.pruned(0.2), 2048).values())
    assert prune.memory == 12 * whole.parameters and convert.disk == 4 * whole.parameters


def test_a_model_of_unknown_size_that_is_not_here_is_missing(config: Config, store: Store) -> None:
    layer = {"student": "nobody/knows-this", "teacher": "qwen2.5-7b", "methods": ["sft"]}
    with pytest.raises(MissingModelError, match="nobody/knows-this"):
        build_road(resolve([config.model_dump(), layer]), store, download=False)


def test_what_does_not_fit_is_said(road: Road, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(costs_of(road, store))
    said = summary.summary(road, found, store)
    assert not any(line.startswith("warning") for line in said)
    assert any(line.startswith("memory: at most about ") for line in said)
    monkeypatch.setattr(summary, "main_memory", lambda: 1000)
    monkeypatch.setattr(summary, "free_disk", lambda folder: 1000)
    warnings = [line for line in summary.summary(road, found, store) if line.startswith("warning")]
    *memory, disk = warnings
    assert "store gc" in disk and all("does not fit in 1.0 kB" in line for line in memory)
    about = {line.split()[1]: line for line in memory}  # for each kind of stage, what makes it smaller
    assert {"train", "respond", "score"} <= set(about)
    assert "training.micro_batch_tokens" in about["train"] and "training." not in about["score"] + about["respond"]
    assert "scoring_batch_tokens" in about["score"] and "generation_batch_size" in about["respond"]


def test_the_free_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "a" / "b") > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 minutes"),
        (20, "1 minute"),
        (61, "1 minute"),
        (150, "2 minutes"),
        (7300, "2 hours"),
        (260_000, "3.0 days"),
    ],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert units.in_minutes(seconds) == text


def test_a_local_judge_s_memory_is_what_the_judge_says_whatever_its_name(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(FakeJudge):
        def memory(self, shape: Shape) -> int:
            return 10 * shape.parameters

    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    mine = Mine(lambda _: Answer("ok", 0.5), name="vllm-like:m")
    family = JudgeFactory("vllm-like", "", lambda *_: mine, model=config.student, model_types=None)
    judges.add("vllm-like", family)
    layer = {"judge": {"name": f"vllm-like:{config.student}"}}
    mine.name = layer["judge"]["name"]
    road = build_road(resolve([config.model_dump(exclude={"judge"}), layer]), store, download=False)
    shape = shape_of(Path(config.student))
    found = {cost.memory for job, cost in costs_of(road, store) if isinstance(job, JudgeJob) and cost}
    assert shape and found == {10 * shape.parameters}
