"""What was loaded is looked at: whether a checkpoint's weights are those that its configuration counts, and its
tokenizer's ids have embeddings. Before a run as well, by the headers of its files alone."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.core.errors import UserError
from harness.core.units import first_named
from harness.models import folders, shapes
from harness.models.families import TOKENS_WITHOUT_EMBEDDING, has_own_code
from harness.models.reference import ChatTemplate
from harness.models.tokenizers import load_tokenizer

# what `from_pretrained` is told so that it says what it found instead of warning of it
SAID: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}

POINTER = b"version https://git-lfs"


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


def load_config(folder: Path, remote_code: bool = False) -> Any:
    """A model's configuration, without the attention that it may name: that of the machine it was trained on, whose
    package may not be here."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
    config._attn_implementation = None
    return config


def require_whole(model: Any, found: Mapping[str, Any], folder: Path, unread: Sequence[str] = ()) -> None:
    """Refuse a model whose weights are not those that lay in its folder, by what `from_pretrained` says of that.
    unread: see `difference`.

    Raises:
        UserError: naming the first ones.
    """
    if said := _misfit(model, found, unread):
        raise UserError(f"{folder}: {said}")


def _misfit(model: Any, found: Mapping[str, Any], unread: Sequence[str] = ()) -> str:
    wrong = difference(model, found, unread)
    return wrong and (
        f"its weights are not those that its configuration counts: {wrong}; save the whole model there again "
        "(save_pretrained), or take the config.json that belongs to them"
    )


def difference(model: Any, found: Mapping[str, Any], unread: Sequence[str] = ()) -> str:
    """What is missing, of another shape, or in the way, in a few words; empty where nothing is.

    Weights of parts that the model does not have are let alone: another class's head, an image encoder. unread: parts
    whose weights may be missing, because nothing reads them.
    """
    buffers = {name for name, _ in model.named_buffers()}
    # what own code computes where no checkpoint holds it is computed anew (loading.py)
    missing = sorted(found["missing_keys"] - (buffers if has_own_code(model) else set()))
    missing = [name for name in missing if name.split(".")[0] not in unread]
    unknown = sorted(name for name in found["unexpected_keys"] if missing or _within(model, name, buffers))
    other = sorted((name, list(there), list(wanted)) for name, there, wanted in found["mismatched_keys"])
    said = [f"no {first_named(missing, 2)}"] if missing else []
    if other:
        name, there, wanted = other[0]
        more = f", and {len(other) - 1} more" if other[1:] else ""
        said.append(f"{name} is {there} where {wanted} is expected{more}")
    if unknown:
        said.append(f"{first_named(unknown, 2)} that it does not know")
    said += [str(line).strip() for line in found["error_msgs"][:1]]
    return "; ".join(said)


def _within(model: Any, name: str, buffers: Container[str]) -> bool:
    """Whether a weight lies in a part that a model has: one layer too many, a bias where there is none. A buffer that
    only older versions saved is none: it is computed."""
    prefix = model.base_model_prefix
    if name in buffers or name.removeprefix(f"{prefix}.") in buffers:
        return False
    body = getattr(model, prefix, model) if prefix else model
    # a text model may have been a part of one that also sees: beside its own parts lie the others'
    parts = {part for whole in (model, body) for part, _ in whole.named_children()}
    return name.removeprefix(f"{prefix}.").split(".")[0] in parts


def fault(folder: Path, chat_template: ChatTemplate | None = None, remote_code: bool = False) -> str:
    """What is wrong with a causal language model's folder, in one line; empty where nothing is. By its configuration,
    its tokenizer and the headers of its files, which say what transformers would find where it loads them: weights that
    are not those of the configuration, a file that is cut short, a token without an embedding.

    Raises:
        UserError: its tokenizer cannot be loaded, or no model made of its configuration.
    """
    try:
        headers = _headers(folder)
    except _NoWeightsError as error:
        return f"its weights cannot be read: {error}; copy or download them again"
    if folders.quantisation(folder):  # what is made of packed weights is their package's affair
        return _without_scale(folder, headers)
    state = {name: torch.empty(entry["shape"], device="meta") for name, entry in headers.items()}
    try:
        config = load_config(folder, remote_code)
    except Exception as error:  # of settings that are none: KeyError, TypeError, AttributeError, ImportError, …
        raise _no_model(folder, error) from error
    try:
        with torch.device("meta"):
            kind = type(AutoModelForCausalLM.from_config(config, trust_remote_code=remote_code))
        model, found = kind.from_pretrained(
            None, config=config, state_dict=state, device_map="meta", dtype=torch.float32, **SAID
        )
        rows = model.get_input_embeddings().weight.shape[0]
    except Exception as error:
        if remote_code:  # which may do as it likes; what it loads is looked at then
            return ""
        raise _no_model(folder, error) from error
    return _misfit(model, found) or _without_embedding(
        load_tokenizer(folder, chat_template, remote_code), rows, config.model_type
    )


def _no_model(folder: Path, error: Exception) -> UserError:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return UserError(f"{folder}: no model can be made of its config.json: {said}")


def require_scales(folder: Path) -> None:
    """Refuse 8-bit floats that have no scale beside them.

    Raises:
        UserError: naming the first one.
    """
    if said := _without_scale(folder, _headers(folder)):
        raise UserError(f"{folder}: {said}")


def _without_scale(folder: Path, headers: Mapping[str, Any]) -> str:
    """transformers would read them as if it were 1."""
    if (folders.quantisation(folder) or {}).get("quant_method") == folders.FP8:
        for name in sorted(headers):
            if headers[name]["dtype"].startswith("F8_E4M3") and f"{name}_scale_inv" not in headers:
                return f"its weights have {name} in 8-bit floats, and no scale of it; download them again"
    return ""


def _without_embedding(tokenizer: Any, rows: int, family: str) -> str:
    """What holds such a token cannot be read."""
    without = {index: token for token, index in tokenizer.get_vocab().items() if index >= rows}
    known = TOKENS_WITHOUT_EMBEDDING.get(family, frozenset())
    unknown = sorted(index for index, token in without.items() if token not in known)
    if not unknown:
        return ""
    return (
        f"its tokenizer has {without[unknown[0]]!r} as token {unknown[0]}, and its model has {rows} embeddings (0 to "
        f"{rows - 1}); save it after model.resize_token_embeddings(len(tokenizer)), or take the tokenizer that belongs "
        "to it"
    )


class _NoWeightsError(UserError):
    """Of a file that is none of weights, or is cut short."""


def _headers(folder: Path) -> dict[str, Any]:
    """What a checkpoint's files say of each tensor, by name."""
    return {name: entry for file in folders.weight_files(folder) for name, entry in _header(file).items()}


def _header(file: Path) -> dict[str, Any]:
    try:
        header, size = shapes.header(file)
    except (KeyError, TypeError, ValueError, OSError, struct.error, OverflowError, MemoryError) as error:
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise _NoWeightsError(f"{file.name} is a pointer of Git LFS (`git lfs pull` fetches it)") from error
        raise _NoWeightsError(f"{file.name} is no safetensors file") from error
    if size != file.stat().st_size:
        there = file.stat().st_size
        raise _NoWeightsError(f"{file.name} has {there:,} bytes and not the {size:,} that it begins to say")
    return header
