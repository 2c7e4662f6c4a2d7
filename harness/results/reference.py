"""docs/results-schema.md: every field of results.json, tokens.json, manifest.json and study.json, from their types.

python -m harness.results.reference > docs/results-schema.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from harness.methods import COMPUTING
from harness.results.manifest import Manifest
from harness.results.schema import RecordedSettings, Results
from harness.results.studies import StudyFacts
from harness.results.tokens import TokenViews

_HEAD = """\
# What a run's folder says of itself

Generated from the types that read and write these files, [schema.py](../harness/results/schema.py),
[tokens.py](../harness/results/tokens.py), [manifest.py](../harness/results/manifest.py) and
[studies.py](../harness/results/studies.py), of a study's folder:
`python -m harness.results.reference > docs/results-schema.md`.
[results.md](results.md) says what the figures mean.

"""

_PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def reference() -> str:
    """The page."""
    parts = []
    files = {"results.json": Results, "tokens.json": TokenViews, "manifest.json": Manifest, "study.json": StudyFacts}
    for file, kind in files.items():
        shown = list(dict.fromkeys(_kinds(kind)))
        parts += [f"## {file}\n", *(_section(one) for one in shown)]
    return _HEAD + "\n".join(parts)


def _kinds(kind: Any) -> Iterator[type]:
    """A record and those in it, in the order in which a reader meets them."""
    yield kind
    for annotation in get_type_hints(kind).values() if is_dataclass(kind) else _annotations(kind):
        for inner in _records(annotation):
            yield from _kinds(inner)


def _annotations(kind: type[BaseModel]) -> list[Any]:
    return [field.annotation for field in kind.model_fields.values()]


def _records(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        yield annotation
    for part in get_args(annotation):
        yield from _records(part)


def _section(kind: Any) -> str:
    lines = [f"### {kind.__name__}\n", " ".join((kind.__doc__ or "").split()) + "\n"]
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        rows = [(field.name, _said(hints[field.name]), "") for field in fields(kind)]
    else:
        rows = [
            (field.alias or name, _said(field.annotation), field.description or "")
            for name, field in kind.model_fields.items()
            if not (issubclass(kind, RecordedSettings) and name in COMPUTING)
        ]
        if kind.model_config.get("extra") == "allow":
            rows.append(("…", "", "what else was said, as it was said"))
    lines += ["| field | what | |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {said} | {description} |" for name, said, description in rows]
    return "\n".join(lines) + "\n"


def _said(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is UnionType or str(origin) == "typing.Union":
        return " or ".join(map(_said, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return f"list of {_said(inner[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_said, inner))}]"
    if origin is dict:
        return f"by name: {_said(inner[1])}"
    known = getattr(annotation, "__name__", "")
    is_record = any(one is annotation for one in _records(annotation))
    return f"[{known}](#{known.lower()})" if is_record else "any JSON"


if __name__ == "__main__":
    print(reference(), end="")
