"""A fair search: every method is tried with equally many settings, each of which is judged on the validation prompts.

    SFT       every try of it, of which the best is the start and the reference of all others
    the rest  every try of every other method, from that SFT student

A try is the method's training at the first seed, on the training part of the prompts, exactly as a run with these
settings has it: that run of the best one trains nothing anew. Its value is a measure on the validation part, which no
training sees, or the method's own loss there. What a search finds becomes settings of the study's configurations.

Searched are the methods that rows of the board are trained with, controls' too: a control is trained with what was
found for the method that its loss is of, and its own settings over that. It has no search of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.config import Config, Study
from harness.config.study import OWN_LOSS, Point, in_words, own, points_of
from harness.core.errors import NotFiniteError, UserError
from harness.core.records import Measured, Ref, read_records
from harness.core.registry import did_you_mean
from harness.measures import Measure, measures
from harness.methods import MethodSettings, methods
from harness.models.reference import Model
from harness.prompts import PromptSet
from harness.run.evaluating import Evaluating
from harness.run.jobs import MEASURED, NOT_FINITE, Job, by_model
from harness.run.laying import Laid
from harness.run.measuring import TOKENS_READ
from harness.run.rows import Entry, entries_of, entry_of, matched
from harness.run.sources import Sources
from harness.run.trainings import (
    VALIDATION,
    Writers,
    loss_job,
    reads_sft,
    sft_of,
    student_of,
    teacher_of,
    teacher_responses_of,
    training_job,
)
from harness.statistics.effects import linear
from harness.store import Store
from harness.store.artifacts import Artifact
from harness.store.gc import refs_in

Make = Callable[[Iterable[Job]], object]  # has jobs made


@dataclass(frozen=True)
class Try:
    """A method with one of its points. training: the student that it is; value: what says how good. own: the artifacts
    that are of this try alone."""

    method: str
    point: Point
    training: Ref
    value: Ref
    own: tuple[Ref, ...]


@dataclass(frozen=True)
class Criterion:
    """By what the best is chosen. name: of a measure; OWN_LOSS, a method's own loss. sign: 1 where lower is better."""

    name: str
    measure: Measure | None

    @property
    def sign(self) -> int:
        return -1 if self.measure is not None and self.measure.better == "higher" else 1


@dataclass(frozen=True)
class Valued:
    """What a try is worth. value: not finite where it came to nothing. by_prompt: what each prompt says of it: their
    mean is the value."""

    value: float
    by_prompt: Mapping[str, float]

    @property
    def standard_error(self) -> float | None:
        """Over prompts; None of one alone."""
        return _standard_error(list(self.by_prompt.values()))

    def apart(self, other: Valued) -> float | None:
        """The standard error of its difference from another, over the prompts that both have."""
        return _standard_error(
            [z - other.by_prompt[name] for name, z in self.by_prompt.items() if name in other.by_prompt]
        )


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Search:
    """What is tried, and what was found. validation: the prompts that tries are judged on. tries: all of them, method
    by method. jobs: that make them, with all that they rest on. ready: those of them that nothing is missing for.
    values: of the tries that were made, by their artifact. found: by method, its point: the best, or, where its tries
    are not all made yet (open), the first."""

    criterion: Criterion
    seed: int
    share: float
    validation: PromptSet
    tries: tuple[Try, ...]
    jobs: Mapping[Ref, Job]
    prompts: Mapping[Ref, PromptSet]
    ready: tuple[Job, ...]
    values: Mapping[Ref, Valued]
    found: Mapping[str, Point]
    open: tuple[str, ...]

    def of(self, method: str) -> list[Try]:
        return [one for one in self.tries if one.method == method]

    @property
    def settings(self) -> dict[str, dict[str, object]]:
        """What was found, by the names of each method's settings."""
        return {method: own(point) for method, point in self.found.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """For people: what is taken for granted as long as it is open."""
        if not self.open:
            return ()
        return (
            f"the search of {', '.join(self.open)} is not made yet: what comes after it is planned with the first "
            "value of each setting",
        )


@dataclass
class _Space:
    """What is searched. rounds: methods that are searched together; points: of each."""

    criterion: Criterion
    rounds: list[list[str]]
    points: dict[str, list[Point]] = field(default_factory=dict)


def tried(study: Study) -> list[Study]:
    """The study with each try of each method once, to be checked before anything runs.

    Raises:
        UserError: axes or a criterion that no fair search can be made with, or values that a method refuses.
    """
    space = _space(study)
    several = len(next(iter(space.points.values())))
    steps = [{method: own(points[place]) for method, points in space.points.items()} for place in range(several)]
    return [study.tuned(step) for step in steps]


def search(study: Study, sources: Sources, store: Store, make: Make | None = None) -> Search:
    """The search of a study, as far as the store has its values. make: has what is missing made, so that none is open.

    Raises:
        UserError: as `tried`; or all values of a method are not finite.
    """
    space = _space(study)
    _check_criterion(space.criterion, sources)
    found = _laid(study, sources, store, space)
    _check_tries(found)
    while make is not None and found.open:
        try:
            make(found.ready)
        except NotFiniteError as error:
            _give_up(found, store, error)
        found = _laid(study, sources, store, space)
    return found


def _give_up(found: Search, store: Store, error: NotFiniteError) -> None:
    """Keep that a try comes to no number, by the job that said so: it never wins, and is not made again.

    Raises:
        NotFiniteError: it is of no try.
    """
    if not any(error.ref in one.own for one in found.tries):
        raise error
    store.stamp(NOT_FINITE, error.ref, lambda: str(error))


# ---- what is searched


def _space(study: Study) -> _Space:
    base, axes, by = study.base, study.settings.tune, study.settings.tune_by
    entries = entries_of(base)
    names = dict.fromkeys(entry.method for entry in entries)
    if any(entry.method == "sft" or reads_sft(entry) for entry in entries):
        names = {"sft": None, **names}
    if base.match is not None:
        names = {**names, base.match: None}
    _check_keys(axes, names, by, base.match)
    space = _Space(_criterion(by), _rounds(list(names), base))
    for name in names:
        space.points[name] = tries_of(name, axes)
    counts = {name: len(points) for name, points in space.points.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(
            f"tune: every method needs as many tries as the others, and these have {said}; name settings.METHOD.KEY "
            "with as many values for each method, or training.KEY for all"
        )
    for name, points in space.points.items():
        for point in points:
            study.with_settings(name, point)  # which says what the method refuses
    return space


def _check_keys(
    axes: Sequence[Mapping[str, Sequence[object]]], names: Collection[str], by: str, match: str | None
) -> None:
    for axis in axes:
        for key, values in axis.items():
            top, _, rest = key.partition(".")
            method, dot, setting = rest.partition(".")
            if len(values) < 2:
                raise UserError(f"tune: {key} has one value, so there is nothing to choose; set it: --set {key}=VALUE")
            if top == "settings" and not (dot and setting and "." not in setting):
                raise UserError(f"tune: {key} is no setting of a method; tune training.KEY, or settings.METHOD.KEY")
            if top == "settings" and method not in names:
                raise UserError(
                    f"tune: {key}: no row is trained with '{method}' (searched are {', '.join(names)})"
                    f"{did_you_mean(method, names)}"
                )
            setting = setting if top == "settings" else rest
            known = [methods.get(method).settings] if top == "settings" else [MethodSettings]
            if not any(setting in kind.model_fields for kind in known):
                raise UserError(f"tune: {key} is no setting{did_you_mean(setting, known[0].model_fields)}")
            if match is not None and setting == "epochs":
                raise UserError(
                    f"tune: {key}: all trainings take as many tokens as {match}'s (match), whatever epochs say; leave "
                    "one of the two out"
                )
            if by == OWN_LOSS and setting not in MethodSettings.model_fields:
                raise UserError(
                    f"tune_by: a method's own loss says nothing of {key}, which shapes that loss; choose by a measure "
                    "(--tune-by forward_kl), or tune training.KEY alone"
                )


def tries_of(method: str, axes: Sequence[Mapping[str, Sequence[object]]]) -> list[Point]:
    """The points that a method is tried with: the product of what of the axes is of its settings.

    Raises:
        UserError: two are the same, or one has a setting twice.
    """
    own_axes = [
        {key: values for key, values in axis.items() if key.startswith(("training.", f"settings.{method}."))}
        for axis in axes
    ]
    points: list[Point] = [*points_of([axis for axis in own_axes if axis])]
    for place, point in enumerate(points):
        if point in points[:place]:
            raise UserError(f"tune: {method} is tried twice with {in_words(point)}; leave one out")
        short = [key.rpartition(".")[2] for key in point]
        if twice := next((key for key in short if short.count(key) > 1), None):
            raise UserError(
                f"tune: {twice} of {method} is there twice, as training.{twice} and of its own; leave one out"
            )
    return points


def _rounds(names: list[str], config: Config) -> list[list[str]]:
    """Which methods are searched at once: SFT, which others start from, then the one whose tokens all others take."""
    first = [name for name in dict.fromkeys(["sft", config.match]) if name in names]
    rest = [name for name in names if name not in first]
    return [*([name] for name in first if name is not None), *([rest] if rest else [])]


def _criterion(name: str) -> Criterion:
    if name == OWN_LOSS:
        return Criterion(name, None)
    measure = measures.get(name)
    if measure.better == "neither" or measure.group is None:
        ways = [one.name for one in measures.in_order() if one.group and one.better != "neither"]
        ways = [one for one in ways if measures.get(one).reads != "pairs"]
        raise UserError(
            f"tune_by: no value of '{name}' is better than another; choose by one of {', '.join(ways)}, or by "
            f"{OWN_LOSS}"
        )
    if measure.reads == "pairs":
        raise UserError(
            f"tune_by: '{name}' is of methods that rank pairs, and no measure of the others; choose by another, or by "
            f"{OWN_LOSS}"
        )
    return Criterion(name, measure)


def _check_criterion(criterion: Criterion, sources: Sources) -> None:
    measure = criterion.measure
    if measure is None:
        return
    if sources.incomparable and measure.reads in TOKENS_READ:
        raise UserError(f"tune_by: '{measure.name}' cannot be measured: {sources.incomparable}")
    if measure.model and measure.name not in sources.measuring:
        raise UserError(f"tune_by: '{measure.name}' is taken with {measure.model}; name it in measures as well")


def _check_tries(found: Search) -> None:
    """No two tries of a method are the same training: it would have fewer than others."""
    for method in found.found:
        seen: dict[Ref, Point] = {}
        for one in found.of(method):
            if one.training in seen:
                raise UserError(
                    f"tune: {method} is trained alike with {in_words(seen[one.training])} and with "
                    f"{in_words(one.point)}, so that it has fewer tries than it seems; leave one out"
                )
            seen[one.training] = one.point


# ---- its jobs


def _laid(study: Study, sources: Sources, store: Store, space: _Space) -> Search:
    """All rounds; those after an open one from the first point of its methods."""
    assert sources.validation is not None  # a study that is tuned holds some out
    jobs: dict[Ref, Job] = {}
    prompts: dict[Ref, PromptSet] = {}
    tries: list[Try] = []
    values: dict[Ref, Valued] = {}
    found: dict[str, Point] = {}
    open_: list[str] = []
    ready: tuple[Job, ...] = ()
    for names in space.rounds:
        settled = not open_  # else what its methods start from is only assumed
        before, of_round = dict(jobs), len(tries)
        for name in names:
            made = [
                _laid_try(study, sources, space.criterion, name, point, jobs, prompts) for point in space.points[name]
            ]
            tries += made
            lost = [one for one in made if any(store.stamped(NOT_FINITE, ref) is not None for ref in one.own)]
            for ref in (ref for one in lost for ref in one.own):
                jobs.pop(ref, None)
            left = [one for one in made if one not in lost]
            there = settled and all(store.has(one.value) and store.has(one.training) for one in left)
            if there:
                values |= {one.value: Valued(math.nan, {}) for one in lost}
                values |= {one.value: valued(store.read(one.value), space.criterion.name) for one in left}
            else:
                open_.append(name)
            found[name] = _best(name, made, values, space.criterion).point if there else made[0].point
        jobs = before | _in_order({ref: job for ref, job in jobs.items() if ref not in before}, tries[of_round:])
        if settled:
            ready = tuple(jobs.values())
        study = study.tuned({name: own(found[name]) for name in names})
    return Search(
        criterion=space.criterion,
        seed=study.base.seed,
        share=study.base.validation,
        validation=sources.validation,
        tries=tuple(tries),
        jobs=jobs,
        prompts=prompts,
        ready=ready,
        values=values,
        found=found,
        open=tuple(open_),
    )


def _laid_try(
    study: Study,
    sources: Sources,
    criterion: Criterion,
    name: str,
    point: Point,
    jobs: dict[Ref, Job],
    prompts: dict[Ref, PromptSet],
) -> Try:
    assert sources.validation is not None
    config = study.with_settings(name, point).model_copy(update={"generator": sources.generator})
    laid = Laid(config, tuple(entries_of(config)), jobs, prompts)
    before = set(jobs)
    read = laid.read(sources.train)
    teacher = teacher_of(laid, sources)
    student = student_of(laid, sources)
    answers = teacher_responses_of(laid, teacher, read)
    sft = sft_of(laid, student, read, answers)
    writers = Writers(laid, read, teacher, sft, answers)
    entry = entry_of(config, name)
    # the SFT that others start from takes as many tokens as its settings say, whatever rows are matched to
    match_row = "" if name == "sft" else matched(config, entry)
    entry = replace(entry, name=f"{name} with {in_words(point)}", match=match_row)
    match = laid.add(training_job(laid, entry_of(config, entry.match), student, writers)) if entry.match else None
    training = laid.add(training_job(laid, entry, student, writers, match))
    trained = student.made(training)
    held = laid.read(sources.validation)
    reference = teacher_responses_of(laid, teacher, held, VALIDATION)
    if criterion.measure is None:
        elsewhere = replace(writers, prompts=held, teacher_responses=reference, where=VALIDATION)
        value = laid.add(loss_job(laid, entry, trained, student, elsewhere))
    else:
        value = _measured(laid, sources, criterion.measure, entry, teacher, trained, reference)
    of_it = [ref for ref in jobs if ref not in before and training in refs_in(jobs[ref].model_dump(mode="json"))]
    return Try(name, point, training, value, tuple(dict.fromkeys([training, *of_it, value])))


def _measured(
    laid: Laid, sources: Sources, measure: Measure, entry: Entry, teacher: Model, trained: Model, reference: Ref
) -> Ref:
    """A measure of a try on the validation prompts, as an evaluation would have it there: of the teacher's responses to
    them, or, where the measure is of them, of the student's own."""
    assert sources.validation is not None
    told = {
        "eval_sampling": laid.config.train_sampling,
        "measures": (measure.name,),
        "samples": measure.samples,
    }
    of = Laid(laid.config.model_copy(update=told), laid.entries, laid.jobs, laid.prompts)
    judging = Evaluating(of, sources.validation, teacher, sources, whole=False)
    if measure.reads == "teacher_tokens":
        responses, states = reference, judging.teacher_read(reference)
    else:
        responses, states = judging.respond(trained, "candidate", entry.name), None
    compared = judging.compared(entry.name, trained, responses, reference, states)
    value = judging.measured(entry.name, responses, {reads: (ref,) for reads, ref in compared.items()})
    assert value is not None
    return value


def _in_order(jobs: Mapping[Ref, Job], tries: Sequence[Try]) -> dict[Ref, Job]:
    """What a round's trainings read before the first of them, and what is said of the students after the last: a model
    that several of these read is loaded once."""
    trained = {one.training: jobs[one.training] for one in tries if one.training in jobs}
    after = {ref: jobs[ref] for one in tries for ref in one.own if ref in jobs and ref not in trained}
    first = {ref: job for ref, job in jobs.items() if ref not in trained and ref not in after}
    return first | trained | {job.ref: job for job in by_model(after.values())}


# ---- what is found


def valued(artifact: Artifact, name: str) -> Valued:
    """What an artifact of measured prompts says of one measure."""
    rows = [row for row in read_records(artifact.path / MEASURED, Measured) if name in row.values]
    if artifact.facts.get(NOT_FINITE) or not rows:
        return Valued(math.nan, {})
    total, count = (np.array([row.values[name][place] for row in rows], dtype=np.float64) for place in (0, 1))
    said = dict(zip([row.prompt_id for row in rows], linear(total, count).tolist(), strict=True))
    return Valued(float(total.sum() / count.sum()), said)


def _best(method: str, made: Sequence[Try], values: Mapping[Ref, Valued], criterion: Criterion) -> Try:
    """The first of the best.

    Raises:
        UserError: no value is finite.
    """
    finite = [one for one in made if math.isfinite(values[one.value].value)]
    if not finite:
        said = "; ".join(in_words(one.point) for one in made)
        raise UserError(f"tune: no try of {method} has a finite {criterion.name} ({said}); try lower learning rates")
    return min(finite, key=lambda one: criterion.sign * values[one.value].value)


def at_edge(points: Sequence[Point], found: Point) -> tuple[str, ...]:
    """The keys of a found point whose value is the least or the greatest of those that were tried."""
    keys = []
    for key, value in found.items():
        tried = [point[key] for point in points]
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in tried):
            keys += [key] if value in (min(tried), max(tried)) else []
    return tuple(keys)
