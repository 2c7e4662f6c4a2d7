"""Time and memory of the statistics of a million verdicts, and of the commands that only read; coverage of intervals.

    python -m benchmarks.speed.statistics [--json FILE] [--verdicts N] [--coverage]

A million verdicts (10 methods × 5 sets × 10,000 prompts × 2 orders, graded preferences, 1% failed) are written to a
temporary folder; a process of its own then reads them and computes rates with all four intervals for every method and
set, the first method's contrasts against the nine others on every set and pooled, and length control for every
method and set. `leaderboard` and `--help` run as subprocesses, the best of five.

--coverage: how often nominal 95% intervals hold the truth, beside a bootstrap that draws single verdicts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.core.environment import processor
from harness.statistics.contrasts import contrasts
from harness.statistics.length import length_controls
from harness.statistics.outcomes import Codes, Floats, Verdicts, outcomes, read_verdicts
from harness.statistics.rates import comparison_rates, rates_of

METHODS, SETS, PROMPTS = 10, 5, 10_000
TARGET_SECONDS, TARGET_GB = 20.0, 4.0
COMMANDS = {"leaderboard": 2.0, "--help": 0.3}  # seconds at most
WIN_RATES, SIZES = (0.02, 0.14, 0.50), (100, 400, 1000)
SIMULATIONS = 4000  # two standard errors of a coverage of 95% are 0.7 points
FLIPPED = 0.10  # share of prompts on which the orders contradict each other
T = TypeVar("T")


def write(path: Path, count: int) -> None:
    """`count` verdicts: preferences share the prompt's difficulty, both orders share the response."""
    rng = np.random.default_rng(0)
    prompts = count // (METHODS * SETS * 2)
    with path.open("w", encoding="utf-8") as file:
        for one in range(SETS):
            hard, length = rng.normal(size=prompts), rng.integers(50, 400, prompts)
            for method in range(METHODS):
                own = length + rng.integers(-40, 80, prompts)
                better = hard + 0.1 * method - 1 + 0.004 * (own - length) + rng.normal(size=prompts)
                for order in ("candidate_first", "reference_first"):
                    preference = 1 / (1 + np.exp(-2 * better - rng.normal(size=prompts)))
                    failed = rng.random(prompts) < 0.01
                    for i in range(prompts):
                        row = {
                            "prompt_set": f"set {one}",
                            "prompt_id": f"prompt-{i:05d}",
                            "candidate": f"method {method}",
                            "reference": "teacher",
                            "order": order,
                            "status": "failed" if failed[i] else "ok",
                            "preference": None if failed[i] else float(preference[i]),
                            "judge": "judge",
                            "candidate_tokens": int(own[i]),
                            "reference_tokens": int(length[i]),
                            "detail": "",
                        }
                        file.write(json.dumps(row) + "\n")


def measured(path: str) -> dict[str, Any]:
    """Seconds and peak memory of each part, in this process; peaks are those of the process until then."""
    parts: dict[str, Any] = {"at the start": {"seconds": 0.0, "peak_gb": _peak()}}

    def timed(name: str, part: Callable[[], T]) -> T:
        start = time.perf_counter()
        made = part()
        parts[name] = {"seconds": time.perf_counter() - start, "peak_gb": _peak()}
        return made

    methods = [f"method {i}" for i in range(METHODS)]
    sets = [f"set {i}" for i in range(SETS)]
    verdicts = timed("read", lambda: read_verdicts([Path(path)]))
    found = timed("outcomes", lambda: outcomes(verdicts))
    rates = timed("rates, four intervals each", lambda: comparison_rates(found))
    pairs = [(methods[0], other) for other in methods[1:]]
    tests = timed("contrasts", lambda: contrasts(found, pairs, {"all": sets}))
    controls = timed("length control", lambda: length_controls(found))
    return {
        "verdicts": len(verdicts),
        "comparisons": len(rates),
        "contrasts": len(tests),
        "length_controlled": sum(not made.reason for made in controls.values()),
        "parts": parts,
        "seconds": sum(part["seconds"] for part in parts.values()),
        "peak_gb": _peak(),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def commands() -> dict[str, float]:
    """Wall-clock seconds of each command, the best of five: the first ones read files from disk."""
    with tempfile.TemporaryDirectory() as folder:
        calls = {"leaderboard": ["leaderboard", "--out", str(Path(folder) / "board.md")], "--help": ["--help"]}
        return {name: min(_seconds(arguments) for _ in range(5)) for name, arguments in calls.items()}


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "harness", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


# ---- coverage


def simulated(prompts: int, win: float, rng: np.random.Generator) -> Floats:
    """[prompts, 2] preferences for the candidate in both orders, 0 or 1: both with probability `win`."""
    kinds = rng.choice(4, size=prompts, p=[win, FLIPPED / 2, FLIPPED / 2, 1 - win - FLIPPED])
    return np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])[kinds]


def as_verdicts(preferences: Floats) -> Verdicts:
    """One comparison."""
    n = len(preferences)
    names = Codes(("",), ("set",), tuple(("set", str(i), "") for i in range(n)), ("a",), ("b",), ("judge",))
    none, unknown = np.zeros(2 * n, dtype=np.int64), np.full(2 * n, np.nan)
    prompt = np.repeat(np.arange(n), 2)
    return Verdicts(
        names,
        none,
        none,
        prompt,
        prompt,
        none,
        none,
        none,
        none,
        none,
        order=np.tile([0, 1], n),
        status=none,
        preference=preferences.ravel(),
        candidate_length=unknown,
        reference_length=unknown,
        in_tokens=none == 1,
        label=none - 1,
    )


def naive(rows: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """A bootstrap of verdicts [n] as if each were a draw of its own; values are of few kinds."""
    kinds, counts = np.unique(rows, return_counts=True)
    drawn = rng.multinomial(len(rows), counts / len(rows), size=2000) @ kinds / len(rows)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def coverage(prompts: int, win: float, simulations: int) -> dict[str, float]:
    """Share of simulations whose interval holds the truth, for each rate; naive: both verdicts of a prompt are rows."""
    rng = np.random.default_rng([prompts, round(1000 * win)])
    truths = {"win rate": win, "preference rate": 2 * win + FLIPPED - 1, "mean preference": win + FLIPPED / 2}
    held = dict.fromkeys([*truths, *(f"{name}, naive" for name in truths)], 0)
    for _ in range(simulations):
        drawn = simulated(prompts, win, rng)
        found = rates_of([outcomes(as_verdicts(drawn))])[0]
        wins, losses = drawn.min(axis=1), 1 - drawn.max(axis=1)
        ours = (found.win_interval, found.preference_interval, found.mean_preference_interval)
        theirs = [naive(rows, rng) for rows in (np.repeat(wins, 2), np.repeat(wins - losses, 2), drawn.ravel())]
        for (name, truth), mine, other in zip(truths.items(), ours, theirs, strict=True):
            assert mine is not None
            # an end that is the truth but for rounding holds it
            held[name] += mine[0] - 1e-12 <= truth <= mine[1] + 1e-12
            held[f"{name}, naive"] += other[0] - 1e-12 <= truth <= other[1] + 1e-12
    return {name: count / simulations for name, count in held.items()}


def coverages(simulations: int) -> list[dict[str, Any]]:
    cells = [(prompts, win) for prompts in SIZES for win in WIN_RATES]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        found = pool.starmap(coverage, [(*cell, simulations) for cell in cells])
    return [{"prompts": n, "win_rate": win, **held} for (n, win), held in zip(cells, found, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verdicts", type=int, default=METHODS * SETS * PROMPTS * 2)
    parser.add_argument("--coverage", action="store_true", help="only the coverage")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    options = parser.parse_args()
    report: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "numpy": np.__version__}
    if options.coverage:
        report |= {"simulations": options.simulations, "coverage": coverages(options.simulations)}
        for row in report["coverage"]:
            held = ", ".join(
                f"{name} {share:.1%}" for name, share in row.items() if name not in ("prompts", "win_rate")
            )
            print(f"{row['prompts']} prompts, win rate {row['win_rate']:.0%}: {held}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "verdicts.jsonl"
            write(path, options.verdicts)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                report |= pool.apply(measured, (str(path),))
        report["commands"] = commands()
        for name, part in report["parts"].items():
            print(f"{name}: {part['seconds']:.2f} s, peak {part['peak_gb']:.2f} GB")
        print(f"in all: {report['seconds']:.2f} s (at most {TARGET_SECONDS:g}), {report['peak_gb']:.2f} GB "
              f"(at most {TARGET_GB:g})")  # fmt: skip
        for name, seconds in report["commands"].items():
            print(f"{name}: {seconds:.2f} s (at most {COMMANDS[name]:g})")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
