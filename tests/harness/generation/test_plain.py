"""Steps of our own against transformers' `generate`, and which models take them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from harness.generation import plain as module
from harness.generation.local import sampling_model
from harness.generation.packed import PackedLinear, available
from harness.generation.plain import PLAIN, PlainDecoder, plain, similar
from harness.generation.protocol import Sampling
from harness.generation.sampler import GROUPED_ATTENTION, ForwardDecoder, decode_batch, decoder_of, row_uniforms
from harness.models.families import FAMILIES
from harness.models.loading import load_model
from tests.harness.sizes import SIZES

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MODELS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "llama-biases-tied": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama-every-head-its-own": LlamaConfig(**SIZES | {"num_key_value_heads": 4}),
    "llama-wide-heads": LlamaConfig(**SIZES, head_dim=16, rope_parameters=LLAMA3),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    "qwen2-yarn": Qwen2Config(**SIZES, rope_parameters=YARN),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
}
NEW = 16
PROMPTS = [
    [random.Random(row).randrange(3, 64) for _ in range(length)] for row, length in enumerate((1, 9, 14, 3, 9, 31))
]


def of(config: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A checkpoint whose biases and norms say something."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return load_model(folder, dtype)


def generated(model: Any, prompt: Sequence[int]) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    out = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW, eos_token_id=None)
    found: list[int] = out[0, len(prompt) :].tolist()
    return found


def test_each_family_of_the_packed_layout_has_its_step() -> None:
    assert {config.model_type for config in MODELS.values()} == FAMILIES
    assert {kind.config_class.model_type for kind in PLAIN} == FAMILIES


@pytest.mark.parametrize("name", MODELS)
def test_greedy_tokens_are_those_of_generate(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = of(MODELS[name], tmp_path)
    wanted = [generated(model, prompt) for prompt in PROMPTS]
    model.set_attn_implementation(GROUPED_ATTENTION)
    assert isinstance(decoder_of(model), PlainDecoder)
    sampling, uniforms = Sampling(temperature=0, max_new_tokens=NEW), torch.zeros(len(PROMPTS), NEW)
    assert decode_batch(model, PROMPTS, uniforms, sampling, (), 64) == wanted
    monkeypatch.setattr(module, "READ", 12)  # prompts in several goes
    monkeypatch.setattr(module, "PADDED_SHARE", 0.6)
    assert decode_batch(model, PROMPTS, uniforms, sampling, (), 64) == wanted
    stops = [wanted[0][2], wanted[3][5]]
    ends = [next((place for place, token in enumerate(row) if token in stops), NEW) + 1 for row in wanted]
    found = decode_batch(model, PROMPTS, uniforms, sampling, stops, 64)
    assert found == [row[:end] for row, end in zip(wanted, ends, strict=True)]


@pytest.mark.parametrize("name", MODELS)
def test_bf16_logits_differ_from_float32_by_rounding_alone(name: str, tmp_path: Path) -> None:
    """Packed, where this machine has it: about as far as those of the model's own forward."""
    exact = of(MODELS[name], tmp_path)
    own, ours = load_model(tmp_path, torch.bfloat16), sampling_model(tmp_path)
    assert any(isinstance(layer, PackedLinear) for layer in ours.modules()) == available()
    draw = random.Random(1)
    decoder = PlainDecoder(ours)
    texts = [list(prompt) for prompt in PROMPTS]
    with torch.inference_mode():
        found = [decoder.read(PROMPTS)]
        for _ in range(4):
            tokens = [draw.randrange(3, 64) for _ in texts]
            for text, token in zip(texts, tokens, strict=True):
                text.append(token)
            found.append(decoder.step(torch.tensor(tokens)))
        off = {}
        for which, model in (("own", own), ("ours", None)):
            errors = []
            for step, logits in enumerate(found):
                for row, text in enumerate(texts):
                    ids = torch.tensor([text[: len(PROMPTS[row]) + step]])
                    wanted = exact(ids).logits[0, -1].log_softmax(-1)
                    got = logits[row] if model is None else model(ids).logits[0, -1]
                    errors.append((got.float().log_softmax(-1) - wanted).square().mean())
            off[which] = torch.stack(errors).mean().sqrt().item()
    assert off["ours"] < 1.5 * off["own"]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(MistralConfig(**SIZES, sliding_window=4), id="windowed"),
        pytest.param(LlamaConfig(**SIZES, hidden_act="gelu"), id="another activation"),
        pytest.param(
            LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            id="positions that depend on the length",
        ),
        pytest.param(Gemma2Config(**SIZES, head_dim=8), id="capped"),
        pytest.param(GraniteConfig(**SIZES), id="another family"),
    ],
)
def test_what_is_not_plain_goes_through_the_model(config: Any) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not plain(model)
    model.config._attn_implementation = GROUPED_ATTENTION
    assert isinstance(decoder_of(model), ForwardDecoder)


def test_a_class_of_its_own_goes_through_the_model() -> None:
    class Own(LlamaForCausalLM):  # type: ignore[misc]
        pass

    assert plain(LlamaForCausalLM(MODELS["llama"]))
    assert not plain(Own(MODELS["llama"]))


def test_attention_of_another_kind_goes_through_the_model() -> None:
    """Whoever loads a model with it wants it."""
    assert isinstance(decoder_of(LlamaForCausalLM(MODELS["llama"])), ForwardDecoder)


@pytest.mark.parametrize(
    ("lengths", "wanted"), [([5], [1]), ([9, 10, 10], [3]), ([1, 10, 10, 100, 2, 2], [1, 2, 1, 2]), ([7, 3], [1, 1])]
)
def test_rows_of_similar_length_are_read_together(lengths: list[int], wanted: list[int]) -> None:
    groups = similar(lengths)
    assert [group.stop - group.start for group in groups] == wanted
    assert [length for group in groups for length in lengths[group]] == lengths


def test_a_row_is_drawn_from_its_own_text_alone(tmp_path: Path) -> None:
    """Whatever lies beside it, in float32."""
    model = of(MODELS["qwen3"], tmp_path)
    model.set_attn_implementation(GROUPED_ATTENTION)
    uniforms = torch.stack([row_uniforms(0, "test", str(row), NEW) for row in range(len(PROMPTS))])
    together = decode_batch(model, PROMPTS, uniforms, Sampling(max_new_tokens=NEW), (), 64)
    for row, prompt in enumerate(PROMPTS):
        alone = decode_batch(model, [prompt], uniforms[row : row + 1], Sampling(max_new_tokens=NEW), (), 64)
        assert alone == [together[row]]
