"""Methods of single files, which `--plugin` names: each is imported under its file's name, from where it lies.

What lies beside it is there to be imported too, and is part of its key (core/sources.py). Nothing is shadowed: a name
that is another module's already is refused."""

from __future__ import annotations

import importlib.util
import keyword
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

from pydantic import PydanticUserError

from harness.core.errors import UserError, raised_in
from harness.core.files import absolute, file_sha256
from harness.core.sources import neighbours
from harness.methods.method import Method, refusal_of_old


@dataclass(frozen=True)
class Plugin:
    """A file and its method. digest: of the file and of what defines the method, when it was imported. modules: its own
    name and those of what it imports from beside it. folder: where these are looked for because of it."""

    path: str
    method: Method
    digest: tuple[str, str]
    modules: frozenset[str]
    folder: str | None

    @property
    def current(self) -> bool:
        """Whether the files are as they were."""
        try:
            return self.digest == _digest(self.path, self.method)
        except OSError:
            return False


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """What the file says now: compiled code of before is known by its time in seconds; an edit may be younger."""
        return self.source_to_code(self.get_data(self.path), self.path)


def load(named: str | Path) -> Plugin:
    """Import a file.

    Raises:
        UserError: there is no such file, a module of its name is there already, it raises, or it defines no METHOD.
    """
    path = absolute(named)
    name = _module_name(path, str(named))
    beside = neighbours(Path(path))
    for other, file in {name: Path(path), **beside}.items():
        _require_own(other, file, path)
    folder = str(Path(path).parent)
    added = None if folder in sys.path else folder
    if added:
        sys.path.append(added)
    modules = frozenset({name, *beside})
    try:
        method = _imported(name, path)
        return Plugin(path, method, _digest(path, method), modules, added)
    except BaseException:
        _forget(modules, added)
        raise


def unload(plugin: Plugin) -> None:
    """Have its modules imported anew, or not at all."""
    _forget(plugin.modules, plugin.folder)


def _forget(modules: frozenset[str], folder: str | None) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in modules]:
        del sys.modules[name]
    if folder in sys.path:
        sys.path.remove(folder)


def _digest(path: str, method: Method) -> tuple[str, str]:
    return file_sha256(Path(path)), method.source_digest


def _module_name(path: str, named: str) -> str:
    file = Path(path)
    if file.is_dir():
        raise UserError(f"plug-in {named} is a folder; name a Python file, such as my_loss.py")
    if not file.is_file():
        raise UserError(f"plug-in {named}: there is no such file")
    if file.suffix != ".py" or not file.stem.isidentifier() or keyword.iskeyword(file.stem):
        raise UserError(f"plug-in {named}: expected a Python file with a module's name, such as my_loss.py")
    return file.stem


def _require_own(name: str, file: Path, plugin: str) -> None:
    """Refuse a name that Python finds elsewhere: that other module would be taken, or give way to this one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module in memory that says not where it is from
        spec = ModuleSpec(name, None, origin="in memory")
    if spec is None or spec.origin is None:  # a folder without an `__init__` gives way
        return
    if not spec.has_location or absolute(spec.origin) != absolute(file):
        imports = "" if str(file) == plugin else f"{plugin} imports {file.name} from beside it; "
        raise UserError(f"{imports}{file}: there is a module '{name}' already ({spec.origin}); rename the file")


def _imported(name: str, path: str) -> Method:
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a class finds its file through its module
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise error if path in str(error) else UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise refusal_of_old(error, path) or _cannot_be_imported(error, path) from error
    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise UserError(f"{path}: defines no METHOD = Method(...); docs/adding-a-method.md has whole examples")
    return method


def _cannot_be_imported(error: BaseException, path: str) -> UserError:
    where = f"{raised_in(error, path)}: cannot be imported: {type(error).__name__}"
    if isinstance(error, PydanticUserError):  # of a settings class; the rest is advice for pydantic's own users
        return UserError(f"{where}: {error.message.partition('. ')[0]}; a setting is as in `beta: float = 1.0`")
    return UserError(f"{where}: {error}")
