"""What lies in a checkpoint's folder, read without loading any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.errors import UserError

# A set of weights is one file, or the shards that an index names; whatever else lies there under such an ending
# (another tool's copy, another precision, an optimizer's state) is none of it. Where there are both, transformers takes
# the one file.
INDEX_ENDING = ".index.json"
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
ADAPTER, ADAPTER_WEIGHTS, PICKLED_ADAPTER = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
CODE = "*.py"
# what shapes a response beside the weights: configuration, tokenizer, chat template
SMALL_FILES = ("*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
# the files of a checkpoint that was saved here
SAVED = ("*.safetensors", *SMALL_FILES, CODE)
TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


def weight_files(folder: Path, pickled: bool = False) -> list[Path]:
    """A checkpoint's files of weights; empty where one that belongs to them is missing."""
    name = PICKLED if pickled else SAFETENSORS
    if (folder / name).is_file():
        return [folder / name]
    files = [folder / shard for shard in shards_of(folder / f"{name}{INDEX_ENDING}")]
    return files if all(file.is_file() for file in files) else []


def shards_of(index: Path) -> list[str]:
    """The names of the files that an index of weights names; none where there is no such index."""
    places = read_json(index).get("weight_map")
    return sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []


def adapter_weights(folder: Path, pickled: bool = False) -> Path | None:
    """The weights of an adapter's folder, where it holds no model's own as well: those would be the checkpoint."""
    if not (folder / ADAPTER).is_file() or any(weight_files(folder, kind) for kind in (False, True)):
        return None
    names = (ADAPTER_WEIGHTS, PICKLED_ADAPTER) if pickled else (ADAPTER_WEIGHTS,)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def content(folder: Path, pickled: bool = False, code: bool = False) -> list[Path]:
    """The files that a checkpoint is made of, or an adapter: what its digest is of. Pickled ones are converted, and
    their code goes along."""
    adapter = adapter_weights(folder, pickled)
    patterns = (*SMALL_FILES, *((CODE,) if code or pickled else ()))
    small = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted({*small, *weight_files(folder, pickled), *([adapter] if adapter else [])})


def is_checkpoint(folder: Path, pickled: bool = False) -> bool:
    """Whether a folder has a configuration and all the weights."""
    return (folder / "config.json").is_file() and bool(weight_files(folder, pickled))


def has_tokenizer(folder: Path) -> bool:
    return any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern))


def to_convert(folder: Path, pickled: bool) -> bool:
    """Whether a checkpoint whose weights may be pickled has no others."""
    return pickled and not weight_files(folder)


# What other tools leave where a checkpoint is looked for, and what makes one of it.
_OTHERS = (
    (("*.distcp", "*/*.distcp"), "a distributed checkpoint in parts", "save it whole (`accelerate merge-weights`)"),
    (
        ("global_step*", "zero_to_fp32.py", "mp_rank_*"),
        "a DeepSpeed checkpoint in parts",
        "make it whole (`python zero_to_fp32.py . out --safe_serialization`)",
    ),
    (("pytorch_model_fsdp*",), "an FSDP checkpoint", "save the model itself (`save_pretrained` on the full state)"),
    (("*.gguf",), "GGUF files", "take the model's original folder of safetensors"),
    (("tf_model.h5", "*.msgpack", "*.onnx", "onnx"), "weights of another framework", "save it with PyTorch"),
    (("consolidated*",), "weights by the names of their maker's own code", "take the folder that transformers loads"),
)


def what_it_is(folder: Path, pickled: bool = False) -> str:
    """What a folder is that is no checkpoint, and what would make one of it; empty where that is not known."""
    for kind in (True, False) if pickled else (False,):
        name = PICKLED if kind else SAFETENSORS
        missing = [shard for shard in shards_of(folder / f"{name}{INDEX_ENDING}") if not (folder / shard).is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            return f"{name}{INDEX_ENDING} names {missing[0]}{more}, not there; copy or download it again"
    for patterns, what, advice in _OTHERS:
        if any(next(folder.glob(pattern), None) for pattern in patterns):
            return f"it holds {what}; {advice}"
    below = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if below:
        return f"name a folder in it: {', '.join(below[:3])}{', …' if below[3:] else ''}"
    if strays := sorted(path.name for path in folder.glob("*.safetensors")):
        return f"{strays[0]} is neither, and is not read"
    return ""


FP8 = "fp8"  # 8-bit floats, a scale a block


def quantisation(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint's configuration says of how its weights are quantised, with a `quant_method`; None where they
    are plain."""
    config = read_json(folder / "config.json")
    parts = [config, *(part for name in ("text_config", "llm_config") if isinstance(part := config.get(name), dict))]
    for part in parts:
        found = part.get("quantization_config") or part.get("compression_config")
        if isinstance(found, dict):
            by_bits = found.get("load_in_4bit") or found.get("load_in_8bit")
            return {"quant_method": "bitsandbytes" if by_bits else "unknown", **found}
    return None


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
