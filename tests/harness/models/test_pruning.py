"""Pruning of MLP width, against explicit gates and against the unpruned model."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Phi3Config

from harness.core.errors import UserError
from harness.models import pruning
from harness.models.loading import save_checkpoint
from harness.models.pruning import CalibrationExample, prune_mlps, pruned_width, unit_importance
from tests.conftest import tiny_model

FAMILIES = ["llama", "qwen2"]


def quiet(done: int, total: int) -> None:
    pass


def random_examples(count: int = 4, seed: int = 0) -> list[CalibrationExample]:
    draw = random.Random(seed)

    def ids() -> list[int]:
        return [draw.randrange(3, 512) for _ in range(draw.randint(2, 12))]

    return [(ids(), ids()) for _ in range(count)]


def some_ids() -> Tensor:
    return torch.randint(3, 512, (2, 15), generator=torch.Generator().manual_seed(5))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        values: Tensor = model(input_ids=some_ids()).logits
    return values


@contextlib.contextmanager
def gated(model: Any, gates: list[Tensor]) -> Iterator[None]:
    """Each MLP unit's output times its gate."""
    hooks = [
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs, gate=gate: (inputs[0] * gate,))
        for layer, gate in zip(model.model.layers, gates, strict=True)
    ]
    yield
    for hook in hooks:
        hook.remove()


def gate_importance(model: Any, examples: list[CalibrationExample]) -> list[Tensor]:
    """Σ over examples of (∂L/∂g)², from gates of ones, in float32."""
    width = model.config.intermediate_size
    totals = [torch.zeros(width) for _ in model.model.layers]
    for prompt, response in examples:
        gates = [torch.ones(width, requires_grad=True) for _ in model.model.layers]
        with gated(model, gates):
            values = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        loss = F.cross_entropy(values, torch.tensor(response), reduction="sum")
        for total, grad in zip(totals, torch.autograd.grad(loss, gates), strict=True):
            total += grad.square()
    return totals


def silence(model: Any, layer: int, units: list[int]) -> None:
    mlp = model.model.layers[layer].mlp
    with torch.no_grad():
        mlp.gate_proj.weight[units] = 0
        mlp.up_proj.weight[units] = 0
        mlp.down_proj.weight[:, units] = 0


# ---- arithmetic


def test_the_width_of_smollm2_pruned_by_a_fifth() -> None:
    assert pruned_width(parameters=134_515_008, width=1536, per_unit=3 * 576 * 30, ratio=0.2) == 1008


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.2, 0.35])
def test_the_width_leaves_at_most_the_share_asked_for(ratio: float) -> None:
    parameters, width, per_unit = 134_515_008, 1536, 3 * 576 * 30
    kept = pruned_width(parameters, width, per_unit, ratio)
    assert kept % 16 == 0
    assert parameters - (width - kept) * per_unit <= (1 - ratio) * parameters
    assert parameters - (width - kept - 16) * per_unit > (1 - ratio) * parameters  # and no narrower than that


def test_another_multiple_is_kept() -> None:
    assert pruned_width(134_515_008, 1536, 3 * 576 * 30, 0.2, multiple=128) == 896


@pytest.mark.parametrize("ratio", [0.6, 0.99])
def test_a_ratio_that_leaves_no_mlp_is_refused(ratio: float) -> None:
    with pytest.raises(UserError, match=r"would leave no MLP; lower the ratio"):
        pruned_width(134_515_008, 1536, 3 * 576 * 30, ratio)


def test_a_model_is_not_pruned_past_its_mlps() -> None:
    with pytest.raises(UserError, match=r"lower the ratio"):
        prune_mlps(tiny_model("llama", seed=0), random_examples(), 0.5, quiet)


# ---- importance


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_is_the_squared_derivative_of_a_gate(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = random_examples()
    wanted = gate_importance(tiny_model(family, seed=1), examples)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # in float32, to compare closely
    found = unit_importance(tiny_model(family, seed=1), examples, quiet)
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * want.max().item())


def test_importance_of_a_model_whose_head_is_not_plain_is_of_its_own_loss_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = [tiny_model("gemma2", seed=1) for _ in range(2)]
    for model in models:
        model.set_attn_implementation("eager")
    examples = random_examples()
    wanted = gate_importance(models[0], examples)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    with contextlib.suppress(UserError):
        for got, want in zip(unit_importance(models[1], examples, quiet), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * want.max().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_in_bf16_ranks_as_in_float32(family: str) -> None:
    examples = random_examples(8)
    wanted = gate_importance(tiny_model(family, seed=1), examples)
    for got, want in zip(unit_importance(tiny_model(family, seed=1), examples, quiet), wanted, strict=True):
        ranks = torch.stack([got.argsort().argsort(), want.argsort().argsort()]).double()
        assert torch.corrcoef(ranks)[0, 1] > 0.97
        largest = want.topk(10).indices
        torch.testing.assert_close(got[largest], want[largest], rtol=0.2, atol=0)


def test_importance_sums_over_examples() -> None:
    first, second = random_examples(1, seed=1), random_examples(1, seed=2)
    parts = [unit_importance(tiny_model("llama", seed=1), part, quiet) for part in (first, second, first + second)]
    for one, other, both in zip(*parts, strict=True):
        torch.testing.assert_close(one + other, both)


def test_a_prompts_own_tokens_are_not_in_the_loss() -> None:
    """A response of one token after a long prompt: its gate derivative is that of this token alone."""
    examples: list[CalibrationExample] = [([5, 6, 7, 8, 9, 10, 11], [12])]
    wanted = gate_importance(tiny_model("llama", seed=1), examples)
    for got, want in zip(unit_importance(tiny_model("llama", seed=1), examples, quiet), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=0.2, atol=0.02 * want.max().item())


def test_ticks_count_examples() -> None:
    ticks: list[tuple[int, int]] = []
    unit_importance(tiny_model("llama", seed=1), random_examples(3), lambda done, total: ticks.append((done, total)))
    assert ticks[:3] == [(0, 3), (1, 3), (2, 3)]


# ---- pruning


@pytest.mark.parametrize("family", FAMILIES)
def test_units_of_zero_weights_go_first_and_change_nothing(family: str) -> None:
    model, whole = tiny_model(family, seed=2), tiny_model(family, seed=2)
    for layer, units in enumerate([list(range(0, 96, 2)), list(range(40, 88))]):
        silence(model, layer, units)
        silence(whole, layer, units)
    pruned = prune_mlps(model, random_examples(), 0.2, quiet)
    assert pruned.config.intermediate_size == 48
    torch.testing.assert_close(logits(pruned), logits(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_pruning_is_closing_the_gates_of_the_least_important_units(family: str) -> None:
    examples, model = random_examples(), tiny_model(family, seed=3)
    importance = unit_importance(tiny_model(family, seed=3), examples, quiet)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned = prune_mlps(model, examples, 0.1, quiet)
    kept = pruned.config.intermediate_size
    assert 0 < kept < 96
    gates = [(scores >= scores.topk(kept).values[-1]).float() for scores in importance]
    with gated(model, gates):
        wanted = logits(model)
    torch.testing.assert_close(logits(pruned), wanted, rtol=1e-4, atol=1e-4)
    for layer, (gate, part) in enumerate(zip(gates, pruned.model.layers, strict=True)):  # in the order they had
        assert torch.equal(part.mlp.gate_proj.weight, before[f"model.layers.{layer}.mlp.gate_proj.weight"][gate > 0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # the old one stays


def test_biases_of_an_mlp_go_with_its_units() -> None:
    def biased() -> Any:
        torch.manual_seed(4)
        config = LlamaConfig(
            vocab_size=512,
            hidden_size=32,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            mlp_bias=True,
            tie_word_embeddings=True,
            initializer_range=0.3,
        )
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for layer in model.model.layers:
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                torch.nn.init.normal_(part.bias)
        return model

    model, examples = biased(), random_examples()
    importance = unit_importance(biased(), examples, quiet)
    pruned = prune_mlps(model, examples, 0.1, quiet)
    gates = [(s >= s.topk(pruned.config.intermediate_size).values[-1]).float() for s in importance]
    with gated(model, gates):
        torch.testing.assert_close(logits(pruned), logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_result_is_a_stock_checkpoint(family: str, tied: bool, tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_model(family, seed=5, tied=tied)
    parameters = model.num_parameters()
    pruned = prune_mlps(model, random_examples(), 0.1, quiet).eval()
    save_checkpoint(pruned, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(loaded) is type(model)
    assert loaded.config.intermediate_size == pruned.config.intermediate_size < 96
    assert {layer.mlp.down_proj.in_features for layer in loaded.model.layers} == {loaded.config.intermediate_size}
    assert loaded.num_parameters() <= 0.9 * parameters
    assert loaded.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    torch.testing.assert_close(logits(loaded), logits(pruned), rtol=0, atol=0)


def test_pruning_twice_gives_the_same_weights() -> None:
    first, second = (prune_mlps(tiny_model("qwen2", seed=6), random_examples(), 0.1, quiet) for _ in range(2))
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_another_mlp_is_refused() -> None:
    config = Phi3Config(  # its gate and up projections are one matrix
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, pad_token_id=0
    )
    with pytest.raises(UserError, match=r"LLaMA- and Qwen2-shaped models, not for phi3"):
        pruning.unit_importance(AutoModelForCausalLM.from_config(config), random_examples(1), quiet)


def test_another_architecture_is_refused() -> None:
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    with pytest.raises(UserError, match=r"LLaMA- and Qwen2-shaped models, not for gpt2"):
        prune_mlps(AutoModelForCausalLM.from_config(config), random_examples(1), 0.1, quiet)
