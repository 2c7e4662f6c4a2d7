"""Frozen, typed sections of a configuration, and the errors of a layer in one line."""

from __future__ import annotations

from importlib import resources
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from harness.core.errors import UserError
from harness.core.registry import did_you_mean
from harness.core.secrets import hide

Layer = dict[str, Any]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` and `true` are not the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected a number or a text, not true or false")
        return value


def packaged_yaml(folder: str) -> dict[str, Layer]:
    """The YAML files of a folder in benchmarks/, by name without the ending."""
    return {
        entry.name.removesuffix(".yaml"): parse_yaml(entry.read_text(encoding="utf-8"), f"{folder}/{entry.name}")
        for entry in (resources.files("benchmarks") / folder).iterdir()
        if entry.name.endswith(".yaml")
    }


def parse_yaml(text: str, where: str) -> Layer:
    """A YAML mapping.

    Raises:
        UserError: malformed YAML (with its line) or not a mapping.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
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


def _explain(kind: type[BaseModel], error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = (prefix + ".".join(location)).rstrip(".")
    if first["type"] == "extra_forbidden":
        owner = kind
        for part in (part for part in location[:-1] if part in owner.model_fields):  # others are names of a mapping
            owner = _section_of(owner.model_fields[part].annotation)
        return f"unknown configuration key '{key}'{did_you_mean(location[-1], owner.model_fields)}"
    if first["type"] == "missing":
        return f"configuration key '{key}' is not set"
    return hide(f"configuration key '{key}': {first['msg']} (given: {first['input']!r})")


def _section_of(annotation: Any) -> type[BaseModel]:
    """The model in `Model` or `Model | None`."""
    options = (annotation, *get_args(annotation))
    return next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
