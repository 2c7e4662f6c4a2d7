"""What names of models and pairs stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import resolve
from harness.errors import UserError
from harness.models.names import ModelSpec, Pair, model_spec, models, pairs, resolve_pair
from harness.pipeline import build_road
from harness.store import Store


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
    with pytest.raises(UserError, match=r"'qwen2\.5-14b' is in no pair .* name its teacher with --teacher"):
        resolve_pair("qwen2.5-14b", None)


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
