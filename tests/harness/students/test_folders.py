"""Trained students as stock folders: what is in them, whose files they are, and how they get to the hub."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError
from transformers import AutoTokenizer

from harness.cli import results, run
from harness.cli.options import RunRequest
from harness.core.errors import UserError
from harness.run import launch
from harness.store import Store
from harness.students import upload
from harness.students.folders import folder_names, is_stock, source_of
from tests.harness.making import prompt_ids, stock
from tests.harness.tiny_runs import request, road_of
from tests.waiting import LIMIT

STOCK = {
    *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """A finished run of SFT and dDPO in root/out."""
    folder = tmp_path_factory.mktemp("run")
    run.run(request(folder, checkpoints), folder / "out", None, False)
    return folder


@pytest.fixture
def asked(root: Path, checkpoints: dict[str, Path]) -> RunRequest:
    return request(root, checkpoints)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def artifact(asked: RunRequest, name: str) -> tuple[Store, str]:
    road, store = road_of(asked)
    return store, road.trainings[name]


# ---- what a folder holds


def test_a_student_is_a_stock_folder_with_the_trained_weights(root: Path, asked: RunRequest) -> None:
    store, ref = artifact(asked, "ddpo")
    folder = root / "out" / "students" / "ddpo"
    assert {path.name for path in folder.iterdir()} == STOCK
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([prompt_ids(tokenizer, "What is rain?")])
    with torch.no_grad():
        assert torch.equal(stock(folder)(ids).logits, stock(store.path(ref))(ids).logits)
    assert not torch.equal(stock(folder)(ids).logits, stock(root / "out" / "students" / "sft")(ids).logits)


def test_weights_take_no_room_and_an_edit_of_anything_else_reaches_no_artifact(root: Path, asked: RunRequest) -> None:
    store, ref = artifact(asked, "sft")
    folder = root / "out" / "students" / "sft"
    for path in (folder / name for name in STOCK - {"README.md"}):
        assert path.samefile(store.path(ref) / path.name) == (path.suffix == ".safetensors"), path.name
    assert store.set_aside_if_damaged(ref) is None and Store(store.root).intact(ref)


def test_a_second_run_changes_nothing(root: Path, asked: RunRequest) -> None:
    before = snapshot(root / "out" / "students")
    run.run(asked, root / "out", None, False)
    assert snapshot(root / "out" / "students") == before


def test_the_card_is_one_that_the_hub_takes(root: Path) -> None:
    text = (root / "out" / "students" / "ddpo" / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["tags"] == ["distillation", "ddpo", "dadpo-harness"]
    assert "No row is told from the next" in text and "declared proxy" in text and "python -m harness run" in text


def test_students_are_no_part_of_the_manifest(root: Path) -> None:
    assert '"students' not in (root / "out" / "manifest.json").read_text()
    assert results.verify(root / "out", root / "store") == 0


def test_folders_of_methods_that_are_gone_are_removed_but_no_file_of_somebody(
    tmp_path: Path, root: Path, checkpoints: dict[str, Path]
) -> None:
    out, mine = tmp_path / "out", tmp_path / "out" / "students" / "ddpo" / "ddpo.gguf"
    run.run(request(root, checkpoints), out, None, False)
    mine.write_text("converted for an hour")
    for name in ("model-00001-of-00002.safetensors", ".model.safetensors.partial"):
        (out / "students" / "sft" / name).write_text("of an earlier run")
    run.run(request(root, checkpoints, "sft"), out, None, False)
    assert [path.name for path in mine.parent.iterdir()] == ["ddpo.gguf"]
    assert {path.name for path in (out / "students" / "sft").iterdir()} == STOCK
    mine.unlink()
    run.run(request(root, checkpoints, "sft"), out, None, False)
    assert [path.name for path in (out / "students").iterdir()] == ["sft"]


def test_where_no_link_can_be_made_weights_are_copied_once(
    tmp_path: Path, asked: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_file_system(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_file_system)
    store, ref = artifact(asked, "sft")
    run.run(asked, tmp_path / "out", None, False)
    folder = tmp_path / "out" / "students" / "sft"
    weights, theirs = folder / "model.safetensors", store.path(ref) / "model.safetensors"
    assert weights.read_bytes() == theirs.read_bytes() and not weights.samefile(theirs)
    assert {path.name for path in folder.iterdir()} == STOCK
    before = snapshot(folder)
    run.run(asked, tmp_path / "out", None, False)
    assert snapshot(folder) == before


def test_weights_that_were_changed_through_the_link_are_made_again(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    asked = request(tmp_path / "own", checkpoints, "sft")
    run.run(asked, tmp_path / "out", None, False)
    weights = tmp_path / "out" / "students" / "sft" / "model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + b"\x01")
    run.run(asked, tmp_path / "out", None, False)
    assert weights.read_bytes() == right


# ---- names and sources


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["sft", "ddpo-beta0.15"], ["sft", "ddpo-beta0.15"]),
        (["ddpo-beta0.15 (for dadpo)"], ["ddpo-beta0.15-for-dadpo"]),
        (["../../etc", "a/b\x00c", "--x--y..z", "\u202e", "."], ["etc", "a-b-c", "x-y.z", "student", "student-"]),
        (["A b", "a-b"], ["A-b", "a-b-"]),
    ],
)
def test_a_folder_s_name_is_a_word_and_nobody_else_s(names: list[str], wanted: list[str]) -> None:
    found = list(folder_names(names).values())
    assert [
        name if not want.endswith("-") else name[: len(want)] for name, want in zip(found, wanted, strict=True)
    ] == wanted
    assert len({name.lower() for name in found}) == len(names)


def test_the_harness_s_own_files_are_not_taken() -> None:
    ours = ["metrics.jsonl", "checkpoint.pt", "dadpo-harness/events.out.tfevents.1", "logs/a.json"]
    assert [name for name in ours if is_stock(name)] == []


def test_a_pruned_student_is_known_by_the_model_that_was_pruned() -> None:
    found = source_of("smollm2-135m-pruned20")
    assert (found.hub, found.license) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0")
    assert source_of("qwen2.5-1.5b").hub == "Qwen/Qwen2.5-1.5B-Instruct"


# ---- the hub


class FakeHub:
    """What HfApi is asked for."""

    def __init__(self) -> None:
        self.who: Any = {"name": "me", "orgs": [{"name": "lab"}], "auth": {"accessToken": {"role": "write"}}}
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.uploaded: dict[str, set[str]] = {}
        self.broken: set[str] = set()

    def whoami(self) -> Any:
        if isinstance(self.who, Exception):
            raise self.who
        return self.who

    def create_repo(self, repository: str, **options: Any) -> None:
        self.created.append((repository, options))

    def upload_folder(self, repo_id: str, folder_path: Path, **_: Any) -> None:
        if repo_id in self.broken:
            raise OSError("502 Bad Gateway\nand a page of HTML")
        self.uploaded[repo_id] = {path.name for path in folder_path.iterdir()}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("whoami", "create_repo", "upload_folder"):
        monkeypatch.setattr(HfApi, name, lambda _self, *args, _n=name, **options: getattr(made, _n)(*args, **options))
    return made


def test_each_method_goes_to_a_private_repository(
    root: Path, checkpoints: dict[str, Path], fake: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    run.run(request(root, checkpoints), root / "out", None, False, "lab")
    assert list(fake.uploaded) == ["lab/llama-sft", "lab/llama-ddpo"]
    assert fake.created == [(name, {"private": True, "exist_ok": True}) for name in fake.uploaded]
    assert fake.uploaded["lab/llama-ddpo"] == STOCK
    assert "uploaded to https://huggingface.co/lab/llama-ddpo" in " ".join(capsys.readouterr().err.split())


def test_controls_are_not_uploaded(tmp_path: Path, checkpoints: dict[str, Path], fake: FakeHub) -> None:
    run.run(request(tmp_path / "r", checkpoints, "dadpo", controls="basic"), tmp_path / "o", None, False, "me")
    assert list(fake.uploaded) == ["me/llama-dadpo"]
    assert (tmp_path / "o" / "students" / "ddpo-beta0.15").is_dir()


def test_a_failed_upload_is_one_line_that_says_how_to_try_again(root: Path, asked: RunRequest, fake: FakeHub) -> None:
    fake.broken = {"me/llama-sft"}
    with pytest.raises(UserError) as error:
        run.run(asked, root / "out", None, False, "me")
    assert "not uploaded: me/llama-sft (OSError: 502 Bad Gateway)" in str(error.value)
    assert "run it again" in str(error.value) and "HTML" not in str(error.value)
    assert list(fake.uploaded) == ["me/llama-ddpo"]
    fake.broken = set()
    run.run(asked, root / "out", None, False, "me")
    assert set(fake.uploaded) == {"me/llama-sft", "me/llama-ddpo"}


@pytest.mark.parametrize(
    ("who", "part"),
    [
        (LocalTokenNotFoundError("for\nparagraphs"), "there is no token; run `hf auth login`"),
        (OSError("no token"), "does not say whose token this is: OSError: no token"),
        ({"name": "me", "orgs": [], "auth": {"accessToken": {"role": "read"}}}, "may only read"),
        ({"name": "someone", "orgs": [{"name": "else"}]}, "may write to: someone, else"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_any_work(
    tmp_path: Path, checkpoints: dict[str, Path], fake: FakeHub, monkeypatch: pytest.MonkeyPatch, who: Any, part: str
) -> None:
    fake.who = who
    refused(tmp_path, checkpoints, monkeypatch, part)


def test_no_network_no_work(tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(tmp_path, checkpoints, monkeypatch, "HF_HUB_OFFLINE is set")


def test_a_hub_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, checkpoints: dict[str, Path], fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PATIENCE", 0.05)
    never = threading.Event()
    monkeypatch.setattr(fake, "whoami", lambda: never.wait(LIMIT))
    refused(tmp_path, checkpoints, monkeypatch, "no answer within")
    never.set()


def refused(tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def no_jobs(*_: Any) -> int:
        raise AssertionError("computed")

    monkeypatch.setattr(launch, "run_jobs", no_jobs)
    with pytest.raises(UserError, match="--push-to-hub me") as error:
        run.run(request(tmp_path / "r", checkpoints), tmp_path / "o", None, False, "me")
    assert part in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "o").exists() and not (tmp_path / "r" / "store").exists()


def test_repositories_have_names_that_the_hub_takes() -> None:
    from huggingface_hub.utils import validate_repo_id

    found = upload.repositories("o" * 42, "/m/..A  very--long/" + "name" * 40, ["x" * 80, "b/../c", "x" * 80 + "y"])
    assert len(set(found.values())) == 3
    for repository in found.values():
        validate_repo_id(repository)
