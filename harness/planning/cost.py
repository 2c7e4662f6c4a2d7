"""What the stages of a road that are not there yet would cost. Computes and loads nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.models.speed import Speed
from harness.planning.sizes import RoadSizes
from harness.planning.whole import Planned
from harness.run.jobs import Job
from harness.run.needs import Needs
from harness.store import Store


@dataclass(frozen=True)
class Cost(Needs):
    """measured: whether its time follows from stages that ran, and not from the model's size and the machine's
    speed."""

    measured: bool = False


Costs = Sequence[tuple[Job, Cost | None]]


def costs_of(road: Planned, store: Store, speed: Speed | None = None) -> Iterator[tuple[Job, Cost | None]]:
    """Every job with its cost, or None where its artifact is there. speed: of this machine, for stages that have not
    run yet; without it their time is unknown."""
    sizes = RoadSizes(road, store, speed)
    made = functools.cache(lambda stage: list(store.manifests(stage)))
    for ref, job in road.jobs.items():
        yield job, None if store.intact(ref) else _cost(job, sizes, made(job.stage))


def _cost(job: Job, sizes: RoadSizes, made: Sequence[dict[str, Any]]) -> Cost:
    cost, measured = Cost(**vars(job.needs(sizes))), _pace(job, made)
    return replace(cost, seconds=cost.tokens / measured, measured=True) if measured else cost


def _pace(job: Job, manifests: Sequence[dict[str, Any]]) -> float | None:
    """Tokens a second of the newest of these stages of its kind that its speed is known by."""
    data = job.model_dump(mode="json")
    for manifest in reversed(manifests):
        facts, made = manifest["facts"], manifest["job"]
        same = all(_part(made, name) == _part(data, name) for name in job.pace)
        if same and not facts.get("resumed") and facts.get("tokens") and manifest["seconds"] > 1:
            return float(facts["tokens"] / manifest["seconds"])
    return None


def _part(job: Mapping[str, Any], name: str) -> Any:
    """A job's FIELD or FIELD.PART; None where it has none."""
    field, _, part = name.partition(".")
    return job.get(field, {}).get(part) if part else job.get(field)


@dataclass
class Group:
    """Stages of one kind in `plan`: how many are there and to do, and what the latter cost; see Cost. memory: of the
    one that needs the most. computed: whether a part of its time is by the machine's speed."""

    label: str
    there: int = 0
    to_do: int = 0
    tokens: int = 0
    seconds: float | None = 0.0
    memory: int | None = None
    computed: bool = False


def grouped(costs: Iterable[tuple[Job, Cost | None]]) -> list[Group]:
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
        group.computed |= bool(cost.seconds) and not cost.measured
        if cost.memory is not None:
            group.memory = max(group.memory or 0, cost.memory)
        known = None not in (group.seconds, cost.seconds)
        group.seconds = (group.seconds or 0) + (cost.seconds or 0) if known else None
    return list(groups.values())
