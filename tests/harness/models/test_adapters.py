"""Adapters as checkpoints: merged once into the model that they name, or refused in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.core.errors import UserError
from harness.models.convert import merge_adapter
from harness.models.hub import MissingModelError
from harness.models.loading import load_model
from harness.models.locate import MERGED, locate_models
from harness.models.specs import ModelSpec
from harness.models.tokenizers import load_tokenizer
from harness.run.sources import FoundModel, _found
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import make

LINEAR = ["q_proj", "up_proj"]
ALIKE = {"target_modules": LINEAR, "task_type": "CAUSAL_LM"}
KINDS: dict[str, Any] = {
    "lora": LoraConfig(r=4, lora_alpha=9, **ALIKE),
    "dora": LoraConfig(r=4, use_dora=True, use_rslora=True, **ALIKE),
    "lora-with-a-head": LoraConfig(r=4, modules_to_save=["lm_head"], **ALIKE),
    "lora-of-embeddings": LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], task_type="CAUSAL_LM"),
    "adalora": AdaLoraConfig(init_r=4, target_r=2, total_step=10, **ALIKE),
    "loha": LoHaConfig(r=4, **ALIKE),
    "lokr": LoKrConfig(r=4, **ALIKE),
    "ia3": IA3Config(feedforward_modules=["up_proj"], **ALIKE),
    "oft": OFTConfig(oft_block_size=8, **ALIKE),
}
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def base(tmp_path: Path, tokenizer: Any) -> Path:
    folder = tmp_path / "base"
    tiny_model("llama", seed=5, tied=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(base: Path, config: Any, folder: Path, rows: int | None = None, **how: Any) -> Path:
    """An adapter with weights that change something, as peft saves it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows)
    tuned = get_peft_model(model, copy.deepcopy(config))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder, **how)
    return folder


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(torch.arange(3, 40)[None]).logits
    return found


def merged(tmp_path: Path, base: Path, adapter: Path) -> Path:
    (tmp_path / "merged").mkdir()
    merge_adapter(adapter, base, tmp_path / "merged")
    return tmp_path / "merged"


def changed(adapter: Path, **settings: Any) -> Path:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return adapter


# ---- merging


def test_every_type_that_is_taken_is_tested() -> None:
    assert {config.peft_type.value for config in KINDS.values()} == set(MERGED)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_says_what_its_base_says_with_the_adapter(kind: str, base: Path, tmp_path: Path) -> None:
    adapter = trained(base, KINDS[kind], tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base)
    wanted = logits(PeftModel.from_pretrained(copy.deepcopy(plain), str(adapter)))
    found = load_model(merged(tmp_path, base, adapter), torch.float32)
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-4)
    assert (logits(plain) - wanted).abs().max() > 0.1  # it says something else


@pytest.mark.parametrize("at", [["embed_tokens", "q_proj"], ["lm_head"], ["embed_tokens", "lm_head"]], ids=str)
@pytest.mark.parametrize("more", [{}, {"use_dora": True}], ids=str)
def test_an_adapter_of_a_tied_embedding_changes_nothing_of_the_head(
    at: list[str], more: dict[str, Any], tmp_path: Path, tokenizer: Any
) -> None:
    base = tmp_path / "base"
    tiny_model("llama", seed=5, tied=True).save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = trained(base, LoraConfig(r=4, target_modules=at, task_type="CAUSAL_LM", **more), tmp_path / "adapter")
    wanted = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))
    folder = merged(tmp_path, base, adapter)
    torch.testing.assert_close(logits(load_model(folder, torch.float32)), wanted, rtol=1e-4, atol=1e-4)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


def test_tokens_that_were_added_with_an_adapter_are_there(base: Path, tmp_path: Path, tokenizer: Any) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter", rows=514, save_embedding_layers=True)
    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["<one>", "<two>"])
    longer.save_pretrained(adapter)
    folder = merged(tmp_path, base, adapter)
    saved = load_file(adapter / "adapter_model.safetensors")["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(load_model(folder, torch.float32).get_input_embeddings().weight, saved) and len(saved) == 514
    assert len(load_tokenizer(folder)) == 514


@pytest.mark.parametrize("whole", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]], ids=str)
@pytest.mark.parametrize("rows", [514, 500])
def test_embeddings_that_are_trained_whole_come_along_with_the_tokens_that_were_added(
    whole: list[str], rows: int, base: Path, tmp_path: Path
) -> None:
    """peft then saves such a module by three names."""
    config = LoraConfig(r=4, modules_to_save=whole, **ALIKE)
    adapter = trained(base, config, tmp_path / "adapter", rows=rows, save_embedding_layers=True)
    assert any(".original_module." in name for name in load_file(adapter / "adapter_model.safetensors"))
    plain = AutoModelForCausalLM.from_pretrained(base)
    plain.resize_token_embeddings(rows)
    wanted = logits(PeftModel.from_pretrained(plain, str(adapter)))
    found = load_model(merged(tmp_path, base, adapter), torch.float32)
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-4)


def test_added_tokens_that_the_adapter_has_no_head_for_are_refused(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=4, modules_to_save=["embed_tokens"], **ALIKE)
    adapter = trained(base, config, tmp_path / "adapter", rows=514, save_embedding_layers=False)
    with pytest.raises(UserError, match=r"no whole embedding or head for the 2 tokens that were added to .*; save"):
        merged(tmp_path, base, adapter)


def test_random_numbers_are_left_as_they_were(base: Path, tmp_path: Path) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    merged(tmp_path, base, adapter)
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: {name: it for name, it in weights.items() if name != NAME}, f"its weights have no {NAME}"),
        (lambda weights: weights | {NAME.replace("0.", "7."): torch.ones(4, 32)}, "that has no place there"),
        (lambda weights: weights | {NAME: torch.ones(4, 48)}, r"cannot be put into .*size mismatch"),
    ],
    ids=["missing", "unknown", "another shape"],
)
def test_an_adapter_that_does_not_fit_is_refused(change: Any, said: str, base: Path, tmp_path: Path) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=said) as caught:
        merged(tmp_path, base, adapter)
    assert str(adapter) in str(caught.value)


def test_an_adapter_s_file_that_is_cut_is_refused(base: Path, tmp_path: Path) -> None:
    file = trained(base, KINDS["lora"], tmp_path / "adapter") / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors cannot be read: .*; copy or download it again"):
        merged(tmp_path, base, tmp_path / "adapter")


# ---- where they are found


def located(folder: Path, store: Store, **spec: Any) -> FoundModel:
    return _found("mine", locate_models({"mine": ModelSpec(path=str(folder), **spec)}, store, False))


def test_an_adapter_is_merged_into_a_folder_beside_it(base: Path, tmp_path: Path, store: Store) -> None:
    adapter = changed(trained(base, KINDS["lora"], tmp_path / "adapter"), base_model_name_or_path="../base")
    found = located(adapter, store)
    (job,) = found.conversions
    assert found.base and job.format == "adapter" and job.base == found.base.model
    made = store.read(make(store, job))
    assert found.model.artifact == made.ref and (made.path / "tokenizer.json").is_file()
    wanted = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))
    torch.testing.assert_close(logits(load_model(made.path, torch.float32)), wanted, rtol=1e-4, atol=1e-4)


def test_its_key_follows_both(base: Path, tmp_path: Path, store: Store) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    before = located(adapter, store).model.artifact
    assert located(changed(adapter, lora_alpha=1), store).model.artifact != before
    changed(adapter, lora_alpha=9)
    tiny_model("llama", seed=6, tied=False).save_pretrained(base)
    after = located(adapter, store)
    assert after.model.artifact != before
    tiny_model("llama", seed=7, tied=False).save_pretrained(base)
    with pytest.raises(UserError, match="has changed since this job was made"):
        make(store, after.conversions[0])


def test_its_base_may_have_to_be_converted_first(base: Path, tmp_path: Path, store: Store) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base)
    wanted = logits(PeftModel.from_pretrained(copy.deepcopy(plain), str(adapter)))
    torch.save(plain.state_dict(), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match="its pickled weights load where a pair file allows"):
        located(adapter, store)
    jobs = located(adapter, store, pickled=True).conversions
    assert [job.format for job in jobs] == ["pickled", "adapter"]
    made = [store.read(make(store, job)).path for job in jobs]
    torch.testing.assert_close(logits(load_model(made[-1], torch.float32)), wanted, rtol=1e-4, atol=1e-4)


def test_pickled_adapters_are_taken_where_they_are_allowed(base: Path, tmp_path: Path, store: Store) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter", safe_serialization=False)
    with pytest.raises(UserError, match="its pickled weights load where a pair file allows them"):
        located(adapter, store)
    job = located(adapter, store, pickled=True).conversions[0]
    wanted = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))
    found = load_model(store.read(make(store, job)).path, torch.float32)
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-4)


def test_a_base_s_chat_template_is_the_adapter_s(base: Path, tmp_path: Path, store: Store, tokenizer: Any) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    assert located(adapter, store).model.chat_template is None
    untold = copy.deepcopy(tokenizer)
    untold.chat_template = None
    untold.save_pretrained(base)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    template = located(adapter, store).model.chat_template
    assert template is not None and template.name == "default"


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path; add it"),
        ({"base_model_name_or_path": "./gone"}, r"the base of adapter .* './gone': there is no such folder"),
        ({"base_model_name_or_path": "gone"}, r"unknown the base of adapter .* 'gone'"),
        ({"peft_type": "XLORA"}, r"is an adapter of type XLORA, and only LORA, .* can be merged"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    settings: dict[str, Any], said: str, base: Path, tmp_path: Path, store: Store
) -> None:
    adapter = changed(trained(base, KINDS["lora"], tmp_path / "adapter"), **settings)
    with pytest.raises(UserError, match=said) as caught:
        located(adapter, store)
    assert "\n" not in str(caught.value) and str(adapter) in str(caught.value)


def test_a_base_that_is_not_here_is_named_with_what_fetches_it(
    base: Path, tmp_path: Path, store: Store, hub_cache: Path
) -> None:
    adapter = changed(
        trained(base, KINDS["lora"], tmp_path / "adapter"), base_model_name_or_path="some/base", revision="v2"
    )
    with pytest.raises(MissingModelError) as caught:
        located(adapter, store)
    said = str(caught.value)
    assert f"{adapter} is an adapter of some/base: some/base@v2 is not in the local hub cache" in said
    assert "hf download some/base --revision v2" in said


def test_vectors_before_the_text_are_no_change_of_weights(base: Path, tmp_path: Path, store: Store) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(UserError, match="is an adapter of type PROMPT_TUNING, and only"):
        located(trained(base, config, tmp_path / "adapter"), store)


def test_a_quantised_base_is_refused(base: Path, tmp_path: Path, store: Store) -> None:
    adapter = trained(base, KINDS["lora"], tmp_path / "adapter")
    file = base / "config.json"
    how = {"quantization_config": {"load_in_4bit": True}}
    file.write_text(json.dumps(json.loads(file.read_text()) | how))
    with pytest.raises(UserError, match=r"which is quantised \(bitsandbytes\), and nothing can be merged into that"):
        located(adapter, store)


def test_an_adapter_of_an_adapter_is_refused(base: Path, tmp_path: Path, store: Store) -> None:
    first = trained(base, KINDS["lora"], tmp_path / "first")
    second = changed(trained(base, KINDS["lora"], tmp_path / "second"), base_model_name_or_path=str(first))
    with pytest.raises(UserError, match=r"is an adapter of .*first, which is an adapter itself; save it merged"):
        located(second, store)


def test_full_weights_beside_an_adapter_are_the_checkpoint(base: Path, store: Store) -> None:
    trained(base, KINDS["lora"], base)
    assert located(base, store).conversions == ()
