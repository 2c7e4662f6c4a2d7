"""How fast this machine is, measured once in about a second and kept in the store by the device's name."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict

from harness.core.environment import processor
from harness.core.files import write_atomically
from harness.models.speed import Speed
from harness.store import Store

BOOK = "calibration.json"
SECONDS = 0.3  # of each measurement


def measured_speed(store: Store) -> Speed:
    """This machine's, measured now where the store does not have it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name(0) if device == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    book = store.root / BOOK
    known: dict[str, dict[str, float]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(book.read_text())
        return Speed(**known[name])
    measured = measure(device)
    write_atomically(book, json.dumps({**known, name: asdict(measured)}, indent=1) + "\n")
    return measured


def measure(device: str) -> Speed:
    """A product of bf16 matrices, and the sum of a tensor that no cache holds."""
    import torch

    size, numbers = (8192, 2**29) if device == "cuda" else (1024, 2**26)
    wait = torch.cuda.synchronize if device == "cuda" else _at_once
    matrix = torch.ones(size, size, dtype=torch.bfloat16, device=device)
    tensor = torch.ones(numbers, dtype=torch.float32, device=device)
    with torch.inference_mode():
        operations = 2 * size**3 / _seconds(lambda: matrix @ matrix, wait)
        bandwidth = 4 * numbers / _seconds(tensor.sum, wait)
    return Speed(operations, bandwidth)


def _seconds(work: Callable[[], object], wait: Callable[[], object]) -> float:
    """The fastest of several: what else the machine does only slows it."""
    work()
    wait()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end or best == float("inf"):
        began = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - began)
    return best


def _at_once() -> None:
    """A CPU's work is done when it returns."""
