"""Pickled weights as safetensors: read as tensors and nothing else, a shard at a time, and written once."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import UserError
from harness.models.files import CODE, SMALL_FILES, weight_files
from harness.progress import Tick

PART_BYTES = 2 * 2**30  # a part is in memory while it is written


def to_safetensors(source: Path, folder: Path, tick: Tick) -> dict[str, Any]:
    """A checkpoint's folder with the same weights, bit for bit, in safetensors; facts about it.

    Raises:
        UserError: a file holds anything but tensors.
    """
    shards = weight_files(source, pickled=True)
    places: dict[str, str] = {}
    numbers = total = 0
    for done, shard in enumerate(shards):
        tick(done, len(shards))
        for part in _parts(_tensors(shard)):
            name = f"model-{len(set(places.values())) + 1:05d}.safetensors"
            save_file(part, folder / name, metadata={"format": "pt"})
            places |= dict.fromkeys(part, name)
            numbers += sum(tensor.numel() for tensor in part.values())
            total += sum(map(_bytes, part.values()))
    if len(set(places.values())) == 1:
        (folder / "model-00001.safetensors").rename(folder / "model.safetensors")
    else:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    for path in {path for pattern in (*SMALL_FILES, CODE) for path in source.glob(pattern)}:
        if not path.name.endswith((".bin.index.json", ".safetensors.index.json")):
            shutil.copyfile(path, folder / path.name)
    return {"parameters": numbers, "source": [shard.name for shard in shards]}


def _tensors(shard: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name; they lie in the file until they are read, where its format allows that."""
    try:
        try:
            found = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file of before torch 1.6
            found = torch.load(shard, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL (\S+)", str(error))
        named = f" ({what[1]})" if what else ""
        raise UserError(f"{shard} holds more than tensors{named}: that may be code, and it was not loaded") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{shard} cannot be read: {said}; fetch it again") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(f"{shard} is no file of weights: it holds other things than tensors by name")
    return found


def _parts(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The same tensors, some at a time, each with memory of its own: in safetensors none share any."""
    part: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if part and sum(map(_bytes, part.values())) + _bytes(tensor) > PART_BYTES:
            yield part
            part = {}
        part[name] = tensor.clone(memory_format=torch.contiguous_format)
    if part:
        yield part


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
