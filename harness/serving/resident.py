"""The models that are in memory: those that the running job declares, so that two big ones are never there by accident.

A job declares the checkpoints that it holds (`only`); what an earlier one left and it does not declare is let go of
before it starts, unless a later one wants it (`wanted`), and what both declare is loaded once. Without a job nothing is
declared: what is opened takes the place of what was there. Knows no kind of model and no library: a name, how it was
opened, how it is closed.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.core.allocator import give_back

Held = TypeVar("Held")


@dataclass(frozen=True)
class _Resident:
    how: Hashable
    held: Any
    close: Callable[[Any], None] | None


_residents: dict[Hashable, _Resident] = {}
_declared: frozenset[Hashable] = frozenset()
_wanted: frozenset[Hashable] = frozenset()  # by later jobs


def hold(
    name: Hashable,
    how: Hashable,
    open: Callable[[], Held],
    close: Callable[[Held], None] | None = None,
    usable: Callable[[Held], bool] = lambda held: True,
) -> Held:
    """The object of that name, opened unless it is here. What takes its memory is let go of before.

    name: of the checkpoint, its folder: what a job declares. how: what else the object hangs on (its class, its
    precision, an engine's settings); opened otherwise it is another, and takes the first one's place.
    close: ends what does not end with the last reference to it. usable: whether it still is.
    """
    found = _residents.get(name)
    if found is not None and found.how == how and usable(found.held):
        return found.held  # type: ignore[no-any-return]
    del found  # or it would be in memory beside the new one
    _let_go([other for other in _residents if other == name or other not in _declared | _wanted])
    held = open()
    _residents[name] = _Resident(how, held, close)
    return held


@contextmanager
def only(names: Collection[Hashable]) -> Iterator[None]:
    """A job's time: what is not among its names is let go of. What it holds at its end stays for the next one, and what
    was declared before it is declared again."""
    _let_go([name for name in _residents if name not in _wanted.union(names)])
    global _declared
    outer, _declared = _declared, frozenset(names)
    try:
        yield
    finally:
        _declared = outer


@contextmanager
def wanted(names: Collection[Hashable]) -> Iterator[None]:
    """While what is here of these names stays, declared or not: a later job declares it."""
    global _wanted
    outer, _wanted = _wanted, frozenset(names)
    try:
        yield
    finally:
        _wanted = outer


def let_go_of_all() -> None:
    """Give all memory back."""
    _let_go(list(_residents))


def _let_go(names: Collection[Hashable]) -> None:
    for name in names:
        gone = _residents.pop(name)
        if gone.close is not None:
            gone.close(gone.held)
        del gone
    if names:
        gc.collect()  # hooks and modules may refer to one another
        give_back()


atexit.register(let_go_of_all)
