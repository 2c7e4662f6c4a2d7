"""What the stages of a road that are not there yet would cost. Computes and loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.judging import Judge
from harness.models.reference import Model
from harness.planning.calibration import Speed
from harness.planning.needs import Needed, Needs
from harness.planning.sizes import Sizes
from harness.run.jobs import AnyJob, ConvertJob, EmbedJob, JudgeJob
from harness.run.road import Road
from harness.store import Store

# Tokens a second on two cores with the embedded pair, where this store has no stage of the kind to go by.
TOKENS_PER_SECOND = {
    "prune": 120.0,
    "respond": 250.0,
    "score": 700.0,
    "distributions": 700.0,
    "train": 200.0,
    "embed": 3000.0,
}


FIXED_SECONDS = {"convert": 25.0, "prompts": 0.1, "judge": 0.2}


# About what a judge's template adds to a question.
QUESTION_TOKENS = 400


@dataclass(frozen=True)
class Cost:
    """Tokens that a stage still reads or writes, and its time; None where nothing is known of its speed.

    calls, reply_tokens: of a judge behind a server; what its cache has is not known before the responses are.
    memory, disk, scratch: see needs.Needs. computed: whether the time follows from the model's size and the machine's
    rates, and not from stages that ran.
    """

    tokens: int
    seconds: float | None
    calls: int = 0
    reply_tokens: int = 0
    longest_reply_tokens: int = 0
    memory: int | None = None
    disk: int = 0
    scratch: int = 0
    computed: bool = False


def estimate(road: Road, store: Store, rates: Speed | None = None) -> Iterator[tuple[AnyJob, Cost | None]]:
    """Every job with its cost, or None where its artifact is there. rates: of this machine, for stages that have not
    run yet; without them their time is unknown."""
    sizes = Sizes(road, store)
    needed = Needed(road, store, sizes, rates)
    judges = {judge.name: judge for judge, _ in road.judges}
    made = {stage: list(store.manifests(stage)) for stage in TOKENS_PER_SECOND}
    for ref, job in road.jobs.items():
        if store.intact(ref):
            yield job, None
        elif isinstance(job, JudgeJob) and not judges[job.judge].measures:
            yield job, _with_needs(_judging_cost(job, judges[job.judge], sizes), needed.by(job))
        else:
            yield job, _with_needs(_cost(job, road, sizes, made), needed.by(job))


def _with_needs(cost: Cost, needs: Needs) -> Cost:
    computed = cost.seconds is None and needs.seconds is not None
    seconds = needs.seconds if computed else cost.seconds
    return replace(
        cost, seconds=seconds, memory=needs.memory, disk=needs.disk, scratch=needs.scratch, computed=computed
    )


@dataclass
class Group:
    """Stages of one kind in `plan`: how many are there and to do, and what the latter cost; see Cost. memory: of the
    one that needs the most."""

    label: str
    there: int = 0
    to_do: int = 0
    tokens: int = 0
    seconds: float | None = 0.0
    memory: int | None = None
    computed: bool = False


def grouped(costs: Iterable[tuple[AnyJob, Cost | None]]) -> list[Group]:
    """Stages that differ in their prompt set alone (it ends a label) as one, in the order they run."""
    groups: dict[str, Group] = {}
    for job, cost in costs:
        label = job.label.rsplit(", ", 1)[0]
        group = groups.setdefault(label, Group(label))
        if cost is None:
            group.there += 1
            continue
        group.to_do += 1
        group.tokens += cost.tokens
        group.computed |= cost.computed
        if cost.memory is not None:
            group.memory = max(group.memory or 0, cost.memory)
        known = None not in (group.seconds, cost.seconds)
        group.seconds = (group.seconds or 0) + (cost.seconds or 0) if known else None
    return list(groups.values())


def _cost(job: AnyJob, road: Road, sizes: Sizes, made: dict[str, list[dict[str, Any]]]) -> Cost:
    tokens = sizes.tokens(job)
    if job.stage in FIXED_SECONDS:
        return Cost(tokens, FIXED_SECONDS[job.stage])
    speed = _measured_speed(job, made[job.stage])
    if speed is None and (isinstance(job, EmbedJob) or all(_embedded(model, road) for model in _models(job))):
        speed = TOKENS_PER_SECOND[job.stage]
    return Cost(tokens, None if speed is None else tokens / speed)


def _judging_cost(job: JudgeJob, judge: Judge, sizes: Sizes) -> Cost:
    """A judge that reads sees each prompt with both responses, in each of its orders."""
    questions = sizes.prompts(job.prompts) * len(judge.orders)
    read = len(judge.orders) * sizes.read(job.prompts, (job.candidate, job.reference)) + questions * QUESTION_TOKENS
    if judge.reply_tokens is None:
        return Cost(read, None)
    usual, longest = judge.reply_tokens
    return Cost(read, None, questions, questions * usual, questions * longest)


def _measured_speed(job: AnyJob, manifests: list[dict[str, Any]]) -> float | None:
    """Tokens a second of the newest of these stages of the same kind that started from the same model."""
    data, names = job.model_dump(mode="json"), ("model", "start", "method")
    for manifest in reversed(manifests):
        facts, made = manifest["facts"], manifest["job"]
        same = all(made.get(name) == data.get(name) for name in names)
        if same and not facts.get("resumed") and facts.get("tokens") and manifest["seconds"] > 1:
            return float(facts["tokens"] / manifest["seconds"])
    return None


def _models(job: AnyJob) -> list[Model]:
    return [model for name in ("model", "start", "teacher") if isinstance(model := getattr(job, name, None), Model)]


def _embedded(model: Model, road: Road) -> bool:
    """Whether a model descends from a converted GGUF file: the embedded pair, whose speed is known."""
    if model.artifact is None or model.served:
        return False
    job = road.jobs[model.artifact]
    if isinstance(job, ConvertJob):
        return job.format == "gguf"
    return all(_embedded(parent, road) for parent in _models(job))
