"""The road's third phase, top to bottom: which stage needs which artifact. Computes nothing; `launch` does. Laying it
changes nothing in the store; `ask_again` alone discards what it has asked anew.

    prompts → teacher responses → student (pruned) → SFT student (π_ref) → student responses
            → log-probs under π_ref and π_te → training, one per method
            → responses on the evaluation prompts → verdicts against the teacher, and of rows against each other

Every job's key follows from the jobs before it, so the whole road is known before anything runs: `find` its sources,
`check` them, `lay` it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from harness.config import Config
from harness.core.files import canonical_hash
from harness.core.records import Ref
from harness.generation.protocol import Sampling
from harness.judging import Judge
from harness.methods import Method, TokenSettings, methods
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.models.specs import Pair
from harness.prompts import PromptSet
from harness.run.checks import check
from harness.run.comparable import why_not
from harness.run.evaluating import Evaluating, Evaluation
from harness.run.jobs import (
    Job,
    JudgeJob,
    PruneJob,
    TrainJob,
    by_model,
)
from harness.run.laying import Laid, respond_job
from harness.run.reading import distributions_job, score_job
from harness.run.retention import SERVED, retention_jobs
from harness.run.rows import (
    TEACHER,
    UNTRAINED,
    Entry,
    contrasts_of,
    entries_of,
    entry_of,
    primary_of,
    versus_of,
)
from harness.run.sources import Sources, find
from harness.store import Store

# The teacher's responses on the training prompts are shared by every seed of a run.
TEACHER_SEED = 0
# How the responses that a student is pruned by are drawn, whatever the run.
CALIBRATION_SAMPLING, CALIBRATION_BATCH = Sampling(max_new_tokens=96), 16


@dataclass(frozen=True)
class Road:
    """Jobs in the order they run, each once, and what the board is made of. prompts: each set by the job that reads it.
    shapes: see Sources. notes: lines for people."""

    config: Config
    pair: Pair
    jobs: Mapping[Ref, Job]
    prompts: Mapping[Ref, PromptSet]
    train: PromptSet
    entries: tuple[Entry, ...]
    trainings: Mapping[str, Ref]
    teacher_responses: Ref
    evaluations: tuple[Evaluation, ...]
    judges: tuple[tuple[Judge, Model | None], ...]
    retention: Mapping[str, Ref]
    weights: Mapping[str, Model]
    shapes: Mapping[str, Shape]
    notes: tuple[str, ...]


def build_road(config: Config, store: Store, download: bool) -> Road:
    """The road of a run (download), or of a plan of one.

    Raises:
        UserError: anything wrong with names, files or settings; nothing has been computed or written then.
        MissingModelError: all models that are missing, named together.
    """
    sources = _found(config, store, download=False)
    check(config, sources, store, to_be_asked=download)
    if download and sources.absent:
        raise sources.absent
    if download and sources.incomplete:  # gigabytes are fetched for nothing that would be refused
        sources = _found(config, store, download=True)
        check(config, sources, store, to_be_asked=True)
    return lay(config, sources)


def _found(config: Config, store: Store, download: bool) -> Sources:
    sources = find(config, store, download)
    return replace(sources, incomparable=why_not(config, sources, store))


def lay(config: Config, sources: Sources) -> Road:
    """The road over sources that were checked: a pure function, which looks at nothing outside."""
    entries = tuple(entries_of(config))
    # what was left to the pair and the student's entry, said in full: the configuration is fed back one day
    contrasts = contrasts_of(config, entries)
    config = config.model_copy(
        update={
            "teacher": sources.pair.teacher,
            "prune": sources.prune,
            "contrasts": contrasts,
            "primary": primary_of(config, entries, contrasts),
            "versus": versus_of(config, entries),
            "generator": sources.generator,
        }
    )
    laid = Laid(config, entries)
    prompts = laid.read(sources.train)
    # conversions come first: what is wrong with a checkpoint is known before anything is sampled
    teacher = laid.checkpoint(sources.teacher).model_copy(update={"served": config.teacher_server})
    laid.checkpoint(sources.student)
    judges = tuple((judge, laid.checkpoint(found) if found else None) for judge, found in sources.judges)
    teacher_responses = laid.add(
        respond_job(
            config,
            teacher,
            prompts,
            config.train_sampling,
            "chosen",
            TEACHER_SEED,
            "teacher, training prompts",
        )
    )
    student = _student(laid, sources)
    sft = _sft(laid, student, prompts, teacher_responses)
    student_responses: Ref | None = None
    if any(methods.get(entry.method).data == "pairs" or entry.match_tokens for entry in entries):
        student_responses = laid.add(
            respond_job(
                config,
                sft,
                prompts,
                config.train_sampling,
                "rejected",
                config.seed,
                "SFT student, training prompts",
            )
        )
    trainings = {
        entry.name: _train(laid, entry, student, sft, teacher, prompts, teacher_responses, student_responses)
        for entry in entries
    }
    before = dict(laid.jobs)
    evaluations = tuple(
        Evaluating(laid, found, teacher, sources).evaluate(in_domain, student, sft, trainings, judges)
        for found, in_domain in sources.evaluation
    )
    trained = {row: student.made(ref) for row, ref in trainings.items()}
    asked = retention_jobs(config, sources.retention, {TEACHER: teacher, UNTRAINED: student, **trained})
    retention = {row: laid.add(job) for row, job in asked.items()}
    evaluating = by_model(job for ref, job in laid.jobs.items() if ref not in before)
    return Road(
        config=config,
        pair=sources.pair,
        jobs=MappingProxyType(before | {job.ref: job for job in evaluating}),
        prompts=MappingProxyType(laid.prompts),
        train=sources.train,
        entries=entries,
        trainings=MappingProxyType(trainings),
        teacher_responses=teacher_responses,
        evaluations=evaluations,
        judges=judges,
        retention=MappingProxyType(retention),
        weights=MappingProxyType({"student": student, "teacher": teacher}),
        shapes=MappingProxyType(dict(sources.shapes)),
        notes=(
            *sources.notes,
            *(note for judge, _ in judges for note in judge.notes(sources.evaluation_prompts)),
            *([str(sources.absent)] if sources.absent else ()),
            *([SERVED] if retention and teacher.served else ()),
        ),
    )


def _student(laid: Laid, sources: Sources) -> Model:
    """The student before training: as it comes, or pruned as its entry or the configuration says."""
    base = laid.checkpoint(sources.student)
    if sources.prune is None or sources.calibration is None:
        return base
    prompts = laid.read(sources.calibration)
    calibration = respond_job(
        laid.config,
        base,
        prompts,
        CALIBRATION_SAMPLING,
        "calibration",
        TEACHER_SEED,
        "the unpruned model, to prune it by",
    )
    # in batches of a size of its own: rounding in another batch could draw another token
    own = {"batch_size": CALIBRATION_BATCH, "generator": "transformers", "engine": {}}
    responses = laid.add(calibration.model_copy(update=own))
    label = f"prune {sources.pair.student}"
    job = PruneJob(label=label, model=base, prompts=prompts, responses=responses, ratio=sources.prune.ratio)
    return base.made(laid.add(job))


def _sft(laid: Laid, student: Model, prompts: Ref, teacher_responses: Ref) -> Model:
    """The SFT student: π_ref, the start of the pair methods, and the one that samples the rejected responses."""
    entry = entry_of(laid.config, "sft")
    needed = any(
        entry.method == "sft"
        or entry.settings.start == "sft"
        or entry.match_tokens
        or methods.get(entry.method).data == "pairs"
        or "reference_log_probs" in methods.get(entry.method).signals
        for entry in laid.entries
    )
    job = _train_job(
        laid.config, entry, methods.get("sft"), student, None, prompts, (teacher_responses,), {}, None, None
    )
    return student.made(laid.add(job) if needed else job.ref)


def _train(
    laid: Laid,
    entry: Entry,
    student: Model,
    sft: Model,
    teacher: Model,
    prompts: Ref,
    teacher_responses: Ref,
    student_responses: Ref | None,
) -> Ref:
    """One method's training, with the signals that it asks for."""
    config, method = laid.config, methods.get(entry.method)
    both = (teacher_responses, student_responses) if student_responses else (teacher_responses,)
    responses = both if method.data == "pairs" else (teacher_responses,)
    signals: dict[str, Ref] = {}
    for signal in method.signals:
        model, who = (sft, "reference") if signal == "reference_log_probs" else (teacher, "teacher")
        signals[signal] = laid.add(score_job(config, model, prompts, responses, f"log-probs: {who}"))
    distributions: Ref | None = None
    if isinstance(entry.settings, TokenSettings) and entry.settings.teacher_signal == "top_k":
        distributions = laid.add(distributions_job(config, teacher, prompts, responses[0], entry.settings.top_k))
    epochs = next((e.settings.epochs for e in laid.entries if e.name == entry.controls), 1)
    job = _train_job(
        config,
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
    return laid.add(job)


def _train_job(
    config: Config,
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
        plugin=methods.file_of(method.name),
        settings=entry.settings.model_dump(mode="json"),
        start=start,
        teacher=teacher,
        prompts=prompts,
        responses=responses,
        signals=signals,
        distributions=distributions,
        max_prompt_tokens=config.max_prompt_tokens,
        tracker=config.tracker,
        token_match=token_match,
        seed=config.seed,
    )


def ask_again(road: Road, store: Store) -> Road:
    """The road on which every judge that reads is asked anew: its judgings are discarded, and its cache is not looked
    into."""
    readers = {judge.name for judge, _ in road.judges if not judge.measures}
    jobs = dict(road.jobs)
    for ref, job in road.jobs.items():
        if isinstance(job, JudgeJob) and job.judge in readers:
            store.discard(ref)
            jobs[ref] = job.model_copy(update={"refresh": True})
    return replace(road, jobs=MappingProxyType(jobs))


def run_digest(road: Road) -> str:
    """A digest of everything that the board is made of."""
    return canonical_hash(
        [
            [
                evaluation.measured,
                *([c.responses, c.verdicts, c.measured] for c in evaluation.candidates),
                *(one.verdicts for one in evaluation.versus),
            ]
            for evaluation in road.evaluations
        ]
        + ([sorted(road.retention.items())] if road.retention else [])
    )[:12]
