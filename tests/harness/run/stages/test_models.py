"""Students and teachers that are not alike, or not like most: other tokenizers, padded embeddings, attention of their
own, adapters."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.config import resolve
from harness.core.errors import UserError
from harness.core.records import Response, read_records
from harness.models import loading
from harness.models.loading import load_model
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import RESPONSES, TOP_K, Job, PruneJob
from harness.run.road import Road, build_road
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import (
    TEXTS,
    distributions_job,
    log_prob,
    losses,
    make,
    make_road,
    model_at,
    prompt_file,
    prompt_ids,
    put,
    respond_job,
    rows_of,
    saved,
    score_job,
    scored,
    stock,
    train_job,
)

Written = dict[str, tuple[str, str]]  # text and finish of each prompt's response
Build = Callable[..., Road]
IDS = [f"p{i}" for i in range(4)]


@pytest.fixture
def foreign_folder(tmp_path: Path, other_tokenizer: Any) -> Path:
    """A teacher with another tokenizer."""
    return saved(tmp_path / "foreign", tiny_model("llama", seed=2, hidden=48, vocabulary=400), other_tokenizer)


@pytest.fixture
def foreign(store: Store, foreign_folder: Path) -> Model:
    return model_at(foreign_folder, store)


@pytest.fixture
def build(tmp_path: Path, store: Store) -> Build:
    """The road of a tiny run in float32, with any configuration over it."""
    basis = {
        "methods": ["sft", "ddpo", "dadpo"],
        "controls": "none",
        "train_prompts": str(prompt_file(tmp_path / "train.jsonl", TEXTS[:4])),
        "eval": [str(prompt_file(tmp_path / "test.jsonl", ["What is snow?", "Dance!"]))],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 7},
        "eval_sampling": {"max_new_tokens": 5},
        "scoring_precision": "fp32",
        "training": {"precision": "fp32", "epochs": 2},
    }

    def build_one(student: Path, teacher: Path, **layer: Any) -> Road:
        return build_road(resolve([{**basis, "student": str(student), "teacher": str(teacher)}, layer]), store, False)

    return build_one


def ids_of(tokenizer: Any, text: str, finish: str) -> list[int]:
    """A response's text as a tokenizer splits it, and the end of the turn where it ended or there is nothing else."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return [*ids, tokenizer.eos_token_id] if finish == "stop" or not ids else ids


def put_text(store: Store, name: str, written: Written, tokenizer: Any) -> str:
    rows = [
        Response(prompt_id=key, token_ids=tuple(ids_of(tokenizer, *row)), text=row[0], finish=row[1])  # type: ignore[arg-type]
        for key, row in written.items()
    ]
    return put(store, name, rows, tokenizer)


# ---- another tokenizer

BY_TEACHER: Written = {
    "p0": ("Hello there, how are you?", "stop"),
    "p1": ("Because it is warm and", "length"),
    "p2": ("seven<|im_end|>\n<|im_start|>user\nmore", "stop"),
    "p3": ("", "stop"),
}
BY_STUDENT: Written = {
    "p0": ("Go away", "length"),
    "p1": ("日本語 🦜", "stop"),
    "p2": ("", "length"),
    "p3": ("la la<|endoftext|>", "length"),
}


@pytest.fixture
def pairs(store: Store, tokenizer: Any, other_tokenizer: Any) -> tuple[str, str]:
    """The teacher's responses and the student's, each in its own tokens."""
    return (
        put_text(store, "teacher", BY_TEACHER, other_tokenizer),
        put_text(store, "student", BY_STUDENT, tokenizer),
    )


@pytest.mark.parametrize("scorer", ["student", "teacher"])
def test_a_model_scores_the_text_of_others_in_its_own_tokens(
    store: Store,
    checkpoints: dict[str, Path],
    foreign_folder: Path,
    prompts: str,
    pairs: tuple[str, str],
    scorer: str,
) -> None:
    folder = checkpoints["llama"] if scorer == "student" else foreign_folder
    tokenizer, causal_lm = load_tokenizer(folder), stock(folder)
    ref = make(store, score_job(model_at(folder, store), prompts, *pairs))
    rows = scored(store, ref)
    assert list(rows) == IDS
    for key, text in zip(IDS, TEXTS, strict=False):
        responses = [ids_of(tokenizer, *written[key]) for written in (BY_TEACHER, BY_STUDENT)]
        prompt = prompt_ids(tokenizer, text)
        wanted = [log_prob(causal_lm, prompt, response) for response in responses]
        assert rows[key]["log_probs"] == pytest.approx(wanted, abs=1e-4)
        assert rows[key]["tokens"] == list(map(len, responses))
    assert store.read(ref).facts["retokenised"] is True


def test_the_ids_that_a_model_drew_are_taken_as_they_are(
    store: Store, checkpoints: dict[str, Path], student: Model, prompts: str, tokenizer: Any
) -> None:
    """They are not always those that its tokenizer would split the text into."""
    spelled = [token for letter in "Hello" for token in tokenizer(letter).input_ids]
    assert spelled != tokenizer("Hello").input_ids
    rows = [Response(prompt_id=key, token_ids=tuple(spelled), text="Hello", finish="stop") for key in IDS]
    ref = make(store, score_job(student, prompts, put(store, "spelled", rows, tokenizer)))
    wanted = log_prob(stock(checkpoints["llama"]), prompt_ids(tokenizer, TEXTS[0]), spelled)
    assert scored(store, ref)["p0"]["log_probs"] == pytest.approx([wanted], abs=1e-4)
    assert store.read(ref).facts["retokenised"] is False


def changed_folder(checkpoint: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """A checkpoint with its tokenizer changed."""
    shutil.copytree(checkpoint, folder)
    tokenizer = load_tokenizer(folder)
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


def another_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "Be brief.\n" + tokenizer.chat_template


def with_tools(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% if tools %}{{ tools | tojson }}{% endif %}" + tokenizer.chat_template


def another_end(tokenizer: Any) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|endoftext|>")


def another_end_of_text(tokenizer: Any) -> None:
    tokenizer.eos_token = "<|endoftext|>"


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "one more token": (lambda tokenizer: tokenizer.add_tokens(["<extra>"]), "512 tokens against 513"),
    "another end of a turn": (
        another_end,
        "the vocabularies agree, but a turn ends with '<|im_end|>' in one and '<|endoftext|>' in the other",
    ),
}
ANOTHER_TEMPLATE = "the vocabularies agree, but the chat templates differ on prompt 'p0'"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stage", ["score", "distributions", "train", "prune"])
def test_a_small_change_of_the_tokenizer_is_another_one(
    store: Store,
    tmp_path: Path,
    checkpoints: dict[str, Path],
    prompts: str,
    tokenizer: Any,
    stage: str,
    change: str,
) -> None:
    odd = model_at(changed_folder(checkpoints["llama"], tmp_path / "odd", CHANGES[change][0]), store)
    ref = put_text(store, "a", BY_TEACHER, tokenizer)
    job: Job = {
        "score": score_job(odd, prompts, ref),
        "distributions": distributions_job(odd, prompts, ref),
        "train": train_job("sft", odd, prompts, (ref,)),
        "prune": PruneJob(model=odd, prompts=prompts, responses=ref, ratio=0.1),
    }[stage]
    facts = store.read(make(store, job)).facts
    assert facts["tokens"] > 0 and facts.get("retokenised", True) is True


@pytest.mark.parametrize("change", [another_template, with_tools, another_end_of_text])
@pytest.mark.parametrize("stage", ["score", "train"])
def test_a_chat_template_that_ends_turns_alike_leaves_the_ids_of_responses_alone(
    store: Store,
    tmp_path: Path,
    checkpoints: dict[str, Path],
    prompts: str,
    tokenizer: Any,
    stage: str,
    change: Callable[[Any], object],
) -> None:
    odd = model_at(changed_folder(checkpoints["llama"], tmp_path / "odd", change), store)
    ref = put_text(store, "a", BY_TEACHER, tokenizer)
    job: Job = score_job(odd, prompts, ref) if stage == "score" else train_job("sft", odd, prompts, (ref,))
    assert store.read(make(store, job)).facts["retokenised"] is False


@pytest.fixture(params=["online", "stored"])
def signal(request: pytest.FixtureRequest) -> str:
    """Where token-level methods have the teacher's distributions from."""
    return str(request.param)


@pytest.mark.parametrize("change", [*CHANGES, "another template", "all else"])
def test_token_level_methods_refuse_a_teacher_with_another_tokenizer(
    store: Store,
    tmp_path: Path,
    checkpoints: dict[str, Path],
    foreign_folder: Path,
    prompts: str,
    tokenizer: Any,
    signal: str,
    change: str,
) -> None:
    if change in CHANGES:
        folder = changed_folder(checkpoints["llama-teacher"], tmp_path / "odd", CHANGES[change][0])
        difference = CHANGES[change][1]
    elif change == "another template":
        folder = changed_folder(checkpoints["llama-teacher"], tmp_path / "odd", another_template)
        difference = ANOTHER_TEMPLATE
    else:
        folder, difference = foreign_folder, "512 tokens against 400"
    teacher, student = model_at(folder, store), model_at(checkpoints["llama"], store)
    ref = put_text(store, "a", BY_TEACHER, load_tokenizer(folder))
    teaches: dict[str, Any] = {"teacher": teacher}
    if signal == "stored":
        teaches = {"distributions": make(store, distributions_job(teacher, prompts, ref))}
    job = train_job("kd", student, prompts, (ref,), {"teacher_signal": signal}, **teaches)
    with pytest.raises(UserError) as caught:
        make(store, job)
    assert str(caught.value) == (
        f"methods that read the teacher token by token need one tokenizer for both, but {checkpoints['llama']} and "
        f"{folder} differ: {difference}; those of the level sequence (list methods) work with any"
    )
    assert not store.has(job.ref)


def rows_drawn(store: Store, ref: str) -> list[Response]:
    return read_records(store.read(ref).path / RESPONSES, Response)


def test_a_run_whose_teacher_has_another_tokenizer(
    store: Store, build: Build, checkpoints: dict[str, Path], foreign_folder: Path
) -> None:
    made = make_road(store, build(checkpoints["llama"], foreign_folder))
    retokenised = {label: store.read(ref).facts.get("retokenised") for label, ref in made.items()}
    assert {label: value for label, value in retokenised.items() if value is not None} == {
        "train sft": True,
        "log-probs: reference": True,
        "log-probs: teacher": True,
        "train ddpo": True,
        "train dadpo": True,
        "teacher's log-probs: teacher, test": False,
        "teacher's log-probs: teacher for judging, test": False,
        "teacher's log-probs: teacher (second sample), test": False,
        "teacher's log-probs: student (untrained), test": True,
        **{f"teacher's log-probs: {method}, test": True for method in ("sft", "ddpo", "dadpo")},
        **{f"log-probs of held-out pairs: {who}, test": True for who in ("reference", "ddpo", "dadpo")},
    }
    # what daDPO is told: each model reads its own tokens, and the other's text
    drawn = [rows_drawn(store, made[f"responses: {who}, training prompts"]) for who in ("teacher", "SFT student")]
    signals = {}
    for who, folder in (("reference", store.read(made["train sft"]).path), ("teacher", foreign_folder)):
        tokenizer, causal_lm, rows = load_tokenizer(folder), stock(folder), scored(store, made[f"log-probs: {who}"])
        by_teacher, by_student = (
            [row.token_ids if own == who else ids_of(tokenizer, row.text, row.finish) for row in responses]
            for own, responses in zip(("teacher", "reference"), drawn, strict=True)
        )
        for key, text, *responses in zip(IDS, TEXTS[:4], by_teacher, by_student, strict=True):
            wanted = [log_prob(causal_lm, prompt_ids(tokenizer, text), response) for response in responses]
            assert rows[key]["log_probs"] == pytest.approx(wanted, abs=1e-4), (who, key)
        signals[who] = torch.tensor([rows[key]["log_probs"] for key in IDS], dtype=torch.float64)
    # before the first step policy and reference are one, so that only the teacher's margin is in the loss
    ratio = signals["teacher"] - signals["reference"]
    first = -torch.nn.functional.logsigmoid(-0.05 * (ratio[:, 0] - ratio[:, 1])).mean().item()
    assert losses(store, made["train dadpo"])[0] == pytest.approx(first, abs=1e-4)
    assert losses(store, made["train ddpo"])[0] == pytest.approx(math.log(2), abs=1e-4)


def test_a_token_level_method_is_refused_before_any_work(
    build: Build, checkpoints: dict[str, Path], foreign_folder: Path, signal: str
) -> None:
    with pytest.raises(UserError, match=r"differ: 512 tokens against 400; .*those of the level sequence"):
        build(checkpoints["llama"], foreign_folder, methods=["sft", "kd"], settings={"kd": {"teacher_signal": signal}})


def test_templates_that_render_alike_are_one(
    store: Store, build: Build, tmp_path: Path, checkpoints: dict[str, Path], signal: str
) -> None:
    """As where one of two checkpoints of a family has learnt to use tools."""
    teacher = changed_folder(checkpoints["llama-teacher"], tmp_path / "odd", with_tools)
    settings = {"kd": {"teacher_signal": signal}}
    made = make_road(store, build(checkpoints["llama"], teacher, methods=["sft", "dadpo", "kd"], settings=settings))
    assert "train kd" in made
    assert not any(store.read(ref).facts.get("retokenised") for ref in made.values())


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("Be brief. ", "prompt 'p0'"),
        ("{% if 'bread' in messages[0].content %}{{ 'Be brief. ' }}{% endif %}", "prompt 'p1'"),
        ("{% if 'snow' in messages[0].content %}{{ 'Be brief. ' }}{% endif %}", "prompt 'p0'"),  # an evaluation prompt
        ("{% if messages[0].role == 'system' %}{{ 'So: ' }}{% endif %}", "a conversation with a system turn"),
    ],
)
def test_templates_that_render_otherwise_are_refused_before_any_work(
    store: Store, build: Build, tmp_path: Path, checkpoints: dict[str, Path], addition: str, said: str
) -> None:
    def change(tokenizer: Any) -> None:
        tokenizer.chat_template = addition + tokenizer.chat_template

    teacher = changed_folder(checkpoints["llama-teacher"], tmp_path / "odd", change)
    with pytest.raises(UserError, match=f"differ: .* the chat templates differ on {said}; those of the level sequence"):
        build(checkpoints["llama"], teacher, methods=["sft", "kd"])
    build(checkpoints["llama"], teacher, methods=["sft", "dadpo"])


def test_a_training_on_a_foreign_teacher_s_tokens_ends_with_what_differs(
    store: Store,
    build: Build,
    checkpoints: dict[str, Path],
    foreign_folder: Path,
    signal: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # where a model is made by a stage, its tokenizer is not known before
    monkeypatch.setattr("harness.run.checks.require_comparable", lambda *_: None)
    road = build(
        checkpoints["llama"], foreign_folder, methods=["sft", "kd"], settings={"kd": {"teacher_signal": signal}}
    )
    with pytest.raises(UserError, match=r"differ: 512 tokens against 400; .*those of the level sequence"):
        make_road(store, road)
    assert store.has(road.trainings["sft"]) and not store.has(road.trainings["kd"])


# ---- embeddings that are padded to other sizes


@pytest.mark.parametrize(("own", "teachers"), [(512, 544), (544, 512), (544, 576)])
def test_a_run_whose_models_have_embeddings_of_other_sizes(
    store: Store, build: Build, tmp_path: Path, tokenizer: Any, own: int, teachers: int, signal: str
) -> None:
    student = saved(tmp_path / "student", tiny_model("llama", seed=0, vocabulary=own), tokenizer)
    teacher = saved(tmp_path / "teacher", tiny_model("llama", seed=2, hidden=48, vocabulary=teachers), tokenizer)
    methods = ["sft", "ddpo", "dadpo", "kd"]
    road = build(student, teacher, methods=methods, settings={"kd": {"teacher_signal": signal, "top_k": 20}})
    made = make_road(store, road)
    chosen = rows_drawn(store, made["responses: teacher, training prompts"])
    drawn = [row for label, ref in made.items() if label.startswith("responses") for row in rows_drawn(store, ref)]
    assert max(token for row in drawn for token in row.token_ids) < 512
    for method in methods:
        ref = made[f"train {method}"]
        assert store.read(ref).facts["retokenised"] is False
        assert all(map(math.isfinite, losses(store, ref)))
        assert AutoModelForCausalLM.from_pretrained(store.read(ref).path).config.vocab_size == own
    models = [stock(folder) for folder in (student, teacher)]
    kls = [
        kl(
            *(rows_of(causal_lm, prompt_ids(tokenizer, text), row.token_ids, len(tokenizer)) for causal_lm in models),
            20 if signal == "stored" else None,
        )
        for text, row in zip(TEXTS, chosen, strict=False)
    ]
    assert losses(store, made["train kd"])[0] == pytest.approx(torch.cat(kls).mean().item(), abs=1e-4)


def kl(student: Tensor, teacher: Tensor, top_k: int | None) -> Tensor:
    """KL of each row, of all outcomes or of the teacher's top k of the first 512 and everything else."""
    student, teacher = student.exp(), teacher.exp()
    if top_k is not None:
        teacher = teacher[:, :512] / teacher[:, :512].sum(-1, keepdim=True)
        top = teacher.topk(top_k).indices
        student, teacher = (
            torch.cat([p.gather(-1, top), 1 - p.gather(-1, top).sum(-1, keepdim=True)], -1) for p in (student, teacher)
        )
    return (teacher * (teacher / student).log()).sum(-1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_response_holds_ids_that_only_pad_the_embedding(
    store: Store, tmp_path: Path, tokenizer: Any, prompts: str, temperature: float
) -> None:
    model = tiny_model("llama", seed=0, vocabulary=544, tied=False)
    with torch.no_grad():  # whatever the hidden state, one of these rows is the likeliest
        model.lm_head.weight[512:528] = 100 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
        model.lm_head.weight[528:] = -model.lm_head.weight[512:528]
    padded = model_at(saved(tmp_path / "padded", model, tokenizer), store)
    ref = make(store, respond_job(padded, prompts, sampling={"temperature": temperature, "max_new_tokens": 20}))
    rows = rows_drawn(store, ref)
    assert len(rows) == 4 and max(token for row in rows for token in row.token_ids) < len(tokenizer)


# ---- attention and logits of their own


@pytest.mark.parametrize("stage", ["score", "distributions", "kd, online"])
def test_a_frozen_model_is_held_as_its_checkpoint_is_and_says_the_same(
    stage: str,
    prompts: str,
    pairs: tuple[str, str],
    store: Store,
    checkpoints: dict[str, Path],
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = tiny_model("llama", seed=2, hidden=48).bfloat16()
    folders = [
        saved(tmp_path / "float32", copy.deepcopy(narrow).float(), tokenizer),
        saved(tmp_path / "bf16", narrow, tokenizer),
    ]
    loaded: dict[str, torch.dtype] = {}

    def load(folder: Path, dtype: torch.dtype, *args: Any, **others: Any) -> Any:
        loaded[folder.name] = dtype
        return load_model(folder, dtype, *args, **others)

    monkeypatch.setattr(loading, "load_model", load)
    said: list[Any] = []
    for folder in folders:
        model = model_at(folder, store)
        if stage == "score":
            said.append(scored(store, make(store, score_job(model, prompts, pairs[0], precision="bf16"))))
        elif stage == "distributions":
            job = distributions_job(model, prompts, pairs[0], precision="bf16")
            said.append(np.load(store.read(make(store, job)).path / TOP_K)["log_probs"].tolist())
        else:
            start = model_at(checkpoints["llama"], store)
            job = train_job("kd", start, prompts, pairs[:1], {"teacher_signal": "online"}, teacher=model)
            said.append(losses(store, make(store, job)))
    assert said[0] == said[1]
    assert (loaded["float32"], loaded["bf16"]) == (torch.float32, torch.bfloat16)


@pytest.fixture
def gemma_folder(tmp_path: Path, tokenizer: Any) -> Path:
    return saved(tmp_path / "gemma", tiny_model("gemma2", seed=0), tokenizer)


def test_a_model_of_another_kind_goes_the_whole_road_padded(
    store: Store,
    gemma_folder: Path,
    prompts: str,
    tokenizer: Any,
) -> None:
    gemma, causal_lm = model_at(gemma_folder, store), stock(gemma_folder)
    drawn = make(store, respond_job(gemma, prompts))
    rows = rows_drawn(store, drawn)
    encoded = [prompt_ids(tokenizer, text) for text in TEXTS[:4]]
    assert max(map(len, encoded)) > causal_lm.config.sliding_window
    wanted = [log_prob(causal_lm, prompt, row.token_ids) for prompt, row in zip(encoded, rows, strict=True)]
    reason = "models of type gemma2 are not known to have a plain head and plain attention"

    ref = make(store, score_job(gemma, prompts, drawn))
    assert [row["log_probs"][0] for row in scored(store, ref).values()] == pytest.approx(wanted, abs=1e-4)
    assert store.read(ref).facts["padded"] == reason

    settings = {"batch_size": 4, "epochs": 3, "learning_rate": 0.01, "micro_batch_tokens": 64}
    ref = make(store, train_job("sft", gemma, prompts, (drawn,), settings))
    assert store.read(ref).facts["padded"] == reason
    found = losses(store, ref)
    assert found[0] == pytest.approx(-sum(wanted) / sum(len(row.token_ids) for row in rows), abs=1e-4)
    trained = stock(store.read(ref).path)
    after = [log_prob(trained, prompt, row.token_ids) for prompt, row in zip(encoded, rows, strict=True)]
    assert sum(after) > sum(wanted) + 1 and trained.config.model_type == "gemma2"


@pytest.mark.parametrize("taught", ["packed by padded", "padded by packed"])
def test_a_padded_model_teaches_a_packed_one_and_the_other_way_round(
    store: Store,
    checkpoints: dict[str, Path],
    gemma_folder: Path,
    prompts: str,
    tokenizer: Any,
    taught: str,
    signal: str,
) -> None:
    folders = [checkpoints["llama"], gemma_folder][:: 1 if taught == "packed by padded" else -1]
    student, teacher = (model_at(folder, store) for folder in folders)
    ref = put_text(store, "a", BY_TEACHER, tokenizer)
    teaches: dict[str, Any] = {"teacher": teacher}
    if signal == "stored":
        teaches = {"distributions": make(store, distributions_job(teacher, prompts, ref))}
    settings = {"batch_size": 4, "teacher_signal": signal, "top_k": 8}
    found = losses(store, make(store, train_job("kd", student, prompts, (ref,), settings, **teaches)))
    models = [stock(folder) for folder in folders]
    kls = [
        kl(
            *(rows_of(model, prompt_ids(tokenizer, text), ids_of(tokenizer, *row)) for model in models),
            8 if signal == "stored" else None,
        )
        for text, row in zip(TEXTS, BY_TEACHER.values(), strict=False)
    ]
    assert found == pytest.approx([torch.cat(kls).mean().item()], abs=1e-4)


# ---- adapters


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_a_training_of_adapters_leaves_a_stock_checkpoint(
    store: Store, tmp_path: Path, tokenizer: Any, prompts: str, family: str, tied: bool
) -> None:
    folder = saved(tmp_path / "start", tiny_model(family, seed=0, tied=tied), tokenizer)
    start = model_at(folder, store)
    ref = put_text(store, "a", BY_TEACHER, load_tokenizer(folder))
    settings = {"lora_rank": 4, "learning_rate": 0.01, "epochs": 4}
    artifact = store.read(make(store, train_job("sft", start, prompts, (ref,), settings)))
    before, after = weights(folder), weights(artifact.path)
    assert before.keys() == after.keys()
    assert not any("lora" in name or "base_layer" in name or "adapter" in name for name in after)
    assert not list(artifact.path.glob("adapter*"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    targets = {name for name in before if name.endswith("_proj.weight")}
    assert changed == targets and len(targets) == 14
    for name in targets:  # what is added is of the adapter's rank
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 4
    loaded = AutoModelForCausalLM.from_pretrained(artifact.path)
    whole = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.num_parameters() == whole.num_parameters() == artifact.facts["parameters"]
    assert json.loads((artifact.path / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
    found = losses(store, artifact.ref)
    assert found[-1] < found[0]


def test_before_its_first_step_an_adapter_changes_nothing(
    store: Store, student: Model, prompts: str, tokenizer: Any
) -> None:
    ref = put_text(store, "a", BY_TEACHER, tokenizer)
    jobs = [train_job("sft", student, prompts, (ref,), {"lora_rank": rank, "batch_size": 4}) for rank in (0, 4)]
    one, other = (losses(store, make(store, job)) for job in jobs)
    assert one == pytest.approx(other, abs=1e-5)


def test_the_saved_weights_are_those_that_were_trained(
    store: Store, student: Model, prompts: str, tokenizer: Any
) -> None:
    """Merged into the weights, an adapter says what it said beside them: the next step's loss."""
    ref = put_text(store, "a", BY_TEACHER, tokenizer)
    settings = {"lora_rank": 4, "learning_rate": 0.05, "batch_size": 4, "warmup_ratio": 0.0}
    longer = losses(store, make(store, train_job("sft", student, prompts, (ref,), {**settings, "epochs": 2})))
    # one step of the same size: a cosine over one step is at its start
    trained = make(store, train_job("sft", student, prompts, (ref,), settings))
    folder = store.read(trained).path
    tokens = [ids_of(tokenizer, *row) for row in BY_TEACHER.values()]
    causal_lm = stock(folder)
    sums = [log_prob(causal_lm, prompt_ids(tokenizer, text), ids) for text, ids in zip(TEXTS, tokens, strict=False)]
    assert abs(longer[1] - longer[0]) > 0.1
    assert -sum(sums) / sum(map(len, tokens)) == pytest.approx(longer[1], abs=1e-4)


def test_every_method_trains_adapters(store: Store, build: Build, checkpoints: dict[str, Path], signal: str) -> None:
    """In a whole run; the reference is the SFT student whose adapter was merged."""
    methods = ["sft", "ddpo", "dadpo", "kd"]
    made = make_road(
        store,
        build(
            checkpoints["llama"],
            checkpoints["llama-teacher"],
            methods=methods,
            training={"precision": "fp32", "epochs": 4, "lora_rank": 2, "learning_rate": 0.01},
            settings={"kd": {"teacher_signal": signal}},
        ),
    )
    found = {method: losses(store, made[f"train {method}"]) for method in methods}
    assert found["ddpo"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert all(rows[-1] < rows[0] for rows in found.values()), found
    sizes = {store.read(made[f"train {method}"]).facts["parameters"] for method in methods}
    assert sizes == {stock(checkpoints["llama"]).num_parameters()}
