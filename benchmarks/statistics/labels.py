"""How often intervals hold the truth, of labels alone, of a judge alone, and of the judge corrected with the labels.

    python -m benchmarks.statistics.labels      # a minute; writes benchmarks/statistics/results/labels.json

Two rows answer the same prompts; how they fare against the teacher goes together (a latent correlation of 0.3). People
label some of the prompts, for both rows; a judge says something of all. The truth is what people would say of every
prompt there could be.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from tabulate import tabulate

from harness.statistics.labelled import DIFFERENCE, RATE, Units, estimate
from harness.statistics.outcomes import Floats
from harness.statistics.rates import Interval

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "labels.json"
Shares = tuple[float, float, float]  # of wins, ties and losses
Judge = Callable[[np.random.Generator, Floats, int], Floats]  # of people's outcomes of a row, by its number
TOGETHER = 0.3
TRUTHS: tuple[Shares, ...] = ((0.30, 0.30, 0.40), (0.08, 0.30, 0.62), (0.02, 0.08, 0.90))
SECOND: Shares = (0.25, 0.30, 0.45)
LABELS, PROMPTS, TIMES = (30, 50, 100), 400, 2000


def _anything(share: float, said: Shares) -> Judge:
    def judge(rng: np.random.Generator, true: Floats, row: int) -> Floats:
        any_of = rng.choice([1.0, 0.0, -1.0], len(true), p=said)
        return np.where(rng.random(len(true)) < share, any_of, true)

    return judge


def _by_position(rng: np.random.Generator, true: Floats, row: int) -> Floats:
    return np.where(rng.random(len(true)) < 0.4, 0.0, true)


def _by_length(rng: np.random.Generator, true: Floats, row: int) -> Floats:
    return np.where(rng.random(len(true)) < (0.4, 0.1)[row], 1.0, true)


JUDGES: Mapping[str, Judge] = {
    "as people": _anything(0.0, (0.3, 0.4, 0.3)),
    "ties by position": _by_position,  # decides 40% of pairs by their place: a contradiction, and so a tie
    "anything on 30%": _anything(0.3, (0.3, 0.4, 0.3)),
    "likes length": _by_length,  # 40% of one row's responses, and 10% of the other's, win for it
    "anything at all": _anything(1.0, (0.3, 0.4, 0.3)),
}


@dataclass(frozen=True)
class Simulated:
    """Shares of simulations whose interval held the truth; width: of the corrected one, by that of labels alone."""

    covers_people: float
    covers_judge: float
    covers_corrected: float
    width: float


def simulated(
    judge: Judge, true: Shares, prompts: int, labels: int, times: int, seed: int = 0, second: Shares | None = None
) -> Simulated:
    """Of a row's preference rate, or of its difference from a second row's."""
    rng = np.random.default_rng(seed)
    rows, bounds = ([true], RATE) if second is None else ([true, second], DIFFERENCE)
    truth = sum(sign * (shares[0] - shares[2]) for sign, shares in zip((1, -1), rows, strict=False))
    held, widths = np.zeros(3), np.zeros(3)
    for _ in range(times):
        said = _outcomes(rng, rows, prompts)
        judged = [judge(rng, values, row) for row, values in enumerate(said)]
        apart_said, apart_judged = (found[0] - found[1] if second else found[0] for found in (said, judged))
        labelled = np.full(prompts, np.nan)
        asked = rng.permutation(prompts)[:labels]
        labelled[asked] = apart_said[asked]
        for place, found in enumerate(_intervals(apart_judged, labelled, bounds)):
            held[place] += found[0] <= truth <= found[1]
            widths[place] += found[1] - found[0]
    people, alone, corrected = (float(share) for share in held / times)
    return Simulated(people, alone, corrected, float(widths[2] / widths[0]))


def _outcomes(rng: np.random.Generator, rows: Sequence[Shares], prompts: int) -> list[Floats]:
    shared = rng.standard_normal(prompts)
    found = []
    for wins, _, losses in rows:
        latent = sqrt(TOGETHER) * shared + sqrt(1 - TOGETHER) * rng.standard_normal(prompts)
        found.append(np.where(latent > ndtri(1 - wins), 1.0, np.where(latent < ndtri(losses), -1.0, 0.0)))
    return found


def _intervals(judged: Floats, labelled: Floats, bounds: Interval) -> list[Interval]:
    """Of labels alone, the judge alone, and the judge corrected."""
    n = len(judged)
    places: NDArray[np.int64] = np.arange(n)
    strata = np.zeros(n, dtype=np.int64)
    units = Units(judged, labelled, places, strata)
    alone = Units(np.zeros(n), judged, places, strata)
    found = (estimate(units, 0.0, bounds), estimate(alone, 0.0, bounds), estimate(units, None, bounds))
    return [one.interval(bounds) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=TIMES, help="simulations a cell")
    times = parser.parse_args().times
    rows = [
        {"figure": figure, "true": true, "judge": name, "labels": labels}
        | asdict(simulated(judge, true, PROMPTS, labels, times, second=second))
        for figure, truths, second in (("rate", TRUTHS, None), ("difference", TRUTHS[:2], SECOND))
        for true in truths
        for name, judge in JUDGES.items()
        for labels in LABELS
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"prompts": PROMPTS, "times": times, "rows": rows}, indent=1) + "\n")
    print(as_table(rows))


def as_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown, as docs/statistics.md has it."""
    heads = ["figure", "true W / T / L", "judge", "labels", "labels alone", "judge alone", "corrected", "width"]
    cells = [
        [row["figure"], " / ".join(f"{100 * share:.0f}" for share in row["true"]), row["judge"], row["labels"]]  # type: ignore[attr-defined]
        + [f"{100 * row[f'covers_{whose}']:.1f}%" for whose in ("people", "judge", "corrected")]  # type: ignore[operator]
        + [f"{100 * row['width']:.0f}%"]  # type: ignore[operator]
        for row in rows
    ]
    return tabulate(cells, heads, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
