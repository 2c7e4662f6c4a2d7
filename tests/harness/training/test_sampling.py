"""A model in training that writes: what it is while it does, what is put back, and what it says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.generation import sampler
from harness.generation.local import sampling_model
from harness.generation.packed import PackedLinear, available
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example, Layout, collate
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.methods import MethodSettings
from harness.models.loading import save_checkpoint
from harness.training.adapters import with_adapter, without_adapter
from harness.training.data import Wanted, Written
from harness.training.loop import _set_modes
from harness.training.sampling import PURPOSE, Writer, as_sampled
from tests.conftest import tiny_model
from tests.harness.training.trainings import RESPONSES, STOPS, VOCABULARY, quiet

NEW = 12
SAMPLING = Sampling(max_new_tokens=NEW)
WANTED = [Wanted(step, example, sample) for step, sample in ((3, 0), (4, 1)) for example in RESPONSES[:9]]
KINDS = ["llama", "padded", "gemma2", "adapter"]


def in_training(kind: str) -> LogProbModel:
    """Modes and masters as the loop has them."""
    settings = MethodSettings(lora_rank=4 if kind == "adapter" else 0, lora_dropout=0.3)
    causal_lm = tiny_model("gemma2" if kind == "gemma2" else "llama", seed=0)
    if kind == "gemma2":
        causal_lm.set_attn_implementation("eager")  # as it is loaded: SDPA leaves its capping out
    model = LogProbModel(with_adapter(causal_lm, settings, 0), "padded" if kind == "padded" else None)
    if kind == "adapter":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:  # an adapter that says something
                    parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    _set_modes(model, dropout=True)
    return model


def state_of(model: LogProbModel) -> dict[str, Any]:
    return {
        "attention": model.causal_lm.config._attn_implementation,
        "modes": {name: module.training for name, module in model.named_modules()},
        "places": {name: (id(parameter), parameter.data_ptr()) for name, parameter in model.named_parameters()},
        "kinds": {name: (p.dtype, p.requires_grad) for name, p in model.named_parameters()},
    }


def writer(model: LogProbModel, precision: str = "bf16", batch_size: int = 4, seed: int = 5) -> Writer:
    settings = MethodSettings(precision=precision)
    return Writer(model, SAMPLING, STOPS, VOCABULARY, batch_size, settings, seed)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_is_put_back_after_writing(kind: str, precision: str) -> None:
    model = in_training(kind)
    before, masters = state_of(model), {name: p.detach().clone() for name, p in model.named_parameters()}
    own = model.causal_lm.config._attn_implementation
    linear = [module for module in model.modules() if type(module) is torch.nn.Linear]
    with as_sampled(model, precision) as causal_lm:
        assert causal_lm is model.causal_lm
        assert not any(module.training for module in model.modules())
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        wanted = own if model.layout == "padded" else sampler.GROUPED_ATTENTION
        assert causal_lm.config._attn_implementation == wanted
        head, embedding = causal_lm.get_output_embeddings(), causal_lm.get_input_embeddings()
        packs = precision == "bf16" and model.layout == "packed" and available()
        assert {type(module) for module in linear} == {PackedLinear if packs else torch.nn.Linear}
        assert packs or head.weight is embedding.weight
    assert {type(module) for module in linear} == {torch.nn.Linear}
    assert state_of(model) == before
    assert all(torch.equal(parameter, masters[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_put_back_where_writing_fails(kind: str) -> None:
    model = in_training(kind)
    before = state_of(model)
    with pytest.raises(RuntimeError, match="no"), as_sampled(model, "bf16"):
        raise RuntimeError("no")
    assert state_of(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_pass_goes_on_as_if_nothing_was_written(kind: str) -> None:
    gradients = []
    for writes in (False, True):
        model = in_training(kind)
        if writes:
            writer(model)(WANTED, True)
        torch.manual_seed(0)  # of dropout
        model(collate(RESPONSES[:4], model.layout)).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_follows_gradients_still_does_after_writing(kind: str) -> None:
    """As DDP does, which averages them over ranks."""
    model, seen = in_training(kind), []
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    nodes = [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in trained]
    for node in nodes:
        node.register_hook(lambda *_: seen.append(1))
    writer(model)(WANTED[:2], True)
    model(collate(RESPONSES[:4], model.layout)).sum().backward()
    assert len(seen) == len(trained)


def test_writing_takes_no_random_numbers() -> None:
    model = in_training("adapter")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    writer(model)(WANTED, True)
    assert torch.equal(torch.get_rng_state(), before)


def decoded(causal_lm: Any, wanted: list[Wanted], batch_size: int, seed: int = 5) -> list[list[int]]:
    """As responses outside are drawn."""
    found: dict[int, list[int]] = {}
    for places in sampler.form_batches([len(one.example.prompt) for one in wanted], batch_size):
        names = [(f"{PURPOSE}/{wanted[place].step}", wanted[place].name) for place in places]
        uniforms = torch.stack([sampler.row_uniforms(seed, purpose, name, NEW) for purpose, name in names])
        prompts = [wanted[place].example.prompt for place in places]
        rows = sampler.decode_batch(causal_lm, prompts, uniforms, SAMPLING, STOPS, VOCABULARY)
        found |= dict(zip(places, rows, strict=True))
    return [found[place] for place in range(len(wanted))]


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_text_is_that_of_the_checkpoint_that_would_be_saved(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    model = in_training(kind)
    texts = [one.ids for one in writer(model)(WANTED, False)]
    save_checkpoint(model.causal_lm, tokenizer, tmp_path)
    assert texts == decoded(sampling_model(tmp_path), WANTED, 4)
    assert len({tuple(ids) for ids in texts}) == len(texts)
    assert any(len(ids) < NEW for ids in texts)


def test_the_text_of_an_adapter_is_that_of_the_merged_weights() -> None:
    """In float32: bf16 rounds an adapter beside its matrix otherwise than their sum."""
    model = in_training("adapter")
    texts = [one.ids for one in writer(model, "fp32")(WANTED, False)]
    merged = without_adapter(model.causal_lm).eval()
    merged.set_attn_implementation(sampler.GROUPED_ATTENTION)
    assert texts == decoded(merged, WANTED, 4)
    plain = tiny_model("llama", seed=0)
    plain.set_attn_implementation(sampler.GROUPED_ATTENTION)
    assert texts != decoded(plain, WANTED, 4)


def test_a_row_s_text_follows_from_its_name_and_not_from_its_batch() -> None:
    model = in_training("llama")
    whole, singly = (writer(model, "fp32", size)(WANTED, False) for size in (4, 1))
    assert whole == singly
    assert writer(model, "fp32")(WANTED[5:7], False) == whole[5:7]
    assert writer(model, "fp32", seed=6)(WANTED, False) != whole


def test_weights_are_rounded_once_for_all_batches_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    def counted(model: LogProbModel, precision: str) -> Any:
        entered.append(precision)
        return as_sampled(model, precision)

    monkeypatch.setattr("harness.training.sampling.as_sampled", counted)
    assert len(writer(in_training("llama"))(WANTED, True)) == len(WANTED) > 4
    assert entered == ["bf16"]


def test_nothing_to_write_is_nothing_written() -> None:
    assert writer(in_training("llama"))([], True) == []


@pytest.mark.parametrize(("kind", "precision"), list(itertools.product(KINDS, ["bf16", "fp32"])))
def test_log_probs_are_those_of_the_policy_as_it_reads(kind: str, precision: str) -> None:
    model = in_training(kind)
    before = state_of(model)
    found = writer(model, precision)(WANTED, True)
    assert state_of(model) == before
    model.eval()
    for one, wanted in zip(found, WANTED, strict=True):
        assert isinstance(one, Written) and one.log_probs is not None
        assert len(one.log_probs) == len(one.ids)
        example = Example(0, wanted.example.prompt, (one.ids,))
        ((total,),) = sequence_log_probs(model, [example], precision, 4096, quiet)
        np.testing.assert_allclose(sum(one.log_probs), total, rtol=0, atol=1e-3 if precision == "fp32" else 0.5)


def test_text_does_not_hang_on_the_layout() -> None:
    layouts: list[Layout] = ["packed", "padded"]
    texts = []
    for layout in layouts:
        model = LogProbModel(tiny_model("llama", seed=0), layout)
        texts.append([one.ids for one in writer(model, "fp32")(WANTED, False)])
    assert texts[0] == texts[1]
