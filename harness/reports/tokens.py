"""Where in a response a student departs from its teacher: curves over the position, and what the token view reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from harness.core.records import plain
from harness.reports.charts import Chart, Point, Series, chart, colours, systems
from harness.results.schema import Results
from harness.results.tokens import Positions, TokenViews
from harness.run.rows import TEACHER

FEWEST = 5  # responses that reach a place which is drawn


def positions(results: Results, found: TokenViews) -> list[Chart]:
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
                charts.append(
                    chart(f"{prompt_set}: {whose}", "token of the response", f"{kl} KL, nats; {reaching(rows)}", series)
                )
    return charts


def reaching(rows: Sequence[Positions]) -> str:
    """How many responses the first and the last place that is drawn are the mean of."""
    drawn = [[n / row.width for n in row.count if n >= FEWEST * row.width] for row in rows]
    ends = [(ceil(counts[0]), ceil(counts[-1])) for counts in drawn if counts]
    first, last = (
        f"{min(found)}" if len(set(found)) == 1 else f"{min(found)}–{max(found)}" for found in zip(*ends, strict=True)
    )
    return f"{first} responses at the first place, {last} at the last"


def along(row: Positions) -> list[Point]:
    """The mean KL of each bin of positions, at its middle, the first token being 1; of those that enough reach."""
    bins = enumerate(zip(row.total, row.count, strict=True))
    return [((place + 0.5) * row.width + 0.5, total / n) for place, (total, n) in bins if n >= FEWEST * row.width]


def token_island(results: Results, found: TokenViews) -> dict[str, Any] | None:
    """What the page's script reads: responses in tokens with each student's KL, and where students depart most. None
    where there is no response to show."""
    if not found.views:
        return None
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
