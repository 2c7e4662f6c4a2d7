"""What was measured, as rows of tables and charts: each system with its measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measures.measure import Group
from harness.results.schema import (
    CostFacts,
    MeasureContrast,
    MeasuredKind,
    MeasureFacts,
    MeasureRow,
    Results,
    SetFacts,
)
from harness.run.rows import TEACHER

SEVERAL = "; "  # between the devices of runs that were not trained on the same one


@dataclass(frozen=True)
class Measured:
    """A row of the board, or the teacher. values: by measure, those that it has. harmed: of these, those by which it is
    further from the teacher than before training."""

    method: str
    kind: MeasuredKind
    values: Mapping[str, MeasureRow]
    harmed: frozenset[str] = frozenset()


def of_group(results: Results, group: Group) -> list[MeasureFacts]:
    """The measures that stand in a table, in their order."""
    return [facts for facts in results.measured if facts.group == group]


def systems(results: Results, prompt_set: str, group: Group) -> list[Measured]:
    """What a set's rows have of a group, in the order of the board; the teacher's own values, if any, first."""
    names = {facts.name for facts in of_group(results, group)}
    values: dict[str, dict[str, MeasureRow]] = {}
    kinds: dict[str, MeasuredKind] = {TEACHER: "teacher"}
    for row in results.measures:
        if row.prompt_set == prompt_set and row.measure in names:
            values.setdefault(row.method, {})[row.measure] = row
            kinds.setdefault(row.method, row.kind)
    board = {row.method: row.kind for row in results.rows_of(prompt_set)}
    order = dict.fromkeys([TEACHER, *board, *values])
    kinds |= board
    harmed = {(one.method, one.measure) for one in results.harms if one.scope == prompt_set}
    return [
        Measured(name, kinds[name], values[name], frozenset(one for one in values[name] if (name, one) in harmed))
        for name in order
        if name in values
    ]


def students(results: Results, prompt_set: str, group: Group) -> list[Measured]:
    """The same without the teacher, whose own values are another thing where the measure is a distance to it."""
    return [row for row in systems(results, prompt_set, group) if row.kind != "teacher"]


def of_teacher(results: Results, prompt_set: SetFacts, group: Group) -> Mapping[str, MeasureRow]:
    """The teacher's own values on a set."""
    found = (row for row in systems(results, prompt_set.name, group) if row.kind == "teacher")
    return next(found, Measured(TEACHER, "teacher", {})).values


def present(facts: Sequence[MeasureFacts], rows: Sequence[Measured]) -> list[MeasureFacts]:
    """The measures that any of the rows has a value of."""
    return [one for one in facts if any(one.name in row.values for row in rows)]


def contrasts_of(results: Results, measure: str) -> list[MeasureContrast]:
    return [contrast for contrast in results.measure_contrasts if contrast.measure == measure]


def compared(results: Results) -> list[MeasureFacts]:
    """The measures that contrasts were made of, in their order, behind the one that was declared to be the first."""
    found = {contrast.measure for contrast in results.measure_contrasts}
    known = [facts for facts in results.measured if facts.name in found]
    return sorted(known, key=lambda facts: facts.name != results.first_measure)


def own_losses(results: Results, measure: str) -> set[str]:
    """The rows whose training minimises a measure."""
    return {row.method for row in results.measures if row.measure == measure and row.own_loss}


def is_measured(results: Results, prompt_set: str, measure: str) -> bool:
    """Whether anyone's responses to a set have a value of a measure."""
    return any((row.prompt_set, row.measure) == (prompt_set, measure) for row in results.measures)


def seconds(cost: CostFacts) -> float | None:
    """Of all stages; None where runs were trained on different devices, whose seconds have no mean."""
    return None if SEVERAL in cost.device else sum(cost.seconds.values())
