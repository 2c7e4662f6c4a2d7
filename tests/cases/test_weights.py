"""What was loaded is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.store import Store
from tests.cases.conftest import Case, refused

Weights = dict[str, torch.Tensor]


def test_a_plain_run_ends_well(case: Case) -> None:
    """What the cases change something of."""
    ended = case.run()
    assert ended.status == 0, ended.err
    assert {row["method"] for row in case.results()["rows"]} >= {"sft", "student (untrained)"}


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], Weights]) -> Path:
    """Each weight of a checkpoint as none, itself or others."""
    file = folder / "model.safetensors"
    changed = {name: it for old, tensor in load_file(file).items() for name, it in change(old, tensor).items()}
    save_file(changed, file, metadata={"format": "pt"})
    return folder


def nothing_made(own_store: Path) -> bool:
    return not Store(own_store).refs()


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_checkpoint_without_its_embedding_is_refused_before_any_work(case: Case, own_store: Path, role: str) -> None:
    """Tied to it, its head is missing too. The student would be loaded once its teacher has answered everything."""
    rewrite(getattr(case, role), lambda name, it: {} if "embed_tokens" in name else {name: it})
    assert "embed_tokens.weight" in refused(case.run())
    assert nothing_made(own_store)


def test_prefixed_names_are_refused_before_any_work(case: Case, own_store: Path) -> None:
    """As of a model that was saved while it was compiled: all would be random."""
    rewrite(case.teacher, lambda name, it: {f"_orig_mod.{name}": it})
    assert "_orig_mod.model.embed_tokens.weight" in refused(case.run())
    assert nothing_made(own_store)


def test_pruned_weights_under_the_old_configuration_are_refused_with_both_shapes(case: Case, own_store: Path) -> None:
    def narrowed(name: str, it: torch.Tensor) -> Weights:
        return {name: it[:64].contiguous() if "gate_proj" in name or "up_proj" in name else it}

    rewrite(case.student, narrowed)
    assert "model.layers.0.mlp.gate_proj.weight is [64, 32] where [96, 32] is expected" in refused(case.run())
    assert nothing_made(own_store)


def test_both_models_are_named_together(case: Case) -> None:
    for folder in (case.student, case.teacher):
        rewrite(folder, lambda name, it: {} if "layers.1.mlp.up" in name else {name: it})
    said = refused(case.run()).splitlines()
    assert len(said) == 2 and str(case.student) in said[1] + said[0] and str(case.teacher) in said[0] + said[1]


def test_a_local_judge_is_looked_at_before_any_work(case: Case, own_store: Path) -> None:
    judge = shutil.copytree(case.teacher, case.root / "judge")
    rewrite(judge, lambda name, it: {name: it, "model.layers.2.mlp.up_proj.weight": torch.zeros(2)})
    case.judge = f"transformers:{judge}"
    assert "model.layers.2.mlp.up_proj.weight that it does not know" in refused(case.run())
    assert nothing_made(own_store)


def test_weights_that_are_a_pointer_are_to_be_downloaded(case: Case, own_store: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064d}\nsize 365600\n"
    (case.teacher / "model.safetensors").write_text(pointer)
    said = "model.safetensors is a pointer of Git LFS (`git lfs pull` fetches it); copy or download them again"
    assert said in refused(case.run())
    assert nothing_made(own_store)
