"""Several runs planned as one: what they share is counted once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.config import Study
from harness.core.records import Ref
from harness.core.units import number_of
from harness.judging import Judge
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.prompts import PromptSet
from harness.run.jobs import Job
from harness.run.road import Road, together


@dataclass(frozen=True)
class Whole:
    """Of several roads what is planned by, as a road has it."""

    jobs: Mapping[Ref, Job]
    prompts: Mapping[Ref, PromptSet]
    shapes: Mapping[str, Shape]
    judges: tuple[tuple[Judge, Model | None], ...]


Planned = Road | Whole


def whole(roads: Sequence[Road]) -> Whole:
    return Whole(
        jobs=together(roads),
        prompts={ref: found for road in roads for ref, found in road.prompts.items()},
        shapes={digest: shape for road in roads for digest, shape in road.shapes.items()},
        judges=tuple({judge.digest: (judge, model) for road in roads for judge, model in road.judges}.values()),
    )


def study_words(study: Study, roads: Sequence[Road]) -> str:
    """How many runs a study is, of which seeds and settings, and what they share."""
    often = Counter(ref for road in roads for ref in road.jobs)
    shared = sum(count > 1 for count in often.values())
    return (
        f"a study of {number_of(len(roads), 'run')} ({' × '.join(_axes(study))}): {len(often):,} jobs in all, "
        f"{shared:,} of them shared by several runs"
    )


def _axes(study: Study) -> Iterator[str]:
    yield f"{'seed' if len(study.seeds) == 1 else 'seeds'} {', '.join(map(str, study.seeds))}"
    for axis in study.settings.grid:
        if len(axis) == 1:
            yield from (f"{key} = {', '.join(map(str, values))}" for key, values in axis.items())
        else:
            steps = itertools.zip_longest(*axis.values())
            yield f"{', '.join(axis)} = {'; '.join(', '.join(map(str, step)) for step in steps)}"
