"""What was loaded is looked at, and before it is loaded: weights that are missing, in the way or of another shape,
files that are cut, tokens without an embedding."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
)

from harness.core.errors import UserError
from harness.measures.encoder import embed
from harness.models.convert import dequantise_gguf
from harness.models.families import FAMILIES, PADDED_FAMILIES
from harness.models.loading import load_model
from harness.models.locate import is_language_model
from tests.conftest import tiny_model
from tests.harness.logprobs.test_model import PACKED, PADDED
from tests.harness.making import require_sound
from tests.harness.models.test_loading import gguf_file

Weights = dict[str, torch.Tensor]
CONFIGS = PACKED | PADDED


def config_of(name: str) -> Any:
    """A configuration of a family, with a row for each token."""
    config = copy.deepcopy(CONFIGS[name])
    config.vocab_size = 512
    return config


def saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A checkpoint's weights in one file, changed."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def said(folder: Path) -> list[str]:
    """What is said of a folder before it is loaded, and where it is."""
    found = []
    for look in (require_sound, lambda folder: load_model(folder, torch.float32)):
        with pytest.raises(UserError) as caught:
            look(folder)
        found.append(str(caught.value))
        assert "\n" not in found[-1] and str(folder) in found[-1]
    return found


# ---- families


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_checkpoint_of_every_family_is_taken(name: str, tied: bool, tokenizer: Any, tmp_path: Path) -> None:
    config = config_of(name)
    config.tie_word_embeddings = tied
    folder = saved(tmp_path, AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer)
    assert is_language_model(folder)
    require_sound(folder)
    load_model(folder, torch.float32)


@pytest.mark.parametrize("family", sorted(FAMILIES | PADDED_FAMILIES))
def test_a_weight_that_is_missing_is_named_in_every_family(family: str, tokenizer: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path, AutoModelForCausalLM.from_config(config_of(family)), tokenizer)
    gone = "model.layers.1.mlp.down_proj.weight"
    rewrite(folder, lambda weights: {name: tensor for name, tensor in weights.items() if name != gone})
    assert all(f"no {gone}; save the whole model" in line for line in said(folder))


# ---- what is wrong


@pytest.fixture
def folder(tokenizer: Any, tmp_path: Path) -> Path:
    return saved(tmp_path / "model", tiny_model("llama", seed=0, tied=False), tokenizer)


def test_a_head_that_is_missing_is_named(folder: Path) -> None:
    rewrite(folder, lambda weights: {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"})
    assert all("no lm_head.weight" in line for line in said(folder))


def test_tied_weights_may_lie_there_once_under_either_name(tokenizer: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_model("llama", seed=0, tied=True), tokenizer)
    wanted = load_model(folder, torch.float32).state_dict()
    moved = lambda weights: {name.replace("model.embed_tokens", "lm_head"): it for name, it in weights.items()}  # noqa: E731
    rewrite(folder, moved)
    require_sound(folder)
    found = load_model(folder, torch.float32).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_names_with_a_prefix_are_shown(folder: Path, prefix: str) -> None:
    rewrite(folder, lambda weights: {prefix + name: tensor for name, tensor in weights.items()})
    assert all(f"{prefix}lm_head.weight" in line and "no lm_head.weight" in line for line in said(folder))


def test_names_without_the_usual_prefix_are_read(folder: Path) -> None:
    """As of a checkpoint whose text model alone was saved, with its head."""
    rewrite(folder, lambda weights: {name.removeprefix("model."): tensor for name, tensor in weights.items()})
    require_sound(folder)
    load_model(folder, torch.float32)


@pytest.mark.parametrize(
    "name",
    ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "model.norm.bias", "lm_head.bias"],
)
def test_a_weight_too_many_is_named(folder: Path, name: str) -> None:
    """A layer that the configuration does not count, a bias that it does not say: left out, the model is another."""
    rewrite(folder, lambda weights: weights | {name: torch.zeros(4)})
    assert all(f"{name} that it does not know" in line for line in said(folder))


@pytest.mark.parametrize("name", ["v_head.summary.weight", "score.weight", "model.vision_tower.x.weight", "mtp.0.w"])
def test_parts_of_another_class_are_left(folder: Path, name: str) -> None:
    rewrite(folder, lambda weights: weights | {name: torch.zeros(4)})
    require_sound(folder)
    load_model(folder, torch.float32)


def test_buffers_that_are_computed_anew_may_lie_there(folder: Path) -> None:
    """As older versions saved them."""
    old = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.zeros(4) for layer in range(2)}
    rewrite(folder, lambda weights: weights | old)
    require_sound(folder)
    load_model(folder, torch.float32)


def test_two_shapes_are_named(folder: Path) -> None:
    def narrowed(weights: Weights) -> Weights:
        return {
            name: tensor[:64].contiguous() if "gate_proj" in name or "up_proj" in name else tensor
            for name, tensor in weights.items()
        }

    rewrite(folder, narrowed)
    wanted = "model.layers.0.mlp.gate_proj.weight is [64, 32] where [96, 32] is expected, and 3 more"
    assert all(wanted in line for line in said(folder))


def test_the_weights_of_a_model_that_sees_are_not_those_of_its_text_model(tokenizer: Any, tmp_path: Path) -> None:
    text = config_of("gemma3_text")
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    whole = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text.to_dict(), vision_config=vision))
    folder = saved(tmp_path, whole, tokenizer)
    text.save_pretrained(folder)
    assert all("language_model.model.embed_tokens.weight" in line for line in said(folder))


# ---- files


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_file_that_is_cut_is_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert all("copy or download them again" in line for line in said(folder))


def test_an_empty_set_of_weights_is_refused(folder: Path) -> None:
    save_file({}, folder / "model.safetensors", metadata={"format": "pt"})
    assert all("no lm_head.weight, model.embed_tokens.weight and 19 more" in line for line in said(folder))


# ---- tokens


def test_a_token_without_an_embedding_is_named_with_both_numbers(folder: Path, tokenizer: Any) -> None:
    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["<one>", "<two>"])
    longer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"'<one>' as token 512, and its model has 512 embeddings \(0 to 511\)"):
        require_sound(folder)


def test_more_embeddings_than_tokens_are_as_they_should_be(tokenizer: Any, tmp_path: Path) -> None:
    require_sound(saved(tmp_path, tiny_model("qwen2", seed=0, vocabulary=640), tokenizer))


def test_gemma_3_s_placeholder_of_images_needs_no_embedding(tokenizer: Any, tmp_path: Path) -> None:
    """As google/gemma-3-1b-it has it: its tokenizer is that of the larger models."""
    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["<image_soft_token>"], special_tokens=True)
    folder = saved(tmp_path, AutoModelForCausalLM.from_config(config_of("gemma3_text")), longer)
    require_sound(folder)
    longer.add_tokens(["<other>"])
    longer.save_pretrained(folder)
    with pytest.raises(UserError, match="'<other>' as token 513"):
        require_sound(folder)


# ---- an adapter beside full weights


def test_an_adapter_beside_full_weights_is_left(folder: Path) -> None:
    """transformers would put it on top of them."""
    wanted = load_model(folder, torch.float32).state_dict()
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight" for part in "AB"]
    save_file({names[0]: torch.ones(2, 32), names[1]: torch.ones(32, 2)}, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "x/y", "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"task_type": "CAUSAL_LM"}))
    found = load_model(folder, torch.float32).state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


# ---- what a configuration says


def configured(folder: Path, **settings: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_the_attention_of_the_machine_that_trained_it_is_not_needed(name: str, folder: Path) -> None:
    configured(folder, **{name: "flash_attention_2"})
    require_sound(folder)
    assert load_model(folder, torch.float32).config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "settings", [{"num_attention_heads": 3}, {"hidden_act": "none"}, {"pad_token_id": 512}, {"dtype": "auto"}], ids=str
)
def test_settings_that_make_no_model_are_one_line(settings: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UserError, match=r"model: no model can be made of its config\.json: \w+: ") as caught:
        require_sound(configured(folder, **settings))
    assert "\n" not in str(caught.value)


# ---- GGUF files


def test_a_gguf_file_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    file = gguf_file(tmp_path / "tiny.gguf", "llama", "smollm", without="blk.0.ffn_up")
    with pytest.raises(UserError, match=r"tiny\.gguf: its weights .* no model\.layers\.0\.mlp\.up_proj\.weight"):
        dequantise_gguf(file, tmp_path)


# ---- text encoders


def encoder(folder: Path, tokenizer: Any) -> Path:
    """A tiny BERT as it was pretrained, with the head that an encoder is taken from."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return saved(folder, BertForMaskedLM(BertConfig(vocab_size=512, **sizes)), tokenizer)


def quiet(done: int, total: int, note: str = "") -> None:
    pass


def test_an_encoder_may_come_with_another_head_and_no_pooler(tokenizer: Any, tmp_path: Path) -> None:
    assert embed(encoder(tmp_path, tokenizer), ["one", "two"], quiet).shape == (2, 32)


def test_an_encoder_that_lacks_a_layer_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    folder = encoder(tmp_path, tokenizer)
    rewrite(folder, lambda weights: {name: tensor for name, tensor in weights.items() if ".layer.1." not in name})
    with pytest.raises(UserError, match=r"no encoder\.layer\.1\.attention\."):
        embed(folder, ["one"], quiet)


def test_an_encoder_with_a_layer_too_many_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    folder = encoder(tmp_path, tokenizer)
    rewrite(folder, lambda weights: weights | {"bert.encoder.layer.2.output.dense.weight": torch.zeros(2)})
    with pytest.raises(UserError, match=r"encoder\.layer\.2\.output\.dense\.weight that it does not know"):
        embed(folder, ["one"], quiet)


def test_an_encoder_may_come_with_buffers_that_are_computed_anew(tokenizer: Any, tmp_path: Path) -> None:
    folder = encoder(tmp_path, tokenizer)
    places, types = torch.arange(512)[None], torch.zeros(1, 512, dtype=torch.int64)
    old = {"bert.embeddings.position_ids": places, "bert.embeddings.token_type_ids": types}
    rewrite(folder, lambda weights: weights | old)
    assert embed(folder, ["one"], quiet).shape == (1, 32)
