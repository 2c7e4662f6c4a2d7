"""Judges by name: those that are whole (proxies, and of plug-ins), and families that take a model, `FAMILY:MODEL`.

A plug-in registers a `Judge`, or a `JudgeFactory` of a family, under the entry-point group `dadpo_harness.judges`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.registry import Registry, did_you_mean
from harness.judging.protocol import Judge
from harness.judging.settings import Judging
from harness.judging.templates import load_template
from harness.models.locate import model_folder
from harness.models.reference import ChatTemplate, Model
from harness.serving.settings import VLLM
from harness.store import Store


@dataclass(frozen=True)
class Checkpoint:
    """The model of a local judge: the digest of its content, and its folder, once it is there.

    chat_template, remote_code: as in `models.reference.Model`; the digest covers them."""

    digest: str
    folder: Path | None
    chat_template: ChatTemplate | None = None
    remote_code: bool = False


Open = Callable[[str, str, Judging, Checkpoint | None, VLLM], Judge]


@dataclass(frozen=True)
class JudgeFactory:
    """What makes a judge from its name: NAME of one that is whole, FAMILY:MODEL of one that takes a model.

    open: name, model (empty for one that takes none), the settings of all judges (`of` gives its own), the model's
        checkpoint where it reads one, and where vLLM is.
    model: of a name that gives none.
    model_types: the checkpoints that the family reads; empty where it reads none, None for all that the harness reads.
    measures: as of a judge; what it makes reads no others.
    """

    name: str
    summary: str
    open: Open
    takes_model: bool = True
    model: str | None = None
    model_types: frozenset[str] | None = frozenset()
    measures: tuple[str, ...] = ()


def whole(judge: Judge) -> JudgeFactory:
    """Of a judge that is there: it is opened as it is."""
    return JudgeFactory(judge.name, judge.summary, lambda *_: judge, takes_model=False, measures=judge.measures)


class JudgeRegistry(Registry[JudgeFactory]):
    def add(self, name: str, entry: Judge | JudgeFactory) -> None:
        """Register a judge, or what makes some."""
        if not isinstance(entry, Judge | JudgeFactory):
            raise UserError(f"judge '{name}' of a plug-in is no harness.judging.Judge, and no JudgeFactory")
        super().add(name, whole(entry) if isinstance(entry, Judge) else entry)


def _openai(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.api import open_api_judge

    return open_api_judge(name, model, settings, load_template(settings.of(name).template))


def _pairrm(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.pairrm import open_pairrm

    assert checkpoint is not None
    return open_pairrm(name, checkpoint.folder or Path(model), checkpoint.digest)


def _transformers(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.local import TransformersJudge

    return TransformersJudge(**_of_letters(name, model, "loaded here", settings, checkpoint))


def _vllm(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.local import VLLMJudge

    return VLLMJudge(
        **_of_letters(name, model, "in vLLM", settings, checkpoint),
        python=vllm.python or sys.executable,
        max_model_len=vllm.max_model_len,
        engine=tuple(sorted(vllm.engine.items())),
    )


def _of_letters(name: str, model: str, where: str, settings: Judging, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What every local judge is made of; it is asked for a letter."""
    own = settings.of(name)
    template = load_template(own.template)
    if "letter" not in template.forms or own.form not in ("auto", "letter"):
        raise UserError(
            f"judge '{name}' is asked for a letter, which template '{template.name}' or judge.form rules out"
        )
    assert checkpoint is not None
    return {
        "name": name,
        "summary": f"the model {model}, {where}: the probability of the two letters, in both orders",
        "template": template,
        "folder": checkpoint.folder or Path(model),
        "weights": checkpoint.digest,
        "chat_template": checkpoint.chat_template,
        "remote_code": checkpoint.remote_code,
    }


def _load_judges() -> dict[str, JudgeFactory]:
    from harness.judging.proxies import JUDGES

    found = (
        *map(whole, JUDGES),
        JudgeFactory("openai", "a model behind OpenAI's API or any server like it: openai:MODEL", _openai),
        JudgeFactory(
            "pairrm",
            "LLM-Blender's PairRM, a small reward model of pairs: pairrm, or pairrm:FOLDER",
            _pairrm,
            model="llm-blender/PairRM-hf",
            model_types=frozenset({"deberta-v2"}),
        ),
        JudgeFactory(
            "transformers",
            "a model of the hub or a folder, loaded here: transformers:MODEL",
            _transformers,
            model_types=None,
        ),
        JudgeFactory("vllm", "the same in vLLM, for large ones: vllm:MODEL", _vllm, model_types=None),
    )
    return {factory.name: factory for factory in found}


judges: JudgeRegistry = JudgeRegistry("judge", _load_judges)


def factory_of(name: str) -> tuple[JudgeFactory, str]:
    """What makes the judge of that name, and the model that its name says; empty where it takes none.

    Raises:
        UserError: no such judge.
    """
    if name in judges and not judges.get(name).takes_model:
        return judges.get(name), ""
    family, colon, model = name.partition(":")
    if family not in judges or not judges.get(family).takes_model:
        raise UserError(f"unknown judge '{name}'{did_you_mean(family, judges.names())}")
    factory = judges.get(family)
    if not model and factory.model is None:
        raise UserError(f"judge '{name}' names no model; say {family}:MODEL")
    if colon and not model:
        raise UserError(f"judge '{name}' names no model after the colon")
    return factory, model or str(factory.model)


def checkpoint_of(name: str) -> tuple[str, frozenset[str] | None] | None:
    """The model whose checkpoint a judge reads, and its `model_type`s as of its factory; None where it reads none."""
    factory, model = factory_of(name)
    return None if factory.model_types == frozenset() else (model, factory.model_types)


def open_judge(name: str, settings: Judging, checkpoint: Checkpoint | None = None, vllm: VLLM | None = None) -> Judge:
    """The judge of that name, with the settings that are its own.

    Raises:
        UserError: no such judge, or one that lacks something it needs, or reads measures that its factory does not say.
    """
    factory, model = factory_of(name)
    judge = factory.open(name, model, settings, checkpoint, vllm or VLLM())
    if unsaid := sorted(set(judge.measures) - set(factory.measures)):
        raise UserError(f"judge '{name}' reads the measure '{unsaid[0]}', which its JudgeFactory does not name")
    return judge


def checkpoint_in(store: Store, model: Model | None) -> Checkpoint | None:
    """A local judge's checkpoint, once it is there."""
    return None if model is None else checkpoint_at(model, model_folder(model, store))


def checkpoint_at(model: Model, folder: Path | None) -> Checkpoint:
    digest = str(model.artifact or model.digest)
    if model.chat_template:
        digest = canonical_hash([digest, model.chat_template.text])
    return Checkpoint(digest, folder, model.chat_template, model.remote_code)
