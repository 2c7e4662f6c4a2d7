"""Methods by name: those of baselines/, those of installed packages, and those of files that a run names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.files import absolute
from harness.core.registry import Registry
from harness.core.section import first_error
from harness.methods import plugins
from harness.methods.controls import selected_controls
from harness.methods.method import Control, Method, refusal_of_old


class MethodRegistry(Registry[Method]):
    def __init__(self, kind: str, load: Callable[[], dict[str, Method]]) -> None:
        super().__init__(kind, load)
        self._files: dict[str, plugins.Plugin] = {}  # that were named, by path

    def add(self, name: str, entry: Method) -> None:
        """Register a method of a plug-in."""
        if not isinstance(entry, Method):
            raise UserError(f"method '{name}' of a plug-in is no harness.methods.Method")
        if name in self:
            there = self.get(name).file
            raise UserError(f"{entry.file}: a method '{name}' is there already ({there}); give METHOD another name")
        try:
            entry.settings()
        except ValidationError as error:
            raise UserError(
                f"{entry.file}: METHOD '{name}': the defaults of its settings are wrong ({first_error(error)})"
            ) from error
        super().add(name, entry)

    def use(self, files: Iterable[str]) -> None:
        """Have the methods of these files, and of no others that were named before.

        Raises:
            UserError: one cannot be imported, or brings a name that is there already.
        """
        wanted = list(dict.fromkeys(map(absolute, files)))
        for path, plugin in list(self._files.items()):
            if path not in wanted or not plugin.current:
                self._all().pop(plugin.method.name)
                plugins.unload(self._files.pop(path))
        for path in wanted:
            self.also(path)

    def also(self, file: str) -> None:
        """Have the method of this file too; as `use`."""
        path = absolute(file)
        if path in self._files:
            return
        self._all()  # what is installed comes first
        plugin = plugins.load(file)
        try:
            self.add(plugin.method.name, plugin.method)
        except UserError:
            plugins.unload(plugin)
            raise
        self._files[path] = plugin

    def file_of(self, name: str) -> str | None:
        """The file that was named for a method; None of those that are there without."""
        return next((path for path, plugin in self._files.items() if plugin.method.name == name), None)

    def _refusal(self, error: Exception, where: str) -> UserError:
        return refusal_of_old(error, where) or super()._refusal(error, where)

    def closure(self, names: Iterable[str], controls: str) -> list[str]:
        """SFT (where others start, and which samples the rejected responses), the named methods, and the methods of
        their controls of this level."""
        found = ["sft"]
        for name in names:
            method = self.get(name)
            found.append(name)
            for control in selected_controls(method, method.settings(), controls):
                with of_control(method, control):
                    self.get(control.method)
                found.append(control.method)
        return list(dict.fromkeys(found))


def load_methods() -> dict[str, Method]:
    import baselines

    found = {}
    for module in pkgutil.iter_modules(baselines.__path__):
        file = f"baselines/{module.name}.py"
        try:
            method = getattr(importlib.import_module(f"baselines.{module.name}"), "METHOD", None)
        except TypeError as error:
            if refused := refusal_of_old(error, file):
                raise refused from error
            raise
        if isinstance(method, Method):
            if method.name in found:
                raise UserError(f"{file}: method '{method.name}' is defined in two files")
            found[method.name] = method
    return found


methods: MethodRegistry = MethodRegistry("method", load_methods)


@contextmanager
def of_control(method: Method, control: Control) -> Iterator[None]:
    """What is refused of a control is by its method's file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{method.file}: METHOD '{method.name}': its control '{control.name}': {error}") from error
