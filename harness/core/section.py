"""Frozen, typed sections of a configuration, and the errors of a layer in one line."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from harness.core.errors import UserError
from harness.core.registry import did_you_mean
from harness.core.secrets import hide

Layer = dict[str, Any]

T = TypeVar("T")
Named = TypeVar("Named", str, int)
# A setting that says how or where something is made on this machine, and so is no part of what it is: of keys, of the
# resolved configuration, of results, and of the command that reproduces a run.
OfTheMachine = Annotated[T, Field(exclude=True)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` and `true` are not the number 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("expected a number or a text, not true or false")
        return value


def machine_settings(kind: type[Section], prefix: str = "") -> frozenset[str]:
    """The full keys of the settings of a section, and of the sections in it, that are `OfTheMachine`."""
    found: set[str] = set()
    for name, field in kind.model_fields.items():
        if field.exclude:
            found.add(prefix + name)
        for part in _sections_of(field.annotation):
            found |= machine_settings(part, f"{prefix}{name}.")
    return frozenset(found)


def each_once(named: tuple[Named, ...]) -> tuple[Named, ...]:
    if len(set(named)) < len(named):
        raise ValueError("one is named twice")
    return named


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("at least one is needed")
    return names


NamesIfAny = Annotated[tuple[str, ...], AfterValidator(each_once)]
Names = Annotated[NamesIfAny, AfterValidator(_some)]


def packaged_yaml(folder: str) -> dict[str, Layer]:
    """The YAML files of a folder in benchmarks/, by name without the ending."""
    return {
        entry.name.removesuffix(".yaml"): parse_yaml(entry.read_text(encoding="utf-8"), f"{folder}/{entry.name}")
        for entry in (resources.files("benchmarks") / folder).iterdir()
        if entry.name.endswith(".yaml")
    }


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Each key once: of two values one would be dropped without a word."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key '{key.value}' is there twice"
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=True)  # all at once: what holds itself is refused


def load_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        yaml.YAMLError, ValueError: it is none (a date that is none is a ValueError), names a key twice, holds itself,
            or is nested deeper than can be followed.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def parse_yaml(text: str, where: str) -> Layer:
    """A YAML mapping.

    Raises:
        UserError: malformed YAML (with its line) or not a mapping.
    """
    try:
        data = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{where}{line}: malformed YAML ({problem})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(data).__name__}")
    return data


def validated(kind: type[Section], data: Layer, prefix: str = "") -> Any:
    """`data` as a typed section.

    Raises:
        UserError: the first thing wrong, by its full key; an unknown key comes with a suggestion.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(_explain(kind, error, prefix)) from error


def first_error(error: ValidationError) -> str:
    """The first thing that a section refuses: where, and what of it."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return ": ".join(filter(None, (where, first["msg"].removeprefix("Value error, "))))


def _explain(kind: type[Section], error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = (prefix + ".".join(location)).rstrip(".")
    if first["type"] == "extra_forbidden":
        owner = kind
        for part in (part for part in location[:-1] if part in owner.model_fields):  # others are names of a mapping
            owner = _sections_of(owner.model_fields[part].annotation)[0]
        return f"unknown configuration key '{key}'{did_you_mean(location[-1], owner.model_fields)}"
    if first["type"] == "missing":
        return f"configuration key '{key}' is not set"
    return hide(f"configuration key '{key}': {first['msg']} (given: {first['input']!r})")


def _sections_of(annotation: Any) -> list[type[Section]]:
    """The section in `Section`, `Section | None` or `dict[str, Section]`; none where there is none."""
    options = (annotation, *get_args(annotation))
    return [option for option in options if isinstance(option, type) and issubclass(option, Section)]
