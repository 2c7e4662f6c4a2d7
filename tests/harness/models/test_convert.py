"""Pickled weights: read as tensors only, converted once, and never loaded where nobody allowed it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.core.errors import UserError
from harness.models import convert
from harness.models.convert import gguf_positions
from harness.models.loading import load_model
from harness.models.locate import folder_digest, locate, locate_models
from harness.models.specs import ModelSpec
from harness.models.tokenizers import load_tokenizer, tokenizer_fingerprint
from harness.run.jobs import ConvertJob
from harness.run.sources import conversion
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import make, quiet

INDEX = "pytorch_model.bin.index.json"


class Malicious:
    """What a pickle runs when it is loaded, unless only tensors are."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def pickled_folder(folder: Path, model: Any, tokenizer: Any, shards: int = 1, **how: Any) -> Path:
    """A checkpoint as models were published before safetensors."""
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state = model.state_dict()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", **how)
        return folder
    names = [f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin" for number in range(shards)]
    places = {key: names[place % shards] for place, key in enumerate(state)}
    for name in names:
        torch.save({key: state[key] for key in state if places[key] == name}, folder / name, **how)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(torch.arange(3, 40)[None]).logits
    return found


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}], ids=["as now", "before torch 1.6"])
@pytest.mark.parametrize("part", [convert.PART_BYTES, 20_000], ids=["one file", "several"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_converted_checkpoint_says_exactly_what_the_original_says(
    store: Store,
    tmp_path: Path,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    tied: bool,
    shards: int,
    part: int,
    how: dict[str, Any],
) -> None:
    monkeypatch.setattr(convert, "PART_BYTES", part)
    model = tiny_model("llama", seed=3, tied=tied)
    folder = pickled_folder(tmp_path / "old", model, tokenizer, shards, **how)
    spec = ModelSpec(path=str(folder), pickled=True)
    path, digest = locate("old", spec, store, False)
    job = conversion("old", spec, str(path), digest)
    assert job and job.format == "pickled"
    made = store.read(make(store, job))
    assert not list(made.path.glob("*.bin*"))
    found = load_model(made.path, torch.float32)
    assert torch.equal(logits(found), logits(model))
    assert tokenizer_fingerprint(load_tokenizer(made.path)) == tokenizer_fingerprint(load_tokenizer(folder))
    assert found.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert made.facts["source"] == sorted(path.name for path in folder.glob("*.bin"))
    files = sorted(made.path.glob("*.safetensors"))
    assert (len(files) > 1) is (shards > 1 or part == 20_000)
    for file in files:
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}


def test_half_precision_stays_what_it_is(store: Store, tmp_path: Path, tokenizer: Any) -> None:
    model = tiny_model("llama", seed=3).half()
    convert.to_safetensors(pickled_folder(tmp_path / "old", model, tokenizer), tmp_path / "new", quiet)
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(autouse=True)
def new_folder(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()


# ---- what is no file of weights


def broken(folder: Path, tokenizer: Any, content: Any) -> Path:
    pickled_folder(folder, tiny_model("llama", seed=3), tokenizer)
    torch.save(content, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("plain", [True, False], ids=["a plain pickle", "in torch's archive"])
def test_a_pickle_that_would_run_something_is_refused_in_one_line(tmp_path: Path, tokenizer: Any, plain: bool) -> None:
    trace = tmp_path / "trace"
    weights = {"weight": torch.zeros(2), "other": Malicious(trace)}
    folder = broken(tmp_path / "old", tokenizer, weights)
    if plain:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(weights["other"]))
    with pytest.raises(UserError, match=r"pytorch_model\.bin (holds more than tensors|cannot be read)") as caught:
        convert.to_safetensors(folder, tmp_path / "new", quiet)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    if not plain:
        assert "(posix.mkdir)" in str(caught.value)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"state": {"weight": torch.zeros(2)}}, {"step": 3}, "text"])
def test_what_holds_other_things_than_tensors_is_refused(tmp_path: Path, tokenizer: Any, content: Any) -> None:
    with pytest.raises(UserError, match="is no file of weights"):
        convert.to_safetensors(broken(tmp_path / "old", tokenizer, content), tmp_path / "new", quiet)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, tokenizer: Any, kept: int) -> None:
    folder = pickled_folder(tmp_path / "old", tiny_model("llama", seed=3), tokenizer)
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"pytorch_model\.bin") as caught:
        convert.to_safetensors(folder, tmp_path / "new", quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: "" if name == "model.norm.weight" else name, r"no model\.norm\.weight"),
        (lambda name: f"module.{name}", r"module\.model\.embed_tokens\.weight .* that it does not know"),
    ],
    ids=["missing", "prefixed"],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    store: Store, tmp_path: Path, tokenizer: Any, change: Callable[[str], str], said: str
) -> None:
    folder = pickled_folder(tmp_path / "old", tiny_model("llama", seed=3), tokenizer)
    found = torch.load(folder / "pytorch_model.bin")
    torch.save({change(name): tensor for name, tensor in found.items() if change(name)}, folder / "pytorch_model.bin")
    job = ConvertJob(path=str(folder), digest=folder_digest(folder, store, pickled=True), format="pickled")
    with pytest.raises(UserError, match=said):
        make(store, job)
    assert not store.has(job.ref)


# ---- where they are allowed


def test_pickled_weights_are_refused_unless_they_are_allowed(store: Store, tmp_path: Path, tokenizer: Any) -> None:
    folder = pickled_folder(tmp_path / "old", tiny_model("llama", seed=3), tokenizer, 2)
    with pytest.raises(UserError, match=r"is not a checkpoint: .*; its pickled weights load where a pair file allows"):
        locate("old", ModelSpec(path=str(folder)), store, False)
    with pytest.raises(OSError, match="safetensors"):
        load_model(folder, torch.float32)


@pytest.mark.parametrize("missing", ["pytorch_model-00002-of-00002.bin", INDEX])
def test_a_shard_that_is_missing_is_no_checkpoint(store: Store, tmp_path: Path, tokenizer: Any, missing: str) -> None:
    folder = pickled_folder(tmp_path / "old", tiny_model("llama", seed=3), tokenizer, 2)
    (folder / missing).unlink()
    with pytest.raises(UserError, match="is not a checkpoint"):
        locate("old", ModelSpec(path=str(folder), pickled=True), store, False)


def test_safetensors_beside_them_are_taken(store: Store, tmp_path: Path, tokenizer: Any) -> None:
    model = tiny_model("llama", seed=3)
    folder = pickled_folder(tmp_path / "old", model, tokenizer)
    model.save_pretrained(folder)
    spec = ModelSpec(path=str(folder), pickled=True)
    path, digest = locate("old", spec, store, False)
    assert conversion("old", spec, str(path), digest) is None
    assert digest == folder_digest(folder, store)


def test_a_conversion_follows_the_weights(store: Store, tmp_path: Path, tokenizer: Any) -> None:
    folder = pickled_folder(tmp_path / "old", tiny_model("llama", seed=3), tokenizer)
    other = shutil.copytree(folder, tmp_path / "other")
    specs = {name: ModelSpec(path=str(tmp_path / name), pickled=True) for name in ("old", "other")}
    digests = [model.digest for _, model in locate_models(specs, store, False).values()]
    assert digests[0] == digests[1]
    torch.save(tiny_model("llama", seed=4).state_dict(), other / "pytorch_model.bin")
    assert locate_models(specs, store, False)["other"][1].digest != digests[0]
    job = ConvertJob(path=str(other), digest=str(digests[0]), format="pickled")
    with pytest.raises(UserError, match="has changed since this job was made"):
        make(store, job)


def test_a_gguf_file_says_how_many_positions_it_has(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_context_length(8192)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert gguf_positions(tmp_path / "m.gguf") == 8192
