"""Low-rank adapters: without effect before training, alone in what is trained and kept, merged after it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from harness.core.errors import UserError
from harness.logprobs.batching import Layout
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.methods import MethodSettings
from harness.models.loading import save_checkpoint
from harness.training.adapters import with_adapter, without_adapter
from harness.training.loop import CHECKPOINT
from tests.conftest import tiny_model
from tests.harness.training.trainings import (
    PAIRS,
    InterruptionError,
    Trained,
    interrupt_at,
    new_student,
    quiet,
    same_weights,
    train,
)

peft = pytest.importorskip("peft")
from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: E402

ADAPTER = {"lora_rank": 4, "lora_alpha": 8}
SETTINGS = MethodSettings(**ADAPTER)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def log_probs(causal_lm: Any, layout: Layout | None = None) -> torch.Tensor:
    """Of all pairs, in evaluation mode."""
    return torch.from_numpy(sequence_log_probs(LogProbModel(causal_lm, layout).eval(), PAIRS, "fp32", 4096, quiet))


def switched(causal_lm: Any, on: bool) -> Any:
    for module in causal_lm.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)
    return causal_lm


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train("dadpo", tmp_path_factory.mktemp("trained"), learning_rate=1e-2, **ADAPTER)


@pytest.fixture
def before() -> torch.Tensor:
    return log_probs(new_student().causal_lm)


def test_rank_0_is_the_model_as_it_is() -> None:
    model = tiny_model("llama", seed=0)
    assert with_adapter(model, MethodSettings(), 0) is model
    assert not any(isinstance(module, BaseTunerLayer) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert without_adapter(model) is model


def test_without_peft_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"lora_rank = 4 needs peft; pip install peft"):
        with_adapter(tiny_model("llama", seed=0), SETTINGS, 0)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_is_in_each_linear_layer_but_the_head(family: str, tied: bool) -> None:
    model = with_adapter(tiny_model(family, seed=0, tied=tied), SETTINGS, 0)
    adapted = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    assert {name.rpartition(".")[2] for name in adapted} == set(LINEAR)
    assert len(adapted) == 2 * len(LINEAR)  # in two layers
    for name in adapted:
        layer = model.get_submodule(name)
        assert (layer.r["default"], layer.scaling["default"]) == (4, 8 / 4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(trained) == 2 * len(adapted)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_fresh_adapter_changes_nothing(layout: Layout) -> None:
    adapted = with_adapter(tiny_model("llama", seed=0), SETTINGS, 0)
    assert torch.equal(log_probs(adapted, layout), log_probs(tiny_model("llama", seed=0), layout))


def test_an_adapter_follows_from_its_seed_alone_and_takes_no_random_numbers() -> None:
    def adapter(before: int, seed: int) -> dict[str, torch.Tensor]:
        model = tiny_model("llama", seed=0)
        torch.manual_seed(before)
        state = torch.get_rng_state()
        made = with_adapter(model, SETTINGS, seed)
        assert torch.equal(torch.get_rng_state(), state)
        return {name: value.clone() for name, value in made.state_dict().items() if "lora_A" in name}

    assert same_weights(adapter(before=1, seed=3), adapter(before=2, seed=3))
    assert not same_weights(adapter(before=1, seed=3), adapter(before=1, seed=4))


def test_only_the_adapter_is_trained(trained: Trained) -> None:
    start = with_adapter(tiny_model("llama", seed=0), SETTINGS, 0).state_dict()
    moved = {name for name, value in trained.weights.items() if not torch.equal(value, start[name])}
    assert moved == {name for name in start if "lora_" in name}
    head = trained.model.causal_lm.get_output_embeddings().weight
    assert head is trained.model.causal_lm.get_input_embeddings().weight


def test_switched_off_the_model_is_the_one_that_training_started_from(trained: Trained, before: torch.Tensor) -> None:
    on = log_probs(trained.model.causal_lm)
    assert (on - before).abs().mean() > 0.1  # training did something
    off = log_probs(switched(trained.model.causal_lm, on=False))
    switched(trained.model.causal_lm, on=True)
    assert torch.equal(off, before)


@pytest.mark.parametrize("kind", ["sft", "kd", "ddpo", "dadpo"])
def test_merged_it_is_a_stock_checkpoint_with_the_same_log_probs(
    kind: str, tmp_path: Path, tokenizer: Any, checkpoints: dict[str, Path]
) -> None:
    model = train(kind, tmp_path / "work", learning_rate=1e-2, **ADAPTER).model.causal_lm
    adapted = log_probs(model)
    merged = without_adapter(model)
    assert merged is model
    assert not any(isinstance(module, BaseTunerLayer) for module in merged.modules())
    stock = tiny_model("llama", seed=0)
    assert merged.state_dict().keys() == stock.state_dict().keys()
    save_checkpoint(merged, tokenizer, tmp_path / "saved")
    saved, plain = tmp_path / "saved", checkpoints["llama"]
    assert {path.name for path in saved.iterdir()} == {path.name for path in plain.iterdir()}
    assert json.loads((saved / "config.json").read_text()) == json.loads((plain / "config.json").read_text())
    tensors, others = (load_file(folder / "model.safetensors") for folder in (saved, plain))
    assert tensors.keys() == others.keys()
    loaded = AutoModelForCausalLM.from_pretrained(saved)
    assert type(loaded) is type(stock)
    # sums of ten log-probs, nats
    torch.testing.assert_close(log_probs(loaded), adapted, rtol=1e-6, atol=1e-5)
    assert torch.equal(tensors["model.embed_tokens.weight"], stock.get_input_embeddings().weight)


def test_a_merged_adapter_that_did_not_train_leaves_the_weights_as_they_were() -> None:
    merged = without_adapter(with_adapter(tiny_model("llama", seed=0), SETTINGS, 0))
    assert same_weights(dict(merged.state_dict()), dict(tiny_model("llama", seed=0).state_dict()))


def test_broken_weights_are_not_merged() -> None:
    model = with_adapter(tiny_model("llama", seed=0), SETTINGS, 0)
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        without_adapter(model)


def test_a_checkpoint_holds_the_adapter_alone_and_is_gone_on_from(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**ADAPTER, "learning_rate": 1e-2, "checkpoint_steps": 1}
    undisturbed = train("ddpo", tmp_path / "whole", **settings)
    with pytest.raises(InterruptionError):
        train("ddpo", tmp_path / "broken", tick=interrupt_at(3), **settings)
    state = torch.load(tmp_path / "broken" / CHECKPOINT, weights_only=True)
    names = {f"causal_lm.{name}" for name in undisturbed.weights if "lora_" in name}
    assert state["step"] == 3
    assert state["model"].keys() == names
    assert state["optimizer"]["state"].keys() == names
    assert all(state["model"][name].abs().sum() > 0 for name in names)
    resumed = train("ddpo", tmp_path / "broken", **settings)
    assert len(resumed.gradients) == 2
    assert same_weights(resumed.weights, undisturbed.weights)


def test_dropout_is_on_in_training_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**ADAPTER, "learning_rate": 1e-2}
    plain = train("sft", tmp_path / "plain", **settings)
    dropped = train("sft", tmp_path / "dropped", lora_dropout=0.5, **settings)
    assert dropped.losses[0] == plain.losses[0]  # an adapter that is nothing yet
    assert dropped.losses[1:] != plain.losses[1:]
    first, second = log_probs(dropped.model.causal_lm), log_probs(dropped.model.causal_lm)
    assert torch.equal(first, second)
