"""The road, top to bottom: which stage needs which artifact. Computes nothing; `launch` does.

    prompts → teacher responses → student (pruned) → SFT student (π_ref) → student responses
            → log-probs under π_ref and π_te → training, one per method
            → responses on the evaluation prompts → verdicts against the teacher

Every job's key follows from the jobs before it, so the whole road is known before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config import Config
from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Prompt, Ref
from harness.generation.backends import Backend, fastest_backend
from harness.generation.protocol import Sampling
from harness.judging import Judge
from harness.methods import Method, TokenSettings, methods
from harness.models.hub import MissingModelError, all_missing
from harness.models.locate import Located, without_template
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.models.specs import Pair
from harness.prompts import Library, MissingPromptsError, PromptSet, read_prompts, training_set
from harness.run.checks import (
    require_comparable,
    require_distinct_names,
    require_measurable,
    require_one_turn,
    require_unseen,
)
from harness.run.jobs import (
    AnyJob,
    DistributionsJob,
    EmbedJob,
    JudgeJob,
    PromptsJob,
    PruneJob,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.run.rows import CEILING, TEACHER, UNTRAINED, Entry, contrasts_of, entries_of, entry_of
from harness.run.sources import (
    EMBEDDER,
    TEACHER_NLL,
    base_model,
    find_prompt_sets,
    judge_checkpoints,
    locate_all,
    missing_models,
    open_judges,
    pair_of,
    unpruned,
)
from harness.store import Store

# The teacher's responses on the training prompts are shared by every seed of a run.
TEACHER_SEED = 0


# A pruned student is one model, whatever run it is in: its importance is measured on the unpruned model's own
# responses to the first prompts of one set, drawn for that alone.
CALIBRATION_SET, CALIBRATION_SAMPLING, CALIBRATION_BATCH = "everyday-train", Sampling(max_new_tokens=96), 16


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


def build_road(config: Config, store: Store, download: bool) -> Road:
    """The road of a run.

    Raises:
        UserError: anything wrong with names, files or settings; nothing has been computed or written then.
        MissingModelError: all models that are missing, named together.
    """
    pair = pair_of(config)
    server = config.teacher_server
    # a teacher behind a server is here by its tokenizer alone
    teacher_name = (server.tokenizer or unpruned(pair)) if server else pair.teacher
    names = [teacher_name, pair.student]
    alone = frozenset([teacher_name] if server and teacher_name not in (pair.student, unpruned(pair)) else [])
    found_sets = find_prompt_sets(config, store)
    if isinstance(found_sets, str):
        raise MissingPromptsError("; ".join([found_sets, *missing_models(names, config, store, pair, alone)]))
    train_set, eval_sets = found_sets
    require_distinct_names(eval_sets)
    road = Road(config, pair, entries=entries_of(config), train_set=train_set)
    road.eval_sets = {found.name: found for found, _ in eval_sets}
    road.train_prompts = read_prompts(train_set.path, config.limits.train)
    for found, _ in eval_sets:
        road.eval_prompts[found.name] = read_prompts(found.path, config.limits.eval)
    require_one_turn(config.train_prompts, road.train_prompts)
    require_unseen(road.train_prompts, road.eval_prompts)
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
        require_comparable(located[pair.student][1], located[pair.teacher][1], read_by_both)
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
    teacher = base_model(road.add, teacher_name, located).model_copy(update={"served": server})
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
        judge.check(prompt for found in road.eval_prompts.values() for prompt in found)
        if download:
            judge.require_key()
        require_measurable(judge, road.eval_prompts)
    before = len(road.jobs)
    for found, in_domain in eval_sets:
        _evaluate(road, found, in_domain, teacher, student, trained, located, store)
    road.jobs = _by_model(road.jobs, before)
    return road


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


def _student(road: Road, name: str, located: Located, store: Store) -> Model:
    """The student before training: as it comes, or pruned as its entry or the configuration says."""
    spec, prune = located[name][0], road.config.prune
    base = base_model(road.add, spec.base or name, located)
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
    entry = entry_of(road.config, "sft")
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
                judge_source=judge.digest,
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
