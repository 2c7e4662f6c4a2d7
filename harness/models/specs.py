"""Names of models and pairs to what they stand for: benchmarks/models and benchmarks/pairs, a pair's own file, local
folders, hub ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from harness.core.errors import UserError
from harness.core.registry import Registry, did_you_mean
from harness.core.section import Layer, Section, packaged_yaml, parse_yaml, validated
from harness.models.shapes import Shape


class Prune(Section):
    """Structured pruning of a student's MLPs before training."""

    ratio: float = Field(gt=0, lt=1, description="share of all parameters to remove")
    calibration: int = Field(
        default=16, ge=1, description="responses of the unpruned model that importance is measured on"
    )


class ModelSpec(Section):
    """Where a model comes from: a GGUF file or a folder inside an installed package, a local folder, the hub,
    or another model pruned. origin: its id on the hub, where it comes from elsewhere. family: of models that were
    trained alike, as benchmarks/families.yaml calls it, or that of its base; vendor: who made it. Of a pruned one they
    are its base's.

    pickled: pickled weights will do where there are no others; they are loaded as tensors only, and converted once.
    trust_remote_code: code that comes with it may run. chat_template: for a tokenizer that has none; a name of
    benchmarks/chat_templates or a *.jinja file. shape: its size, for plans while it is not here."""

    summary: str = ""
    license: str = ""
    origin: str = ""
    family: str = ""
    vendor: str = ""
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
    pickled: bool = False
    trust_remote_code: bool = False
    chat_template: str | None = None
    shape: Shape | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        packaged = self.package is not None and self.module is not None and self.sha256 is not None
        sources = [packaged and bool(self.gguf), packaged and bool(self.folder and self.weights)]
        sources += [bool(self.path), bool(self.hub), bool(self.base and self.prune)]
        if sum(sources) != 1:
            raise ValueError("a model needs exactly one source: package, path, hub, or base with prune")
        return self


class Pair(Section):
    """Two names of models. specs: what a pair's own file says of those that it describes itself."""

    summary: str = ""
    student: str
    teacher: str
    specs: dict[str, ModelSpec] = Field(default={}, exclude=True)


def _load(folder: str, kind: type[Section]) -> dict[str, Any]:
    return {name: validated(kind, layer) for name, layer in packaged_yaml(folder).items()}


models: Registry[ModelSpec] = Registry("model", lambda: _load("models", ModelSpec))
pairs: Registry[Pair] = Registry("pair", lambda: _load("pairs", Pair))


def resolve_pair(student: str, teacher: str | None) -> Pair:
    """The student's and the teacher's model names; the student may name a pair, or a pair's own file.

    Raises:
        UserError: an unknown student or teacher, or a student of no known pair with no teacher named.
    """
    if student.endswith((".yaml", ".yml")):
        known = read_pair_file(Path(student).expanduser())
        return known.model_copy(update={"teacher": teacher or known.teacher})
    if student in pairs:
        known = pairs.get(student)
        return Pair(student=known.student, teacher=teacher or known.teacher)
    model_spec(student, "student")
    if teacher is None:
        raise UserError(f"'{student}' is in no pair of benchmarks/pairs; name its teacher with --teacher")
    return Pair(student=student, teacher=teacher)


def read_pair_file(path: Path) -> Pair:
    """A pair's own file: `student` and `teacher`, each a name as on the command line, or a mapping as in
    benchmarks/models. Paths in it are relative to its folder.

    Raises:
        UserError: with the file and what is wrong with it.
    """
    try:
        layer = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    specs: dict[str, ModelSpec] = {}
    try:
        for role in {"student", "teacher"} & layer.keys():
            if isinstance(layer[role], dict):
                name = f"{path.stem}-{role}"
                specs[name] = validated(ModelSpec, _beside(path, layer[role]), f"{role}.")
                layer[role] = name
            elif isinstance(layer[role], str):
                layer[role] = _near(path, layer[role])
        if "specs" in layer:
            raise UserError(f"unknown configuration key 'specs'{did_you_mean('specs', ('student', 'teacher'))}")
        pair: Pair = validated(Pair, layer)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return pair.model_copy(update={"specs": specs})


def _near(file: Path, name: str) -> str:
    """A model's name in a pair's file; a folder beside the file by its path."""
    folder = file.parent / Path(name).expanduser()
    return str(folder) if name not in models and folder.is_dir() else name


def _beside(file: Path, layer: Layer) -> Layer:
    """A model's entry in a pair's file, with what it says of files in full."""
    layer = dict(layer)
    if isinstance(layer.get("path"), str):
        layer["path"] = str(file.parent / Path(layer["path"]).expanduser())
    if isinstance(layer.get("base"), str):
        layer["base"] = _near(file, layer["base"])
    if str(layer.get("chat_template", "")).endswith(".jinja"):
        layer["chat_template"] = str(file.parent / Path(layer["chat_template"]).expanduser())
    return layer


def model_spec(name: str, role: str = "model") -> ModelSpec:
    """A registered model, a local folder, or a hub id (anything of the form owner/name, or owner/name@revision).

    Raises:
        UserError: none of these.
    """
    if not name.strip():
        raise UserError(f"{role} '{name}' is empty: not a registered model, a folder, or a hub id")
    if name in models:
        return models.get(name)
    if Path(name).expanduser().is_dir():
        return ModelSpec(path=str(Path(name).expanduser()))
    hub_id, at, revision = name.partition("@")
    if name.startswith((".", "/", "~")):
        raise UserError(f"{role} '{name}': there is no such folder")
    if hub_id.count("/") == 1 and bool(at) == bool(revision):
        return ModelSpec(hub=hub_id, revision=revision or None)
    hint = did_you_mean(name, {*models.names(), *pairs.names()})
    raise UserError(f"unknown {role} '{name}': not a registered model, a folder, or a hub id{hint}")
