"""Tasks of lm-evaluation-harness, by which a run says what its models still can: how they are found, known by their
content, loaded and asked. The package takes seconds to import, and is imported where a task is loaded."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from harness.core.errors import UserError
from harness.core.files import canonical_hash, file_sha256
from harness.core.hub import OFFLINE, OFFLINE_VARIABLES, switched_on
from harness.core.progress import Tick
from harness.core.records import Record
from harness.core.registry import did_you_mean
from harness.store import Store

PACKAGE, INSTALL = "lm_eval", "pip install '.[lm-eval]'"
# the package's own, by which its published figures are made
PYTHON_SEED, NUMPY_SEED, TORCH_SEED, SHOTS_SEED = 0, 1234, 1234, 1234
DATA_OFFLINE = "HF_DATASETS_OFFLINE"
FUNCTION = "!function"  # of a task's file: what in a Python file beside it


@dataclass(frozen=True)
class Task:
    """A task that is asked for. name: its own. digest: of all that defines it and is here. file: that defines it; None
    for one of the package's."""

    name: str
    digest: str
    file: Path | None = None


class TaskScore(Record):
    """What a model reached in one metric of one task (or of one group of tasks, where that has one).

    metric: with its filter behind a comma, where it has one. n: documents that were asked."""

    task: str
    metric: str
    value: float
    standard_error: float | None
    n: int
    higher_is_better: bool | None


# ---- found


def find_tasks(asked: Sequence[str], digest: Callable[[Path], str] = file_sha256) -> dict[str, Task]:
    """Tasks by their own names: each asked for as a name of the package's or as a YAML file. digest: of a file.

    Raises:
        UserError: the package is not installed; a file is none, or no task; two have one name.
    """
    found: dict[str, Task] = {}
    for text in asked:
        task = _find_task(text, digest)
        if task.name in found:
            raise UserError(f"retention: two tasks are named '{task.name}'; rename one of them in its file")
        found[task.name] = task
    return found


def _find_task(text: str, digest: Callable[[Path], str]) -> Task:
    version = installed_version()
    path = Path(text).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        return Task(text, digest_of(None, version, digest))
    if not path.is_file():
        raise UserError(f"retention: there is no file {text}")
    named = _definition(path).get("task"), _definition(path).get("group")
    name = next((found for found in reversed(named) if isinstance(found, str)), None)
    if name is None:
        raise UserError(f"retention: {text} is no task of lm-evaluation-harness: it names neither a task nor a group")
    return Task(name, digest_of(path, version, digest), path.absolute())


def installed_version() -> str:
    """The package's.

    Raises:
        UserError: it is not installed.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UserError(f"retention is measured by lm-evaluation-harness, which is not installed; {INSTALL}") from None


def digest_of(file: Path | None, version: str, digest: Callable[[Path], str]) -> str:
    """Of all that defines a task and is here: the package by its version; of a file the content, and that of the files,
    functions and data that it names. A data set of the hub is known by its name alone."""
    return canonical_hash({PACKAGE: version, "files": [digest(path) for path in _files(file)] if file else []})


class _TaskLoader(yaml.SafeLoader):
    """Reads a task's file without running what it names."""


@dataclass(frozen=True)
class _Function:
    name: str


_TaskLoader.add_constructor(FUNCTION, lambda loader, node: _Function(str(node.value)))


def _read(file: Path) -> dict[str, Any]:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _TaskLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"retention: {file} cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise UserError(f"retention: {file} is no task of lm-evaluation-harness: it is no mapping of settings")
    return data


def _included(file: Path, data: Mapping[str, Any]) -> list[Path]:
    named = data.get("include") or []
    return [file.parent / str(one) for one in (named if isinstance(named, list) else [named])]


def _definition(file: Path, seen: frozenset[Path] = frozenset()) -> dict[str, Any]:
    """A task's settings with those of the files that it includes, its own over them."""
    data, here = _read(file), seen | {file.resolve()}
    below = [_definition(one, here) for one in _included(file, data) if one.resolve() not in here]
    return {name: value for layer in (*below, data) for name, value in layer.items()}


def _files(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The file and all that it names: files that it includes, Python files of its functions, and its data."""
    yield file
    data, here = _read(file), seen | {file.resolve()}
    for one in _included(file, data):
        if one.resolve() not in here:
            yield from _files(one, here)
    for function in _functions(data):
        code = file.parent / (function.name.rpartition(".")[0].replace(".", "/") + ".py")
        if code.is_file():
            yield code
    found, _ = _located(data, file.parent)
    yield from found


def _functions(data: Any) -> Iterator[_Function]:
    if isinstance(data, _Function):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _functions(value)


def _located(data: Mapping[str, Any], beside: Path) -> tuple[list[Path], dict[str, Any]]:
    """The data files of a task that are here, and its settings with their paths in full. A path is relative to the
    task's own file, or else, as the package has it, to where the command is given."""
    files: list[Path] = []

    def full(text: Any) -> Any:
        if isinstance(text, dict):
            return {name: full(value) for name, value in text.items()}
        if isinstance(text, list):
            return [full(value) for value in text]
        for place in ((base / str(text)).absolute() for base in (beside, Path())):
            pattern = place.relative_to(place.anchor).as_posix()
            found = [place] if place.exists() else sorted(Path(place.anchor).glob(pattern)) if "*" in pattern else []
            if found:
                files.extend(one for top in found for one in (sorted(top.rglob("*")) if top.is_dir() else [top]))
                return str(place)
        return text

    settings, kwargs = dict(data), dict(data.get("dataset_kwargs") or {})
    named = "data_dir" if "data_dir" in kwargs else "data_files"  # the files are relative to the folder
    if kwargs.get(named):
        settings["dataset_kwargs"] = {**kwargs, named: full(kwargs[named])}
    path = settings.get("dataset_path")
    if isinstance(path, str) and "/" in path:  # others are kinds of files, or of the hub
        settings["dataset_path"] = full(path)
    if isinstance(settings.get("task"), list):  # a group, which may define tasks of its own
        members = [_located(one, beside) if isinstance(one, dict) else ([], one) for one in settings["task"]]
        files += [file for found, _ in members for file in found]
        settings["task"] = [one for _, one in members]
    return [file for file in files if file.is_file()], settings


# ---- loaded


def unloadable(tasks: Mapping[str, Task], store: Store) -> Iterator[str]:
    """Why tasks cannot be asked, a line each. Each is loaded once, its data with it; that it can be is kept."""
    for task in tasks.values():
        try:
            store.recall("tasks", {"name": task.name, "digest": task.digest}, functools.partial(_try, task))
        except UserError as error:
            yield str(error)


def _try(task: Task) -> bool:
    """Load a task, and put its first question.

    Raises:
        UserError: it cannot be.
    """
    with _without_bars(lambda done, total, note="": None), _reported(task):
        for name, leaf in _loaded(task)["tasks"].items():
            if getattr(leaf, "UNSAFE_CODE", False):
                raise UserError(f"retention: task '{name}' runs code that models write, and nobody is asked it here")
            if getattr(leaf, "MULTIMODAL", False):
                raise UserError(f"retention: task '{name}' shows pictures or plays sounds; name tasks of text")
            leaf.build_all_requests(limit=1, rank=0, world_size=1)
    return True


@functools.cache
def _manager(with_the_package_s: bool) -> Any:
    """What loads tasks; to know the package's own takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=with_the_package_s)


def _loaded(task: Task) -> dict[str, Any]:
    """A task, or all of a group or tag, as the package has it (TaskManager.load)."""
    if task.file is None:
        manager = _manager(True)
        if task.name not in manager.task_index:
            close = difflib.get_close_matches(task.name, manager.all_tasks, n=1)
            advice = did_you_mean(task.name, close) if close else "; `lm-eval ls tasks` lists all"
            raise UserError(f"retention: lm-evaluation-harness has no task '{task.name}'{advice}")
        spec: Any = task.name
    else:
        from lm_eval.tasks._index import TaskIndex
        from lm_eval.tasks._yaml_loader import load_yaml

        _, settings = _located(load_yaml(task.file), task.file.parent)
        manager = _manager(_names_others(settings))
        entry = TaskIndex.entry_from_config(settings)
        spec = manager._factory.build(entry, overrides=None, registry=manager.task_index)
    loaded: dict[str, Any] = manager.load([spec])
    return loaded


def _names_others(settings: Mapping[str, Any]) -> bool:
    """Whether a group has members that it does not define itself."""
    members = settings["task"] if isinstance(settings.get("task"), list) else []
    return any(isinstance(one, str) or not ("dataset_path" in one or "group" in one) for one in members)


@contextlib.contextmanager
def _reported(task: Task) -> Iterator[None]:
    """What the package raises over a task, as one line: of its own checks, of data that cannot be read, and of texts
    that its templates cannot make."""
    from harness.core.hub import disk_refusal

    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if refused := disk_refusal(error):
            raise refused from error
        if type(error).__name__ == "OutOfMemoryError":
            raise
        where = str(task.file or f"'{task.name}'")
        if isinstance(error, ConnectionError | TimeoutError):
            raise UserError(f"retention: the data of task {where} are not here, and {_why_not()}") from error
        what = " ".join(str(error).split()) or type(error).__name__
        said = what if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {what}"
        raise UserError(f"retention: task {where} cannot be asked ({said})") from error


def _why_not() -> str:
    switched = [name for name in (OFFLINE, DATA_OFFLINE, *OFFLINE_VARIABLES[1:]) if switched_on(name)]
    why = f"{switched[0]} is set" if switched else "the hub cannot be reached"
    return f"{why}; load it once where the hub is reachable, or name a task of files that are here"


# ---- asked


def ask(
    model: Any,
    tokenizer: Any,
    task: Task,
    limit: int | None,
    batch_size: int,
    precision: str,
    tick: Tick,
) -> tuple[list[TaskScore], dict[str, Any]]:
    """What a causal language model reaches in a task, and what is to be known of how it was asked. limit: documents of
    each task at most. precision: `bf16` computes under autocast. A model with a chat template is asked in it.

    Raises:
        UserError: the task cannot be asked.
    """
    with _without_bars(tick), _own_seeds(), _reported(task):
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        loaded = _loaded(task)
        for leaf in loaded["tasks"].values():
            if leaf.get_config("num_fewshot") is None:
                leaf.set_config(key="num_fewshot", value=0)
            leaf.set_fewshot_seed(seed=SHOTS_SEED)
        asked = HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            softmax_dtype="float32",
            mixed_precision_dtype="bfloat16" if precision == "bf16" else None,
        )
        found = evaluate(
            asked,
            loaded,
            limit=limit,
            log_samples=False,
            apply_chat_template=bool(tokenizer.chat_template),
            fewshot_as_multiturn=True,
        )
    shots = {name: int(count) for name, count in found["n-shot"].items()}
    documents = {name: int(count["effective"]) for name, count in found["n-samples"].items()}
    versions = {name: version for name, version in found["versions"].items() if version is not None}
    return _scores(task.name, found), {"shots": shots, "documents": documents, "versions": versions}


def _scores(name: str, found: Mapping[str, Any]) -> list[TaskScore]:
    """Of a group that makes one figure of its tasks' that one, of others each task's."""
    groups = found.get("groups") or {}
    shown = {name: groups[name]} if _metrics(groups.get(name, {})) else found["results"]
    return [
        TaskScore(
            task=task,
            metric=key.removesuffix(",none"),
            value=value,
            standard_error=_number(row.get(key.replace(",", "_stderr,", 1))),
            n=int(row.get("sample_count", {}).get(key, row["sample_len"])),
            higher_is_better=found["higher_is_better"].get(task, {}).get(key.partition(",")[0]),
        )
        for task, row in shown.items()
        for key, value in _metrics(row).items()
    ]


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row with their values, where they have one; keys are `metric,filter`."""
    values = {key: _number(value) for key, value in row.items() if "," in key and "_stderr," not in key}
    return {key: value for key, value in values.items() if value is not None}


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


@contextlib.contextmanager
def _own_seeds() -> Iterator[None]:
    """The package's seeds, and then those from before."""
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(PYTHON_SEED)
        np.random.seed(NUMPY_SEED)
        torch.manual_seed(TORCH_SEED)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextlib.contextmanager
def _without_bars(tick: Tick) -> Iterator[None]:
    """What the package and `datasets` show as bars goes to `tick`; what they print and warn of goes nowhere."""
    import sys

    from tqdm.std import tqdm

    make: Callable[..., None] = tqdm.__init__
    show, out, loggers = tqdm.display, sys.stdout, [logging.getLogger(name) for name in (PACKAGE, "datasets")]
    levels = [logger.level for logger in loggers]

    def hidden(self: Any, *args: Any, **given: Any) -> None:
        make(self, *args, **{**given, "file": io.StringIO(), "disable": False})

    def told(self: Any, *args: Any, **given: Any) -> bool:
        if self.total:
            with contextlib.redirect_stdout(out):  # a process of its own says its progress there
                tick(int(self.n), int(self.total))
        return True

    tqdm.__init__, tqdm.display = hidden, told
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm.__init__, tqdm.display = make, show
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
