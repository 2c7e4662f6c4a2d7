"""One small registry for everything that has a name: methods, judges, models, pairs, prompt sets, presets."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from harness.core.errors import UserError, raised_in

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'dadpo'?`, or the known names where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


class Registry(Generic[T]):
    """Names to entries, filled on first use by `load`, then by the entry points of installed plug-ins.

    A plug-in registers under the entry-point group `dadpo_harness.<kind>s`, for example
    `dadpo_harness.methods`; the entry point's object is the entry itself.
    """

    def __init__(self, kind: str, load: Callable[[], dict[str, T]]) -> None:
        self.kind = kind
        self._load = load
        self._entries: dict[str, T] | None = None

    def _all(self) -> dict[str, T]:
        if self._entries is None:
            self._entries = self._load()
            for point in entry_points(group=f"dadpo_harness.{self.kind.replace(' ', '_')}s"):
                entry = self._of_plug_in(point)
                if getattr(entry, "name", point.name) != point.name:
                    raise UserError(f"the entry point '{point.name}' of a plug-in holds the {self.kind} '{entry.name}'")
                self.add(point.name, entry)
        return self._entries

    def _of_plug_in(self, point: EntryPoint) -> Any:
        """What an installed package registers.

        Raises:
            UserError: it cannot be imported; by its file, where one is found.
        """
        try:
            return point.load()
        except UserError:
            raise
        except Exception as error:
            where = f"the entry point {point.name} = {point.value}"
            with contextlib.suppress(Exception):
                spec = importlib.util.find_spec(point.module)
                if spec is not None and spec.origin:
                    where = f"{raised_in(error, spec.origin)} ({where})"
            raise self._refusal(error, where) from error

    def _refusal(self, error: Exception, where: str) -> UserError:
        return UserError(f"{where}: a plug-in that cannot be imported: {type(error).__name__}: {error}")

    def add(self, name: str, entry: T) -> None:
        """Register an entry; a name that is taken is an error, so that no plug-in shadows another."""
        entries = self._all()
        if name in entries:
            raise UserError(f"{self.kind} '{name}' is registered twice")
        entries[name] = entry

    def names(self) -> list[str]:
        return sorted(self._all())

    def items(self) -> list[tuple[str, T]]:
        return sorted(self._all().items())

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def get(self, name: str) -> T:
        """The entry of that name.

        Raises:
            UserError: no such entry; the message suggests the nearest name.
        """
        entries = self._all()
        if name not in entries:
            raise UserError(f"unknown {self.kind} '{name}'{did_you_mean(name, entries)}")
        return entries[name]
