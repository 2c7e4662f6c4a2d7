"""How often something is found where nothing is true, with training luck, beside the test that held seeds fixed before.

    python -m benchmarks.statistics.false_findings        # writes benchmarks/statistics/false_findings.csv

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

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr

from benchmarks.statistics.simulated import Chances, holds, outcomes_of, values_of
from harness.statistics.contrasts import contrasts, holm
from harness.statistics.effects import LEVEL
from harness.statistics.outcomes import Floats
from harness.statistics.ratios import Sums, luck_in, ratio_contrasts

METHODS, START = 5, "5"  # rows are called by their number
CHANCES: Chances = (0.30, 0.40, 0.30)
LUCK, SHARED = (0.0, 0.02, 0.05), 0.03  # standard deviations of a preference rate
HARD, OWN = 0.3, 0.1  # parts of a prompt's variance that all rows share, and that is each row's own
SIZES = ((200, 3), (805, 3), (200, 1), (805, 1))  # prompts and seeds
RUNS = 1000  # two standard errors of a share of 5% are 1.4 points
FLIPS = 1000
PAIRS = [(str(one), str(other)) for one, other in combinations(range(METHODS), 2)]
ANCHORS = [(str(one), START) for one in range(METHODS)]
HERE = Path(__file__).parent
FIELDS = ("figure", "prompts", "seeds", "luck", "contrasts", "now", "before", "interval")


@dataclass(frozen=True)
class Found:
    """Of one run and family: whether anything false was found, and the share of intervals that hold the truth."""

    now: bool
    before: bool
    interval: float


def shifts(luck: float, seeds: int, rng: np.random.Generator) -> Floats:
    """[rows, seeds] what luck adds to a checkpoint's true figure; nothing to the start's, the last row."""
    own = rng.normal(0, luck, (METHODS, seeds)) if luck else np.zeros((METHODS, seeds))
    shared = rng.normal(0, SHARED, seeds) if luck else np.zeros(seeds)
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


def before(values: Floats, pairs: Sequence[tuple[str, str]], rng: np.random.Generator) -> bool:
    """Whether any pair was told apart. values: [rows, seeds, prompts]."""
    mean = values.mean(axis=1)
    return min(holm([sign_flip_p(mean[int(one)] - mean[int(other)], rng) for one, other in pairs])) <= LEVEL


def rate(luck: float, prompts: int, seeds: int, rng: np.random.Generator) -> dict[str, Found]:
    moved = shifts(luck, seeds, rng)
    win, _, loss = (np.asarray(chance) for chance in CHANCES)
    half = moved[:, :, None] / 2
    values = values_of(ndtr(latent(seeds, prompts, rng)), win + half, loss - half)
    made = contrasts(outcomes_of(values), [*PAIRS, *ANCHORS], untrained=(START,))
    return judged(made, moved, values, rng)


def measure(luck: float, prompts: int, seeds: int, rng: np.random.Generator) -> dict[str, Found]:
    moved = shifts(luck, seeds, rng)
    count = rng.integers(20, 200, prompts)
    value = np.sqrt(0.6) * latent(seeds, prompts, rng) + moved[:, :, None]  # of the variance of outcomes' values
    systems = tuple(map(str, range(METHODS + 1)))
    total = (value * count).transpose(0, 2, 1)[None]
    sums = Sums(("measure",), systems, total, np.broadcast_to(count[None, None, :, None].astype(float), total.shape))
    between = {"measure": luck_in([sums], "measure", systems[:-1])}
    made = ratio_contrasts({"set": sums}, [*PAIRS, *ANCHORS], untrained=(START,), between=between)
    return judged(made, moved, value * count, rng)


def judged(made: Sequence[Any], moved: Floats, values: Floats, rng: np.random.Generator) -> dict[str, Found]:
    """By family. moved: [rows, seeds] what is true of the checkpoints; of the methods nothing is."""
    found = {}
    for family, pairs in (("methods", PAIRS), ("anchors", ANCHORS)):
        mine = [one for one in made if one.family == family]
        one_seed = moved.shape[1] == 1
        truths = [float(moved[int(one.first), 0] - moved[int(one.second), 0]) if one_seed else 0.0 for one in mine]
        false = [
            one.distinguishable and not (one_seed and one.difference * truth > 0)
            for one, truth in zip(mine, truths, strict=True)
        ]
        held = [holds(one.interval, truth) for one, truth in zip(mine, truths, strict=True)]
        found[family] = Found(any(false), before(values, pairs, rng), float(np.mean(held)))
    return found


def cells() -> list[tuple[str, int, int, float]]:
    """(figure, prompts, seeds, luck)."""
    return [
        *(("rate", prompts, seeds, luck) for prompts, seeds in SIZES for luck in LUCK),
        ("measure", 200, 3, LUCK[-1]),
    ]


def false_findings(figure: str, prompts: int, seeds: int, luck: float, runs: int = RUNS) -> dict[str, dict[str, float]]:
    """By family the shares of `runs` that are false, now and before, and of intervals that hold the truth."""
    rng = np.random.default_rng([prompts, seeds, round(1000 * luck)])
    simulate = {"rate": rate, "measure": measure}[figure]
    found = [simulate(luck, prompts, seeds, rng) for _ in range(runs)]
    return {
        family: {
            name: float(np.mean([getattr(run[family], name) for run in found]))
            for name in ("now", "before", "interval")
        }
        for family in ("methods", "anchors")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--csv", type=Path, default=HERE / "false_findings.csv")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    with options.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for cell in cells():
            for family, shares in false_findings(*cell, options.runs).items():
                line = (*cell, family, *(round(share, 4) for share in shares.values()))
                writer.writerow(dict(zip(FIELDS, line, strict=True)))
                print(*line, sep="\t", flush=True)


if __name__ == "__main__":
    main()
