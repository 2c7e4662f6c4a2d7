"""Whether the checkpoints of a run can be loaded as they are to be, asked before anything is done.

What the headers of a checkpoint's files give against its configuration and its tokenizer follows from its content, and
is kept by that: it is found out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from harness.config import Config
from harness.core.errors import UserError
from harness.judging.registry import factory_of
from harness.methods import methods
from harness.models.locate import is_language_model
from harness.models.quantised import require_readable, untrainable
from harness.run.measuring import TOKENS_READ, read_in_evaluation
from harness.run.sources import FoundModel, OpenedJudge, Sources
from harness.store import Store

VERSION = 1  # raised when other things are looked at


def unloadable(config: Config, sources: Sources, store: Store) -> list[str]:
    """What is wrong with the student, the teacher and the judges' models, one line each. A model that is not here yet
    is passed over: it is asked again once it is."""
    lines = []
    if line := untrainable(_folder(sources.student)):
        lines.append(line)
    if not config.teacher_server:
        if _teacher_is_read(config, sources):
            lines += _unreadable("teacher", sources.teacher)
        lines += _faults(sources.teacher, store)
    lines += [*_faults(sources.student, store), *unloadable_judges(sources.judges, store)]
    return list(dict.fromkeys(lines))


def unloadable_judges(judges: Iterable[OpenedJudge], store: Store) -> Iterator[str]:
    """What is wrong with models that judges read. What vLLM loads packed, it reads by itself; a family that names the
    types of its checkpoints says itself how they are loaded."""
    for judge, found in judges:
        if found:
            factory, _ = factory_of(judge.name)
            if factory.name != "vllm":
                yield from _unreadable(f"judge {judge.name}:", found)
            if factory.model_types is None:
                yield from _faults(found, store)


def _teacher_is_read(config: Config, sources: Sources) -> bool:
    """Whether transformers loads the teacher: to sample, or for its log-probs."""
    used = [methods.get(name) for name in config.methods if name in methods]
    kinds = {
        kind
        for found, _ in sources.evaluation
        for kind in read_in_evaluation(config, found, sources.opened, sources.incomparable)
    }
    return (
        sources.generator != "vllm"
        or any("teacher" in method.reads and not method.teacher_sees for method in used)
        or bool(kinds & {"log_probs", *TOKENS_READ})
        or bool(config.retention)
    )


def _unreadable(who: str, found: FoundModel) -> list[str]:
    try:
        require_readable(who, _folder(found))
    except UserError as error:
        return [str(error)]
    return []


def _faults(found: FoundModel, store: Store) -> list[str]:
    """Of a checkpoint that is loaded as it lies there, or that an adapter is merged into; others are looked at once
    they are converted."""
    if found.base:
        return _faults(found.base, store)
    model, folder = found.here, _folder(found)
    if not is_language_model(folder, model.remote_code):
        return []

    def find_out() -> str:
        from harness.models.weights import fault

        return fault(folder, model.chat_template, model.remote_code)

    key = {"version": VERSION, "transformers": version("transformers"), **model.in_key}
    try:
        said = store.recall("faults", key, find_out)
    except UserError as error:
        return [str(error)]
    return [f"{folder}: {said}"] if said else []


def _folder(found: FoundModel) -> Path:
    return Path(str(found.here.path))
