"""How often nominal 95% intervals of rates hold the truth, beside those that percentiles of a bootstrap gave before.

    python -m benchmarks.statistics.coverage        # writes results/coverage.csv, and prints the tables of the docs

Tables of several rows, as a board has them. On each prompt a row has its own chances of a win, a tie and a loss, drawn
from a Dirichlet distribution of concentration (1 − ρ)/ρ around the row's; each seed's outcome is drawn from these. Two
seeds' outcomes on a prompt then correlate by ρ exactly, be it wins or values. Preferences of a judge that grades are
drawn from a beta distribution, and with chance ρ all seeds on a prompt share one.

    alike       six rows of the same chances and ρ
    differ      six rows of different chances and the same ρ
    differ, ρ   eight rows of different chances, of which half have ρ = .05 and half .3
    graded      six rows of the same beta distribution

`before`: the 2.5% and 97.5% percentiles over resampled prompts, and where all prompts are alike what Wilson's interval
leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.statistics.simulated import Chances, holds, outcomes_of, rows_of, values_of
from benchmarks.statistics.written import parser_of, write
from harness.statistics.outcomes import Floats
from harness.statistics.rates import Interval, Rates, rates_of, wilson

CHANCES: tuple[Chances, ...] = ((0.02, 0.30, 0.68), (0.08, 0.30, 0.62), (0.30, 0.40, 0.30), (0.80, 0.15, 0.05))
GRADED = ((1.0, 6.0), (0.5, 0.5), (2.0, 2.0), (20.0, 25.0))  # a and b of the beta distribution
PROMPTS, SEEDS, CORRELATIONS = (16, 40, 80, 200), (1, 3), (0.05, 0.3)
FEWER = (16, 80)  # prompts of tables with graded preferences
ROWS = 6
SIMULATED = 3000  # rows of a kind: two standard errors of a coverage of 95% are 0.8 points
BEFORE = 500  # of them also by the bootstrap: 1.9 points
RESAMPLES = 1000
FIELDS = ("table", "prompts", "seeds", "correlation", "row", "rate", "now", "before")


@dataclass(frozen=True)
class Row:
    """What a row is drawn from, and what its rates truly are, by the name of each."""

    name: str
    correlation: float
    truths: dict[str, float]
    draw: Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]  # values and preferences, [seeds, prompts]


def judged(chances: Chances, correlation: float) -> Row:
    def draw(rng: np.random.Generator, seeds: int, prompts: int) -> tuple[Floats, Floats]:
        own = rng.dirichlet(np.array(chances) * (1 - correlation) / correlation, size=prompts)
        values = values_of(rng.random((seeds, prompts)), own[:, 0], own[:, 2])
        return values, (1 + values) / 2

    win, _, loss = chances
    name = "/".join(f"{chance:.2f}".removeprefix("0") for chance in chances)
    return Row(name, correlation, {"win rate": win, "preference rate": win - loss}, draw)


def graded(a: float, b: float, correlation: float) -> Row:
    def draw(rng: np.random.Generator, seeds: int, prompts: int) -> tuple[Floats, Floats]:
        shared = rng.random(prompts) < correlation
        preferences = np.where(shared, rng.beta(a, b, size=prompts), rng.beta(a, b, size=(seeds, prompts)))
        return np.sign(preferences - 0.5), preferences

    return Row(f"beta({a:g}, {b:g})", correlation, {"mean preference": a / (a + b)}, draw)


def intervals(found: Rates) -> dict[str, Interval | None]:
    return {
        "win rate": found.win_interval,
        "preference rate": found.preference_interval,
        "mean preference": found.mean_preference_interval,
    }


def percentiles(sums: Floats, each: int, bounds: Interval, rng: np.random.Generator) -> Interval:
    """The bootstrap's. sums: [prompts] of all outcomes on a prompt, of which there are `each`."""
    prompts = len(sums)
    kinds, counts = np.unique(sums, return_counts=True)
    if len(kinds) < prompts / 2:
        drawn = rng.multinomial(prompts, counts / prompts, size=RESAMPLES) @ kinds
    else:
        drawn = sums[rng.integers(0, prompts, (RESAMPLES, prompts))].sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]) / (prompts * each)
    if high - low > 1e-12:
        return float(low), float(high)
    centre, rest = float(sums.mean()) / each, wilson(0, prompts)[1]
    return centre - rest * (centre - bounds[0]), centre + rest * (bounds[1] - centre)


def coverage(
    table: Sequence[Row], seeds: int, prompts: int, seed: int = 0, simulated: int = SIMULATED, before: int = BEFORE
) -> dict[tuple[str, float, str], tuple[float, float]]:
    """By a row's name, its correlation and a rate: the shares of intervals that hold the truth, now and before.
    simulated, before: how many are of each row; of rows that are the same so many in all."""
    rng, old = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    copies = max(sum(row.name == one.name and row.correlation == one.correlation for row in table) for one in table)
    held: dict[tuple[str, float, str], list[bool]] = {}
    then: dict[tuple[str, float, str], list[bool]] = {}
    for _ in range(-(-simulated // copies)):
        drawn = [row.draw(rng, seeds, prompts) for row in table]
        values, preferences = (np.stack(some) for some in zip(*drawn, strict=True))
        for place, (row, found) in enumerate(
            zip(table, rates_of(rows_of(outcomes_of(values, preferences))), strict=True)
        ):
            sums = {
                "win rate": ((values[place] == 1).sum(axis=0), (0, 1)),
                "preference rate": (values[place].sum(axis=0), (-1, 1)),
                "mean preference": (preferences[place].sum(axis=0), (0, 1)),
            }
            for rate, truth in row.truths.items():
                key = row.name, row.correlation, rate
                held.setdefault(key, []).append(holds(intervals(found)[rate], truth))
                if len(then.setdefault(key, [])) < before:
                    then[key].append(holds(percentiles(sums[rate][0], seeds, sums[rate][1], old), truth))
    return {key: (float(np.mean(mine)), float(np.mean(then[key]))) for key, mine in held.items()}


def tables() -> Iterator[tuple[str, int, Sequence[int], list[Row]]]:
    """(kind of table, seeds, prompts, rows); with one seed nothing correlates."""
    mixed = [*CHANCES, *CHANCES[1:3]]
    for seeds in SEEDS:
        for correlation in CORRELATIONS if seeds > 1 else CORRELATIONS[:1]:
            for chances in CHANCES:
                yield "alike", seeds, PROMPTS, [judged(chances, correlation)] * ROWS
            yield "differ", seeds, PROMPTS, [judged(chances, correlation) for chances in mixed]
            for a, b in GRADED:
                yield "graded", seeds, FEWER, [graded(a, b, correlation)] * ROWS
        if seeds > 1:
            yield "differ, ρ", seeds, PROMPTS, [judged(chances, rho) for chances in CHANCES for rho in CORRELATIONS]


def simulated(scale: float = 1) -> list[dict[str, str | int | float]]:
    """A line a row and rate. scale: of how many are simulated."""
    lines: list[dict[str, str | int | float]] = []
    cells = [(kind, seeds, many, table) for kind, seeds, each, table in tables() for many in each]
    for seed, (kind, seeds, prompts, table) in enumerate(cells):
        found = coverage(table, seeds, prompts, seed, round(SIMULATED * scale), round(BEFORE * scale))
        for (name, correlation, rate), (now, before) in found.items():
            known = kind, prompts, seeds, correlation if seeds > 1 else "", name, rate
            lines.append(dict(zip(FIELDS, (*known, round(now, 4), round(before, 4)), strict=True)))
            print(*lines[-1].values(), sep="\t", flush=True)
    return lines


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The tables of docs/statistics.md, in percent. lines: as in the CSV."""
    tables: dict[bool, dict[tuple[str, ...], list[Mapping[str, Any]]]] = {False: {}, True: {}}
    for line in lines:
        where = tuple(str(line[name]) for name in ("table", "prompts", "seeds", "correlation"))
        tables[line["table"] == "graded"].setdefault(where, []).append(line)
    return "\n\n".join(_markdown(cells) for cells in tables.values())


def _markdown(cells: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> str:
    """A line for each cell: of every row its rates' coverage now, and before the least and most over the rows."""
    names = list(dict.fromkeys(line["row"] for found in cells.values() for line in found))
    made = [["rows", "prompts", "seeds", "ρ", *names, "before"], [":--", *["--:"] * 3, *["--:"] * len(names), "--:"]]
    for (kind, *where), found in cells.items():
        by_rate: dict[str, list[Mapping[str, Any]]] = {}
        for line in found:
            by_rate.setdefault(line["rate"], []).append(line)
        now = [" / ".join(f"{100 * float(line['now']):.1f}" for line in found if line["row"] == name) for name in names]
        old = [[100 * float(line["before"]) for line in some] for some in by_rate.values()]
        before = " / ".join(f"{min(some):.0f}–{max(some):.0f}" for some in old)
        made.append([kind, *where, *now, before])
    return "\n".join(f"| {' | '.join(line)} |" for line in made)


def main() -> None:
    parser = parser_of(__doc__, "coverage.csv")
    parser.add_argument("--scale", type=float, default=1, help="of how many are simulated")
    options = parser.parse_args()
    lines = simulated(options.scale)
    write(options.csv, FIELDS, lines)
    print(markdown(lines))


if __name__ == "__main__":
    main()
