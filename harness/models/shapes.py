"""How large a model is, by its entry or by the files in its folder; nothing is loaded."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.core.errors import UserError
from harness.core.section import Section
from harness.models import folders

WeightType = Literal["float32", "bfloat16", "float16"]
HALVES: dict[str, WeightType] = {"BF16": "bfloat16", "F16": "float16"}  # by safetensors' names


class Shape(Section):
    """key_value: the width of one token's keys in a layer (key-value heads times their width)."""

    parameters: int = Field(gt=0)
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    mlp: int = Field(gt=0)
    key_value: int = Field(gt=0)
    vocabulary: int = Field(gt=0)

    def pruned(self, ratio: float) -> Shape:
        """With this share of all parameters taken from the MLPs, which are three matrices in each layer."""
        gone = ratio * self.parameters
        width = max(1, self.mlp - round(gone / (3 * self.hidden * self.layers)))
        return self.model_copy(update={"parameters": self.parameters - round(gone), "mlp": width})


def shape_of(folder: Path) -> Shape | None:
    """The shape of a safetensors checkpoint; None where its configuration or its weights do not say it, as numbers that
    are packed several in one do not."""
    try:
        packed = folders.quantisation(folder)
        if packed and packed["quant_method"] != folders.FP8:
            return None
        config = folders.read_json(folder / "config.json")
        heads = config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // heads
        return Shape(
            parameters=sum(map(_numbers, folders.weight_files(folder))),
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            mlp=config["intermediate_size"],
            key_value=width * (config.get("num_key_value_heads") or heads),
            vocabulary=config["vocab_size"],
        )
    except (
        UserError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
        struct.error,
    ):  # a damaged file or none, or a family with names of its own
        return None


def weight_type(folder: Path) -> WeightType | None:
    """What a safetensors checkpoint's weights are without loss: the 16-bit type that all have, else float32; of a
    quantised one, as what they are multiplied. None where it has none that can be read."""
    found = types_of(folder)
    if not found:
        return None
    if folders.quantisation(folder):
        return "bfloat16"
    return HALVES.get(found.pop(), "float32") if len(found) == 1 else "float32"


def types_of(folder: Path) -> set[str]:
    """The types of a safetensors checkpoint's numbers, by safetensors' names; none where nothing can be read."""
    try:
        return {entry["dtype"] for file in folders.weight_files(folder) for entry in header(file)[0].values()}
    except (UserError, KeyError, TypeError, ValueError, OSError, struct.error):
        return set()


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds."""
    return sum(math.prod(entry["shape"]) for entry in header(file)[0].values())


def header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """What a safetensors file's header says of each tensor by name, and how many bytes the file has if it is whole.

    Raises:
        ValueError, KeyError, TypeError, OSError, struct.error: it is none.
    """
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        found: dict[str, Any] = json.loads(opened.read(min(length, 100_000_000)))
    found.pop("__metadata__", None)
    return found, 8 + length + max((entry["data_offsets"][1] for entry in found.values()), default=0)
