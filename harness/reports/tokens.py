"""Where in a response a student departs from its teacher: curves over the position, and what the token view reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.core.records import plain
from harness.reports.charts import Chart, Point, Series, chart, colours, systems
from harness.results.schema import Results
from harness.results.tokens import Positions, TokenData
from harness.run.rows import TEACHER

MOST_PLACES = 40  # points of a curve: further places of a response are taken together
FEWEST = 5  # responses that reach a place which is drawn


def positions(results: Results, found: TokenData) -> list[Chart]:
    """KL by the place in a response: a chart a set and whose responses these are, a line a row."""
    known, charts = colours(results), []
    for prompt_set in (entry.name for entry in results.prompt_sets):
        for own in (False, True):
            rows = [row for row in found.positions if row.prompt_set == prompt_set and (row.writer != TEACHER) == own]
            series = [
                Series(row.method, known[row.method], points)
                for name in systems(results)
                for row in rows
                if row.method == name and (points := along(row))
            ]
            if series:
                whose, kl = (
                    ("the students' own responses", "reverse") if own else ("the teacher's responses", "forward")
                )
                charts.append(chart(f"{prompt_set}: {whose}", "token of the response", f"{kl} KL, nats", series))
    return charts


def along(row: Positions, most: int = MOST_PLACES) -> list[Point]:
    """At most so many points: means of runs of neighbours, each place by the number of responses that reach it."""
    reached = [(place, kl, n) for place, (kl, n) in enumerate(zip(row.kl, row.n, strict=True), 1) if n >= FEWEST]
    size = -(-len(reached) // most) or 1
    groups = [reached[start : start + size] for start in range(0, len(reached), size)]
    return [(_mean(group, 0), _mean(group, 1)) for group in groups]


def _mean(group: Sequence[tuple[float, float, int]], part: int) -> float:
    return sum(one[part] * one[2] for one in group) / sum(one[2] for one in group)


def token_island(results: Results, found: TokenData) -> dict[str, Any]:
    """What the page's script reads: responses in tokens with each student's KL, and where students depart most."""
    known = colours(results)
    return {
        "teacher": TEACHER,
        "systems": [[name, known[name]] for name in systems(results)],
        "views": [
            {**plain(view), "kl": {name: [round(value, 3) for value in values] for name, values in view.kl.items()}}
            for view in found.views
        ],
        "departures": [plain(one) for one in found.departures],
    }
