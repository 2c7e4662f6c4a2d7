"""Where a model comes from, by its name: its id, its family, its vendor.

From models' entries (benchmarks/models, or those of a pair's own file), and for other names from
benchmarks/families.yaml. What neither knows stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

from harness.core.section import Section, parse_yaml, validated
from harness.models.specs import ModelSpec, models

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Lineage:
    """id: on the hub, or as its vendor calls it, in small letters and without a revision; empty of a folder, whose
    name anyone may choose. family, vendor: empty where they are not known."""

    id: str = ""
    family: str = ""
    vendor: str = ""


class _Family(Section):
    vendor: str
    names: tuple[str, ...]
    tuned: dict[str, tuple[str, ...]] | None = None


class _Table(Section):
    families: dict[str, _Family]
    vendors: dict[str, tuple[str, ...]]
    owners: dict[str, str]


def lineage(name: str, specs: Mapping[str, ModelSpec] | None = None) -> Lineage:
    """What is known of a model by its name: of an entry, a folder, the hub, or as a server calls it.

    specs: entries beside the registered ones.
    """
    entry = (specs or {}).get(name) or (models.get(name) if name in models else None)
    if entry is not None:
        return _of_entry(name, entry, specs or {})
    if name.startswith((".", "/", "~")):
        return Lineage("", *_by_name(Path(name).name))
    known = name.partition("@")[0].lower()
    named = _entries().get(known)
    if named is not None:
        return Lineage(known, named.family, named.vendor)
    owner, called = _owner(known)
    family, vendor = _by_name(called)
    return Lineage(known, family, _table().owners.get(owner, vendor))


def _of_entry(name: str, entry: ModelSpec, specs: Mapping[str, ModelSpec]) -> Lineage:
    """What it says, and what the names say that it gives. A pruned model has its base's family, and is another."""
    elsewhere = entry.hub or entry.origin
    if entry.path:
        there = lineage(str(Path(entry.path).absolute()))
    elif entry.base:
        there = replace(lineage(entry.base, specs), id=name)
    else:
        there = lineage(elsewhere) if elsewhere else Lineage(name)
    return Lineage(there.id, entry.family or there.family, entry.vendor or there.vendor)


def _entries() -> dict[str, ModelSpec]:
    """The registered entries by their ids on the hub."""
    found = ((one, one.hub or one.origin) for one in map(models.get, models.names()))
    return {name.lower(): one for one, name in found if name}


def _owner(name: str) -> tuple[str, str]:
    """Whose a name says that it is, if that is known, and the name without that: openai/gpt-4o,
    us.anthropic.claude-3-haiku (Amazon Bedrock, perhaps with a region); ft:gpt-4o:mine is what somebody made of one."""
    owners = _table().owners
    *path, called = name.split("/")
    if path and path[-1] in owners:
        return path[-1], called
    pieces = called.removeprefix("ft:").split(".")
    for number, piece in enumerate(pieces[:2], 1):
        if piece in owners and pieces[number:]:
            return piece, ".".join(pieces[number:])
    return "", ".".join(pieces)


def _by_name(name: str) -> tuple[str, str]:
    """Family and vendor of the longest name in the table that this one begins with, part by part."""
    parts = _parts(name)
    fitting = [(known, said) for known, said in _by_parts().items() if parts[: len(known)] == known]
    return max(fitting, key=lambda one: len(one[0]))[1] if fitting else ("", "")


def _parts(name: str) -> Parts:
    """A name's parts in small letters: what -, _, : and white space divide, and a figure from the word before it. Two
    figures of one digit are a version (4-5 is 4.5)."""
    found: list[str] = []
    for part in re.split(r"[-_:\s]+", name.lower()):
        split = re.fullmatch(r"([a-z]+)(\d.*)", part)
        for one in (split[1], split[2]) if split else (part,):
            if found and all(re.fullmatch(r"\d", figure) for figure in (found[-1], one)):
                found[-1] += f".{one}"
            else:
                found.append(one)
    return tuple(found)


@cache
def _table() -> _Table:
    text = (resources.files("benchmarks") / "families.yaml").read_text(encoding="utf-8")
    table: _Table = validated(_Table, parse_yaml(text, "families.yaml"))
    return table


@cache
def _by_parts() -> dict[Parts, tuple[str, str]]:
    """The names of the table, by their parts → family and vendor."""
    found = {_parts(name): ("", vendor) for vendor, names in _table().vendors.items() for name in names}
    for family, said in _table().families.items():
        for vendor, names in {**(said.tuned or {}), said.vendor: said.names}.items():
            found |= {_parts(name): (family, vendor) for name in names}
    return found
