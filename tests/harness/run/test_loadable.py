"""Checkpoints that cannot be loaded as they are to be are refused before any work; what is found out is kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import Config, resolve
from harness.core.errors import UserError
from harness.generation.backends import Backend
from harness.judging import Checkpoint, open_judge
from harness.models import weights
from harness.models.locate import folder_digest
from harness.models.reference import Model
from harness.run.checks import check
from harness.run.loadable import unloadable
from harness.run.sources import FoundModel, Sources
from harness.store import Store
from tests.harness.run.roads import made_sources

pytestmark = pytest.mark.anew

# ---- quantised models


def packed(folder: Path) -> Model:
    folder.mkdir()
    how = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": how}))
    return Model(path=str(folder), digest=folder.name)


@pytest.mark.parametrize(
    ("methods", "judge", "generator", "shown", "read"),
    [
        (["sft"], "openai:m", "vllm", ["length"], False),
        (["sft"], "openai:m", "vllm", ["forward_kl"], True),
        (["sft"], "openai:m", "transformers", [], True),
        (["dadpo"], "openai:m", "vllm", [], True),
        (["kd"], "openai:m", "vllm", [], True),
        (["sft"], "typicality", "vllm", [], True),
        (["sft"], "embedding", "vllm", [], False),
    ],
)
def test_a_quantised_teacher_needs_its_package_where_transformers_loads_it(
    tmp_path: Path, store: Store, methods: list[str], judge: str, generator: Backend, shown: list[str], read: bool
) -> None:
    asked = {"name": judge, "base_url": "http://127.0.0.1:9/v1"}
    config, found = made_sources(methods=methods, judge=asked, measures=shown)
    found = replace(found, teacher=FoundModel(packed(tmp_path / "teacher")), generator=generator)
    said = [
        line
        for line in refused(config, found, store)
        if line.startswith(f"teacher {tmp_path / 'teacher'} is quantised")
    ]
    assert len(said) == read and all("(gptq), and cannot be read here: " in line for line in said)


def test_a_quantised_student_is_refused_and_a_vllm_judge_reads_by_itself(tmp_path: Path, store: Store) -> None:
    config, found = made_sources()
    judge = packed(tmp_path / "judge")
    settings = resolve([{"student": "small", "judge": "vllm:mine"}]).judge
    opened = open_judge("vllm:mine", settings, Checkpoint("d", Path(str(judge.path))))
    found = replace(
        found, student=FoundModel(packed(tmp_path / "student")), judges=((opened, FoundModel(judge)),), unopened=()
    )
    (line,) = refused(config, found, store)
    assert line.startswith(f"student {tmp_path / 'student'} is quantised (gptq), and weights that are packed cannot")


def refused(config: Config, found: Sources, store: Store) -> tuple[str, ...]:
    """What a check refuses, line by line."""
    try:
        check(config, found, store, to_be_asked=False)
    except UserError as error:
        return error.lines
    return ()


# ---- what is found out is kept


def of(folder: Path, store: Store) -> FoundModel:
    return FoundModel(Model(path=str(folder), digest=folder_digest(folder, store)))


def test_a_checkpoint_is_looked_at_once(
    tmp_path: Path, store: Store, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    real = weights.fault

    def fault(folder: Path, *how: object) -> str:
        looked.append(folder)
        return real(folder)

    monkeypatch.setattr(weights, "fault", fault)
    student, teacher = (shutil.copytree(checkpoints[name], tmp_path / name) for name in ("llama", "llama-teacher"))
    config, found = made_sources()

    def lines() -> list[str]:
        return unloadable(config, replace(found, student=of(student, store), teacher=of(teacher, store)), store)

    assert lines() == lines() == [] and looked == [teacher, student]
    file = student / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    wanted = f"{student}: its weights cannot be read: model.safetensors has "
    assert [line.startswith(wanted) for line in lines()] == [True] and looked == [teacher, student, student]
    moved = student.rename(tmp_path / "moved")
    (line,) = unloadable(config, replace(found, student=of(moved, store), teacher=of(teacher, store)), store)
    assert line.startswith(f"{moved}: its weights") and len(looked) == 3


def test_one_folder_in_two_roles_is_named_once(tmp_path: Path, store: Store, checkpoints: dict[str, Path]) -> None:
    folder = shutil.copytree(checkpoints["llama"], tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"pointer")
    config, found = made_sources()
    both = replace(found, student=of(folder, store), teacher=of(folder, store))
    assert unloadable(config, both, store) == [
        f"{folder}: its weights cannot be read: model.safetensors is no safetensors file; copy or download them again"
    ]
