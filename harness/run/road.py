"""The road's third phase, top to bottom: which stage needs which artifact. Computes nothing; `launch` does. Laying it
changes nothing in the store; `ask_again` alone discards what it has asked anew.

    prompts → teacher responses → student (pruned) → SFT student (π_ref) → student responses
            → log-probs under π_ref and π_te → training, one per method
            → responses on the evaluation prompts → verdicts against the teacher, and of rows against each other

Every job's key follows from the jobs before it, so the whole road is known before anything runs: `find` its sources,
`check` them, `lay` it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from harness.config import Config
from harness.core.files import canonical_hash
from harness.core.records import Ref
from harness.generation.protocol import Sampling
from harness.judging import Judge
from harness.methods import DistributionSettings, FreshSettings, Method, Role, methods
from harness.methods.method import Who
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
    writers = _Writers(laid, prompts, teacher, sft, teacher_responses)
    trainings: dict[str, Ref] = {}
    for entry in entries:
        trainings[entry.name] = _train(laid, entry, student, writers, trainings.get(entry.controls))
    before = _trainings_last(laid.jobs, sft)
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


def _trainings_last(jobs: Mapping[Ref, Job], sft: Model) -> dict[Ref, Job]:
    """What all trainings but SFT read is made before the first of them: a model that reads responses is loaded once,
    and is still there for a training that reads it too."""
    last = {ref: job for ref, job in jobs.items() if isinstance(job, TrainJob) and ref != sft.artifact}
    return {ref: job for ref, job in jobs.items() if ref not in last} | last


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
    needed = any(entry.method == "sft" or _reads_sft(entry) for entry in laid.entries)
    job = _train_job(
        laid.config, entry, methods.get("sft"), start=student, prompts=prompts, responses=(teacher_responses,)
    )
    return student.made(laid.add(job) if needed else job.ref)


def _reads_sft(entry: Entry) -> bool:
    """Whether a training needs the SFT student: as its start, its reference, or for what it wrote."""
    method, settings = methods.get(entry.method), entry.settings
    stored = {who for role, who, _ in method.stored_roles(settings)}
    return settings.start == "sft" or "reference" in method.reads or "student" in stored


@dataclass(frozen=True)
class _Writers:
    """Who wrote what trainings read, on the training prompts."""

    laid: Laid
    prompts: Ref
    teacher: Model
    sft: Model
    teacher_responses: Ref

    def responses(self, roles: Sequence[Role]) -> dict[str, Ref]:
        """By role, whose responses they are, with as many samples as these roles take."""
        found = {}
        for role, who, _ in roles:
            samples = 1 + max(sample for _, other, sample in roles if other == who)
            found[role] = self._of(who, samples)
        return found

    def _of(self, who: Who, samples: int) -> Ref:
        if who == "teacher" and samples == 1:
            return self.teacher_responses
        model, purpose, seed, label = (
            (self.teacher, "chosen", TEACHER_SEED, "teacher")
            if who == "teacher"
            else (self.sft, "rejected", self.laid.config.seed, "SFT student")
        )
        each = f", {samples} each" if samples > 1 else ""
        config, label = self.laid.config, f"{label}, training prompts{each}"
        return self.laid.add(
            respond_job(config, model, self.prompts, config.train_sampling, purpose, seed, label, samples)
        )


def _train(laid: Laid, entry: Entry, student: Model, writers: _Writers, controlled: Ref | None) -> Ref:
    """One method's training, with what it reads. controlled: the training that the entry controls."""
    config, method, settings = laid.config, methods.get(entry.method), entry.settings
    prompts, sft, teacher = writers.prompts, writers.sft, writers.teacher
    start = sft if settings.start == "sft" else student
    roles, share = method.stored_roles(settings), method.fresh_share(settings)
    there = writers.responses(roles)
    samples = tuple(sample for _, _, sample in method.responses)
    stored = tuple(there.values())
    frozen = {"reference": sft, "teacher": start if method.teacher_sees else teacher}
    read: set[str] = set(method.reads_by_token(settings))
    signals: dict[str, Ref] = {}
    distributions: Ref | None = None
    # whatever else it is trained on, of a server's prompts without an answer it is asked nothing
    answered = None if method.teacher_sees or writers.teacher_responses in stored else writers.teacher_responses
    if method.levels() == {"sequence"} and not share:
        of = samples if any(samples) else ()
        for name in method.reads:
            label = f"log-probs: {name}{f', {len(samples)} responses' if of else ''}"
            scored = score_job(config, frozen[name], prompts, stored, label)
            signals[name] = laid.add(scored.model_copy(update={"samples": of}))
    elif isinstance(settings, DistributionSettings) and settings.teacher_signal == "stored":
        asked = distributions_job(config, teacher, prompts, stored[0], settings.top_k)
        asked = asked.model_copy(update={"answered": answered if teacher.served else None})
        distributions = laid.add(asked)
        read -= set() if "token" in method.levels() else {"teacher"}
    sampling = None
    if share and isinstance(settings, FreshSettings):
        new = settings.max_new_tokens or config.train_sampling.max_new_tokens
        sampling = Sampling(temperature=settings.sampling_temperature, max_new_tokens=new)
    job = _train_job(
        config,
        entry,
        method,
        start=start,
        teacher=frozen["teacher"] if "teacher" in read else None,
        reference=sft if "reference" in read else None,
        prompts=prompts,
        responses=tuple(there.get(role) for role in method.roles),
        samples=samples if any(samples) else (),
        signals=signals,
        distributions=distributions,
        demonstrations=writers.teacher_responses if method.teacher_sees else None,
        answered=answered if teacher.served and (distributions or "teacher" in read) else None,
        sampling=sampling,
        batch_size=config.generation_batch_size if sampling else None,
        match=controlled if entry.match_tokens else None,
    )
    return laid.add(job)


def _train_job(config: Config, entry: Entry, method: Method, **what: Any) -> TrainJob:
    return TrainJob(
        label=f"train {entry.name}",
        method=method.name,
        method_source=method.source_digest,
        plugin=methods.file_of(method.name),
        settings=entry.settings.model_dump(mode="json"),
        max_prompt_tokens=config.max_prompt_tokens,
        tracker=config.tracker,
        seed=config.seed,
        **what,
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
