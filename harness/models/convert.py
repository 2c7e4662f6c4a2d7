"""GGUF files, pickled weights and adapters as plain checkpoints. Pickles are read as tensors and nothing else, a
shard at a time, and written once."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Regex, normalizers, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.models.folders import CODE, SMALL_FILES, adapter_weights, has_tokenizer, weight_files
from harness.models.loading import load_model, save_checkpoint
from harness.models.tokenizers import load_tokenizer
from harness.models.weights import SAID, require_whole

_QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What a GGUF file says of a text before the merges is a name, and transformers does not make of each what the original
# tokenizer.json has: by `tokenizer.ggml.pre`, the normaliser and the pre-tokenizer that stand there.
_BEFORE_MERGES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "smollm": lambda: (
        None,
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    ),
    "qwen2": lambda: (
        normalizers.NFC(),
        [
            pre_tokenizers.Split(Regex(_QWEN2_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    ),
}


@dataclass(frozen=True)
class _Header:
    """What is read of a GGUF file beside its tensors. pre: how its tokenizer splits text before the merges."""

    pre: str
    positions: int | None


def gguf_tokenizer(file: Path) -> Any:
    """A GGUF file's tokenizer, which makes the ids that the original one makes.

    Raises:
        UserError: it is not known how the original one splits text.
    """
    return copy.deepcopy(_gguf_tokenizer(file, _stamp(file)))


def gguf_positions(file: Path) -> int | None:
    """How many tokens a GGUF file's model takes at once; None where it does not say."""
    return _header(file, _stamp(file)).positions


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=2)  # seconds, and it is asked for several times in a row
def _gguf_tokenizer(file: Path, stamp: tuple[int, int]) -> Any:
    name = _header(file, stamp).pre
    if name not in _BEFORE_MERGES:
        raise UserError(
            f"{file}: it is not known how its tokenizer splits text (tokenizer.ggml.pre is '{name}'); GGUF files "
            f"with {' or '.join(_BEFORE_MERGES)} are taken, other models as a folder of safetensors"
        )
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    normaliser, pieces = _BEFORE_MERGES[name]()
    tokenizer.backend_tokenizer.normalizer = normaliser
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    return tokenizer


@functools.lru_cache(maxsize=8)
def _header(file: Path, stamp: tuple[int, int]) -> _Header:
    import gguf  # of the extra that brings such files

    fields = gguf.GGUFReader(file).fields
    pre = fields.get("tokenizer.ggml.pre")
    known = next((field for name, field in fields.items() if name.endswith(".context_length")), None)
    return _Header(bytes(pre.parts[-1]).decode() if pre else "", int(known.parts[-1][0]) if known else None)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """gguf reads a file's header in Python, which takes seconds; transformers has it do so for the configuration, for
    the tokenizer and for the weights, and makes a table of tensors' names for each module. Meanwhile each is made once.
    """
    import gguf

    made: dict[str, Any] = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, make in made.items():
        setattr(gguf, name, functools.cache(make))
    try:
        yield
    finally:
        for name, make in made.items():
            setattr(gguf, name, make)


def dequantise_gguf(file: Path, folder: Path) -> dict[str, Any]:
    """Write a GGUF file as a plain float32 safetensors folder; facts about it.

    transformers 5 refuses save_pretrained on a model it loaded from GGUF, so a fresh model of the same
    configuration takes its weights.

    Raises:
        UserError: its tokenizer is none that can be rebuilt as it was.
    """
    # its progress bar, which no setting turns off
    with _read_once(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = gguf_tokenizer(file)
        loaded, found = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **SAID
        )
    require_whole(loaded, found, file)
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "model_type", "transformers_version"):
        settings.pop(key, None)
    config = AutoConfig.for_model(loaded.config.model_type, **settings)
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    save_checkpoint(fresh, tokenizer, folder)
    return {"parameters": fresh.num_parameters(), "source": file.name}


_EMBEDDINGS = re.compile(r"embed_tokens(\.\w+)*\.weight$")


def merge_adapter(adapter: Path, base: Path, folder: Path, remote_code: bool = False) -> dict[str, Any]:
    """Write a model with an adapter added to its weights as a plain float32 safetensors folder; facts about it. In
    float32, because what was learnt in a weight is often less than bf16 rounds by.

    Raises:
        UserError: the adapter's weights are not those of its configuration, or not for this model.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    file = adapter_weights(adapter, pickled=True)  # where pickled ones are not allowed, none was found
    assert file is not None
    tensors = _once(_adapter_tensors(file))
    model = load_model(base, torch.float32, on=torch.device("cpu"), remote_code=remote_code)
    rows = [len(tensor) for name, tensor in tensors.items() if _EMBEDDINGS.search(name)]
    had = len(model.get_input_embeddings().weight)
    if rows and rows[0] != had:  # tokens were added, and trained along
        model.resize_token_embeddings(rows[0], mean_resizing=False)
        for end in _ends(model):
            end.weight.data[had:] = torch.nan  # so that rows which the adapter does not bring are seen
    try:
        with torch.random.fork_rng(devices=[]):
            settings = PeftConfig.from_pretrained(str(adapter))
            settings.base_model_name_or_path = None  # else it warns that the model is another's by name
            tuned = get_peft_model(model, settings)
        missing = get_peft_model_state_dict(tuned, save_embedding_layers=False).keys() - tensors.keys()
        unknown = [] if missing else set_peft_model_state_dict(tuned, tensors).unexpected_keys
        _untie(tuned.get_base_model())
        merged = tuned.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        said = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        raise UserError(f"the adapter in {adapter} cannot be put into {base}: {said}") from error
    if missing or unknown:
        said = f"no {min(missing)}" if missing else f"{min(unknown)} that has no place there"
        raise UserError(f"the adapter in {adapter} does not fit {base}: its weights have {said}; save it again")
    if any(end.weight[had:].isnan().any() for end in _ends(merged)):
        raise UserError(
            f"the adapter in {adapter} has no whole embedding or head for the {rows[0] - had} tokens that were added "
            f"to {base}; save it again with save_embedding_layers=True"
        )
    tokenizer = load_tokenizer(adapter if has_tokenizer(adapter) else base, remote_code=remote_code)
    save_checkpoint(merged, tokenizer, folder)
    return {"parameters": merged.num_parameters(), "source": file.name}


_COPIES = re.compile(r"\.(modules_to_save|original_module)(?=\.)")


def _once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's weights without those of whole modules that peft saves by further names: beside the one of the
    module itself, where tokens were added, its copies within the model."""
    copies = {name for name in tensors if _COPIES.search(name) and _COPIES.sub("", name) in tensors}
    return {name: tensor for name, tensor in tensors.items() if name not in copies}


def _ends(model: Any) -> list[Any]:
    """The embedding and the head."""
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def _untie(model: Any) -> None:
    """Give a tied embedding or head that an adapter changes a weight of its own: where the adapter is added to it, the
    other would change too, and did not while the adapter was trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = _ends(model)
    changed = [end.get_base_layer() for end in ends if isinstance(end, BaseTunerLayer)]
    if changed and ends[0].weight is ends[1].weight:
        for layer in changed:
            layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
        model.config.tie_word_embeddings = False


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


def _adapter_tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".bin":
        return _tensors(file)
    try:
        found: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}; copy or download it again") from error
    return found


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
