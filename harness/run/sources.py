"""The road's first phase: what lies outside a run, its prompt sets, models and judges, is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.config import Config, JudgeConfig
from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.generation.backends import Backend, fastest_backend
from harness.judging import Judge, Judging, open_judge
from harness.judging.registry import checkpoint_at, checkpoint_of, factory_of
from harness.measures import Measure, measures
from harness.measures.tasks import Task, find_tasks
from harness.models import folders
from harness.models.hub import MissingModelError, all_missing
from harness.models.locate import Located, base_of, locate_models, without_template
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.models.specs import ModelSpec, Pair, Prune, model_spec, models, resolve_pair
from harness.prompts import Library, MissingPromptsError, PromptSet, evaluation_set, training_set
from harness.run.jobs import ConvertJob
from harness.run.measuring import wanted
from harness.store import Store

# A pruned student is one model, whatever run it is in: its importance is measured on the unpruned model's own
# responses to the first prompts of one set.
CALIBRATION_SET = "everyday-train"


@dataclass(frozen=True)
class FoundModel:
    """A checkpoint as it lies there, and the job that makes a plain one of it where it is none. base: what an adapter
    is merged into."""

    here: Model
    conversion: ConvertJob | None = None
    base: FoundModel | None = None

    @property
    def conversions(self) -> tuple[ConvertJob, ...]:
        """The jobs that make a plain checkpoint of it, in order."""
        return (*(self.base.conversions if self.base else ()), *([self.conversion] if self.conversion else []))

    @property
    def model(self) -> Model:
        """The plain checkpoint, which may be yet to be made."""
        if self.conversion is None:
            return self.here
        return self.here.model_copy(update={"artifact": self.conversion.ref, "path": None, "digest": None})


OpenedJudge = tuple[Judge, FoundModel | None]  # with the checkpoint that it reads, if it reads one


@dataclass(frozen=True)
class Sources:
    """All that a run reads from outside.

    train, validation: the training prompts, and those that are held out of them, where some are. evaluation: each set,
    and whether it is in-domain. student: what the student is made of, before `prune`.
    calibration: the prompts that it is pruned by. teacher: of one behind a server, its tokenizer. judges: each that
    gives verdicts of its own; unopened: why others cannot be asked. measuring: by measure, the model that it is taken
    with, where that is not the teacher. generator: the one that is here. shapes: sizes of models by digest, as their
    entries say. absent: the models that are not here and cannot be had now, but whose sizes are known. incomplete:
    models are not here yet. notes: lines for people. incomparable: why student and teacher cannot be compared token by
    token; empty where they can. retention: the tasks that models are asked, by name."""

    pair: Pair
    train: PromptSet
    validation: PromptSet | None
    evaluation: tuple[tuple[PromptSet, bool], ...]
    student: FoundModel
    teacher: FoundModel
    generator: Backend
    judges: tuple[OpenedJudge, ...]
    unopened: tuple[str, ...] = ()
    measuring: Mapping[str, Model] = field(default_factory=dict)
    prune: Prune | None = None
    calibration: PromptSet | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    absent: MissingModelError | None = None
    incomplete: bool = False
    notes: tuple[str, ...] = ()
    incomparable: str = ""
    retention: Mapping[str, Task] = field(default_factory=dict)

    @property
    def opened(self) -> list[Judge]:
        """The judges that give verdicts of their own."""
        return [judge for judge, _ in self.judges]

    @property
    def training_prompts(self) -> list[Prompt]:
        """Those to train on, and those that are held out of them."""
        return [prompt for found in (self.train, self.validation) if found for prompt in found.prompts]

    @property
    def evaluation_prompts(self) -> list[Prompt]:
        """Of all evaluation sets."""
        return [prompt for found, _ in self.evaluation for prompt in found.prompts]


def find(config: Config, store: Store, download: bool) -> Sources:
    """All that a run reads from outside. Prompt sets are fetched even for a plan, into the hub's own cache: without
    prompts there is nothing to count. download: models too; without it those of a known size need not be here.

    Raises:
        MissingPromptsError, MissingModelError: all that is missing, named together.
        UserError: a name, a file or a model that is not what it should be.
    """
    pair, server = pair_of(config), config.teacher_server
    student = pair.specs.get(pair.student) or model_spec(pair.student)
    base = student.base or pair.student
    # a teacher behind a server is here by its tokenizer alone
    teacher = (server.tokenizer or base) if server else pair.teacher
    alone = frozenset([teacher] if server and teacher not in (pair.student, base) else [])
    locate = partial(
        locate_all,
        [teacher, pair.student],
        config.judge,
        store,
        remote_code=config.trust_remote_code,
        pair=pair,
        tokenizers=alone,
        measured=wanted(config),
    )
    read = [*_measures(config.judge), *wanted(config)]
    train, evaluation, missing = _prompt_sets(config)
    if train is None or missing:
        raise MissingPromptsError("; ".join([*missing, *_missing_models(locate)]))
    train, validation = _held_out(train, config)
    absent: list[MissingModelError] | None = None if download else []
    located = locate(download=download, absent=absent)
    prune = config.prune or student.prune
    calibration = training_set(CALIBRATION_SET, Library()).first(prune.calibration) if prune else None
    opened, unopened = open_judges(config, judge_models(config.judge, located))
    return Sources(
        pair=pair,
        train=train,
        validation=validation,
        evaluation=evaluation,
        student=_found(base, located),
        teacher=_found(teacher, located),
        generator=fastest_backend(config.vllm) if config.generator == "auto" else config.generator,
        judges=opened,
        unopened=unopened,
        measuring={found.name: located[found.model][1] for found in read if found.model},
        prune=prune,
        calibration=calibration,
        shapes={str(model.digest): spec.shape for spec, model in located.values() if spec.shape},
        absent=all_missing(absent) if absent else None,
        incomplete=any(str(model.digest).startswith("hub:") for _, model in located.values()),
        notes=(
            *without_template(located),
            *dict.fromkeys(note for found in (train, *(one for one, _ in evaluation)) for note in found.notes),
        ),
        retention=find_tasks(config.retention, store.digest),
    )


def _prompt_sets(config: Config) -> tuple[PromptSet | None, tuple[tuple[PromptSet, bool], ...], list[str]]:
    """The training set and the evaluation sets (with whether each is in-domain), cut to the run's limits; and what is
    missing of them, one line each."""
    library = Library(config.prompts, config.test_share, download=True)
    missing: list[str] = []
    evaluation: list[tuple[PromptSet, bool]] = []
    train: PromptSet | None = None
    try:
        train = training_set(config.train_prompts, library).first(config.limits.train)
    except MissingPromptsError as error:
        missing.append(str(error))
    for text in config.eval:
        try:
            found, in_domain = evaluation_set(text, train, library)
        except MissingPromptsError as error:
            missing.append(str(error))
        else:
            evaluation.append((found.first(config.limits.eval), in_domain))
    return train, tuple(evaluation), missing


def _held_out(train: PromptSet, config: Config) -> tuple[PromptSet, PromptSet | None]:
    """The training prompts, and those that are held out of them.

    Raises:
        UserError: one of the two has none.
    """
    if not config.validation:
        return train, None
    left, held = train.hold_out(config.validation)
    if not left.prompts or not held.prompts:
        raise UserError(
            f"validation={config.validation:g} leaves {len(left.prompts)} of the {len(train.prompts)} prompts of "
            f"'{train.name}' to train on and {len(held.prompts)} to validate on; choose another share, or more prompts"
        )
    return left, held


def _missing_models(locate: Callable[..., Located]) -> list[str]:
    """What to say of models where a prompt set is missing too: all that is missing is named at once."""
    try:
        locate(download=False)
    except MissingModelError as error:
        return [str(error)]
    return []


def pair_of(config: Config) -> Pair:
    """The pair of a run; a teacher behind a server goes by its name there."""
    if config.teacher_server is None:
        return resolve_pair(config.student, config.teacher)
    if config.teacher is not None and config.teacher != config.teacher_server.model:
        raise UserError("both teacher and teacher_server are set; the teacher is one of them")
    return resolve_pair(config.student, config.teacher_server.model)


def locate_all(
    names: Sequence[str],
    judging: Judging,
    store: Store,
    download: bool,
    remote_code: bool,
    pair: Pair | None = None,
    absent: list[MissingModelError] | None = None,
    tokenizers: frozenset[str] = frozenset(),
    measured: Sequence[Measure] = (),
) -> Located:
    """Every model that a road starts from, its judges' too, found at once: all that is missing is named together."""
    known = pair.specs if pair else {}
    specs = {name: known.get(name) or model_spec(name) for name in names}
    for spec in list(specs.values()):
        if spec.base:
            specs[spec.base] = model_spec(spec.base)
    families: dict[str, frozenset[str] | None] = {}
    for name in judging.names:
        needed = checkpoint_of(name)
        if needed:
            specs[needed[0]], families[needed[0]] = model_spec(needed[0], "judge's model"), needed[1]
    for measure in [*_measures(judging), *measured]:
        if measure.model:
            specs[measure.model], families[measure.model] = models.get(measure.model), measure.model_types
    return locate_models(specs, store, download, remote_code, families, absent, tokenizers)


def _measures(judging: Judging) -> list[Measure]:
    """What the judges that are named read, of what the harness makes."""
    read = {measure for name in judging.names for measure in factory_of(name)[0].measures}
    return [measures.get(name) for name in sorted(read) if name in measures]


def judge_models(judging: Judging, located: Located) -> dict[str, FoundModel | None]:
    """The checkpoint of each judge that is named, None for one that reads none."""
    needed = {name: checkpoint_of(name) for name in judging.names}
    return {name: _found(found[0], located) if found else None for name, found in needed.items()}


def open_judges(
    config: Config | JudgeConfig, checkpoints: Mapping[str, FoundModel | None]
) -> tuple[tuple[OpenedJudge, ...], tuple[str, ...]]:
    """Every judge that gives verdicts of its own: those named, each followed by the parts that it is made of. And why
    others cannot be opened, one line each."""
    opened: dict[str, OpenedJudge] = {}
    refused = []

    def opened_here(name: str) -> OpenedJudge:
        found = checkpoints.get(name)
        checkpoint = checkpoint_at(found.model, None) if found else None
        return open_judge(name, config.judge, checkpoint, config.vllm), found

    for name in checkpoints:
        try:
            judge, found = opened_here(name)
            for member in judge.members:
                _check_part(judge, member, named=member in checkpoints)
            parts = {member: opened_here(member) for member in judge.members if member not in opened}
        except UserError as error:
            refused.append(str(error))
        else:
            opened |= {judge.name: (judge, found), **parts}
    return tuple(opened.values()), tuple(refused)


def _check_part(judge: Judge, member: str, named: bool) -> None:
    """What a judge is made of is known once it is open, when its checkpoint and its measures have been looked for."""
    if not named and checkpoint_of(member):
        raise UserError(f"judge '{judge.name}' has the part '{member}', which reads a model; name that judge as well")
    if unsaid := sorted(set(factory_of(member)[0].measures) - set(judge.measures)):
        raise UserError(f"judge '{judge.name}' does not ask for the measure '{unsaid[0]}' of its part '{member}'")


def _found(name: str, located: Located) -> FoundModel:
    """A checkpoint as it comes, with its conversion."""
    spec, model = located[name]
    if spec.base:
        raise UserError(f"'{name}' is a pruned model; only the student may be one")
    base = _found(base_of(name), located) if base_of(name) in located else None
    return FoundModel(
        model, conversion(name, spec, str(model.path), str(model.digest), base.model if base else None), base
    )


def conversion(name: str, spec: ModelSpec, path: str, digest: str, base: Model | None = None) -> ConvertJob | None:
    """The job that makes a plain checkpoint of a GGUF file, of pickled weights, or of an adapter and its base; None
    where there is one."""
    label = f"convert {name}"
    if base is not None:
        return ConvertJob(label=f"merge {name}", path=path, digest=digest, format="adapter", base=base)
    if spec.gguf:
        return ConvertJob(label=label, path=path, digest=digest)
    if folders.to_convert(Path(path), spec.pickled):
        return ConvertJob(label=label, path=path, digest=digest, format="pickled")
    return None
