"""The road's third phase, top to bottom: which stage needs which artifact. Computes nothing; `launch` does. Laying it
changes nothing in the store; `ask_again` alone discards what it has asked anew.

    prompts → teacher responses → student (pruned) → SFT student (π_ref) → student responses
            → log-probs under π_ref and π_te → training, one per method
            → responses on the evaluation prompts → verdicts against the teacher, and of rows against each other

Every job's key follows from the jobs before it, so the whole road is known before anything runs: `find` its sources,
`check` them, `lay` it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from harness.config import Config, Study
from harness.config.study import Member, Point, in_words
from harness.core.errors import RefusedError, UserError
from harness.core.files import canonical_hash
from harness.core.records import Ref
from harness.judging import Judge
from harness.methods.settings import MethodChoice
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.models.specs import Pair
from harness.prompts import PromptSet
from harness.run import searching
from harness.run.checks import check, seen
from harness.run.comparable import why_not
from harness.run.evaluating import Evaluating, Evaluation
from harness.run.jobs import (
    Job,
    JudgeJob,
    TrainJob,
    by_model,
)
from harness.run.laying import Laid
from harness.run.retention import SERVED, retention_jobs
from harness.run.rows import (
    TEACHER,
    UNTRAINED,
    Entry,
    contrasts_of,
    entries_of,
    primary_of,
    versus_of,
)
from harness.run.searching import Make, Search
from harness.run.sources import Sources, find
from harness.run.trainings import Writers, sft_of, student_of, teacher_of, teacher_responses_of, trainings_of
from harness.store import Store

# settings that nothing outside is found by
_INSIDE = ("seed", "training", "settings", *MethodChoice.model_fields)


@dataclass(frozen=True)
class Road:
    """Jobs in the order they run, each once, and what the board is made of. evaluating: those of them that are about
    evaluation prompts, which come last. prompts: each set by the job that reads it. shapes: see Sources. notes: lines
    for people. point: of a study's grid. search: what its settings were found by, whose jobs are among its own."""

    config: Config
    pair: Pair
    jobs: Mapping[Ref, Job]
    evaluating: frozenset[Ref]
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
    point: Point = field(default_factory=dict)
    search: Search | None = None


def build_road(config: Config, store: Store, download: bool) -> Road:
    """The road of a run (download), or of a plan of one.

    Raises:
        UserError: anything wrong with names, files or settings; nothing has been computed or written then.
        MissingModelError: all models that are missing, named together.
    """
    (sources,) = checked_sources([config], store, download)
    return lay(config, sources)


def build_roads(study: Study, store: Store, download: bool, make: Make | None = None) -> list[Road]:
    """The roads of a study's runs, in their order. make: has what a search tries made; without it, what is not found
    yet is taken to be the first of what is tried. Laid without it first, a study is refused before anything is made.

    Raises:
        UserError, MissingModelError: as `build_road`.
    """
    search, untuned = None, study
    checked: dict[str, tuple[str, Config]] = {}  # by all that each says, with what it is called
    if study.settings.tune:
        # before anything is checked: what is found already needs no look at what else was tried
        search = searching.search(untuned, _found([study.base], store, download=False)[0], store)
        study = untuned.tuned(search.settings)
        # the search trains and chooses on the base's prompts, which no run may have where a grid names others
        for one in [study, *(searching.tried(untuned) if search.open else [])]:
            checked.setdefault(_whole(one.base), ("the search", one.base))
            for member in one.members:
                checked.setdefault(_whole(member.config), (member.name, member.config))
    names = [member.name for member in study.members]
    for member in study.members:
        checked.setdefault(_whole(member.config), (member.name, member.config))
    configs = [config for _, config in checked.values()]
    found = checked_sources(configs, store, download, [name for name, _ in checked.values()])
    of = dict(zip(checked, found, strict=True))
    of_members = [of[_whole(member.config)] for member in study.members]
    if search is not None:
        searched = of[_whole(study.base)]
        _check_unseen(searched, of_members, names)
        if search.open and make is not None:
            search = searching.search(untuned, searched, store, make)
            study = untuned.tuned(search.settings)
            _check_all([member.config for member in study.members], of_members, store, download, names)
    members = zip(study.members, of_members, strict=True)
    roads = [_member(lay(member.config, sources), member, search) for member, sources in members]
    _check_each_its_own(names, roads)
    return roads


def _member(road: Road, member: Member, search: Search | None) -> Road:
    """A run of a study, with what its settings were found by."""
    if search is None:
        return replace(road, point=member.point)
    return replace(
        road,
        point=member.point,
        search=search,
        jobs=MappingProxyType({**search.jobs, **road.jobs}),  # in the search's place, under the run's own labels
        prompts=MappingProxyType({**search.prompts, **road.prompts}),
        notes=(*road.notes, *search.notes),
    )


def _check_unseen(searched: Sources, of_members: Sequence[Sources], names: Sequence[str]) -> None:
    """
    Raises:
        RefusedError: a run is evaluated on prompts that the search trains or chooses on.
    """
    refused: dict[str, list[str]] = {}
    for name, sources in zip(names, of_members, strict=True):
        for line in seen(searched.training_prompts, [found for found, _ in sources.evaluation]):
            refused.setdefault(line, []).append(name)
    if refused:
        raise RefusedError([f"{'; '.join(of)}, by the search: {line}" for line, of in refused.items()])


def _check_each_its_own(names: Sequence[str], roads: Sequence[Road]) -> None:
    """
    Raises:
        UserError: two runs are the same in all that they show.
    """
    seen: dict[str, str] = {}
    for name, road in zip(names, roads, strict=True):
        same = seen.setdefault(run_digest(road), name)
        if same != name:
            raise UserError(f"two runs of the study are the same: '{same}' and '{name}'; take one of them out")


def checked_sources(
    configs: Sequence[Config], store: Store, download: bool, names: Sequence[str] = ()
) -> list[Sources]:
    """What each of several runs reads from outside, checked; what is the same in all of them is looked for once. names:
    what the runs are called, where they are several.

    Raises:
        UserError, MissingModelError: as `build_road`.
    """
    found = _found(configs, store, download=False)
    _check_all(configs, found, store, download, names)
    if download and (absent := next((sources.absent for sources in found if sources.absent), None)):
        raise absent
    if download and any(sources.incomplete for sources in found):
        # gigabytes are fetched for nothing that would be refused
        found = _found(configs, store, download=True)
        _check_all(configs, found, store, True, names)
    return found


def _check_all(
    configs: Sequence[Config], found: Sequence[Sources], store: Store, to_be_asked: bool, names: Sequence[str]
) -> None:
    """
    Raises:
        RefusedError: all that is wrong with any of the runs, one line each; with what only some have their names.
    """
    refused: dict[str, list[int]] = {}
    for number, (config, sources) in enumerate(zip(configs, found, strict=True)):
        try:
            check(config, sources, store, to_be_asked)
        except RefusedError as error:
            for line in error.lines:
                refused.setdefault(line, []).append(number)
    if refused:
        partly = {line: of for line, of in refused.items() if len(of) < len(configs)}
        some = {line: "; ".join(dict.fromkeys(names[number] for number in of)) for line, of in partly.items()}
        raise RefusedError([f"{some[line]}: {line}" if line in some else line for line in refused])


def _found(configs: Sequence[Config], store: Store, download: bool) -> list[Sources]:
    known: dict[str, Sources] = {}
    for config in configs:
        if (outside := _outside(config)) not in known:
            sources = find(config, store, download)
            known[outside] = replace(sources, incomparable=why_not(config, sources, store))
    return [known[_outside(config)] for config in configs]


def _whole(config: Config) -> str:
    """A digest of all settings."""
    return canonical_hash(config.model_dump(mode="json"))


def _outside(config: Config) -> str:
    """A digest of the settings that what is outside is found by."""
    return canonical_hash(config.model_dump(mode="json", exclude=set(_INSIDE)))


def together(roads: Sequence[Road]) -> dict[Ref, Job]:
    """The jobs of several roads as one's, each once: students are made before any of them is evaluated, and what one
    model says is asked of it at once."""
    every = {ref: job for road in roads for ref, job in road.jobs.items()}
    if len(roads) == 1:
        return every
    evaluating = {ref for road in roads for ref in road.evaluating}
    before = {ref: job for road in roads for ref, job in road.jobs.items() if ref not in road.evaluating}
    after = by_model(job for ref, job in every.items() if ref in evaluating and ref not in before)
    return before | {job.ref: job for job in after}


def labels_of(roads: Sequence[Road]) -> dict[Ref, str]:
    """What a person reads of each job of several roads: its label, with the runs that it is of where others are called
    the same. In no key."""
    jobs = together(roads)
    called = Counter(job.label for job in jobs.values())
    return {
        ref: job.label if called[job.label] == 1 else f"{_whose([r for r in roads if ref in r.jobs])}: {job.label}"
        for ref, job in jobs.items()
    }


def _whose(roads: Sequence[Road]) -> str:
    """What runs have in common of what makes them different, else the first of them."""
    seeds, points = {road.config.seed for road in roads}, {in_words(road.point) for road in roads}
    found = [f"seed{road.config.seed}" for road in roads[:1] if len(seeds) == 1]
    found += [point for point in points if point and len(points) == 1]
    first = ", ".join(filter(None, [f"seed{roads[0].config.seed}", in_words(roads[0].point)]))
    return ", ".join(found) or f"{first} and others"


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
    teacher = teacher_of(laid, sources)
    laid.checkpoint(sources.student)
    judges = tuple((judge, laid.checkpoint(found) if found else None) for judge, found in sources.judges)
    teacher_responses = teacher_responses_of(laid, teacher, prompts)
    student = student_of(laid, sources)
    sft = sft_of(laid, student, prompts, teacher_responses)
    writers = Writers(laid, prompts, teacher, sft, teacher_responses)
    trainings = trainings_of(laid, student, writers)
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
        evaluating=frozenset(job.ref for job in evaluating),
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
