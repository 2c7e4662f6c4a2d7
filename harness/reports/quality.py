"""Quality against cost: what the page's script draws, of any measure that is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.reports.cells import OWN_LOSS
from harness.reports.charts import colours, systems
from harness.reports.measured import own_losses, seconds
from harness.results.schema import CostFacts, MeasureFacts, Results
from harness.statistics.rates import Interval

PREFERENCE = "preference rate"  # beside the measures: no measure has a blank in its name
COSTS: Mapping[str, Callable[[CostFacts], float | None]] = {
    "student tokens trained": lambda cost: cost.trained_tokens,
    "tokens that the teacher read": lambda cost: cost.teacher_read_tokens,
    "tokens that the teacher wrote": lambda cost: cost.teacher_sampled_tokens,
    "tokens that the student wrote": lambda cost: cost.student_sampled_tokens,
    "seconds": seconds,
    "peak memory, MB": lambda cost: None if cost.peak_memory is None else cost.peak_memory / 1e6,
}


def quality(results: Results) -> dict[str, Any]:
    """What the plots of quality against cost read: of each set and measure a point a system, [value, low, high]."""
    known = colours(results)
    points: dict[str, dict[str, dict[str, list[float]]]] = {entry.name: {} for entry in results.prompt_sets}
    for row in results.rows:
        if row.judge == results.judge and row.preference_rate is not None:
            points[row.prompt_set].setdefault(PREFERENCE, {})[row.method] = _point(
                row.preference_rate, row.preference_interval
            )
    for one in results.measures:
        if one.value is not None and one.kind != "teacher":
            points[one.prompt_set].setdefault(one.measure, {})[one.method] = _point(one.value, one.interval)
    return {
        "sets": [entry.name for entry in results.prompt_sets],
        "measures": [
            *([one.name, _label(results, one), one.unit, one.share] for one in results.measured),
            [PREFERENCE, f"preference rate by {results.judge}", "", True],
        ],
        "points": points,
        "untrained": [row.method for row in results.rows if row.kind == "untrained"][:1],
        "costs": [
            [head, {cost.method: value for cost in results.costs if (value := read(cost)) is not None}]
            for head, read in COSTS.items()
        ],
        "systems": [[name, known[name]] for name in systems(results)],
    }


def _label(results: Results, facts: MeasureFacts) -> str:
    """A measure's head, with the rows whose training minimises it."""
    own = own_losses(results, facts.name)
    named = ", ".join(name for name in systems(results) if name in own)
    return f"{facts.head} ({OWN_LOSS} {named})" if named else facts.head


def _point(value: float, interval: Interval | None) -> list[float]:
    return [value, *(interval or (value, value))]
