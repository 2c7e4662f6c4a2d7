"""How often something is found where nothing is true, with training luck, beside the test that held seeds fixed before.

    python -m benchmarks.statistics.false_findings    # writes results/false_findings.csv, prints the table of the docs

Five methods that are as good as each other and as the start, which was not trained; wins, ties and losses of .30, .40
and .30. Each seed moves the preference rate of each method by luck of its own (normal, an SD of 0, 2 or 5 points), and
that of all methods by luck that they share (3 points; none beside 0); the start has none. What makes a prompt hard is
shared by all rows, a part of it is each row's own for all seeds, and the rest is drawn for each response.

A *finding* is a contrast with p ≤ .05 after Holm's correction, of the 10 between methods or the 5 of a method with the
start; a *run* is false if it has any. `now` is what the library says, `before` a sign-flip test of each prompt's
difference, averaged over the seeds. With one seed the library speaks of checkpoints: `now` is then the share of runs
that find a checkpoint better which is truly worse. `interval`: how often the library's own interval held the truth, of
methods with several seeds and of checkpoints with one.

    rate        the preference rate
    measure     a mean over tokens, 20 to 200 on a prompt (the teacher's, so that all systems have the same), whose
                luck is in hundredths of the SD of a prompt's value: as strong beside it as in rates
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtr

from benchmarks.statistics.simulated import Chances, holds, values_of
from benchmarks.statistics.written import parser_of, write
from harness.statistics.contrasts import BOUNDS, corrected, holm
from harness.statistics.effects import LEVEL, Cells, Compared, compared, luck, told_apart
from harness.statistics.outcomes import Floats
from harness.statistics.rates import Interval

METHODS, START = 5, 5  # how many there are, and the start's row, which is the last
CHANCES: Chances = (0.30, 0.40, 0.30)
LUCK, SHARED = (0.0, 0.02, 0.05), 0.03  # standard deviations of a preference rate
HARD, OWN = 0.3, 0.1  # parts of a prompt's variance that all rows share, and that is each row's own
SIZES = ((200, 3), (805, 3), (200, 1), (805, 1))  # prompts and seeds
RUNS = 1000  # two standard errors of a share of 5% are 1.4 points
FLIPS = 1000
FAMILIES = {"methods": list(combinations(range(METHODS), 2)), "anchors": [(one, START) for one in range(METHODS)]}
FIELDS = ("figure", "prompts", "seeds", "luck", "contrasts", "now", "before", "interval")


@dataclass(frozen=True)
class Found:
    """Of one run and family: whether anything false was found, and the share of intervals that hold the truth."""

    now: bool
    before: bool
    interval: float


def shifts(spread: float, seeds: int, rng: np.random.Generator) -> Floats:
    """[rows, seeds] what luck adds to a checkpoint's true figure; nothing to the start's, the last row."""
    own = rng.normal(0, spread, (METHODS, seeds)) if spread else np.zeros((METHODS, seeds))
    shared = rng.normal(0, SHARED, seeds) if spread else np.zeros(seeds)
    return np.concatenate([own + shared, np.zeros((1, seeds))])


def latent(seeds: int, prompts: int, rng: np.random.Generator) -> Floats:
    """[rows, seeds, prompts] standard normal."""
    rows = METHODS + 1
    hard, own = rng.normal(size=prompts), rng.normal(size=(rows, 1, prompts))
    rest = rng.normal(size=(rows, seeds, prompts))
    return np.asarray(np.sqrt(HARD) * hard + np.sqrt(OWN) * own + np.sqrt(1 - HARD - OWN) * rest)


def sign_flip_p(apart: Floats, rng: np.random.Generator) -> float:
    """As before: the share of coins for the signs of [prompts] differences whose sum is at least the one found."""
    sizes, counts = np.unique(np.abs(apart[apart != 0]).round(9), return_counts=True)
    if len(sizes) < 50:
        sums = (2.0 * rng.binomial(counts, 0.5, (FLIPS, len(counts))) - counts) @ sizes
    else:
        sums = (2.0 * rng.integers(0, 2, (FLIPS, len(apart)), dtype=np.int8) - 1) @ apart
    return float((1 + np.count_nonzero(np.abs(sums) >= abs(apart.sum()) - 1e-7)) / (1 + FLIPS))


def before(values: Floats, pairs: Sequence[tuple[int, int]], rng: np.random.Generator) -> bool:
    """Whether any pair was told apart. values: [rows, seeds, prompts]."""
    mean = values.mean(axis=1)
    return min(holm([sign_flip_p(mean[one] - mean[other], rng) for one, other in pairs])) <= LEVEL


def rate(moved: Floats, prompts: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Sums of values and how many they are, [rows, seeds, prompts]. moved: [rows, seeds], what luck adds."""
    win, _, loss = CHANCES
    half = moved[:, :, None] / 2
    values = values_of(ndtr(latent(moved.shape[1], prompts, rng)), win + half, loss - half)
    return values, np.ones(values.shape)


def measure(moved: Floats, prompts: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    count = rng.integers(20, 200, prompts)
    values = np.sqrt(1 - CHANCES[1]) * latent(moved.shape[1], prompts, rng) + moved[:, :, None]  # as spread as outcomes
    return values * count, np.broadcast_to(count, values.shape).astype(float)


DRAWN = {"rate": rate, "measure": measure}
BOUNDED: dict[str, Interval | None] = {"rate": BOUNDS, "measure": None}


def compared_pairs(total: Floats, count: Floats, bounds: Interval | None) -> dict[str, list[Compared]]:
    """By family, corrected: what `contrasts` makes of outcomes and `ratio_contrasts` of sums."""
    rows = [Cells(*of) for of in zip(total, count, strict=True)]
    between = luck(rows[:METHODS])
    return {
        family: corrected(
            [compared(rows[one], rows[other], (True, other != START), between, bounds) for one, other in pairs]
        )
        for family, pairs in FAMILIES.items()
    }


def simulated(figure: str, prompts: int, seeds: int, spread: float, rng: np.random.Generator) -> dict[str, Found]:
    """By family."""
    moved = shifts(spread, seeds, rng)
    total, count = DRAWN[figure](moved, prompts, rng)
    found = {}
    for family, made in compared_pairs(total, count, BOUNDED[figure]).items():
        pairs = FAMILIES[family]
        # of one seed the checkpoints are spoken of, of which something is true; of methods nothing is
        truths = [float(moved[one, 0] - moved[other, 0]) if seeds == 1 else 0.0 for one, other in pairs]
        false = [
            told_apart(one) and (one.difference or 0) * truth <= 0 for one, truth in zip(made, truths, strict=True)
        ]
        held = [holds(one.interval, truth) for one, truth in zip(made, truths, strict=True)]
        found[family] = Found(any(false), before(total, pairs, rng), float(np.mean(held)))
    return found


def cells() -> list[tuple[str, int, int, float]]:
    """(figure, prompts, seeds, luck)."""
    return [
        *(("rate", prompts, seeds, spread) for prompts, seeds in SIZES for spread in LUCK if spread or prompts == 200),
        ("measure", 200, 3, LUCK[-1]),
    ]


def false_findings(
    figure: str, prompts: int, seeds: int, spread: float, runs: int = RUNS
) -> dict[str, dict[str, float]]:
    """By family the shares of `runs` that are false, now and before, and of intervals that hold the truth."""
    rng = np.random.default_rng([prompts, seeds, round(1000 * spread)])
    found = [simulated(figure, prompts, seeds, spread, rng) for _ in range(runs)]
    return {
        family: {
            name: float(np.mean([getattr(run[family], name) for run in found]))
            for name in ("now", "before", "interval")
        }
        for family in FAMILIES
    }


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/statistics.md, in percent. lines: as in the CSV."""
    cells: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for line in lines:
        where = tuple(str(line[name]) for name in ("figure", "prompts", "seeds", "luck"))
        cells.setdefault(where, {})[line["contrasts"]] = line
    head = ["figure", "prompts × seeds", "luck, points"]
    made = [[*head, *(f"{family}: {name}" for family in FAMILIES for name in ("before", "now", "interval"))]]
    made.append([":--", *["--:"] * (len(made[0]) - 1)])
    for (figure, prompts, seeds, spread), found in cells.items():
        shares = [
            f"{100 * float(found[family][name]):.1f}" for family in FAMILIES for name in ("before", "now", "interval")
        ]
        made.append([figure, f"{prompts} × {seeds}", f"{100 * float(spread):g}", *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in made)


def main() -> None:
    parser = parser_of(__doc__, "false_findings.csv")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for cell in cells():
        for family, shares in false_findings(*cell, options.runs).items():
            values = (*cell, family, *(round(share, 4) for share in shares.values()))
            lines.append(dict(zip(FIELDS, values, strict=True)))
            print(*values, sep="\t", flush=True)
    write(options.csv, FIELDS, lines)
    print(markdown(lines))


if __name__ == "__main__":
    main()
