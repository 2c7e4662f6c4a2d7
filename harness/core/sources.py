"""The source files that code follows from: what a key holds of a method.

Found without running anything: files are parsed for their imports. What is imported by a computed name is not seen.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from harness.core.files import file_sha256

HARNESS = "harness"  # its own code is not in keys by its text: each stage has a version
SHARED = "baselines"  # followed from any plug-in: its losses are there to be imported
INSTALLED = frozenset(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


def sources(*parts: object) -> list[str]:
    """What defines the parts (functions, classes or instances): their names, a partial's arguments, and the name and
    sha256 of each file that they come from or that those files import, transitively, at any place.

    A file counts if it is of the part's own package, or of baselines; of a module in no package, if it lies next to it.
    Where the files are, and which of them was found first, is no part of it.
    """
    named: list[str] = []
    files: dict[str, Path] = {}
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, functools.partial):
            values = [*part.args, *(value for _, value in sorted(part.keywords.items()))]
            plain = [None if callable(value) else value for value in values]
            named.append(repr((plain, sorted(part.keywords))))
            waiting = [part.func, *filter(callable, values), *waiting]
        elif part is not None:
            kind: Any = inspect.unwrap(part) if inspect.isroutine(part) or inspect.isclass(part) else type(part)
            named.append(f"{kind.__module__}:{kind.__qualname__}")
            files |= _files(kind.__module__) or _unfound(kind)
    return [*named, *(f"{name} {file_sha256(path)}" for name, path in sorted(files.items()))]


def _unfound(kind: Any) -> dict[str, Path]:
    """The file of what no import finds, as of a script; nothing for the harness's own."""
    name = kind.__module__
    return {} if name.partition(".")[0] == HARNESS else {name: Path(str(inspect.getsourcefile(kind)))}


@dataclass(frozen=True)
class _Module:
    """A module by its full name. file: None for a folder without an `__init__`. folders: of a package, where its
    modules are."""

    name: str
    file: Path | None
    folders: tuple[str, ...] | None

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.name if self.folders is not None else self.name.rpartition(".")[0]


def _files(start: str) -> dict[str, Path]:
    """The module `start` and all that it imports, as far as they count: file by name."""
    top, _, inside = start.partition(".")
    if top == HARNESS:
        return {}
    home = _find(top)
    beside = home.file.parent if home and home.file and home.folders is None and not inside else None
    found: dict[str, Path] = {}
    waiting = [start, *_parents(start)]
    taken = {start}  # imported by name; a package on the way to these counts where it has code of its own
    seen: set[tuple[str, bool]] = set()
    while waiting:
        name = waiting.pop()
        if (name, name in taken) in seen or not _counts(name.partition(".")[0], top, beside):
            continue
        seen.add((name, name in taken))
        module = _find(name)
        if module is None or module.file is None:
            continue
        tree = _parsed(module.file)
        if name not in taken and not _has_code(tree):
            continue
        found[name] = module.file
        for other in _imported(tree, module.package):
            taken.add(other)
            waiting += [other, *_parents(other)]
    return found


def neighbours(file: Path) -> dict[str, Path]:
    """Modules and packages that lie next to a file in no package and that it imports, or those do: file by name.

    Nothing is looked for elsewhere, nor imported."""
    found: dict[str, Path] = {}
    waiting = [file]
    while waiting:
        for name in _imported(_parsed(waiting.pop()), ""):
            top = name.partition(".")[0]
            if not top or top in (HARNESS, SHARED, file.stem) or top in found:
                continue
            for there in (file.parent / top / "__init__.py", file.with_name(f"{top}.py")):
                if there.is_file():
                    found[top] = there
                    waiting += there.parent.rglob("*.py") if there.stem == "__init__" else [there]
                    break
    return found


def _counts(top: str, own: str, beside: Path | None) -> bool:
    """Whether modules under this top-level name are followed."""
    if top == HARNESS:
        return False
    if top in (own, SHARED) or beside is None:
        return top in (own, SHARED)
    found = _find(top)
    if found is None or found.file is None:
        return False
    if found.folders is None:
        return found.file.parent == beside
    return found.file.parent.parent == beside and beside not in INSTALLED  # all packages there are neighbours


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _find(name: str) -> _Module | None:
    """A module where it is there, with no package on the way imported."""
    top, *inside = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module in memory that says not where it is from
        return None
    full = top
    for part in inside:
        if spec is None or (folders := _folders(full, spec.submodule_search_locations)) is None:
            return None
        full = f"{full}.{part}"
        spec = PathFinder.find_spec(full, list(folders))
    if spec is None:
        return None
    origin = Path(spec.origin) if spec.has_location and spec.origin else None
    return _Module(name, origin, _folders(name, spec.submodule_search_locations))


def _folders(name: str, said: Iterable[str] | None) -> tuple[str, ...] | None:
    """Where a package's modules are: a package that is imported may have added to it."""
    folders = getattr(sys.modules.get(name), "__path__", said)
    return None if folders is None else tuple(folders)


def _parsed(file: Path) -> ast.Module:
    """The code of a file; none where it is not Python's, or not Python at all (whoever imports it will be told)."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _has_code(tree: ast.Module) -> bool:
    """Whether it does more than to import, and to say what it is: a docstring, `__all__`, `__version__`."""
    return any(
        not isinstance(line, ast.Import | ast.ImportFrom)
        and not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        and not (isinstance(line, ast.Assign) and all(_is_dunder(target) for target in line.targets))
        for line in tree.body
    )


def _is_dunder(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.startswith("__") and target.id.endswith("__")


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Full names of the modules that a file takes something from. Of `from a import b` that is a.b where it is a
    module, else a; of `import a.b`, which gives the name a to the file, both."""
    for line in ast.walk(tree):
        if isinstance(line, ast.Import):
            for alias in line.names:
                yield alias.name
                yield from _parents(alias.name)
        elif isinstance(line, ast.ImportFrom):
            base = line.module or ""
            if line.level:
                try:
                    base = importlib.util.resolve_name("." * line.level + base, package)
                except ImportError:  # beyond the top: it cannot be imported
                    continue
            for alias in line.names:
                inner = f"{base}.{alias.name}"
                yield inner if _find(inner) else base
