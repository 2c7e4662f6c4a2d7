from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.generation.protocol import Sampling
from harness.judging.settings import Judging
from harness.methods import DistributionSettings, FreshSettings, MethodSettings
from harness.models.reference import ChatTemplate, Model
from harness.prompts.settings import PromptSource
from harness.run.jobs import (
    CompareJob,
    ConvertJob,
    DistributionsJob,
    EmbedJob,
    Job,
    JudgeJob,
    LossJob,
    MeasureJob,
    PromptsJob,
    PruneJob,
    RespondJob,
    RetentionJob,
    ScoreJob,
    StatesJob,
    TrainJob,
    by_model,
    job_from,
    job_from_json,
    stages,
)
from harness.serving.settings import VLLM, ModelServer

MODEL, OTHER = Model(artifact="train/1"), Model(path="/models/a", digest="d1")
# what a training is of, and so its loss on other prompts
LEARNING: dict[str, Any] = {
    "method": "dadpo",
    "method_source": "sha",
    "settings": {"learning_rate": 1e-5, "start": "sft"},
    "start": MODEL,
    "teacher": OTHER,
    "reference": MODEL,
    "prompts": "prompts/1",
    "responses": ("respond/1", None),
    "samples": (0, 1),
    "signals": {"teacher": "score/1"},
    "distributions": "distributions/1",
    "demonstrations": "respond/3",
    "sampling": Sampling(max_new_tokens=8),
    "batch_size": 4,
    "max_prompt_tokens": 512,
    "seed": 0,
}
JOBS: list[Job] = [
    PromptsJob(label="read", source=PromptSource(path=Path("/a.jsonl")), digest="d", limit=8),
    ConvertJob(label="convert", path="/a.gguf", digest="d"),
    PruneJob(label="prune", model=MODEL, prompts="prompts/1", responses="respond/1", ratio=0.2),
    RespondJob(
        label="respond",
        model=OTHER,
        prompts="prompts/1",
        sampling=Sampling(max_new_tokens=8),
        batch_size=4,
        purpose="train",
        seed=0,
    ),
    ScoreJob(
        label="score",
        model=MODEL,
        prompts="prompts/1",
        responses=("respond/1", "respond/2"),
        precision="bf16",
        batch_tokens=64,
        max_prompt_tokens=None,
    ),
    DistributionsJob(
        label="top 64",
        model=OTHER,
        prompts="prompts/1",
        responses="respond/1",
        top_k=64,
        precision="bf16",
        batch_tokens=64,
        max_prompt_tokens=None,
    ),
    StatesJob(
        label="states",
        model=OTHER,
        prompts="prompts/1",
        responses="respond/1",
        precision="bf16",
        batch_tokens=64,
        max_prompt_tokens=None,
    ),
    CompareJob(
        label="compare",
        model=MODEL,
        teacher=OTHER,
        prompts="prompts/1",
        responses="respond/1",
        states="states/1",
        temperature=0.8,
        precision="bf16",
        batch_tokens=64,
        max_prompt_tokens=None,
    ),
    MeasureJob(
        label="measure",
        prompts="prompts/1",
        responses="respond/1",
        readings={"teacher_tokens": ("compare/1",)},
        measures={"forward_kl": "sha"},
    ),
    EmbedJob(label="embed", model=OTHER, responses="respond/1"),
    RetentionJob(
        label="tasks",
        model=MODEL,
        tasks={"mine": "sha"},
        limit=8,
        batch_size=4,
        precision="bf16",
    ),
    TrainJob(label="train", **LEARNING, tracker=None, match="train/1"),
    LossJob(label="loss", **LEARNING),
    JudgeJob(
        label="judge",
        judge="proxy",
        judge_source="sha",
        prompt_set="everyday-test",
        candidate_name="sft",
        reference_name="teacher",
        prompts="prompts/1",
        candidate="respond/1",
        reference="respond/2",
        samples="respond/3",
        measures={"embedding/candidate": "embed/1"},
    ),
]
CHANGES: dict[str, Any] = {
    "digest": "d2",
    "model": Model(artifact="train/2"),
    "start": Model(artifact="train/2"),
    "teacher": None,
    "prompts": "prompts/2",
    "sampling": Sampling(max_new_tokens=8, temperature=0.5),
    "samples": "respond/4",
    "batch_size": 5,
    "tasks": {"mine": "other"},
    "limit": None,
    "states": "states/2",
    "temperature": 1.0,
    "readings": {"teacher_tokens": ("compare/2",)},
    "of_teacher": True,
    "purpose": "judging",
    "seed": 1,
    "ratio": 0.3,
    "calibration": 17,
    "precision": "fp32",
    "top_k": 65,
    "max_prompt_tokens": 256,
    "distributions": None,
    "method": "ddpo",
    "method_source": "other",
    "settings": {"learning_rate": 2e-5, "start": "sft"},
    "signals": {"teacher": "score/2"},
    "demonstrations": None,
    "answered": "respond/4",
    "match": None,
    "judge": "typicality",
    "judge_source": "other",
    "prompt_set": "followups",
    "candidate_name": "kd",
    "reference_name": "gold",
    "candidate": "respond/9",
    "reference": "respond/8",
    "measures": {"embedding/candidate": "embed/2"},
    "checkpoint": Model(path="/models/j", digest="d3"),
    "format": "pickled",
    "base": Model(path="/models/b", digest="d4"),
}
OF_KIND: dict[tuple[str, str], Any] = {
    ("respond", "generator"): "vllm",
    ("respond", "engine"): {"quantization": "fp8"},
    ("respond", "samples"): 2,
    ("score", "samples"): (1, 0),
    ("score", "responses"): ("respond/2", "respond/1"),  # the order counts
    **{
        (stage, name): value
        for stage in ("train", "loss")
        for name, value in {"responses": (None, "respond/1"), "samples": (1, 0), "reference": None}.items()
    },
    ("prune", "responses"): "respond/2",
    ("embed", "responses"): "respond/2",
    ("distributions", "responses"): "respond/2",
    ("states", "responses"): "respond/2",
    ("compare", "responses"): "respond/2",
    ("compare", "distributions"): "distributions/2",
    ("measure", "responses"): "respond/2",
    ("measure", "measures"): {"forward_kl": "other"},
}
FOR_PEOPLE = ("label", "path", "tracker", "files")
OF_ITS_SOURCE = ("plugin",)  # what of it shapes a training is in `method_source`
# what of it shapes an answer is in `judge_source`
HOW_TO_ASK: dict[str, Any] = {
    "judging": Judging(name="openai:m", concurrency=3),
    "vllm": VLLM(engine={"seed": 1}),
    "refresh": True,
}
ONLY_COMPUTING = ("batch_tokens",)
WHERE_PROMPTS_ARE_READ = ("source", "limit", "held_out", "validation")
NO_PART = ("stage", *FOR_PEOPLE, *OF_ITS_SOURCE, *HOW_TO_ASK, *ONLY_COMPUTING, *WHERE_PROMPTS_ARE_READ)
FIELDS = [(job, name) for job in JOBS for name in type(job).model_fields if name not in NO_PART]


def kind(value: object) -> str:
    return value.stage if isinstance(value, Job) else str(value)


def changed(job: Job, **values: Any) -> Job:
    return type(job).model_validate({**job.model_dump(), **values})


@pytest.mark.parametrize(("job", "name"), FIELDS, ids=kind)
def test_the_key_changes_with_every_field(job: Job, name: str) -> None:
    value = OF_KIND.get((job.stage, name), CHANGES.get(name))
    other = changed(job, **{name: value})
    assert getattr(other, name) != getattr(job, name)
    assert other.ref != job.ref


@pytest.mark.parametrize("job", JOBS, ids=kind)
def test_the_key_does_not_change_with_the_label(job: Job) -> None:
    assert changed(job, label="another").ref == job.ref


def test_responses_of_before_that_had_no_further_ones_are_the_same_artifact() -> None:
    job = next(job for job in JOBS if isinstance(job, RespondJob))
    known = job.model_dump(mode="json")
    assert job_from({**known, "further": 0}).ref == job.ref
    with pytest.raises(ValidationError, match="further"):  # judges read none of these: they are none of today's
        job_from({**known, "further": 1})


@pytest.mark.parametrize("job", [job for job in JOBS if "path" in type(job).model_fields], ids=kind)
def test_the_key_does_not_change_with_the_path(job: Job) -> None:
    assert changed(job, path="/elsewhere").ref == job.ref


def test_equal_prompts_have_one_key_wherever_they_are_read() -> None:
    job = next(job for job in JOBS if isinstance(job, PromptsJob))
    elsewhere = PromptSource.model_validate({"hub": "owner/set", "part": "test"})
    for other in (changed(job, source=elsewhere), changed(job, limit=None)):
        assert other != job and other.ref == job.ref


def test_where_metrics_are_shown_is_no_part_of_a_training_s_key() -> None:
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    watched = changed(job, tracker="wandb")
    assert watched != job and watched.ref == job.ref


def test_where_a_plug_in_lies_is_no_part_of_a_training_s_key() -> None:
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    here, there = (changed(job, plugin=f"/{folder}/own.py") for folder in ("here", "there"))
    assert here != there and here.ref == there.ref == job.ref


@pytest.mark.parametrize(("name", "value"), HOW_TO_ASK.items(), ids=str)
def test_how_a_judge_is_asked_is_no_part_of_a_judging_s_key(name: str, value: Any) -> None:
    job = next(job for job in JOBS if isinstance(job, JudgeJob))
    other = changed(job, **{name: value})
    assert other != job and other.ref == job.ref


@pytest.mark.parametrize("stage", ["score", "distributions"])
def test_how_many_tokens_are_read_at_once_is_no_part_of_a_key(stage: str) -> None:
    job = next(job for job in JOBS if job.stage == stage)
    other = changed(job, batch_tokens=1)
    assert other != job and other.ref == job.ref


HOW_TO_COMPUTE = {"micro_batch_tokens": 7, "gradient_checkpointing": True, "compile": True, "checkpoint_steps": 3}


def test_a_training_s_key_leaves_out_what_only_moves_the_computing_and_nothing_else() -> None:
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    settings = MethodSettings().model_dump(mode="json")
    plain = changed(job, settings=settings)
    assert changed(job, settings={**settings, **HOW_TO_COMPUTE}).ref == plain.ref
    for name, value in HOW_TO_COMPUTE.items():
        other = changed(job, settings={**settings, name: value})
        assert other.ref == plain.ref and other != plain, name  # the job still says it to whoever trains
    for name in settings.keys() - HOW_TO_COMPUTE.keys():
        assert changed(job, settings={**settings, name: "another"}).ref != plain.ref, name
    assert changed(job, settings={**settings, "of_a_plug_in": 1}).ref != plain.ref


OF_FRESH = {"fresh_every": 2, "samples": 4, "max_new_tokens": 9, "sampling_temperature": 0.5}
OF_TOP_K = {"top_k": 8, "top_k_of": "policy"}


@pytest.mark.parametrize(
    ("where", "others", "read"),
    [
        ({"fresh_share": 0.0}, OF_FRESH, False),
        ({"fresh_share": 0.5}, OF_FRESH, True),
        ({"fresh_share": 0.5}, {"stored": "student"}, True),
        ({"fresh_share": 1.0}, {"stored": "student"}, False),
        ({"support": "full"}, OF_TOP_K, False),
        ({"support": "tail"}, OF_TOP_K, True),
    ],
)
def test_a_setting_that_nothing_reads_is_in_no_key(where: dict[str, Any], others: dict[str, Any], read: bool) -> None:
    job = changed(next(job for job in JOBS if isinstance(job, TrainJob)), sampling=None)
    settings = DistributionSettings(**where).model_dump(mode="json")
    for name, value in others.items():
        same = changed(job, settings={**settings, name: value}).ref == changed(job, settings=settings).ref
        assert same is not read, name


def test_how_fresh_responses_are_drawn_is_in_a_key_once() -> None:
    """Said by a method's setting or by train_sampling's, a limit is one limit."""
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    drawn = changed(job, settings=FreshSettings(fresh_share=1).model_dump(mode="json"))
    said = FreshSettings(fresh_share=1, max_new_tokens=8, sampling_temperature=1).model_dump(mode="json")
    assert changed(job, settings=said).ref == drawn.ref
    assert changed(job, settings=said, sampling=Sampling(max_new_tokens=9)).ref != drawn.ref


def test_a_local_judge_is_known_by_its_model_s_content() -> None:
    job = next(job for job in JOBS if isinstance(job, JudgeJob))
    here, there = (changed(job, checkpoint=Model(path=path, digest="d1")) for path in ("/here", "/there"))
    assert here.ref == there.ref != changed(job, checkpoint=Model(path="/here", digest="d2")).ref


@pytest.mark.parametrize("url", ["http://user:pa55word@host/v1", "http://user:pa55%40word@host:8000/v1"])
def test_credentials_of_a_url_are_in_no_job(url: str) -> None:
    job = next(job for job in JOBS if isinstance(job, JudgeJob))
    found = changed(job, judging=Judging(name="openai:m", base_url=url))
    for text in (found.model_dump_json(), str(found.model_dump()), found.ref):
        assert "pa55" not in text and "user" not in text
    assert "//host" in found.model_dump_json()
    assert found.ref == job.ref


def test_the_key_follows_a_model_s_content_not_its_path() -> None:
    job = next(job for job in JOBS if isinstance(job, EmbedJob))
    assert changed(job, model=Model(path="/elsewhere", digest="d1")).ref == job.ref
    assert changed(job, model=Model(path="/models/a", digest="d2")).ref != job.ref


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_a_method_s_setting_counts_whatever_its_name(name: str) -> None:
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    assert changed(job, settings={name: 1}).ref != changed(job, settings={name: 2}).ref


@pytest.mark.parametrize("job", JOBS, ids=kind)
def test_a_higher_version_changes_the_key(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = job.ref
    monkeypatch.setattr(type(job), "version", type(job).version + 1)
    assert job.ref != before


@pytest.mark.parametrize("job", JOBS, ids=kind)
def test_the_ref_names_the_stage(job: Job) -> None:
    stage, key = job.ref.split("/")
    assert stage == job.stage
    assert len(key) == 32


def test_the_order_of_settings_does_not_count() -> None:
    job = next(job for job in JOBS if isinstance(job, TrainJob))
    assert changed(job, settings=dict(reversed(job.settings.items()))).ref == job.ref


# a job of a stage whose version stayed is found in a store from before jobs knew of generators and servers
REFS = [
    "prompts/67b3cf4425da1549cfdeec87675a0554",
    "convert/0b5039bb4dbb4ffbc99cee49aa77ca33",
    "prune/1c59011183e302c72026c3354483f879",
    "respond/7cc3d9af53c321062862e910ee5cd348",
    "score/3507d008d35deafcafeb0e09beada7ba",
    "distributions/2f4af533f6ca7803666d060cf318e62f",
    "states/c1c751bfcce675fe1f7ba19d9c095c65",
    "compare/af8416fc5fb41a5e924808823f5b9084",
    "measure/7386d5fef67aa2bda8a213bd16375285",
    "embed/26cf5cd347dafe548df196a2591bbc12",
    "retention/26ae1e82cf20c6ef558648b43275256c",
    "train/4c4879e18b5c2baddf57d11c21455865",
    "loss/063c3e2b0ee5f90a120c50e5877437c0",
    "judge/9aabc416dc822e41c9e8a741b4841be5",
]


def test_the_keys_of_plain_jobs_stay_what_they_were() -> None:
    """A change here means that every store is made anew: only with a higher version."""
    assert [job.ref for job in JOBS] == REFS


def test_a_generator_is_in_the_key_where_it_is_not_the_sampler() -> None:
    job = next(job for job in JOBS if isinstance(job, RespondJob))
    assert changed(job, generator="transformers", engine={}).ref == job.ref
    refs = [job.ref, changed(job, generator="vllm").ref, changed(job, generator="server").ref]
    refs.append(changed(job, generator="vllm", engine={"dtype": "float32"}).ref)
    assert len(set(refs)) == 4


SERVER = {"base_url": "http://host:8000/v1", "model": "teacher-7b"}


def on_server(**settings: Any) -> Model:
    return OTHER.model_copy(update={"served": ModelServer.model_validate({**SERVER, **settings})})


@pytest.mark.parametrize("stage", ["respond", "score"])
def test_a_served_model_is_known_by_its_server_s_public_url_and_its_name_alone(stage: str) -> None:
    job = next(job for job in JOBS if job.stage == stage)
    ref = changed(job, model=on_server()).ref
    assert ref != changed(job, model=OTHER).ref
    for same in (
        {"base_url": "http://me:pa55word@host:8000/v1/"},
        {"concurrency": 3, "requests_per_minute": 5, "tokens_per_minute": 7, "timeout": 9, "tries": 2},
        {"key_variable": "OTHER_KEY"},
    ):
        assert changed(job, model=on_server(**same)).ref == ref, same
    # a server is told where to stop only where a tokenizer is said to be its own
    for other in ({"base_url": "http://host:8001/v1"}, {"model": "teacher-70b"}, {"tokenizer": "some/model"}):
        assert changed(job, model=on_server(**other)).ref != ref, other
    named = [changed(job, model=on_server(tokenizer=name)).ref for name in ("some/model", "a/folder")]
    assert len(set(named)) == 1
    tokenizer = on_server().model_copy(update={"digest": "d2"})
    assert changed(job, model=tokenizer).ref != ref


@pytest.mark.parametrize("stage", ["respond", "score"])
def test_credentials_of_a_served_model_are_in_no_job(stage: str) -> None:
    job = next(job for job in JOBS if job.stage == stage)
    found = changed(job, model=on_server(base_url="http://me:pa55word@host:8000/v1"))
    assert isinstance(found, RespondJob | ScoreJob)
    assert found.model.weights == "teacher-7b at http://host:8000/v1"
    for text in (found.model_dump_json(), str(found.model_dump())):
        assert "pa55" not in text and "//host:8000/v1" in text


@pytest.mark.parametrize("job", JOBS, ids=kind)
def test_a_job_comes_back_from_json(job: Job) -> None:
    again = job_from_json(job.model_dump_json())
    assert again == job
    assert type(again) is type(job)
    assert again.ref == job.ref


def test_every_kind_of_job_is_tested_here() -> None:
    assert [type(job) for job in JOBS] == list(stages.values())


def test_what_is_no_part_of_a_key_is_a_field() -> None:
    for job in JOBS:
        assert {name.partition(".")[0] for name in job.not_in_key} <= type(job).model_fields.keys()
        assert job.added_later <= type(job).model_fields.keys()


def test_a_job_knows_every_model_that_it_reads_and_holds_the_frozen_ones() -> None:
    train = next(job for job in JOBS if isinstance(job, TrainJob))
    assert train.models == (MODEL, OTHER, MODEL) and train.holds == (OTHER, MODEL)
    assert changed(train, teacher=None, reference=None).holds == ()
    judge = next(job for job in JOBS if isinstance(job, JudgeJob))
    assert judge.models == judge.holds == () and changed(judge, checkpoint=OTHER).holds == (OTHER,)
    for stage, models, holds in [
        ("prompts", (), ()),
        ("convert", (Model(path="/a.gguf", digest="d"),), ()),
        ("prune", (MODEL,), ()),
        ("respond", (OTHER,), (OTHER,)),
        ("score", (MODEL,), (MODEL,)),
        ("distributions", (OTHER,), (OTHER,)),
        ("embed", (OTHER,), (OTHER,)),
    ]:
        job = next(job for job in JOBS if job.stage == stage)
        assert (job.models, job.holds) == (models, holds), stage
    served = on_server()
    for stage in ("respond", "score"):
        job = changed(next(job for job in JOBS if job.stage == stage), model=served)
        assert job.models == (served,) and job.holds == () and not job.apart


def test_jobs_of_an_evaluation_follow_their_stages_and_what_they_load() -> None:
    def job(stage: str, **values: Any) -> Job:
        return changed(next(job for job in JOBS if job.stage == stage), **values)

    given = [
        job("prompts"),
        job("respond", model=OTHER, seed=1),
        job("judge"),
        job("respond", model=MODEL),
        job("score", model=OTHER),
        job("embed", model=MODEL),
        job("respond", model=OTHER, seed=2),
        job("prompts", limit=1),
        job("judge", judge="other"),
        job("judge", candidate="respond/7"),
    ]
    assert by_model(given) == [given[place] for place in (0, 7, 1, 6, 3, 4, 5, 2, 9, 8)]


@pytest.mark.parametrize("text", ["{}", '{"stage": "teleport"}', '{"stage": "prompts"}', "[]", "{"])
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        job_from_json(text)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        changed(JOBS[0], colour="red")


# the keys of artifacts that are in stores already: one changes only where its stage's `version` was raised
KEYS = {
    "convert": "0b5039bb4dbb4ffbc99cee49aa77ca33",
    "prune": "1c59011183e302c72026c3354483f879",
    "respond": "7cc3d9af53c321062862e910ee5cd348",
    "score": "3507d008d35deafcafeb0e09beada7ba",
    "distributions": "2f4af533f6ca7803666d060cf318e62f",
    "embed": "26cf5cd347dafe548df196a2591bbc12",
    "train": "4c4879e18b5c2baddf57d11c21455865",
    "loss": "063c3e2b0ee5f90a120c50e5877437c0",
    "judge": "9aabc416dc822e41c9e8a741b4841be5",
}


@pytest.mark.parametrize("job", [job for job in JOBS if job.stage in KEYS], ids=kind)
def test_artifacts_that_were_made_keep_their_keys(job: Job) -> None:
    assert job.ref == f"{job.stage}/{KEYS[job.stage]}"


@pytest.mark.parametrize(
    "said",
    [{"remote_code": True}, {"chat_template": ChatTemplate(name="t", text="a")}],
    ids=["its own code", "a chat template"],
)
def test_how_a_model_is_read_is_part_of_a_key_where_it_is_said(said: dict[str, Any]) -> None:
    job = next(job for job in JOBS if isinstance(job, RespondJob))
    other = changed(job, model=OTHER.model_copy(update=said))
    assert other.ref != job.ref
    assert job_from_json(other.model_dump_json()).ref == other.ref


def test_a_chat_template_is_known_by_its_text() -> None:
    job = next(job for job in JOBS if isinstance(job, RespondJob))
    one, same, other = (
        changed(job, model=OTHER.model_copy(update={"chat_template": ChatTemplate(name=name, text=text)}))
        for name, text in (("a", "x"), ("b", "x"), ("a", "y"))
    )
    assert one.ref == same.ref != other.ref


def test_what_is_made_of_a_model_keeps_its_code_alone() -> None:
    model = Model(path="/a", digest="d", remote_code=True, chat_template=ChatTemplate(name="t", text="x"))
    assert model.made("train/1") == Model(artifact="train/1", remote_code=True)
    assert OTHER.made("train/1") == MODEL


def test_a_model_that_is_no_part_of_a_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    job = next(job for job in JOBS if isinstance(job, EmbedJob))
    other = job.model_copy(update={"model": Model(artifact="prune/other")})
    assert other.ref != job.ref
    monkeypatch.setattr(EmbedJob, "not_in_key", {**EmbedJob.not_in_key, "model": "known by its responses"})
    assert other.ref == job.ref and "model" not in job.in_key
