"""The last part of the road: everyone's responses to one prompt set, the judges' verdicts on them, and what is measured
of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.records import Ref
from harness.judging import Judge
from harness.measures import Measure, measures
from harness.methods import methods
from harness.models.reference import Model
from harness.prompts import PromptSet
from harness.run.jobs import Job, JudgeJob, MeasureJob
from harness.run.laying import Laid, respond_job
from harness.run.measuring import TOKENS_READ, Shown, ranks_pairs, shown
from harness.run.reading import ALONE, compare_job, distributions_job, score_job, states_job
from harness.run.rows import CEILING, TEACHER, UNTRAINED, Entry, Kind
from harness.run.sources import Sources
from harness.serving.settings import SERVED_TOP_K


@dataclass(frozen=True)
class Candidate:
    """Something judged against the teacher. measured: None where nothing is. tokens: by Measure.reads, its comparison
    with the teacher on the teacher's responses and on its own, where there is one."""

    name: str
    kind: Kind
    entry: Entry | None
    responses: Ref
    verdicts: dict[str, Ref]
    measured: Ref | None = None
    tokens: Mapping[str, Ref] = field(default_factory=dict)


@dataclass(frozen=True)
class Versus:
    """Two rows that are judged against each other."""

    first: str
    second: str
    verdicts: dict[str, Ref]


@dataclass(frozen=True)
class Evaluation:
    """A prompt set with what everyone answered to it. reference: the teacher's responses; measured: its own values of
    what is measured, by the names that `shown` has."""

    prompt_set: PromptSet
    in_domain: bool
    reference: Ref
    candidates: tuple[Candidate, ...]
    shown: Shown
    measured: Ref | None
    versus: tuple[Versus, ...] = ()

    @property
    def name(self) -> str:
        return self.prompt_set.name


class Evaluating:
    """Responses of everyone on one prompt set, every judge's verdicts on them against the teacher's and, where it is
    asked for, each other's, and what is measured of them. whole: whether prompts are read whole, and not as trainings
    read them."""

    def __init__(self, laid: Laid, found: PromptSet, teacher: Model, sources: Sources, whole: bool = True) -> None:
        self.laid, self.found, self.teacher, self.sources = laid, found, teacher, sources
        self.config, self.prompts = laid.config, laid.read(found)
        # responses to judge are drawn after whole prompts, and read after them
        self.whole = self.config.model_copy(update={"max_prompt_tokens": None}) if whole else self.config
        self.shown = shown(self.config, found, sources.incomparable)
        # the artifact with the teacher's log-probs of these responses, where something has it beside its own
        self.read: dict[Ref, Ref] = {}

    def evaluate(
        self,
        in_domain: bool,
        student: Model,
        sft: Model,
        trainings: Mapping[str, Ref],
        judges: Sequence[tuple[Judge, Model | None]],
    ) -> Evaluation:
        laid, config = self.laid, self.config
        reference = self.respond(self.teacher, "reference", TEACHER)
        # drawn for proxy judges alone: a judge that reads needs none
        sampled = any(judge.measures for judge, _ in judges)
        samples = (
            self.respond(self.teacher, "judging", "teacher for judging", config.judge.samples) if sampled else None
        )
        models = {UNTRAINED: student, **{entry.name: student.made(trainings[entry.name]) for entry in laid.entries}}
        answers: list[tuple[str, Kind, Entry | None, Ref]] = [
            (CEILING, "ceiling", None, self.respond(self.teacher, "second", CEILING)),
            (UNTRAINED, "untrained", None, self.respond(student, "candidate", UNTRAINED)),
        ]
        for entry in laid.entries:
            responses = self.respond(models[entry.name], "candidate", entry.name)
            answers.append((entry.name, entry.kind, entry, responses))
        kinds = {measure.reads for measure in self.shown.measures}
        states = self.teacher_read(reference) if "teacher_tokens" in kinds else None
        pairs: dict[str, tuple[Ref, Ref]] = {}
        if "pairs" in kinds:
            pairs = self.pairs_read(reference, sft, models)
        tokens = {name: self.compared(name, models[name], ref, reference, states) for name, _, _, ref in answers[1:]}
        candidates = []
        for name, kind, maybe_entry, responses in answers:
            compared = tokens.get(name, {})
            readings = _each_alone(compared) | ({"pairs": pairs[name]} if name in pairs else {})
            candidates.append(
                Candidate(
                    name,
                    kind,
                    maybe_entry,
                    responses,
                    {j.name: self.judged(j, at, (name, responses), (TEACHER, reference), samples) for j, at in judges},
                    self.measured(name, responses, readings),
                    compared,
                )
            )
        measured = self.measured(TEACHER, reference, _each_alone(tokens[UNTRAINED]), of_teacher=True)
        said = {candidate.name: candidate.responses for candidate in candidates}
        versus = tuple(
            Versus(
                first,
                second,
                {j.name: self.judged(j, at, (first, said[first]), (second, said[second]), samples) for j, at in judges},
            )
            for first, second in config.versus
        )
        return Evaluation(self.found, in_domain, reference, tuple(candidates), self.shown, measured, versus)

    def respond(self, model: Model, purpose: str, who: str, samples: int | None = None) -> Ref:
        """samples: responses to a prompt; as many as the run's where nothing is said."""
        config, label = self.config, f"{who}, {self.found.name}"
        each = config.samples if samples is None else samples
        job = respond_job(config, model, self.prompts, config.eval_sampling, purpose, config.seed, label, each)
        return self.laid.add(job)

    def teacher_read(self, responses: Ref, whose: str = TEACHER) -> Ref:
        """What is kept of the teacher's distributions on responses, for comparisons and for its log-probs."""
        if self.teacher.served:
            where = f"{whose}, {self.found.name}"
            job: Job = distributions_job(self.whole, self.teacher, self.prompts, responses, SERVED_TOP_K, where)
        else:
            job = states_job(self.whole, self.teacher, self.prompts, responses, self.found.name)
        return self.read.setdefault(responses, self.laid.add(job))

    def compared(self, name: str, student: Model, responses: Ref, reference: Ref, states: Ref | None) -> dict[str, Ref]:
        """A student beside its teacher, on the teacher's responses and on its own."""
        found: dict[str, Ref] = {}
        asked = {measure.reads for measure in self.shown.measures}
        for reads in (kind for kind in TOKENS_READ if kind in asked):
            of, read = (reference, states) if reads == "teacher_tokens" else (responses, None)
            if read is None and self.teacher.served:
                read = self.teacher_read(of, name)
            label = _compare_label(name, "the teacher" if of == reference else "its own", self.found.name)
            ref = self.laid.add(compare_job(self.whole, student, self.teacher, self.prompts, of, read, label))
            if read is None:
                self.read[of] = ref
            found[reads] = ref
        return found

    def pairs_read(self, reference: Ref, sft: Model, models: Mapping[str, Model]) -> dict[str, tuple[Ref, Ref]]:
        """Of each policy that was trained to rank pairs: its log-probs of held-out ones, and those of its reference."""
        rows = [entry for entry in self.laid.entries if ranks_pairs(methods.get(entry.method))]
        if not rows:
            return {}
        pair = (reference, self.respond(sft, "candidate", "SFT student"))

        def read(model: Model, whose: str) -> Ref:
            label = f"log-probs of held-out pairs: {whose}, {self.found.name}"
            return self.laid.add(score_job(self.whole, model, self.prompts, pair, label))

        under_reference = read(sft, "reference")
        return {entry.name: (read(models[entry.name], entry.name), under_reference) for entry in rows}

    def measured(
        self, name: str, responses: Ref, readings: Mapping[str, tuple[Ref, ...]], of_teacher: bool = False
    ) -> Ref | None:
        """What is measured of a system: by what there is of it. Of the teacher: what has a value of its own."""
        alone: dict[str, tuple[Ref, ...]] = {}
        found = []
        for measure in self.shown.measures:
            if measure.reads in ALONE:
                alone[measure.reads] = (self.alone(measure, responses, name),)
            elif measure.reads != "responses" and (
                measure.reads not in readings or (of_teacher and not measure.teacher)
            ):
                continue
            found.append(measure)
        if not found:
            return None
        reads = {measure.reads for measure in found}
        job = MeasureJob(
            label=_measure_label(name, self.found.name),
            prompts=self.prompts,
            responses=responses,
            readings={kind: refs for kind, refs in {**readings, **alone}.items() if kind in reads},
            measures={measure.name: measure.digest for measure in found},
            of_teacher=of_teacher,
        )
        return self.laid.add(job)

    def alone(self, measure: Measure, responses: Ref, who: str) -> Ref:
        """What a measure is read from that needs no other model's responses: the responses themselves, or what a model
        says of them; the teacher's pass is shared."""
        if measure.reads == "responses":
            return responses
        if measure.reads == "log_probs" and measure.model is None and responses in self.read:
            return self.read[responses]
        model = self.sources.measuring[measure.name] if measure.model else self.teacher
        where = f"{who}, {self.found.name}"
        return self.laid.add(ALONE[measure.reads](self.whole, model, self.prompts, responses, where))

    def judged(
        self,
        judge: Judge,
        checkpoint: Model | None,
        candidate: tuple[str, Ref],
        reference: tuple[str, Ref],
        samples: Ref | None,
    ) -> Ref:
        """candidate, reference: whose responses, and these."""
        roles = {"candidate": candidate, "reference": reference}
        if samples:
            roles["samples"] = ("teacher for judging", samples)
        job = JudgeJob(
            label=_judge_label(judge.name, candidate[0], reference[0], self.found.name),
            judge=judge.name,
            judge_source=judge.digest,
            judging=self.config.judge,
            vllm=self.config.vllm,
            checkpoint=checkpoint,
            prompt_set=self.found.name,
            candidate_name=candidate[0],
            reference_name=reference[0],
            prompts=self.prompts,
            candidate=candidate[1],
            reference=reference[1],
            samples=samples if judge.measures else None,
            measures={
                f"{name}/{role}": self.alone(measures.get(name), ref, whose)
                for name in judge.measures
                for role, (whose, ref) in roles.items()
            },
        )
        return self.laid.add(job)


def labels_about(row: str, prompt_set: str, judges: Iterable[str], rows: Collection[str]) -> Iterator[str]:
    """What stages are called that tell of a row's responses. rows: that it may be judged against."""
    yield _measure_label(row, prompt_set)
    yield from (_compare_label(row, whose, prompt_set) for whose in ("the teacher", "its own"))
    for judge in judges:
        yield _judge_label(judge, row, TEACHER, prompt_set)
        for other in rows:
            yield _judge_label(judge, row, other, prompt_set)
            yield _judge_label(judge, other, row, prompt_set)


def _measure_label(row: str, prompt_set: str) -> str:
    return f"measure {row}, {prompt_set}"


def _compare_label(row: str, whose: str, prompt_set: str) -> str:
    return f"compare {row} with the teacher: {whose}, {prompt_set}"


def _judge_label(judge: str, row: str, reference: str, prompt_set: str) -> str:
    whom = "" if reference == TEACHER else f" against {reference}"
    return f"judge {judge}: {row}{whom}, {prompt_set}"


def _each_alone(refs: Mapping[str, Ref]) -> dict[str, tuple[Ref, ...]]:
    return {reads: (ref,) for reads, ref in refs.items()}
