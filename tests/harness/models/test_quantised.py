"""Quantised checkpoints: what is said of them, and those that are read here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.core.errors import UserError
from harness.models.loading import frozen_model, reading_model
from harness.models.quantised import require_readable, untrainable
from harness.models.shapes import shape_of, weight_type
from harness.models.weights import check_checkpoint
from harness.serving.resident import let_go_of_all
from tests.conftest import tiny_model

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    let_go_of_all()
    yield
    let_go_of_all()


def configured(folder: Path, how: object, at: str = "") -> Path:
    """A tiny checkpoint whose configuration says so of its weights."""
    tiny_model("llama", seed=0, tied=False).save_pretrained(folder)
    file = folder / "config.json"
    said = {"quantization_config": how}
    file.write_text(json.dumps(json.loads(file.read_text()) | ({at: said} if at else said)))
    return folder


def in_8_bits(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of such a checkpoint as DeepSeek's are, a scale a block; what they are in plain numbers."""
    file, packed, plain = folder / "model.safetensors", {}, {}
    for name, tensor in load_file(file).items():
        plain[name] = tensor.bfloat16().float()
        packed[name] = tensor.bfloat16()
        if "proj" in name:
            scale = tensor.abs().max() / 448
            packed[name] = (tensor / scale).to(torch.float8_e4m3fn)
            packed[f"{name}_scale_inv"] = scale.reshape(1, 1)
            plain[name] = (packed[name].float() * scale).bfloat16().float()
    save_file(packed, file, metadata={"format": "pt"})
    return plain


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(torch.arange(3, 40)[None]).logits
    return found.float()


@pytest.mark.parametrize("at", ["", "text_config"])
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gguf"}, "gguf"),
        ({"bits": 4}, "unknown"),
    ],
)
def test_a_student_s_kind_is_named(how: dict[str, Any], kind: str, at: str, tmp_path: Path) -> None:
    assert f"student {tmp_path} is quantised ({kind})" in untrainable(configured(tmp_path, how, at))
    assert shape_of(tmp_path) is None  # its packed numbers are not its parameters


@pytest.mark.parametrize("how", [None, {}])
def test_a_configuration_that_says_nothing_is_of_plain_weights(how: object, tmp_path: Path) -> None:
    assert untrainable(configured(tmp_path, how)) == ""
    require_readable("teacher", tmp_path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "optimum"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
        ({"quant_method": "torchao", "quant_type": {"default": "int4_weight_only"}}, "torchao"),
        ({"quant_method": "eetq"}, "kernels"),
        ({"quant_method": "aqlm"}, "aqlm"),
        ({"quant_method": "new"}, "which transformers does not read"),
        ({"bits": 4}, "which transformers does not read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_here_is_said_with_its_package(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    in_8_bits(configured(tmp_path, how))
    with pytest.raises(UserError, match=f"teacher .* is quantised .*{said}") as caught:
        require_readable("teacher", tmp_path)
    assert "\n" not in str(caught.value)


def test_plain_weights_under_such_a_configuration_are_said_to_be_plain(tmp_path: Path) -> None:
    configured(tmp_path, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    wanted = "its weights are not packed: if they are whole, take quantization_config out of its config.json"
    assert wanted in untrainable(tmp_path)
    with pytest.raises(UserError, match=wanted):
        require_readable("teacher", tmp_path)


def test_8_bit_floats_are_read_as_the_numbers_that_they_are(tmp_path: Path) -> None:
    plain = in_8_bits(configured(tmp_path / "packed", FP8))
    folder = tmp_path / "packed"
    require_readable("teacher", folder)
    check_checkpoint(folder)
    shape = shape_of(folder)
    assert shape and shape.parameters == sum(map(torch.numel, plain.values())) + 14  # with a scale each
    assert weight_type(folder) == "bfloat16"
    wanted = tiny_model("llama", seed=0, tied=False)
    wanted.load_state_dict(plain)
    torch.testing.assert_close(logits(reading_model(folder)), logits(wanted), rtol=1e-4, atol=1e-4)
    assert next(frozen_model(folder, torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_8_bit_floats_without_a_scale_are_refused(tmp_path: Path) -> None:
    in_8_bits(configured(tmp_path, FP8))
    weights, gone = load_file(tmp_path / "model.safetensors"), "model.layers.0.mlp.up_proj.weight"
    del weights[f"{gone}_scale_inv"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"have {gone} in 8-bit floats, and no scale of it"):
        check_checkpoint(tmp_path)
