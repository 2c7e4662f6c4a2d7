"""The road, top to bottom: which stage needs which artifact. Computes nothing; `launch` does.

    prompts → teacher responses → student (pruned) → SFT student (π_ref) → student responses
            → log-probs under π_ref and π_te → training, one per method
            → responses on the evaluation prompts → verdicts against the teacher

Every job's key follows from the jobs before it, so the whole road is known before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.config import Config, Judging, MethodSettings, Sampling, TokenSettings, shaping, validated
from harness.errors import UserError
from harness.generation.opening import Backend, fastest_backend
from harness.jobs import (
    AnyJob,
    DistributionsJob,
    EmbedJob,
    JudgeJob,
    Model,
    PromptsJob,
    PruneJob,
    Ref,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.judging import Judge, judges, open_judge
from harness.judging.opening import check_ready, checkpoint_at, checkpoint_of
from harness.judging.protocol import source_digest
from harness.methods import Method, methods, selected_controls
from harness.models.catalog import Located, conversion, locate_models, without_template
from harness.models.hub import MissingModelError, all_missing
from harness.models.names import Pair, model_spec, models, resolve_pair
from harness.models.shapes import Shape
from harness.prompts import (
    Library,
    MissingPromptsError,
    PromptSet,
    evaluation_set,
    read_prompts,
    training_set,
)
from harness.records import Prompt
from harness.registry import did_you_mean
from harness.store import Store, canonical_hash

# The teacher's responses on the training prompts are shared by every seed of a run.
TEACHER_SEED = 0
# What each measure of a proxy judge is read from: the teacher's log-probs, or this model's embeddings.
TEACHER_NLL, EMBEDDING, EMBEDDER = "teacher_nll", "embedding", "all-minilm-l6-v2"
# A pruned student is one model, whatever run it is in: its importance is measured on the unpruned model's own
# responses to the first prompts of one set, drawn for that alone.
CALIBRATION_SET, CALIBRATION_SAMPLING, CALIBRATION_BATCH = "everyday-train", Sampling(max_new_tokens=96), 16
TEACHER, UNTRAINED = "teacher", "student (untrained)"
CEILING = "teacher (second sample)"


@dataclass(frozen=True)
class Entry:
    """A row of the board: a method with its settings, or a control of one."""

    name: str
    method: str
    settings: MethodSettings
    why: str = ""
    controls: str = ""
    match_tokens: bool = False

    @property
    def training(self) -> tuple[str, dict[str, Any], bool]:
        """What is trained; rows with equal ones are one."""
        return self.method, self.shaping, self.match_tokens

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape the training, as plain data: what a board says of them."""
        return shaping(self.settings.model_dump(mode="json"))


@dataclass(frozen=True)
class Candidate:
    """Something judged against the teacher."""

    name: str
    kind: str  # method, control, untrained, ceiling
    entry: Entry | None
    responses: Ref
    verdicts: dict[str, Ref]


@dataclass(frozen=True)
class Evaluation:
    name: str
    in_domain: bool
    reference: Ref
    candidates: tuple[Candidate, ...]


@dataclass
class Road:
    """Jobs in the order they run, each once, and what the board is made of."""

    config: Config
    pair: Pair
    jobs: dict[Ref, AnyJob] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    trainings: dict[str, Ref] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    teacher_responses: Ref = ""
    train_prompts: list[Prompt] = field(default_factory=list)
    eval_prompts: dict[str, list[Prompt]] = field(default_factory=dict)
    train_set: PromptSet | None = None
    eval_sets: dict[str, PromptSet] = field(default_factory=dict)
    judges: list[tuple[Judge, Model | None]] = field(default_factory=list)
    weights: dict[str, Model] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, job: AnyJob) -> Ref:
        return self.jobs.setdefault(job.ref, job).ref


def entries_of(config: Config) -> list[Entry]:
    """The methods asked for, then their controls; a control that equals a method or another control is one."""
    found = [_entry(config, name) for name in config.methods]
    for entry in list(found):
        for made in _controls(config, entry):
            if not any(e.training == made.training for e in found):
                taken = any(e.name == made.name for e in found)
                found.append(replace(made, name=f"{made.name} (for {entry.name})") if taken else made)
    return found


def _controls(config: Config, entry: Entry) -> list[Entry]:
    """A method's controls, each as a row of its own."""
    return [
        replace(
            _entry(config, control.method, control.overrides),
            name=control.name,
            why=control.why,
            controls=entry.name,
            match_tokens=control.match_tokens,
        )
        for control in selected_controls(methods.get(entry.method), entry.settings, config.controls)
    ]


def contrasts_of(config: Config, entries: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """The rows that are tested against each other, declared before anything runs: the configuration's, or each method
    against its controls and those that it is compared with.

    Raises:
        UserError: the configuration names a row that the board will not have, or one against itself.
    """
    rows = [entry.name for entry in entries] + [UNTRAINED, CEILING]
    if config.contrasts is not None:
        for first, second in config.contrasts:
            for name in (first, second):
                if name not in rows:
                    advice = f"{did_you_mean(name, rows)}; contrasts=null takes each method's own"
                    raise UserError(f"contrasts: the board has no row '{name}'{advice}")
            if first == second:
                raise UserError(f"contrasts: '{first}' is set against itself")
            if (second, first) in config.contrasts:
                raise UserError(f"contrasts: '{first}' and '{second}' are there in both directions; name them once")
        return config.contrasts
    found: list[tuple[str, str]] = []
    for entry in (entry for entry in entries if not entry.controls):
        trainings = [control.training for control in _controls(config, entry)]
        others = [other for other in entries if other.training in trainings]
        others += [other for name in methods.get(entry.method).compared_with for other in entries if other.name == name]
        found += [(entry.name, other.name) for other in others if other != entry]
    return tuple(dict.fromkeys(found))


def _entry(config: Config, name: str, overrides: dict[str, object] | None = None) -> Entry:
    kind = methods.get(name).settings
    settings = validated(kind, {**config.settings.get(name, {}), **(overrides or {})}, f"settings.{name}.")
    return Entry(name, name, settings)


def build_road(config: Config, store: Store, download: bool) -> Road:
    """The road of a run.

    Raises:
        UserError: anything wrong with names, files or settings; nothing has been computed or written then.
        MissingModelError: all models that are missing, named together.
    """
    pair = _pair(config)
    server = config.teacher_server
    # a teacher behind a server is here by its tokenizer alone
    teacher_name = (server.tokenizer or _unpruned(pair)) if server else pair.teacher
    names = [teacher_name, pair.student]
    alone = frozenset([teacher_name] if server and teacher_name not in (pair.student, _unpruned(pair)) else [])
    found_sets = _prompt_sets(config, store)
    if isinstance(found_sets, str):
        raise MissingPromptsError("; ".join([found_sets, *_missing_models(names, config, store, pair, alone)]))
    train_set, eval_sets = found_sets
    _distinct_names(eval_sets)
    road = Road(config, pair, entries=entries_of(config), train_set=train_set)
    road.eval_sets = {found.name: found for found, _ in eval_sets}
    road.train_prompts = read_prompts(train_set.path, config.limits.train)
    for found, _ in eval_sets:
        road.eval_prompts[found.name] = read_prompts(found.path, config.limits.eval)
    _one_turn(config.train_prompts, road.train_prompts)
    _unseen(road.train_prompts, road.eval_prompts)
    absent: list[MissingModelError] | None = None if download else []
    located = locate_all(names, config.judge, store, download, config.trust_remote_code, pair, absent, alone)
    road.notes += without_template(located) + ([str(all_missing(absent))] if absent else [])
    road.shapes = {str(model.digest): spec.shape for spec, model in located.values() if spec.shape}
    token_level = [entry.name for entry in road.entries if methods.get(entry.method).level == "token"]
    if token_level and server:
        raise UserError(
            f"{', '.join(token_level)}: token-level methods need the teacher's distributions, and a server gives "
            "log-probs of responses alone; leave it out with --methods, or name a teacher that is here"
        )
    if token_level:
        read_by_both = [prompt for found in (road.train_prompts, *road.eval_prompts.values()) for prompt in found]
        _one_tokenizer(located[pair.student][1], located[pair.teacher][1], read_by_both)
    # what was left to the pair and the student's entry, said in full: the configuration is fed back one day
    prune = config.prune or located[pair.student][0].prune
    road.config = config = config.model_copy(
        update={
            "teacher": pair.teacher,
            "prune": prune,
            "contrasts": contrasts_of(config, road.entries),
            "generator": _backend(config),
        }
    )

    prompts = road.add(_prompts_job(train_set, config.limits.train, store))
    teacher = _base_model(road.add, teacher_name, located).model_copy(update={"served": server})
    teacher_responses = road.add(
        _respond(
            config,
            teacher,
            prompts,
            config.train_sampling,
            "chosen",
            TEACHER_SEED,
            "teacher, training prompts",
        )
    )
    road.teacher_responses = teacher_responses
    student = _student(road, pair.student, located, store)

    road.weights = {"student": student, "teacher": teacher}

    sft = _sft(road, student, prompts, teacher_responses)
    student_responses: Ref | None = None
    if any(methods.get(entry.method).data == "pairs" or entry.match_tokens for entry in road.entries):
        student_responses = road.add(
            _respond(
                config,
                sft,
                prompts,
                config.train_sampling,
                "rejected",
                config.seed,
                "SFT student, training prompts",
            )
        )
    trained = {
        entry.name: _train(road, entry, student, sft, teacher, prompts, teacher_responses, student_responses)
        for entry in road.entries
    }

    road.judges = open_judges(config, judge_checkpoints(config.judge, located, road.add))
    for judge, _ in road.judges:
        check_ready(judge, [prompt for found in road.eval_prompts.values() for prompt in found], download)
        _measurable(judge, road.eval_prompts)
    before = len(road.jobs)
    for found, in_domain in eval_sets:
        _evaluate(road, found, in_domain, teacher, student, trained, located, store)
    road.jobs = _by_model(road.jobs, before)
    return road


def _prompt_sets(config: Config, store: Store) -> tuple[PromptSet, list[tuple[PromptSet, bool]]] | str:
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


def _missing_models(names: Sequence[str], config: Config, store: Store, pair: Pair, alone: frozenset[str]) -> list[str]:
    """What to say of models where a prompt set is missing too: all that is missing is named at once."""
    try:
        locate_all(names, config.judge, store, False, config.trust_remote_code, pair, None, alone)
    except MissingModelError as error:
        return [str(error)]
    return []


def _pair(config: Config) -> Pair:
    """The pair of a run; a teacher behind a server goes by its name there."""
    if config.teacher_server is None:
        return resolve_pair(config.student, config.teacher)
    if config.teacher is not None and config.teacher != config.teacher_server.model:
        raise UserError("both teacher and teacher_server are set; the teacher is one of them")
    return resolve_pair(config.student, config.teacher_server.model)


def _unpruned(pair: Pair) -> str:
    """The model that the student is made of."""
    return (pair.specs.get(pair.student) or model_spec(pair.student)).base or pair.student


def _backend(config: Config) -> Backend:
    return fastest_backend(config.vllm) if config.generator == "auto" else config.generator


def _by_model(jobs: dict[Ref, AnyJob], start: int) -> dict[Ref, AnyJob]:
    """The same jobs, those from `start` on ordered by stage and model (or judge): each is loaded once."""
    stages = ("prompts", "respond", "score", "embed", "judge")
    items = list(jobs.items())
    models_seen: list[Model | str | None] = []

    def place(item: tuple[Ref, AnyJob]) -> tuple[int, int]:
        model = getattr(item[1], "model", None) or getattr(item[1], "judge", None)
        if model not in models_seen:
            models_seen.append(model)
        return stages.index(item[1].stage), models_seen.index(model)

    return dict(items[:start] + sorted(items[start:], key=place))


def _distinct_names(eval_sets: Sequence[tuple[PromptSet, bool]]) -> None:
    names = [found.name for found, _ in eval_sets]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two evaluation sets are named '{name}'; rename one of the files, or name it with prompts.NAME.path"
            )


def _one_turn(name: str, train: Sequence[Prompt]) -> None:
    """No training prompt may go on after the model's answer: a training has one response to each."""
    several = next((prompt.id for prompt in train if prompt.turns), None)
    if several is not None:
        raise UserError(
            f"training set '{name}': prompt '{several}' has further turns, and a training takes one; evaluate on it"
        )


def _measurable(judge: Judge, evaluation: dict[str, list[Prompt]]) -> None:
    """What is measured is measured of single answers."""
    for name, prompts in evaluation.items():
        if judge.measures and any(prompt.turns for prompt in prompts):
            raise UserError(
                f"judge '{judge.name}' measures answers to one turn, and '{name}' has prompts of several; name a judge "
                "that reads (list judges)"
            )


def _unseen(train: Sequence[Prompt], evaluation: dict[str, list[Prompt]]) -> None:
    """No evaluation prompt may be a training prompt."""
    seen = {prompt.messages for prompt in train}
    for name, prompts in evaluation.items():
        shared = [prompt.id for prompt in prompts if prompt.messages in seen]
        if shared:
            raise UserError(
                f"evaluation set '{name}' holds {len(shared)} of the training prompts (first: {shared[0]}); "
                "judge on prompts that training never saw"
            )


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
    return {name: _base_model(add, found[0], located) if found else None for name, found in needed.items()}


def open_judges(config: Config, checkpoints: dict[str, Model | None]) -> list[tuple[Judge, Model | None]]:
    """Every judge that gives verdicts of its own: those named, each followed by the parts that it is made of."""
    shown: dict[str, tuple[Judge, Model | None]] = {}
    for name, model in checkpoints.items():
        checkpoint = checkpoint_at(model, None) if model else None
        judge = open_judge(name, config.judge, checkpoint, config.vllm)
        shown[judge.name] = (judge, model)
        shown |= {member: (judges.get(member), None) for member in judge.members if member not in shown}
    return list(shown.values())


def _one_tokenizer(student: Model, teacher: Model, prompts: Sequence[Prompt]) -> None:
    """Refuse what no token-level method can work with, where both models are folders that are here already."""
    folders = [(Path(model.path), model) for model in (student, teacher) if model.path]
    if len(folders) == 2 and all((folder / "tokenizer.json").is_file() for folder, _ in folders):
        from harness.models import loading

        one, other = (loading.load_tokenizer(path, m.chat_template, m.remote_code) for path, m in folders)
        loading.require_one_tokenizer(one, other, prompts)


def _base_model(add: Callable[[AnyJob], Ref], name: str, located: Located) -> Model:
    """A checkpoint as it comes, converted where it is a GGUF file or pickled."""
    spec, model = located[name]
    if spec.base:
        raise UserError(f"'{name}' is a pruned model; only the student may be one")
    job = conversion(name, spec, str(model.path), str(model.digest))
    return model.model_copy(update={"artifact": add(job), "path": None, "digest": None}) if job else model


def _student(road: Road, name: str, located: Located, store: Store) -> Model:
    """The student before training: as it comes, or pruned as its entry or the configuration says."""
    spec, prune = located[name][0], road.config.prune
    base = _base_model(road.add, spec.base or name, located)
    if prune is None:
        return base
    prompts = road.add(_prompts_job(training_set(CALIBRATION_SET, Library(store)), prune.calibration, store))
    calibration = _respond(
        road.config,
        base,
        prompts,
        CALIBRATION_SAMPLING,
        "calibration",
        TEACHER_SEED,
        "the unpruned model, to prune it by",
    )
    # in batches of a size of its own: rounding in another batch could draw another token
    own = {"batch_size": CALIBRATION_BATCH, "generator": "transformers", "engine": {}}
    responses = road.add(calibration.model_copy(update=own))
    job = PruneJob(label=f"prune {name}", model=base, prompts=prompts, responses=responses, ratio=prune.ratio)
    return base.made(road.add(job))


def _prompts_job(found: PromptSet, limit: int | None, store: Store) -> PromptsJob:
    return PromptsJob(label=f"read {found.name}", path=str(found.path), digest=store.digest(found.path), limit=limit)


def _respond(
    config: Config,
    model: Model,
    prompts: Ref,
    sampling: Sampling,
    purpose: str,
    seed: int,
    who: str,
    samples: int = 1,
) -> RespondJob:
    generator: Literal["server"] | Backend = "server" if model.served else _backend(config)
    return RespondJob(
        label=f"responses: {who}",
        model=model,
        generator=generator,
        engine=config.vllm.engine if generator == "vllm" else {},
        vllm=config.vllm,
        prompts=prompts,
        sampling=sampling,
        samples=samples,
        batch_size=config.generation_batch_size,
        purpose=purpose,
        seed=seed,
    )


def _sft(road: Road, student: Model, prompts: Ref, teacher_responses: Ref) -> Model:
    """The SFT student: π_ref, the start of the pair methods, and the one that samples the rejected responses."""
    entry = _entry(road.config, "sft")
    if entry.settings.start == "sft":
        raise UserError("settings.sft.start: SFT starts from the untrained student")
    needed = any(
        entry.method == "sft"
        or entry.settings.start == "sft"
        or entry.match_tokens
        or methods.get(entry.method).data == "pairs"
        or "reference_log_probs" in methods.get(entry.method).signals
        for entry in road.entries
    )
    job = _train_job(road, entry, methods.get("sft"), student, None, prompts, (teacher_responses,), {}, None, None)
    return student.made(road.add(job) if needed else job.ref)


def _train(
    road: Road,
    entry: Entry,
    student: Model,
    sft: Model,
    teacher: Model,
    prompts: Ref,
    teacher_responses: Ref,
    student_responses: Ref | None,
) -> Model:
    """One method's training, with the signals that it asks for."""
    method = methods.get(entry.method)
    both = (teacher_responses, student_responses) if student_responses else (teacher_responses,)
    responses = both if method.data == "pairs" else (teacher_responses,)
    signals: dict[str, Ref] = {}
    for signal in method.signals:
        model, who = (sft, "reference") if signal == "reference_log_probs" else (teacher, "teacher")
        signals[signal] = road.add(_score(road.config, model, prompts, responses, f"log-probs: {who}"))
    distributions: Ref | None = None
    if isinstance(entry.settings, TokenSettings) and entry.settings.teacher_signal == "top_k":
        distributions = road.add(_distributions(road.config, teacher, prompts, responses[0], entry.settings.top_k))
    epochs = next((e.settings.epochs for e in road.entries if e.name == entry.controls), 1)
    job = _train_job(
        road,
        entry,
        method,
        sft if entry.settings.start == "sft" else student,
        teacher if method.level == "token" and distributions is None else None,
        prompts,
        responses,
        signals,
        distributions,
        (epochs, both) if entry.match_tokens else None,
    )
    road.trainings[entry.name] = road.add(job)
    return student.made(job.ref)


def _train_job(
    road: Road,
    entry: Entry,
    method: Method,
    start: Model,
    teacher: Model | None,
    prompts: Ref,
    responses: tuple[Ref, ...],
    signals: dict[str, Ref],
    distributions: Ref | None,
    token_match: tuple[int, tuple[Ref, ...]] | None,
) -> TrainJob:
    return TrainJob(
        label=f"train {entry.name}",
        method=method.name,
        method_source=method.source_digest,
        settings=entry.settings.model_dump(mode="json"),
        start=start,
        teacher=teacher,
        prompts=prompts,
        responses=responses,
        signals=signals,
        distributions=distributions,
        max_prompt_tokens=road.config.max_prompt_tokens,
        tracker=road.config.tracker,
        token_match=token_match,
        seed=road.config.seed,
    )


def _score(config: Config, model: Model, prompts: Ref, responses: tuple[Ref, ...], label: str) -> ScoreJob:
    return ScoreJob(label=label, model=model, prompts=prompts, responses=responses, **_reading(config))


def _distributions(config: Config, teacher: Model, prompts: Ref, responses: Ref, top_k: int) -> DistributionsJob:
    label = f"top {top_k} log-probs: teacher"
    return DistributionsJob(
        label=label, model=teacher, prompts=prompts, responses=responses, top_k=top_k, **_reading(config)
    )


def _reading(config: Config) -> dict[str, Any]:
    """How any frozen model reads responses."""
    return {
        "precision": config.scoring_precision,
        "batch_tokens": config.scoring_batch_tokens,
        "max_prompt_tokens": config.max_prompt_tokens,
    }


def _evaluate(
    road: Road,
    found: PromptSet,
    in_domain: bool,
    teacher: Model,
    student: Model,
    trained: dict[str, Model],
    located: Located,
    store: Store,
) -> None:
    """Responses of everyone on one prompt set, and every judge's verdicts on them against the teacher's."""
    config, name = road.config, found.name
    prompts = road.add(_prompts_job(found, config.limits.eval, store))

    def respond(model: Model, purpose: str, who: str, samples: int = 1) -> Ref:
        job = _respond(config, model, prompts, config.eval_sampling, purpose, config.seed, f"{who}, {name}", samples)
        return road.add(job)

    def measure(kind: str, responses: Ref, who: str) -> Ref:
        if kind == TEACHER_NLL:
            return road.add(_score(config, teacher, prompts, (responses,), f"teacher's log-probs: {who}, {name}"))
        model = located[EMBEDDER][1]
        return road.add(EmbedJob(label=f"embeddings: {who}, {name}", model=model, responses=responses))

    reference = respond(teacher, "reference", TEACHER)
    # drawn for proxy judges alone: a judge that reads needs none
    measuring = any(judge.measures for judge, _ in road.judges)
    samples = respond(teacher, "judging", "teacher for judging", config.judge.samples) if measuring else None
    answers: list[tuple[str, str, Entry | None, Ref]] = [
        (CEILING, "ceiling", None, respond(teacher, "second", CEILING)),
        (UNTRAINED, "untrained", None, respond(student, "candidate", UNTRAINED)),
    ]
    for entry in road.entries:
        kind = "control" if entry.controls else "method"
        answers.append((entry.name, kind, entry, respond(trained[entry.name], "candidate", entry.name)))

    digests = {judge.name: source_digest(judge) for judge, _ in road.judges}
    candidates = []
    for who, kind, maybe_entry, responses in answers:
        roles = {"candidate": (responses, who), "reference": (reference, TEACHER)}
        if samples:
            roles["samples"] = (samples, "teacher for judging")
        verdicts = {}
        for judge, checkpoint in road.judges:
            job = JudgeJob(
                label=f"judge {judge.name}: {who}, {name}",
                judge=judge.name,
                judge_source=digests[judge.name],
                judging=config.judge,
                vllm=config.vllm,
                checkpoint=checkpoint,
                prompt_set=name,
                candidate_name=who,
                reference_name=TEACHER,
                prompts=prompts,
                candidate=responses,
                reference=reference,
                samples=samples if judge.measures else None,
                measures={
                    f"{kind_}/{role}": measure(kind_, ref, whose)
                    for kind_ in judge.measures
                    for role, (ref, whose) in roles.items()
                },
            )
            verdicts[judge.name] = road.add(job)
        candidates.append(Candidate(who, kind, maybe_entry, responses, verdicts))
    road.evaluations.append(Evaluation(name, in_domain, reference, tuple(candidates)))


def ask_again(road: Road, store: Store) -> None:
    """Have every judge that reads asked anew: its judgings are done again, and its cache is not looked into."""
    readers = {judge.name for judge, _ in road.judges if not judge.measures}
    for ref, job in road.jobs.items():
        if isinstance(job, JudgeJob) and job.judge in readers:
            store.discard(ref)
            road.jobs[ref] = job.model_copy(update={"refresh": True})


def run_digest(road: Road) -> str:
    """A digest of everything that the board is made of."""
    return canonical_hash(
        [[c.responses, c.verdicts] for evaluation in road.evaluations for c in evaluation.candidates]
    )[:12]
