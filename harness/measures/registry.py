"""Measures by name: those of the files beside this one, and those of plug-ins."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import get_args

from harness.core.errors import UserError
from harness.core.registry import Registry
from harness.measures.measure import GROUPS, READS, Better, Bound, Measure

APART = ("encoder", "measure", "registry", "settings", "tasks")  # files that hold none


class MeasureRegistry(Registry[Measure]):
    def add(self, name: str, entry: Measure) -> None:
        """Register a measure."""
        if not isinstance(entry, Measure):
            raise UserError(f"measure '{name}' of a plug-in is no harness.measures.Measure")
        if wrong := fault(entry):
            raise UserError(f"measure '{name}' of a plug-in {wrong}")
        super().add(name, entry)

    def in_order(self) -> list[Measure]:
        """All of them as tables have them, fidelity first; those that proxy judges alone read last."""
        places = {group: place for place, group in enumerate((*GROUPS, None))}
        return sorted((one for _, one in self.items()), key=lambda one: (places[one.group], one.place, one.name))


def fault(measure: Measure) -> str:
    """What tables, and the jobs that make what it is read from, lack of it; empty where all is there."""
    if lacking := [word for word in ("summary", "misses", "unit") if not getattr(measure, word).strip()]:
        return f"has no {lacking[0]}, which every table says beside its values"
    known: dict[str, Sequence[str | None]] = {
        "reads": tuple(READS),
        "group": (*GROUPS, None),
        "better": get_args(Better),
        "bound": get_args(Bound),
        "teacher_bound": get_args(Bound),
    }
    for field, words in known.items():
        if (said := getattr(measure, field)) not in words:
            return f"has {field} = {said!r}, which is none of {', '.join(map(repr, words))}"
    if measure.reads == "embedding" and not measure.model:
        return "reads embeddings and names no model that makes them"
    return ""


def load_measures() -> dict[str, Measure]:
    package = importlib.import_module("harness.measures")
    found: dict[str, Measure] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in APART:
            continue
        for value in vars(importlib.import_module(f"harness.measures.{module.name}")).values():
            if not isinstance(value, Measure):
                continue
            where = f"harness/measures/{module.name}.py: the measure '{value.name}'"
            if wrong := fault(value):
                raise UserError(f"{where} {wrong}")
            if found.setdefault(value.name, value) is not value:
                raise UserError(f"{where} is defined twice")
    return found


measures: MeasureRegistry = MeasureRegistry("measure", load_measures)
