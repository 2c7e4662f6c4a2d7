"""What was loaded is looked at: whether a checkpoint's weights are those that its configuration counts, and its
tokenizer's ids have embeddings. Before a run as well, by the headers of its files alone."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.core.errors import UserError
from harness.models import folders, shapes
from harness.models.families import FAMILIES, PADDED_FAMILIES, TOKENS_WITHOUT_EMBEDDING, has_own_code
from harness.models.reference import ChatTemplate
from harness.models.tokenizers import load_tokenizer

# what `from_pretrained` is told so that it says what it found instead of warning of it
SAID = {"output_loading_info": True, "ignore_mismatched_sizes": True}


@contextlib.contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """A checkpoint's folder as transformers may read it: an adapter that lies beside full weights, which are the
    checkpoint, it would put on top of them."""
    if not (folder / folders.ADAPTER).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as links:
        for path in folder.iterdir():
            if path.name != folders.ADAPTER:
                (Path(links) / path.name).symlink_to(path.absolute())
        yield Path(links)


def require_whole(model: Any, found: Mapping[str, Any], folder: Path, unread: Sequence[str] = ()) -> None:
    """Refuse a model whose weights are not those that lay in its folder, by what `from_pretrained` says of that.
    unread: see `difference`.

    Raises:
        UserError: naming the first ones.
    """
    if wrong := difference(model, found, unread):
        raise UserError(
            f"the weights of {folder} are not those that its config.json says: {wrong}; "
            "save the whole model there again (save_pretrained), or take the config.json that belongs to them"
        )


def difference(model: Any, found: Mapping[str, Any], unread: Sequence[str] = ()) -> str:
    """What is missing, of another shape, or in the way, in a few words; empty where nothing is.

    Weights of parts that the model does not have are let alone: another class's head, an image encoder. unread: parts
    whose weights may be missing, because nothing reads them.
    """
    # what own code computes where no checkpoint holds it is computed anew (loading.py)
    computed = dict(model.named_buffers()) if has_own_code(model) else {}
    missing = sorted(found["missing_keys"] - computed.keys())
    missing = [name for name in missing if name.split(".")[0] not in unread]
    unknown = sorted(name for name in found["unexpected_keys"] if missing or _within(model, name))
    other = sorted((name, list(there), list(wanted)) for name, there, wanted in found["mismatched_keys"])
    said = [f"no {_listed(missing)}"] if missing else []
    if other:
        name, there, wanted = other[0]
        more = f", and {len(other) - 1} more" if other[1:] else ""
        said.append(f"{name} is {there} where {wanted} is expected{more}")
    if unknown:
        said.append(f"{_listed(unknown)} that it does not know")
    said += [str(line).strip() for line in found["error_msgs"][:1]]
    return "; ".join(said)


def _within(model: Any, name: str) -> bool:
    """Whether a weight lies in a part that a model has: one layer too many, a bias where there is none."""
    prefix = model.base_model_prefix
    body = getattr(model, prefix, model) if prefix else model
    # a text model may have been a part of one that also sees: beside its own parts lie the others'
    parts = {part for whole in (model, body) for part, _ in whole.named_children()}
    return name.removeprefix(f"{prefix}.").split(".")[0] in parts


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")


def check_checkpoint(folder: Path, chat_template: ChatTemplate | None = None, remote_code: bool = False) -> None:
    """What can be told of a causal language model's folder by its configuration, its tokenizer and the headers of its
    files: what would be wrong with it where it is loaded.

    Raises:
        UserError: its weights are not those of its configuration, a file is cut short, or a token has no embedding.
    """
    state = {
        name: torch.empty(entry["shape"], device="meta")
        for file in folders.weight_files(folder)
        for name, entry in _header(file).items()
    }
    if packed := folders.quantisation(folder):  # what is made of the rest is its package's affair
        if packed["quant_method"] == folders.FP8 and (bare := _without_scale(folder)):
            raise UserError(
                f"the weights of {folder} have {bare} in 8-bit floats, and no scale of it; download them again"
            )
        return
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
    try:
        with torch.device("meta"):
            kind = type(AutoModelForCausalLM.from_config(config, trust_remote_code=remote_code))
        model, found = kind.from_pretrained(
            None, config=config, state_dict=state, device_map="meta", dtype=torch.float32, **SAID
        )
        rows = model.get_input_embeddings().weight.shape[0]
    except Exception:
        if remote_code:  # which may do as it likes; what it loads is looked at then
            return
        raise
    require_whole(model, found, folder)
    _check_vocabulary(load_tokenizer(folder, chat_template, remote_code), rows, folder, config.model_type)


def _without_scale(folder: Path) -> str:
    """A weight in 8-bit floats that has no scale beside it: transformers would read it as if that were 1."""
    found = {name: entry for file in folders.weight_files(folder) for name, entry in _header(file).items()}
    packed = (name for name, entry in sorted(found.items()) if entry["dtype"].startswith("F8_E4M3"))
    return next((name for name in packed if f"{name}_scale_inv" not in found), "")


def _check_vocabulary(tokenizer: Any, rows: int, folder: Path, family: str) -> None:
    """Refuse tokens without an embedding: whatever holds one cannot be read."""
    without = {index: token for token, index in tokenizer.get_vocab().items() if index >= rows}
    known = TOKENS_WITHOUT_EMBEDDING.get(family, frozenset())
    if unknown := sorted(index for index, token in without.items() if token not in known):
        raise UserError(
            f"the tokenizer of {folder} has {without[unknown[0]]!r} as token {unknown[0]}, but its model has {rows} "
            f"embeddings (0 to {rows - 1}); save it after model.resize_token_embeddings(len(tokenizer)), or take the "
            "tokenizer that belongs to it"
        )


def _header(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file that is whole.

    Raises:
        UserError: it is none, or is cut short.
    """
    try:
        header, size = shapes.header(file)
        if size == file.stat().st_size:
            return header
        said = f"{file.name} has {file.stat().st_size:,} bytes and not the {size:,} that it begins to say"
    except (KeyError, TypeError, ValueError, OSError, struct.error, OverflowError, MemoryError):
        said = f"{file.name} is no safetensors file"
    raise UserError(f"the weights of {file.parent} cannot be read: {said}; copy or download them again")


def is_language_model(folder: Path, remote_code: bool = False) -> bool:
    """Whether a folder holds a causal language model that can be checked."""
    family = folders.read_json(folder / "config.json").get("model_type")
    return folders.is_checkpoint(folder) and (remote_code or family in FAMILIES | PADDED_FAMILIES)
