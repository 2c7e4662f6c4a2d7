"""Methods by name: those of baselines/, and those of plug-ins."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from harness.core.errors import UserError
from harness.core.registry import Registry
from harness.methods.method import Control, Method
from harness.methods.settings import MethodSettings


class MethodRegistry(Registry[Method]):
    def closure(self, names: Iterable[str], controls: str) -> list[str]:
        """SFT (where others start, and which samples the rejected responses), the named methods, and the
        methods of their controls."""
        found = ["sft"]
        for name in names:
            method = self.get(name)
            found.append(name)
            if controls != "none":
                found += [control.method for control in method.controls(method.settings())]
        return list(dict.fromkeys(found))


def load_methods() -> dict[str, Method]:
    import baselines

    found = {}
    for module in pkgutil.iter_modules(baselines.__path__):
        method = getattr(importlib.import_module(f"baselines.{module.name}"), "METHOD", None)
        if isinstance(method, Method):
            if method.name in found:
                raise UserError(f"baselines/{module.name}.py: method '{method.name}' is defined in two files")
            found[method.name] = method
    return found


methods: MethodRegistry = MethodRegistry("method", load_methods)


def selected_controls(method: Method, settings: MethodSettings, level: str) -> list[Control]:
    """The controls of `basic`, or of `full` with it; none for `none`."""
    wanted = {"none": (), "basic": ("basic",), "full": ("basic", "full")}[level]
    return [control for control in method.controls(settings) if control.level in wanted]
