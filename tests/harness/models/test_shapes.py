"""A model's size, from its entry and from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.models.shapes import Shape, shape_of, weight_type
from harness.models.specs import models
from tests.conftest import tiny_model

PUBLISHED = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
}


def test_the_files_of_a_checkpoint_say_its_shape(checkpoints: dict[str, Path]) -> None:
    model = tiny_model("llama", 0)
    expected = Shape(
        parameters=model.num_parameters(), layers=2, hidden=32, mlp=96, key_value=16, vocabulary=512
    )  # fmt: skip
    assert shape_of(checkpoints["llama"]) == expected


def test_shards_are_counted_together(tmp_path: Path) -> None:
    model = tiny_model("qwen2", 0)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    shape = shape_of(tmp_path)
    assert shape and shape.parameters == model.num_parameters()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"hidden_size": 3}'])
def test_what_says_nothing_has_no_shape(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    assert shape_of(tmp_path) is None
    assert shape_of(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, "float32"),
        (torch.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
        (torch.float64, "float32"),
        (None, "float32"),  # of two types
    ],
)
def test_the_files_of_a_checkpoint_say_the_type_of_its_weights(
    tmp_path: Path, dtype: torch.dtype | None, expected: str
) -> None:
    model = tiny_model("llama", 0).to(dtype or torch.bfloat16)
    if dtype is None:
        model.model.norm.float()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    # whatever the configuration says
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert weight_type(tmp_path) == expected


def test_where_no_weights_can_be_read_nothing_is_said_of_their_type(tmp_path: Path) -> None:
    assert weight_type(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"none")
    assert weight_type(tmp_path) is None


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_counts(name: str) -> None:
    shape = models.get(name).shape
    assert shape and shape.parameters == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name, spec in models.items() if spec.shape])
def test_an_entry_s_numbers_belong_together(name: str) -> None:
    """Attention, MLPs and the embedding (one or two) are nearly all of a model."""
    shape = models.get(name).shape
    assert shape
    least = shape.layers * shape.hidden * (2 * shape.hidden + 2 * shape.key_value + 3 * shape.mlp)
    embedding = shape.vocabulary * shape.hidden
    assert any(0.84 < (least + times * embedding) / shape.parameters < 1.001 for times in (1, 2))


def test_a_pruned_shape_loses_what_is_taken_from_its_mlps() -> None:
    whole = models.get("vicuna-7b").shape
    assert whole
    pruned = whole.pruned(0.2)
    assert pruned.parameters == whole.parameters - round(0.2 * whole.parameters)
    gone = 3 * whole.hidden * whole.layers * (whole.mlp - pruned.mlp)
    assert gone == pytest.approx(0.2 * whole.parameters, rel=1e-3)
    assert (pruned.layers, pruned.hidden, pruned.key_value) == (whole.layers, whole.hidden, whole.key_value)
