"""The part of a road that makes students: the student before training, SFT, what trainings read, and the trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import Config
from harness.core.records import Ref
from harness.generation.protocol import Sampling
from harness.methods import DistributionSettings, FreshSettings, Method, Role, methods
from harness.methods.method import Who
from harness.models.reference import Model
from harness.run.jobs import LossJob, PruneJob, TrainJob
from harness.run.laying import Laid, respond_job
from harness.run.reading import distributions_job, score_job
from harness.run.rows import Entry, entry_of
from harness.run.sources import Sources

# The teacher's responses on the training prompts are shared by every seed of a run.
TEACHER_SEED = 0
TRAINING, VALIDATION = "training prompts", "validation prompts"
# How the responses that a student is pruned by are drawn, whatever the run.
CALIBRATION_SAMPLING, CALIBRATION_BATCH = Sampling(max_new_tokens=96), 16


def teacher_of(laid: Laid, sources: Sources) -> Model:
    """The teacher, here or behind a server."""
    return laid.checkpoint(sources.teacher).model_copy(update={"served": laid.config.teacher_server})


def teacher_responses_of(laid: Laid, teacher: Model, prompts: Ref, where: str = TRAINING) -> Ref:
    """What the teacher answers to the prompts that students are trained on, or that are held out of these."""
    config, label = laid.config, f"teacher, {where}"
    return laid.add(respond_job(config, teacher, prompts, config.train_sampling, "chosen", TEACHER_SEED, label))


def student_of(laid: Laid, sources: Sources) -> Model:
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


def sft_of(laid: Laid, student: Model, prompts: Ref, teacher_responses: Ref) -> Model:
    """The SFT student: π_ref, the start of the pair methods, and the one that samples the rejected responses."""
    entry = entry_of(laid.config, "sft")
    row = next((one for one in laid.entries if one.name == "sft"), entry)
    needed = any((entry.method == "sft" and not entry.match) or reads_sft(entry) for entry in laid.entries)
    job = _train_job(
        laid.config, entry, methods.get("sft"), start=student, prompts=prompts, responses=(teacher_responses,)
    )
    if row.match:  # a row that goes on for as long as another one is not where others start
        job = job.model_copy(update={"label": "train the SFT student"})
    return student.made(laid.add(job) if needed else job.ref)


def reads_sft(entry: Entry) -> bool:
    """Whether a training needs the SFT student: as its start, its reference, or for what it wrote."""
    method, settings = methods.get(entry.method), entry.settings
    stored = {who for role, who, _ in method.stored_roles(settings)}
    return settings.start == "sft" or "reference" in method.reads or "student" in stored


@dataclass(frozen=True)
class Writers:
    """Who wrote what trainings read, on the training prompts, or on those held out of them (`where`)."""

    laid: Laid
    prompts: Ref
    teacher: Model
    sft: Model
    teacher_responses: Ref
    where: str = TRAINING

    def responses(self, roles: Sequence[Role]) -> dict[str, Ref]:
        """By role, whose responses they are, with as many samples as these roles take."""
        found = {}
        for role, who, _ in roles:
            samples = 1 + max(sample for _, other, sample in roles if other == who)
            found[role] = self._of(who, samples)
        return found

    @property
    def beside(self) -> str:
        """What a label says of prompts that are not those of the training."""
        return "" if self.where == TRAINING else f", {self.where}"

    def _of(self, who: Who, samples: int) -> Ref:
        if who == "teacher" and samples == 1:
            return self.teacher_responses
        model, purpose, seed, label = (
            (self.teacher, "chosen", TEACHER_SEED, "teacher")
            if who == "teacher"
            else (self.sft, "rejected", self.laid.config.seed, "SFT student")
        )
        each = f", {samples} each" if samples > 1 else ""
        config, label = self.laid.config, f"{label}, {self.where}{each}"
        return self.laid.add(
            respond_job(config, model, self.prompts, config.train_sampling, purpose, seed, label, samples)
        )


def training_job(laid: Laid, entry: Entry, student: Model, writers: Writers, match: Ref | None = None) -> TrainJob:
    """One method's training; what it reads is laid. match: the training that it takes as many tokens as."""
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
            label = f"log-probs: {name}{f', {len(samples)} responses' if of else ''}{writers.beside}"
            scored = score_job(config, frozen[name], prompts, stored, label)
            signals[name] = laid.add(scored.model_copy(update={"samples": of}))
    elif isinstance(settings, DistributionSettings) and settings.teacher_signal == "stored":
        asked = distributions_job(config, teacher, prompts, stored[0], settings.top_k, writers.beside[2:])
        asked = asked.model_copy(update={"answered": answered if teacher.served else None})
        distributions = laid.add(asked)
        read -= set() if "token" in method.levels() else {"teacher"}
    sampling = None
    if share and isinstance(settings, FreshSettings):
        new = settings.max_new_tokens or config.train_sampling.max_new_tokens
        sampling = Sampling(temperature=settings.sampling_temperature, max_new_tokens=new)
    return _train_job(
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
        match=match,
    )


def loss_job(laid: Laid, entry: Entry, trained: Model, student: Model, writers: Writers) -> LossJob:
    """A method's own loss, under the model that it trained, on prompts that it was not trained on (`writers`): what it
    reads is laid as of a training on these."""
    of = training_job(laid, entry, student, writers)
    shared = {name: value for name, value in dict(of).items() if name in LossJob.model_fields and name != "stage"}
    return LossJob(**{**shared, "label": f"loss of {entry.name}{writers.beside}", "start": trained})


def trainings_of(laid: Laid, student: Model, writers: Writers) -> dict[str, Ref]:
    """The training of each row, in their order; a row that takes as many tokens as another is laid after it."""
    found: dict[str, Ref] = {}
    by_name = {entry.name: entry for entry in laid.entries}

    def lay(entry: Entry) -> Ref:
        if entry.name not in found:
            match = lay(by_name[entry.match]) if entry.match else None
            found[entry.name] = laid.add(training_job(laid, entry, student, writers, match))
        return found[entry.name]

    return {entry.name: lay(entry) for entry in laid.entries}


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
