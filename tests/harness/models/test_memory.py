"""Memory by formula, against numbers worked by hand and against what a training really holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel
from harness.methods import MethodSettings
from harness.models import memory
from harness.models.shapes import Shape, shape_of
from harness.models.specs import models
from harness.training import adapters
from tests.conftest import tiny_model

SMALL = Shape(parameters=1000, layers=2, hidden=10, mlp=30, key_value=5, vocabulary=100)
QWEN_1_5B = Shape(
    parameters=1_543_714_304, layers=28, hidden=1536, mlp=8960, key_value=256, vocabulary=151_936
)  # fmt: skip


# ---- by hand


def test_a_training_of_all_weights() -> None:
    # a token keeps 30·10 + 8·30 + 4·5 = 560 bytes a layer; linear weights: 2·10·(20 + 10 + 90) = 2400, 2 bytes each
    # logits: 3 · 7·100·4, the head as operand 100·10·2 and its float32 gradient 100·10·4
    assert memory.training(SMALL, tokens=7) == {
        "weights": 4000,
        "gradients": 4000,
        "optimizer": 8000,
        "activations": 2 * 7 * 560 + 4800,
        "logits": 8400 + 2000 + 4000,
    }


def test_a_training_with_checkpointing_keeps_hidden_states_and_one_layer() -> None:
    parts = memory.training(SMALL, tokens=7, checkpointing=True)
    assert parts["activations"] == 2 * 7 * 10 * 4 + 7 * 560 + 2400


def test_a_training_of_adapters_has_gradients_and_moments_of_these_alone() -> None:
    # widths of a layer's matrices: 4·10 + 2·(10 + 5) + 3·(10 + 30) = 190; rank 3, 2 layers
    assert memory.adapter_parameters(SMALL, 3) == 1140
    parts = memory.training(SMALL, tokens=7, lora_rank=3)
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (4 * 2140, 4 * 1140, 8 * 1140)
    assert parts["logits"] == 8400 + 2000  # the head is frozen


def test_a_model_that_reads_holds_its_checkpoint_s_weights_and_its_head_as_an_operand() -> None:
    parts = {"activations": 7 * (20 * 10 + 6 * 30)}
    assert memory.reading(SMALL, 7) == parts | {"weights": 4000, "logits": 2 * 2800 + 2 * 1000}
    assert memory.reading(SMALL, 7, 2) == parts | {"weights": 2000, "logits": 2 * 2800 + 4 * 1000}


def test_sampling_holds_rounded_weights_and_a_cache() -> None:
    # a token's keys and values: 2·2·5·2 = 40 bytes
    assert memory.generation(SMALL, rows=3, prompt_tokens=6, new_tokens=4) == {
        "weights": 2000,
        "cache": 3 * 10 * 40,
        "activations": 3 * 6 * 2 * (40 + 90),
        "logits": 3 * 100 * 4 * 4,
    }


def test_logits_never_exist_for_more_than_a_chunk() -> None:
    few, many = memory.training(QWEN_1_5B, 8192)["logits"], memory.training(QWEN_1_5B, 65_536)["logits"]
    assert few == many == 3 * 2**27 + 6 * 151_936 * 1536


def test_figures_of_a_real_size() -> None:
    parts = memory.training(QWEN_1_5B, 2048)
    assert parts["weights"] + parts["gradients"] + parts["optimizer"] == 16 * 1_543_714_304  # 24.7 GB
    assert 8e9 < parts["activations"] < 11e9
    assert memory.cache_per_token(QWEN_1_5B) == 28 * 1024
    assert sum(memory.training(QWEN_1_5B, 2048, checkpointing=True, lora_rank=16).values()) < 24e9
    teacher = models.get("qwen2.5-7b").shape
    assert teacher and sum(memory.reading(teacher, 2048, memory.BF16).values()) == pytest.approx(18.06e9, rel=1e-3)


# ---- against a training


def states(model: Any) -> tuple[int, int, int]:
    """Bytes of weights, gradients and moments after one real step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    model(input_ids=torch.arange(6)[None]).logits.sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    grads = [parameter.grad for parameter in trained]
    return tuple(sum(tensor.nbytes for tensor in group) for group in (list(model.parameters()), grads, moments))  # type: ignore[return-value,union-attr,misc]


@pytest.mark.parametrize("rank", [0, 4])
def test_weights_gradients_and_moments_are_exact(tmp_path: Path, rank: int) -> None:
    model = tiny_model("llama", 0)
    model.save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    assert shape is not None
    adapters.with_adapter(model, MethodSettings(lora_rank=rank), seed=0)
    parts = memory.training(shape, 64, lora_rank=rank)
    assert states(model) == (parts["weights"], parts["gradients"], parts["optimizer"])


@pytest.mark.parametrize(("layers", "tokens"), [(2, 128), (4, 128), (4, 256)])
def test_activations_are_what_autograd_keeps(layers: int, tokens: int) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=64,
        intermediate_size=192,
        num_attention_heads=4,
        num_key_value_heads=1,
        vocab_size=300,
        tie_word_embeddings=True,
    )
    model = LogProbModel(AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    shape = Shape(parameters=1, layers=layers, hidden=64, mlp=192, key_value=16, vocabulary=300)
    batch = collate([Example(0, list(range(tokens // 4)), (list(range(tokens * 3 // 4)),))], model.layout)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16):
        model(batch)
    found = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
    assert memory.training(shape, tokens)["activations"] == pytest.approx(found, rel=0.1)
