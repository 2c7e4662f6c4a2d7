"""A folder is known by what it holds, and what is loaded of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.store import Store
from tests.cases.conftest import Case, refused, written

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def nothing_made(own_store: Path) -> bool:
    return not Store(own_store).refs()


# ---- which files are weights


def in_two_shards_and_once_more(folder: Path) -> Path:
    """As Mistral's repositories are."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(weights))}
    for file in set(places.values()):
        mine = {name: tensor for name, tensor in weights.items() if places[name] == file}
        save_file(mine, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    save_file({f"x.{name}": tensor for name, tensor in weights.items()}, folder / "consolidated.safetensors")
    return folder


def memory_of(case: Case) -> str:
    ended = case.plan()
    assert ended.status == 0, ended.err
    return next(line for line in ended.out.splitlines() if line.startswith("memory: "))


def test_a_second_copy_of_the_weights_is_no_part_of_the_model(case: Case) -> None:
    once = memory_of(case)
    in_two_shards_and_once_more(case.teacher)
    assert memory_of(case) == once


# ---- tokens without an embedding


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_token_without_an_embedding_is_refused_before_any_work(case: Case, own_store: Path, role: str) -> None:
    for folder in (case.student, case.teacher):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["<tool>"])
        tokenizer.save_pretrained(folder)
    other = case.student if role == "teacher" else case.teacher
    model = AutoModelForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(513)
    model.save_pretrained(other)
    written(case.training, [{"id": "p", "prompt": "Call <tool> now."}])
    said = refused(case.run())
    assert str(getattr(case, role)) in said and "'<tool>' as token 512, and its model has 512 embeddings" in said
    assert nothing_made(own_store)


# ---- quantised checkpoints


def quantise(folder: Path, how: dict[str, Any]) -> Path:
    """A folder that says so, with a packed weight in it."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": how}))
    packed = {"model.layers.0.mlp.up_proj.qweight": torch.zeros(4, 4, dtype=torch.int32)}
    weights = load_file(folder / "model.safetensors")
    save_file(weights | packed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("how", [GPTQ, AWQ, BITS], ids=lambda how: how["quant_method"])
def test_a_quantised_teacher_is_refused_with_the_package_that_it_needs(case: Case, how: dict[str, Any]) -> None:
    quantise(case.teacher, how)
    said = refused(case.plan())
    assert f"teacher {case.teacher} is quantised ({how['quant_method']}), and cannot be read here: " in said
    assert "optimum" in said or "gptqmodel" in said or "bitsandbytes" in said
    assert refused(case.run()) == said


@pytest.mark.parametrize("how", [GPTQ, BITS, {"quant_method": "fp8"}, {"quant_method": "gguf"}, {"bits": 4}])
def test_a_quantised_student_is_refused_before_any_work(case: Case, own_store: Path, how: dict[str, Any]) -> None:
    quantise(case.student, how)
    kind = how.get("quant_method", "unknown")
    said = f"student {case.student} is quantised ({kind}), and weights that are packed cannot be trained; "
    assert said in refused(case.plan())
    assert said in refused(case.run()) and nothing_made(own_store)


def test_the_model_that_a_student_is_pruned_from_must_not_be_quantised(case: Case) -> None:
    quantise(case.student, GPTQ)
    pair = case.root / "pair.yaml"
    pair.write_text(f"student: {{base: {case.student}, prune: {{ratio: 0.1}}}}\nteacher: {case.teacher}\n")
    case.student = pair
    assert "is quantised (gptq), and weights that are packed cannot be trained" in refused(case.plan())


def test_what_a_tool_left_in_a_configuration_is_said(case: Case) -> None:
    """Plain weights under the configuration of packed ones."""
    for folder in (case.student, case.teacher):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": BITS}))
    said = refused(case.plan()).splitlines()
    assert len(said) == 2
    assert all("if they are whole, take quantization_config out of its config.json" in line for line in said)


def test_a_quantised_judge_is_refused_with_the_package_that_it_needs(case: Case) -> None:
    judge = quantise(shutil.copytree(case.teacher, case.root / "judge"), GPTQ)
    case.judge = f"transformers:{judge}"
    said = f"{judge} is quantised (gptq), and cannot be read here: "
    assert said in refused(case.plan())
    texts = written(case.root / "texts.jsonl", [{"prompt_id": "a", "prompt": "Hi!", "response": "Hello."}])
    options = ("--candidate", texts, "--reference", texts, "--out", case.root / "verdicts.jsonl")
    assert said in refused(case.cli("judge", *options, "--judge", case.judge))


# ---- adapters


def adapt(base: Path, folder: Path, named: str, tokenizer: bool = False) -> Path:
    """A trained adapter of a model, as peft saves one."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = named
    tuned.save_pretrained(folder)
    if tokenizer:
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def test_an_adapter_whose_base_is_not_here_is_refused_in_one_line(case: Case, own_store: Path) -> None:
    case.student = adapt(case.student, case.root / "adapter", "someone/base-7b", tokenizer=True)
    shutil.copy(case.teacher / "config.json", case.student)  # some trainings leave it there
    said = refused(case.run())
    assert f"{case.student} is an adapter of someone/base-7b: someone/base-7b is not in the local hub cache" in said
    assert nothing_made(own_store)


def test_prompts_are_measured_against_what_an_adapter_s_base_takes(case: Case) -> None:
    """By its tokenizer, where the adapter has none."""
    case.student = adapt(case.student, case.root / "adapter", str(case.student))
    file = case.teacher / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 8192}))
    written(case.evaluation, [{"id": "long", "prompt": "Count on. " * 400}])
    (line,) = refused(case.plan()).splitlines()
    assert f"student {case.student} takes 512 tokens at once" in line and "long" in line


def test_adapters_are_merged_into_their_bases_once_and_run(case: Case, own_store: Path) -> None:
    """A student's, without a tokenizer of its own; a teacher's, which a judge is too."""
    file = case.teacher / "config.json"  # a judge's prompts are long
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 4096}))
    case.student = adapt(case.student, case.root / "student-adapter", str(case.student))
    case.teacher = adapt(case.teacher, case.root / "teacher-adapter", "../teacher", tokenizer=True)
    case.judge = f"transformers:{case.teacher}"
    ended = case.run()
    assert ended.status == 0, ended.err
    merged = [ref for ref in Store(own_store).refs() if ref.startswith("convert/")]
    assert len(merged) == 2
    again = case.run()
    assert again.status == 0 and "\n0 of " in "\n" + again.err
