"""Checkpoints that come with Python code of their own: refused unless asked for, then a part of what the model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.config import resolve
from harness.core.errors import UserError
from harness.models.folders import lacks_own_code
from harness.models.loading import load_model
from harness.models.locate import locate, locate_models, model_folder
from harness.models.reference import Model
from harness.models.specs import ModelSpec
from harness.models.weights import check_checkpoint
from harness.run.jobs import RespondJob, TrainJob
from harness.run.road import Road, build_road
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import make_road, prompt_file, saved

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OddConfig(LlamaConfig):
    model_type = "odd"


class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = found.logits * 0.5
        return found
"""
MAP = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}


@pytest.fixture
def odd(tmp_path: Path, tokenizer: Any) -> Path:
    """A checkpoint whose own code halves the logits."""
    folder = saved(tmp_path / "odd", tiny_model("llama", seed=0), tokenizer)
    (folder / "odd.py").write_text(CODE)
    said(folder, model_type="odd", architectures=["OddForCausalLM"], auto_map=MAP)
    return folder


def said(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


BUFFERS = """
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("gain", torch.full((4,), 0.5), persistent=False)
        self.register_buffer("again", torch.full((4,), 2.0))

    def forward("""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_own_code_computes_for_itself_is_computed(
    odd: Path, dtype: torch.dtype, checkpoints: dict[str, Path]
) -> None:
    """transformers leaves what happens to lie in memory."""
    code = CODE.replace("\n    def forward(", BUFFERS).replace("* 0.5", "* self.gain[0] * self.again[1]")
    (odd / "odd.py").write_text(f"import torch\n{code}")
    check_checkpoint(odd, remote_code=True)
    found = load_model(odd, dtype, remote_code=True)
    assert found.gain.tolist() == [0.5] * 4 and found.again.tolist() == [2.0] * 4 and found.gain.dtype == dtype
    ids = torch.arange(3, 9)[None]
    torch.testing.assert_close(found(ids).logits, load_model(checkpoints["llama"], dtype)(ids).logits)


def test_weights_that_own_code_lacks_are_named(odd: Path) -> None:
    weights = load_file(odd / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    kept = {name: tensor for name, tensor in weights.items() if name != gone}
    save_file(kept, odd / "model.safetensors", metadata={"format": "pt"})
    for look in (check_checkpoint, lambda folder, remote_code: load_model(folder, torch.float32, remote_code=True)):
        with pytest.raises(UserError, match=f"no {gone}"):
            look(odd, remote_code=True)


def test_own_code_does_not_run_unless_it_is_asked_for(odd: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"add --set trust_remote_code=true$"):
        locate("odd", ModelSpec(path=str(odd)), store, False)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(odd, torch.float32)


def test_a_checkpoint_that_was_fetched_without_its_code_lacks_it(odd: Path) -> None:
    assert not lacks_own_code(odd)
    (odd / "odd.py").unlink()
    assert lacks_own_code(odd)


def test_code_that_lies_elsewhere_is_refused(odd: Path, store: Store) -> None:
    said(odd, auto_map={"AutoModelForCausalLM": "owner/code--odd.OddForCausalLM"})
    with pytest.raises(UserError, match=r"its code lies elsewhere \(owner/code--odd"):
        locate("odd", ModelSpec(path=str(odd)), store, False, remote_code=True)


def test_a_family_that_is_known_is_loaded_by_transformers_own_code(odd: Path, store: Store) -> None:
    said(odd, model_type="llama")
    assert locate("odd", ModelSpec(path=str(odd)), store, False)[0] == odd
    assert type(load_model(odd, torch.float32)).__module__.startswith("transformers.models")


def test_code_is_part_of_what_a_model_is(odd: Path, store: Store, checkpoints: dict[str, Path]) -> None:
    specs = {
        "odd": ModelSpec(path=str(odd), trust_remote_code=True),
        "plain": ModelSpec(path=str(checkpoints["llama"])),
    }
    found = locate_models(specs, store, False)
    assert found["odd"][1].remote_code and not found["plain"][1].remote_code
    assert locate_models(specs, store, False, remote_code=True)["plain"] == found["plain"]
    (odd / "odd.py").write_text(CODE.replace("0.5", "0.25"))
    assert locate_models(specs, store, False)["odd"][1].digest != found["odd"][1].digest


def test_a_run_of_a_model_with_code_of_its_own(odd: Path, store: Store, tmp_path: Path) -> None:
    layer = {
        "student": str(odd),
        "teacher": str(odd),
        "prune": {"ratio": 0.1, "calibration": 2},
        "methods": ["sft", "kd"],
        "controls": "none",
        "trust_remote_code": True,
        "train_prompts": str(prompt_file(tmp_path / "train.jsonl", ["Hi!", "Sing!", "What is rain?"])),
        "eval": [str(prompt_file(tmp_path / "test.jsonl", ["Dance!"]))],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 4},
        "eval_sampling": {"max_new_tokens": 4},
    }
    road: Road = build_road(resolve([layer]), store, download=False)
    models = [value for job in road.jobs.values() for value in dict(job).values() if isinstance(value, Model)]
    assert models and all(model.remote_code for model in models)
    made = make_road(store, road)
    assert store.read(made["train kd"]).facts["padded"] == "it is computed by code of its own"
    model = load_model(store.read(made["train kd"]).path, torch.float32, remote_code=True)
    assert type(model).__name__ == "OddForCausalLM"
    assert {type(job) for job in road.jobs.values()} >= {RespondJob, TrainJob}


def test_a_tokenizer_alone_has_its_code_in_what_it_is(odd: Path, store: Store) -> None:
    """As of a teacher behind a server."""
    specs = {"odd": ModelSpec(path=str(odd), trust_remote_code=True)}
    model = locate_models(specs, store, False, tokenizers=frozenset(specs))["odd"][1]
    assert model.remote_code and model_folder(model, store) == odd
    (odd / "odd.py").write_text(CODE.replace("0.5", "0.25"))
    with pytest.raises(UserError, match="has changed since this job was made"):
        model_folder(model, store)
    said(odd, auto_map={"AutoConfig": "owner/code--odd.OddConfig"})
    with pytest.raises(UserError, match=r"its code lies elsewhere \(owner/code--odd"):
        locate_models(specs, store, False, tokenizers=frozenset(specs))
    plain = locate_models({"odd": ModelSpec(path=str(odd))}, store, False, tokenizers=frozenset(specs))["odd"][1]
    assert not plain.remote_code and model_folder(plain, store) == odd
