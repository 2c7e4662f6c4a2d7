"""Measures by name: those of the files beside this one, and those of plug-ins."""

from __future__ import annotations

import importlib
import pkgutil

from harness.core.errors import UserError
from harness.core.registry import Registry
from harness.measures.measure import Measure

APART = ("encoder", "measure", "registry", "settings")  # files that hold none


def load_measures() -> dict[str, Measure]:
    package = importlib.import_module("harness.measures")
    found: dict[str, Measure] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in APART:
            continue
        for value in vars(importlib.import_module(f"harness.measures.{module.name}")).values():
            if isinstance(value, Measure) and found.setdefault(value.name, value) is not value:
                raise UserError(f"harness/measures/{module.name}.py: the measure '{value.name}' is defined twice")
    return found


measures: Registry[Measure] = Registry("measure", load_measures)
