"""What lies in a checkpoint's folder, read without loading any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.errors import UserError

SAFETENSORS, PICKLED, CODE = "*.safetensors", "pytorch_model*.bin", "*.py"
# what shapes a response beside the weights: configuration, tokenizer, chat template
SMALL_FILES = ("*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


def patterns(pickled: bool = False, code: bool = False, weights: bool = True) -> tuple[str, ...]:
    """The files that a checkpoint is made of, or its tokenizer alone. Pickled ones are converted, and their code goes
    along."""
    large = (PICKLED if pickled else SAFETENSORS,) if weights else ()
    return (*large, *SMALL_FILES, *((CODE,) if code or pickled else ()))


def weight_files(folder: Path, pickled: bool = False) -> list[Path]:
    """A checkpoint's files of weights; empty where one that belongs to them is missing."""
    index = folder / ("pytorch_model.bin.index.json" if pickled else "model.safetensors.index.json")
    found = sorted(path for path in folder.glob(PICKLED if pickled else SAFETENSORS) if path.is_file())
    if index.is_file():
        shards = set(read_json(index).get("weight_map", {}).values())
        return found if shards and shards <= {path.name for path in found} else []
    return [] if any("-of-" in path.name for path in found) else found


def is_checkpoint(folder: Path, pickled: bool = False) -> bool:
    """Whether a folder has a configuration and all the weights."""
    return (folder / "config.json").is_file() and bool(weight_files(folder, pickled))


def has_tokenizer(folder: Path) -> bool:
    return any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern))


def to_convert(folder: Path, pickled: bool) -> bool:
    """Whether a checkpoint whose weights may be pickled has no others."""
    return pickled and not weight_files(folder)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        UserError: it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object")
    return data


def own_code(folder: Path, *of: str) -> list[str]:
    """The names of the Python classes that a checkpoint brings along (`auto_map`), in its folder or elsewhere."""
    names: list[str] = []
    for file in of or ("config.json", "tokenizer_config.json"):
        found = read_json(folder / file).get("auto_map") or {}
        for value in found.values() if isinstance(found, dict) else [found]:
            names += [name for name in (value if isinstance(value, list) else [value]) if name]
    return names


def lacks_own_code(folder: Path) -> bool:
    """Whether a file of the Python code that a checkpoint brings along in its own folder is not there."""
    modules = [name.rpartition(".")[0] for name in own_code(folder) if "--" not in name]
    return any(not (folder / f"{module}.py").is_file() for module in modules)


def has_chat_template(folder: Path) -> bool:
    """Whether a checkpoint's tokenizer has a chat template, or a default one of several."""
    if (folder / "chat_template.jinja").is_file() or read_json(folder / "chat_template.json").get("chat_template"):
        return True
    found = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        return any(isinstance(one, dict) and one.get("name") == "default" for one in found)
    return bool(found)
