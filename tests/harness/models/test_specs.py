"""What names of models and pairs stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import resolve
from harness.core.errors import UserError
from harness.models.specs import ModelSpec, Pair, model_spec, models, pairs, resolve_pair
from harness.run.road import build_road
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


@pytest.mark.parametrize("name", ["", "nothing", "a/b/c"])
def test_what_is_none_of_these_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="not a registered model, a folder, or a hub id"):
        model_spec(name)


@pytest.mark.parametrize("name", ["./no/folder", "/no/folder", "../no", "~/none"])
def test_a_path_to_nothing_is_no_misspelt_model(name: str) -> None:
    with pytest.raises(UserError, match=f"^student '{name}': there is no such folder$"):
        model_spec(name, "student")


@pytest.mark.parametrize(
    "fields", [{}, {"hub": "a/b", "path": "/c"}, {"base": "a"}, {"package": "p", "module": "m", "gguf": "f"}]
)
def test_an_entry_has_exactly_one_source(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one source"):
        ModelSpec.model_validate(fields)


def test_a_hub_id_may_pin_a_revision() -> None:
    assert model_spec("owner/name@v1.0") == ModelSpec(hub="owner/name", revision="v1.0")


# ---- a pair's own file


def pair_file(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "my_pair.yaml").write_text(text)
    return str(folder / "my_pair.yaml")


def test_a_pair_s_own_file_names_models(tmp_path: Path) -> None:
    (tmp_path / "mine" / "small").mkdir(parents=True)
    file = pair_file(tmp_path / "mine", "student: small\nteacher: owner/big@v1\nsummary: mine\n")
    assert resolve_pair(file, None) == Pair(
        student=str(tmp_path / "mine" / "small"), teacher="owner/big@v1", summary="mine"
    )
    assert resolve_pair(file, "qwen2.5-7b").teacher == "qwen2.5-7b"


def test_a_pair_s_own_file_describes_models(tmp_path: Path) -> None:
    text = (
        "student: {base: ./big, prune: {ratio: 0.3}}\n"
        "teacher: {path: big, pickled: true, chat_template: t.jinja, trust_remote_code: true}\n"
    )
    (tmp_path / "mine" / "big").mkdir(parents=True)
    pair = resolve_pair(pair_file(tmp_path / "mine", text), None)
    big = str(tmp_path / "mine" / "big")
    assert pair.specs[pair.student].base == big
    assert pair.specs[pair.teacher] == ModelSpec(
        path=big, pickled=True, chat_template=str(tmp_path / "mine" / "t.jinja"), trust_remote_code=True
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("student: a/b", "configuration key 'teacher' is not set"),
        ("student: a/b\nteacher: c/d\ntutor: e", "unknown configuration key 'tutor'"),
        ("student: a/b\nteacher: c/d\nspecs: {}", "unknown configuration key 'specs'"),
        ("student: 3\nteacher: c/d", "configuration key 'student'"),
        ("student: {hbu: a/b}\nteacher: c/d", r"unknown configuration key 'student\.hbu'; did you mean 'hub'\?"),
        ("student: {}\nteacher: c/d", "configuration key 'student': .*exactly one source"),
        ("- a", "expected a mapping"),
        ("student: [", "malformed YAML"),
    ],
)
def test_what_is_wrong_with_a_pair_s_file_is_said_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"my_pair.yaml.*: .*{said}") as caught:
        resolve_pair(pair_file(tmp_path, text), None)
    assert "\n" not in str(caught.value)


def test_a_pair_s_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yml: cannot be read"):
        resolve_pair(str(tmp_path / "none.yml"), None)


def test_a_run_of_a_pair_s_own_file_is_fed_back(tmp_path: Path, store: Store, checkpoints: dict[str, Path]) -> None:
    text = f"student: {{path: {checkpoints['llama']}}}\nteacher: {{path: {checkpoints['llama-teacher']}}}\n"
    file = pair_file(tmp_path / "mine", text)
    sets = {"eval": ["followups"], "eval_sampling": {"max_new_tokens": 64}}  # of the 512 that they take at once
    layer = {"student": file, "methods": ["sft"], "judge": "typicality", **sets}
    road = build_road(resolve([layer]), store, download=False)
    assert (road.pair.student, road.pair.teacher) == ("my_pair-student", "my_pair-teacher")
    assert road.weights["teacher"].path == str(checkpoints["llama-teacher"])
    assert build_road(road.config, store, download=False).jobs.keys() == road.jobs.keys()
    plain = {**layer, "student": str(checkpoints["llama"]), "teacher": str(checkpoints["llama-teacher"])}
    assert build_road(resolve([plain]), store, download=False).jobs.keys() == road.jobs.keys()
