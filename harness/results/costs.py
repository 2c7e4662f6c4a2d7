"""What each row took: its own training and all that it rests on, counted whole, as if nothing had been shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.records import Ref
from harness.results.schema import CostFacts, Results
from harness.run.jobs import DistributionsJob, Job, PromptsJob, RespondJob, ScoreJob, TrainJob
from harness.run.road import Road
from harness.store.gc import refs_in


@dataclass(frozen=True)
class Made:
    """An artifact: the job that it was made by, and its manifest in the store."""

    job: Job
    manifest: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """As its stage counted them."""
        return int(self.manifest["facts"]["tokens"])


def costs_of(road: Road, manifests: Mapping[Ref, Mapping[str, Any]]) -> tuple[CostFacts, ...]:
    """Of a finished road, by the manifests of its artifacts."""
    made = {ref: Made(job, manifests[ref]) for ref, job in road.jobs.items() if ref in manifests}
    return costs(road.trainings, road.weights["teacher"].weights, made)


def costs(trainings: Mapping[str, Ref], teacher: str | None, made: Mapping[Ref, Made]) -> tuple[CostFacts, ...]:
    """Of each row that was trained, by its training. teacher: what is known of its weights (Model.weights). made: all
    artifacts that the trainings rest on; what else was made counts nowhere."""
    return tuple(_cost(row, ref, teacher, made) for row, ref in trainings.items())


def _cost(row: str, training: Ref, teacher: str | None, made: Mapping[Ref, Made]) -> CostFacts:
    all_of_it = [made[ref] for ref in rests_on(training, {ref: one.job for ref, one in made.items()})]
    trainings = [(one, one.job) for one in all_of_it if isinstance(one.job, TrainJob)]
    # others were drawn to prune the student by
    trained_on = {ref for _, job in trainings for ref in (*job.stored, job.demonstrations)}
    drawn = [(one, one.job.model) for one in all_of_it if isinstance(one.job, RespondJob) and one.job.ref in trained_on]
    # a teacher that a training asks as it goes reads what the student does, in every epoch; one that is the policy's
    # own start is no teacher of the pair
    read = [one for one, job in trainings if job.teacher is not None and job.teacher.weights == teacher]
    read += [
        one
        for one in all_of_it
        if isinstance(one.job, ScoreJob | DistributionsJob) and one.job.model.weights == teacher
    ]
    seconds: dict[str, float] = {}
    for one in all_of_it:
        if not isinstance(one.job, PromptsJob):
            stage = one.job.stage
            seconds[stage] = round(seconds.get(stage, 0.0) + one.manifest["seconds"], 3)
    own = made[training].manifest
    return CostFacts(
        method=row,
        trained_tokens=sum(one.tokens for one, _ in trainings),
        teacher_read_tokens=sum(one.tokens for one in read),
        teacher_sampled_tokens=sum(one.tokens for one, model in drawn if model.weights == teacher),
        student_sampled_tokens=sum(one.tokens for one, model in drawn if model.weights != teacher)
        + sum(int(one.manifest["facts"].get("fresh_tokens", 0)) for one, _ in trainings),
        seconds=dict(sorted(seconds.items())),
        peak_memory=own.get("peak_memory"),
        device=_device(own.get("environment") or {}, int(own["facts"].get("ranks", 1))),
    )


def rests_on(ref: Ref, jobs: Mapping[Ref, Job]) -> list[Ref]:
    """An artifact and all that it was made from, as far back as jobs are known."""
    found: dict[Ref, None] = {}
    ahead = [ref]
    while ahead:
        one = ahead.pop()
        if one in found:
            continue
        found[one] = None
        if one in jobs:
            # a control that is trained for as many tokens as another row has that row's responses counted, and no more
            ahead += refs_in(jobs[one].model_dump(mode="json", exclude={"match"}))
    return list(found)


def _device(environment: Mapping[str, Any], ranks: int) -> str:
    """What a training was made on, in words; empty where its manifest does not say."""
    accelerators = environment.get("accelerators")
    if accelerators:
        return f"{ranks} × {accelerators[0]}" if ranks > 1 else str(accelerators[0])
    named, cores = environment.get("processor"), environment.get("cores")
    return ", ".join([*([str(named)] if named else []), *([f"{cores} cores"] if cores else [])])


def mean_costs(runs: Iterable[Results], names: Iterable[Mapping[str, str]]) -> tuple[CostFacts, ...]:
    """What each row took on average of several runs; of memory, at most. names: of each run's rows on their board."""
    by_row: dict[str, list[CostFacts]] = {}
    for run, known in zip(runs, names, strict=True):
        for cost in run.costs:
            by_row.setdefault(known[cost.method], []).append(cost)
    return tuple(_mean(row, found) for row, found in by_row.items())


def _mean(row: str, found: Sequence[CostFacts]) -> CostFacts:
    def tokens(of: Callable[[CostFacts], int]) -> int:
        return round(sum(map(of, found)) / len(found))

    stages = sorted({stage for cost in found for stage in cost.seconds})
    return CostFacts(
        method=row,
        trained_tokens=tokens(lambda cost: cost.trained_tokens),
        teacher_read_tokens=tokens(lambda cost: cost.teacher_read_tokens),
        teacher_sampled_tokens=tokens(lambda cost: cost.teacher_sampled_tokens),
        student_sampled_tokens=tokens(lambda cost: cost.student_sampled_tokens),
        seconds={stage: round(sum(cost.seconds.get(stage, 0.0) for cost in found) / len(found), 3) for stage in stages},
        peak_memory=max((cost.peak_memory for cost in found if cost.peak_memory is not None), default=None),
        device="; ".join(dict.fromkeys(cost.device for cost in found if cost.device)),
    )
