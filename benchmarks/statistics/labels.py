"""How often intervals hold the truth, of labels alone, of a judge alone, and of the judge corrected with the labels.

    python -m benchmarks.statistics.labels      # writes results/labels.csv, and prints the table of the docs

Two rows answer the same prompts; how they fare against the teacher goes together (a latent correlation of 0.3). People
label some of the prompts, for both rows; a judge says something of all. The truth is what people would say of every
prompt there could be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.statistics.simulated import Chances, holds, values_of
from benchmarks.statistics.written import parser_of, write
from harness.reports.columns import pipes
from harness.statistics.labelled import DIFFERENCE, RATE, Units, estimate
from harness.statistics.outcomes import Floats
from harness.statistics.rates import Interval

FIELDS = ("figure", "true", "judge", "labels", "covers_people", "covers_judge", "covers_corrected", "width")
Judge = Callable[[np.random.Generator, Floats, int], Floats]  # of people's outcomes of a row, by its number
TOGETHER = 0.3
TRUTHS: tuple[Chances, ...] = ((0.30, 0.30, 0.40), (0.08, 0.30, 0.62), (0.02, 0.08, 0.90))
SECOND: Chances = (0.25, 0.30, 0.45)
LABELS, PROMPTS, TIMES = (30, 50, 100), 400, 2000


def _anything(share: float, said: Chances) -> Judge:
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
    """Chances of simulations whose interval held the truth; width: of the corrected one, by that of labels alone."""

    covers_people: float
    covers_judge: float
    covers_corrected: float
    width: float


def simulated(
    judge: Judge, true: Chances, prompts: int, labels: int, times: int, seed: int = 0, second: Chances | None = None
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
            held[place] += holds(found, truth)
            widths[place] += found[1] - found[0]
    people, alone, corrected = (float(share) for share in held / times)
    return Simulated(people, alone, corrected, float(widths[2] / widths[0]))


def _outcomes(rng: np.random.Generator, rows: Sequence[Chances], prompts: int) -> list[Floats]:
    shared = rng.standard_normal(prompts)
    found = []
    for wins, _, losses in rows:
        latent = sqrt(TOGETHER) * shared + sqrt(1 - TOGETHER) * rng.standard_normal(prompts)
        found.append(values_of(ndtr(latent), wins, losses))
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


def lines(times: int) -> list[dict[str, Any]]:
    """A row for each figure, truth, judge and number of labels."""
    return [
        {"figure": figure, "true": _named(true), "judge": name, "labels": labels}
        | asdict(simulated(judge, true, PROMPTS, labels, times, second=second))
        for figure, truths, second in (("rate", TRUTHS, None), ("difference", TRUTHS[:2], SECOND))
        for true in truths
        for name, judge in JUDGES.items()
        for labels in LABELS
    ]


def _named(chances: Chances) -> str:
    return " / ".join(f"{100 * chance:.0f}" for chance in chances)


def markdown(found: Iterable[Mapping[str, Any]]) -> str:
    """The table of docs/statistics.md: with the most labels, and with half of them."""
    known = {(row["figure"], row["true"], row["judge"], int(row["labels"])): row for row in found}
    most = max(key[3] for key in known)
    heads = ["figure", "true W / T / L", "judge", "judge alone", "labels alone, 50 / 100", "corrected", "its width"]
    cells = [
        [
            *key[:3],
            _percent(row["covers_judge"], 1),
            *(
                f"{_percent(known[*key[:3], most // 2][name], digits)} / {_percent(row[name], digits)}"
                for name, digits in (("covers_people", 1), ("covers_corrected", 1), ("width", 0))
            ),
        ]
        for key, row in known.items()
        if key[3] == most
    ]
    return pipes(heads, cells)


def _percent(value: Any, digits: int) -> str:
    return f"{100 * float(value):.{digits}f}%"


def main() -> None:
    parser = parser_of(__doc__, "labels.csv")
    parser.add_argument("--times", type=int, default=TIMES, help="simulations a row")
    options = parser.parse_args()
    found = lines(options.times)
    write(options.csv, FIELDS, found)
    print(markdown(found))


if __name__ == "__main__":
    main()
