"""Time and memory of the statistics of a million verdicts, and of the commands that only read.

    python -m benchmarks.speed.statistics [--json FILE] [--verdicts N]

A million verdicts (10 methods × 5 sets × 10,000 prompts × 2 orders, graded preferences, 1% failed) are written to a
temporary folder; a process of its own then reads them and computes rates with all four intervals for every method and
set, the first method's contrasts against the nine others on every set and pooled, and length control for every
method and set. `leaderboard` and `--help` run as subprocesses, the best of five.
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
from harness.statistics.outcomes import outcomes, read_verdicts
from harness.statistics.rates import comparison_rates

METHODS, SETS, PROMPTS = 10, 5, 10_000
TARGET_SECONDS, TARGET_GB = 20.0, 4.0
COMMANDS = {"leaderboard": 2.0, "--help": 0.3}  # seconds at most
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verdicts", type=int, default=METHODS * SETS * PROMPTS * 2)
    options = parser.parse_args()
    report: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "numpy": np.__version__}
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
