"""The road's second phase: all that is refused before any work, named together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from harness.config import Config
from harness.core.errors import RefusedError, UserError
from harness.core.records import Prompt
from harness.core.registry import did_you_mean
from harness.core.section import load_yaml
from harness.judging import Judge
from harness.measures import READS, measures, tasks
from harness.methods import DistributionSettings, FreshSettings, Method, MethodSettings, methods
from harness.methods.checking import probe
from harness.models.reference import Model
from harness.prompts import PromptSet
from harness.run.fitting import libraries, unaskable, unreadable
from harness.run.loadable import unloadable
from harness.run.measuring import unmeasurable
from harness.run.reading import ALONE
from harness.run.rows import Entry, contrasts_of, entries_of, entry_of, versus_of
from harness.run.sources import Sources
from harness.store import Store

VERSION = 1  # raised when other things are tried of a method


def check(config: Config, sources: Sources, store: Store, to_be_asked: bool) -> None:
    """to_be_asked: whether the judges are to be asked now, and so need their keys. What it finds out of prompts is kept
    in the store.

    Raises:
        RefusedError: all that is wrong, one line each.
    """
    evaluation = [found for found, _ in sources.evaluation]
    refusals = [
        *_sets_of_one_name(evaluation),
        *_further_turns(config.train_prompts, sources.training_prompts),
        *seen(sources.training_prompts, evaluation),
        *unloadable(config, sources, store),
        *_trainings(config, sources, store),
        *sources.unopened,
        *unaskable(sources, store),
        *unmeasurable(config, evaluation, sources.incomparable),
        *tasks.unloadable(sources.retention, store),
    ]
    for judge, _ in sources.judges:
        refusals += unready(judge, sources.evaluation_prompts, to_be_asked)
        if judge.name in config.judge.names:  # its parts measure no more than it does
            refusals += _unread(judge, evaluation)
    if refusals:
        raise RefusedError(refusals)


def _refused(ask: Callable[[], object]) -> list[str]:
    """What a call refuses."""
    try:
        ask()
    except UserError as error:
        return [str(error)]
    return []


def _sets_of_one_name(evaluation: Sequence[PromptSet]) -> Iterator[str]:
    names = [found.name for found in evaluation]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"two evaluation sets are named '{name}'; rename one of the files, or name it with prompts.NAME.path"


def _further_turns(name: str, train: Sequence[Prompt]) -> Iterator[str]:
    """No training prompt may go on after the model's answer: a training has one response to each."""
    several = next((prompt.id for prompt in train if prompt.turns), None)
    if several is not None:
        yield f"training set '{name}': prompt '{several}' has further turns, and a training takes one; evaluate on it"


def seen(train: Sequence[Prompt], evaluation: Sequence[PromptSet]) -> Iterator[str]:
    """No evaluation prompt may be a training prompt, or one that settings are chosen on."""
    trained = {prompt.messages for prompt in train}
    for found in evaluation:
        shared = [prompt.id for prompt in found.prompts if prompt.messages in trained]
        if shared:
            yield (
                f"evaluation set '{found.name}' holds {len(shared)} of the training prompts (first: {shared[0]}); "
                "judge on prompts that training never saw"
            )


def _trainings(config: Config, sources: Sources, store: Store) -> list[str]:
    """What is wrong with methods, their settings and contrasts, and the prompts that they read."""
    try:
        entries, start = entries_of(config), entry_of(config, "sft").settings.start
    except UserError as error:
        return [str(error)]
    refusals = _refused(lambda: contrasts_of(config, entries)) + _refused(lambda: versus_of(config, entries))
    if start == "sft":
        refusals.append("settings.sft.start: SFT starts from the untrained student")
    refusals += [*_never_fresh(entries), *_nothing_left(config, entries), *_nothing_taught(entries)]
    refusals += [*_sharded(config, entries), *_methods(entries, store)]
    return [*refusals, *_by_token(config, entries, sources, store), *unreadable(config, sources, store)]


def _never_fresh(entries: Sequence[Entry]) -> Iterator[str]:
    """Settings of fresh responses, and whose stand in for them, are of methods whose responses may be the policy's own;
    others would not hear of them."""
    for entry in entries:
        method = methods.get(entry.method)
        if not isinstance(entry.settings, FreshSettings) or any(who == "policy" for _, who, _ in method.responses):
            continue
        for name in FreshSettings.__annotations__:
            if getattr(entry.settings, name) != FreshSettings.model_fields[name].default:
                yield (
                    f"settings.{entry.method}.{name}: {entry.method} trains on stored responses alone "
                    f"({', '.join(method.roles)}); leave it out"
                )


def _nothing_left(config: Config, entries: Sequence[Entry]) -> Iterator[str]:
    """A row that starts from SFT has nothing left of a budget that SFT alone takes. Of what is not sampled yet it is
    known where it is what SFT reads: those are the same tokens."""
    by_name, sft = {entry.name: entry for entry in entries}, entry_of(config, "sft")
    for entry in entries:
        named = by_name.get(entry.match)
        if named is None or entry.settings.start != "sft" or named.settings.start == "sft":
            continue
        as_sft = _stored(named) == _stored(sft) and named.settings.epochs <= sft.settings.epochs
        if as_sft and not methods.get(named.method).fresh_share(named.settings):
            yield (
                f"{entry.name}: nothing is left to train on: it takes as many tokens as {named.name} does in all, and "
                f"SFT, where it starts, takes those; match a method that takes more (--match tokens:METHOD), or set "
                f"settings.{entry.method}.start=student"
            )


def _stored(entry: Entry) -> list[tuple[str, int]]:
    """Who wrote the stored responses that a row is trained on, and which sample."""
    return [(who, sample) for _, who, sample in methods.get(entry.method).stored_roles(entry.settings)]


def _sharded(config: Config, entries: Sequence[Entry]) -> Iterator[str]:
    """What a policy samples while it trains, it samples whole: as far as accelerate's file says it, before any work."""
    if config.accelerate_config is None:
        return
    try:
        said = load_yaml(Path(config.accelerate_config).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError):  # which accelerate says
        return
    kind = said.get("distributed_type") if isinstance(said, dict) else None
    sampling = [entry.name for entry in entries if methods.get(entry.method).fresh_share(entry.settings)]
    if sampling and str(kind).upper() == "FSDP":
        yield (
            f"{', '.join(sampling)}: the policy samples as it trains, which sharded weights (FSDP, as "
            "accelerate_config says) cannot yet: leave accelerate_config out, set fresh_share=0, or leave these "
            "methods out"
        )


def _nothing_taught(entries: Sequence[Entry]) -> Iterator[str]:
    """`nll` is of stored responses that the teacher wrote; where there are none it would be in a key and in no loss."""
    for entry in entries:
        settings, method = entry.settings, methods.get(entry.method)
        if not isinstance(settings, DistributionSettings) or not settings.nll:
            continue
        never_stored = ("policy",) if method.fresh_share(settings) == 1 else ()
        roles = zip(method.responses, method.written(settings), strict=True)
        if not any(writer == "teacher" and who not in never_stored for (_, who, _), (_, writer, _) in roles):
            yield (
                f"settings.{entry.method}.nll={settings.nll:g} is of stored responses that the teacher wrote, and none "
                "is; leave it out, or set fresh_share below 1 and stored=teacher"
            )


def _methods(entries: Sequence[Entry], store: Store) -> list[str]:
    """What methods' own functions do wrong; a method and its controls may do the same."""
    asked = [functools.partial(_probed, methods.get(entry.method), entry.settings, store) for entry in entries]
    found = [line for entry in entries for line in _names_nothing(methods.get(entry.method))]
    return list(dict.fromkeys([*found, *(line for ask in asked for line in _refused(ask))]))


def _probed(method: Method, settings: MethodSettings, store: Store) -> None:
    """`probe`, once for these sources and settings: it imports torch, and calls each loss. A refusal is not kept."""
    of = {"version": VERSION, "torch": version("torch"), "method": method.name, "source": method.source_digest}
    store.recall("probed", {**of, "settings": settings.model_dump(mode="json")}, lambda: probe(method, settings))


def _names_nothing(method: Method) -> Iterator[str]:
    """Methods and measures that a method names and that there are not."""
    for kind, field, names, known in (
        ("method", "compared_with", method.compared_with, methods.names()),
        ("measure", "minimises", method.minimises, measures.names()),
    ):
        for name in names:
            if name not in known:
                wrong = f"{field} names the {kind} {name!r}, which is not there{did_you_mean(str(name), known)}"
                yield f"{method.file}: METHOD '{method.name}': {wrong}"


def _by_token(config: Config, entries: Sequence[Entry], sources: Sources, store: Store) -> list[str]:
    """What is wrong with methods that read the teacher token by token, over the student's own tokens, or distributions
    of anyone."""
    names, refusals = [], []
    for entry in entries:
        method = methods.get(entry.method)
        if method.teacher_sees is None and "teacher" in method.reads_by_token(entry.settings):
            names.append(entry.name)
        refusals += [f"{entry.name}: {why}" for why in _unreadable_rows(config, method, entry.settings)]
    if not names:
        return refusals
    if config.teacher_server and not config.teacher_server.tokenizer:
        return [
            *refusals,
            f"{', '.join(names)}: the teacher is read token by token, and nothing says which tokenizer it has: set "
            "teacher_server.tokenizer to a model that has the teacher's (and the student's), or leave them out with "
            "--methods",
        ]
    training = [sources.train, *([sources.validation] if sources.validation else [])]
    sets = [*training, *(found for found, _ in sources.evaluation)]
    read_by_both = [prompt for found in sets for prompt in found.prompts]
    both = (sources.student.here, sources.teacher.here)
    key = {**libraries(), "models": [one.in_key for one in both], "prompts": [found.digest for found in sets]}
    # that they can is kept, and no refusal
    ask = functools.partial(store.recall, "one_tokenizer", key, lambda: require_comparable(*both, read_by_both))
    return refusals + _refused(ask)


def _unreadable_rows(config: Config, method: Method, settings: MethodSettings) -> Iterator[str]:
    """Why a distribution-level method cannot have what it reads of the teacher as its settings say."""
    if not isinstance(settings, DistributionSettings) or "distribution" not in method.levels():
        return
    key = f"settings.{method.name}"
    if settings.teacher_signal == "stored":
        if len(method.roles) > 1:
            yield f"{key}.teacher_signal=stored keeps what the teacher says of one response, and it trains on several"
        if "reference" in method.reads:
            yield f"{key}.teacher_signal=stored keeps the teacher's distributions, and it reads the reference's too"
        if any(sample for _, _, sample in method.responses):
            yield f"{key}.teacher_signal=stored is of the first sample of each prompt, and it trains on a further one"
        if method.teacher_sees is not None:
            yield f"{key}.teacher_signal=stored keeps what a teacher says that sees the prompt alone; set it to online"
    if method.teacher_sees is None and config.teacher_server and "teacher" in method.reads:
        otherwise = "or name a teacher that is here"
        if "reference" in method.reads:
            yield f"a server gives the teacher's top k alone, and it reads the reference's too: {otherwise[3:]}"
        elif settings.support == "full":
            yield f"a server gives the teacher's top k alone: set {key}.support=tail, {otherwise}"
        elif settings.top_k_of != "teacher":
            yield f"a server gives the teacher's top k alone: set {key}.top_k_of=teacher, {otherwise}"
        elif settings.temperature != 1:
            yield f"a server gives log-probs at temperature 1: set {key}.temperature=1, {otherwise}"


def require_comparable(student: Model, teacher: Model, prompts: Sequence[Prompt]) -> None:
    """Refuse what no method that reads tokens can work with, where both models are folders that are here already."""
    folders = [(Path(model.path), model) for model in (student, teacher) if model.path]
    if len(folders) == 2 and all((folder / "tokenizer.json").is_file() for folder, _ in folders):
        from harness.models.tokenizers import load_tokenizer, require_one_tokenizer

        one, other = (load_tokenizer(path, m.chat_template, m.remote_code) for path, m in folders)
        require_one_tokenizer(one, other, prompts)


def unready(judge: Judge, prompts: Sequence[Prompt], to_be_asked: bool) -> list[str]:
    """What a judge cannot be asked about, and the key that it lacks."""
    return _refused(lambda: judge.check(prompts)) + (_refused(judge.require_key) if to_be_asked else [])


def _unread(judge: Judge, evaluation: Sequence[PromptSet]) -> Iterator[str]:
    """What is measured is measured of single answers, by what the harness makes: of the candidate's, the teacher's, and
    the teacher's further samples alike."""
    for name in judge.measures:
        asks = f"judge '{judge.name}' asks for the measure '{name}', which"
        if name not in measures:
            yield f"{asks} the harness does not make"
        elif (measure := measures.get(name)).reads not in ("responses", *ALONE):
            yield f"{asks} reads {READS[measure.reads]}, and so has no value of the teacher's samples; name another"
        elif measure.samples > 1:
            yield f"{asks} compares the samples of a prompt, and a judge is given single responses; name another"
    for found in evaluation:
        if judge.measures and any(prompt.turns for prompt in found.prompts):
            yield (
                f"judge '{judge.name}' measures answers to one turn, and '{found.name}' has prompts of several; name a "
                "judge that reads (list judges)"
            )
