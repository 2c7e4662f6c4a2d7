"""What lies outside a run: its prompt sets, models and judges, found by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config import Config
from harness.core.errors import UserError
from harness.core.records import Ref
from harness.judging import Judge, judges, open_judge
from harness.judging.registry import checkpoint_at, checkpoint_of
from harness.judging.settings import Judging
from harness.models import folders
from harness.models.hub import MissingModelError
from harness.models.locate import Located, locate_models
from harness.models.reference import Model
from harness.models.specs import ModelSpec, Pair, model_spec, models, resolve_pair
from harness.prompts import Library, MissingPromptsError, PromptSet, evaluation_set, training_set
from harness.run.jobs import AnyJob, ConvertJob
from harness.store import Store

# What each measure of a proxy judge is read from: the teacher's log-probs, or this model's embeddings.
TEACHER_NLL, EMBEDDING, EMBEDDER = "teacher_nll", "embedding", "all-minilm-l6-v2"


def find_prompt_sets(config: Config, store: Store) -> tuple[PromptSet, list[tuple[PromptSet, bool]]] | str:
    """The training set and the evaluation sets (with whether each is in-domain), or all that are missing in one line.

    They are fetched even for a plan: without prompts there is nothing to count."""
    library = Library(store, config.prompts, config.test_share, download=True)
    missing: list[str] = []
    evaluation: list[tuple[PromptSet, bool]] = []
    train = PromptSet(config.train_prompts, Path())
    try:
        train = training_set(config.train_prompts, library)
    except MissingPromptsError as error:
        missing.append(str(error))
    for text in config.eval:
        try:
            evaluation.append(evaluation_set(text, train, library))
        except MissingPromptsError as error:
            missing.append(str(error))
    return "; ".join(missing) if missing else (train, evaluation)


def missing_models(names: Sequence[str], config: Config, store: Store, pair: Pair, alone: frozenset[str]) -> list[str]:
    """What to say of models where a prompt set is missing too: all that is missing is named at once."""
    try:
        locate_all(names, config.judge, store, False, config.trust_remote_code, pair, None, alone)
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


def unpruned(pair: Pair) -> str:
    """The model that the student is made of."""
    return (pair.specs.get(pair.student) or model_spec(pair.student)).base or pair.student


def locate_all(
    names: Sequence[str],
    judging: Judging,
    store: Store,
    download: bool,
    remote_code: bool,
    pair: Pair | None = None,
    absent: list[MissingModelError] | None = None,
    tokenizers: frozenset[str] = frozenset(),
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
        for measure in judges.get(name).measures if name in judges else ():
            if measure not in (TEACHER_NLL, EMBEDDING):
                raise UserError(f"judge '{name}' asks for the measure '{measure}', which the harness does not make")
            if measure == EMBEDDING:
                specs[EMBEDDER], families[EMBEDDER] = models.get(EMBEDDER), frozenset({"bert"})
    return locate_models(specs, store, download, remote_code, families, absent, tokenizers)


def judge_checkpoints(judging: Judging, located: Located, add: Callable[[AnyJob], Ref]) -> dict[str, Model | None]:
    """The checkpoint of each judge, None for one that reads none; what must be converted first is added as a job."""
    needed = {name: checkpoint_of(name) for name in judging.names}
    return {name: base_model(add, found[0], located) if found else None for name, found in needed.items()}


def open_judges(config: Config, checkpoints: dict[str, Model | None]) -> list[tuple[Judge, Model | None]]:
    """Every judge that gives verdicts of its own: those named, each followed by the parts that it is made of."""
    shown: dict[str, tuple[Judge, Model | None]] = {}
    for name, model in checkpoints.items():
        checkpoint = checkpoint_at(model, None) if model else None
        judge = open_judge(name, config.judge, checkpoint, config.vllm)
        shown[judge.name] = (judge, model)
        shown |= {member: (open_judge(member, config.judge), None) for member in judge.members if member not in shown}
    return list(shown.values())


def base_model(add: Callable[[AnyJob], Ref], name: str, located: Located) -> Model:
    """A checkpoint as it comes, converted where it is a GGUF file or pickled."""
    spec, model = located[name]
    if spec.base:
        raise UserError(f"'{name}' is a pruned model; only the student may be one")
    job = conversion(name, spec, str(model.path), str(model.digest))
    return model.model_copy(update={"artifact": add(job), "path": None, "digest": None}) if job else model


def conversion(name: str, spec: ModelSpec, path: str, digest: str) -> ConvertJob | None:
    """The job that makes a plain checkpoint of a GGUF file or of pickled weights; None where there is one."""
    label = f"convert {name}"
    if spec.gguf:
        return ConvertJob(label=label, path=path, digest=digest)
    if folders.to_convert(Path(path), spec.pickled):
        return ConvertJob(label=label, path=path, digest=digest, format="pickled")
    return None
