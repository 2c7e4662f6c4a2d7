"""One side of the benchmark, in a process of its own: takes a step whenever it is told to. `ours`, `peer`, or `kept`:
the peer, with freed memory kept as the harness keeps it.

On its input: a workload as one line of JSON, then a line for each step; then perhaps another workload. On its output: a
line of JSON when it is ready for the first step, one after each step, and one with its losses and its peak memory so
far, which is the first workload's own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import resource
import sys
import time
from typing import Any

import torch

from benchmarks.speed.workload import Workload
from harness.core.allocator import keep_freed_memory


class Gate:
    """Waits for the driver before each step, and tells it how long the step took."""

    def __init__(self, out: Any) -> None:
        self.out, self.began = out, 0.0

    def say(self, **data: Any) -> None:
        print(json.dumps(data), file=self.out, flush=True)

    def begin(self) -> None:
        self.say(ready=True)
        sys.stdin.readline()
        self.began = time.monotonic()

    def end(self, sampling: float = 0.0) -> None:
        """sampling: the seconds of the step that the policy wrote in."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.say(seconds=time.monotonic() - self.began, sampling=sampling)


def peak_mb() -> float:
    """Peak memory of this process: the device's where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e6


def main(side: str) -> None:
    gate = Gate(sys.stdout)
    if side == "kept":
        keep_freed_memory()
    while line := sys.stdin.readline():
        work = Workload.from_json(json.loads(line))
        with contextlib.redirect_stdout(io.StringIO()):  # what a library prints is no part of the exchange
            engine = importlib.import_module(f"benchmarks.speed.{'ours' if side == 'ours' else 'peer_trl'}")
            found = engine.train(work, gate.begin, gate.end)
        gate.say(**found, peak_mb=peak_mb(), name=engine.NAME)


if __name__ == "__main__":
    main(sys.argv[1])
