"""Judges by name: those that are registered (proxies and plug-ins), and kinds that take a model, `KIND:MODEL`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Prompt
from harness.core.registry import Registry, did_you_mean
from harness.judging.protocol import Judge
from harness.judging.settings import Judging, Prices
from harness.judging.templates import Template, load_template
from harness.models.locate import model_folder
from harness.models.reference import ChatTemplate, Model
from harness.serving.settings import VLLM
from harness.store import Store


@dataclass(frozen=True)
class Checkpoint:
    """The model of a local judge: the digest of its content, and its folder, once it is there.

    chat_template, remote_code: as in jobs.Model; the digest covers them."""

    digest: str
    folder: Path | None
    chat_template: ChatTemplate | None = None
    remote_code: bool = False


@dataclass(frozen=True)
class JudgeFamily:
    """Judges of one kind.

    families: the `model_type`s whose checkpoints it reads; empty for a kind that reads none, None for all that the
        harness reads.
    default: the model where a name has none.
    open: name, model, the settings of all judges (`of` gives its own), its checkpoint where it reads one, and where
        vLLM is.
    """

    name: str
    summary: str
    open: Callable[[str, str, Judging, Checkpoint | None, VLLM], Judge]
    families: frozenset[str] | None = frozenset()
    default: str | None = None


def _openai(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.api import open_api_judge

    return open_api_judge(name, model, settings, load_template(settings.of(name).template))


def _pairrm(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.pairrm import open_pairrm

    assert checkpoint is not None
    return open_pairrm(name, checkpoint.folder or Path(model), checkpoint.digest)


def _transformers(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    from harness.judging.local import TransformersJudge

    assert checkpoint is not None
    summary = f"the model {model}, loaded here: the probability of the two letters, in both orders"
    folder, digest = checkpoint.folder or Path(model), checkpoint.digest
    return TransformersJudge(
        name,
        summary,
        _with_letters(name, settings),
        folder,
        digest,
        chat_template=checkpoint.chat_template,
        remote_code=checkpoint.remote_code,
    )


def _vllm(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    import sys

    from harness.judging.local import VLLMJudge

    assert checkpoint is not None
    summary = f"the model {model}, in vLLM: the probability of the two letters, in both orders"
    folder, digest = checkpoint.folder or Path(model), checkpoint.digest
    return VLLMJudge(
        name,
        summary,
        _with_letters(name, settings),
        folder,
        digest,
        chat_template=checkpoint.chat_template,
        remote_code=checkpoint.remote_code,
        python=vllm.python or sys.executable,
        max_model_len=vllm.max_model_len,
        engine=tuple(sorted(vllm.engine.items())),
    )


def _with_letters(name: str, settings: Judging) -> Template:
    """The template of a local judge, which is asked for a letter."""
    own = settings.of(name)
    template = load_template(own.template)
    if "letter" not in template.forms or own.form not in ("auto", "letter"):
        raise UserError(
            f"judge '{name}' is asked for a letter, which template '{template.name}' or judge.form rules out"
        )
    return template


def _load_families() -> dict[str, JudgeFamily]:
    kinds = (
        JudgeFamily("openai", "a model behind OpenAI's API or any server like it: openai:MODEL", _openai),
        JudgeFamily(
            "pairrm",
            "LLM-Blender's PairRM, a small reward model of pairs: pairrm, or pairrm:FOLDER",
            _pairrm,
            frozenset({"deberta-v2"}),
            "llm-blender/PairRM-hf",
        ),
        JudgeFamily(
            "transformers", "a model of the hub or a folder, loaded here: transformers:MODEL", _transformers, None
        ),
        JudgeFamily("vllm", "the same in vLLM, for large ones: vllm:MODEL", _vllm, None),
    )
    return {kind.name: kind for kind in kinds}


def _load_judges() -> dict[str, Judge]:
    from harness.judging import proxies

    return {judge.name: judge for judge in proxies.JUDGES}


judges: Registry[Judge] = Registry("judge", _load_judges)


judge_families: Registry[JudgeFamily] = Registry("judge kind", _load_families)


def family_of(name: str) -> tuple[JudgeFamily, str] | None:
    """The kind and the model that a judge's name says; None for a registered judge.

    Raises:
        UserError: neither.
    """
    if name in judges:
        return None
    prefix, colon, model = name.partition(":")
    if prefix not in judge_families:
        known = [*judges.names(), *judge_families.names()]
        raise UserError(f"unknown judge '{name}'{did_you_mean(prefix, known)}")
    kind = judge_families.get(prefix)
    if not model and kind.default is None:
        raise UserError(f"judge '{name}' names no model; say {prefix}:MODEL")
    if colon and not model:
        raise UserError(f"judge '{name}' names no model after the colon")
    return kind, model or str(kind.default)


def checkpoint_of(name: str) -> tuple[str, frozenset[str] | None] | None:
    """The model whose checkpoint a judge reads, and its `model_type`s as in Kind; None where it reads none."""
    found = family_of(name)
    if found is None or found[0].families == frozenset():
        return None
    return found[1], found[0].families


def open_judge(name: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Judge:
    """The judge of that name, with the settings that are its own.

    Raises:
        UserError: no such judge, or one that lacks something it needs.
    """
    found = family_of(name)
    if found is None:
        return judges.get(name)
    kind, model = found
    return kind.open(name, model, settings, checkpoint, vllm)


def checkpoint_in(store: Store, model: Model | None) -> Checkpoint | None:
    """A local judge's checkpoint, once it is there."""
    return None if model is None else checkpoint_at(model, model_folder(model, store))


def checkpoint_at(model: Model, folder: Path | None) -> Checkpoint:
    digest = str(model.artifact or model.digest)
    if model.chat_template:
        digest = canonical_hash([digest, model.chat_template.text])
    return Checkpoint(digest, folder, model.chat_template, model.remote_code)


def check_ready(judge: Judge, prompts: Iterable[Prompt], to_be_asked: bool = True) -> None:
    """Refuse a judge that lacks a key, where it is to be asked, and a prompt that its template cannot ask about.

    Raises:
        UserError: saying which.
    """
    template, require_key = getattr(judge, "template", None), getattr(judge, "require_key", None)
    if template is not None:
        template.check(prompts)
    if require_key is not None and to_be_asked:
        require_key()


def prices_of(judge: Judge, judging: Judging) -> Prices | None:
    """What a judge that is paid by tokens takes for them; None for any other."""
    return None if reply_tokens(judge) is None else judging.of(judge.name).prices


def reply_tokens(judge: Judge) -> tuple[int, int] | None:
    """About how many tokens a judge that is paid by tokens writes a question, as a rule and if it has to write more;
    None for any other."""
    return getattr(judge, "reply_tokens", None)
