"""How fast this machine is, measured once in about a second and kept in the store by the device's name: enough to say
whether a run takes minutes or days."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from harness.core.environment import processor
from harness.core.files import write_atomically
from harness.models.shapes import Shape
from harness.store import Store

BOOK = "calibration.json"


SECONDS = 0.3  # of each measurement


# The share of a bare product's speed that a whole model reaches, and what starting a layer takes from Python: ours,
# for want of a measurement.
EFFICIENCY, LAYER_SECONDS = 0.4, 0.0008


@dataclass(frozen=True)
class Speed:
    """operations: of bf16 products, a second. bandwidth: bytes read from memory, a second."""

    operations: float
    bandwidth: float

    def reading(self, shape: Shape, tokens: int) -> float:
        """Seconds of a forward pass: two operations for each parameter and token."""
        return 2 * shape.parameters * tokens / self._useful

    def training(self, shape: Shape, tokens: int, checkpointing: bool, lora: bool, teacher: Shape | None) -> float:
        """Seconds of a training: backward is twice the forward pass, or as much where weights are frozen; what was not
        kept is computed again."""
        passes = (2 if lora else 3) + (1 if checkpointing else 0)
        own = passes * self.reading(shape, tokens)
        return own + (self.reading(teacher, tokens) if teacher else 0.0)

    def generation(self, shape: Shape, rows: int, batch: int, prompt_tokens: int, new_tokens: int) -> float:
        """Seconds of sampling: every step reads all weights once for the whole batch, or computes longer than that.

        prompt_tokens: of all rows together. new_tokens: of one."""
        steps = -(-rows // batch) * new_tokens
        weights = 2 * shape.parameters / self.bandwidth
        compute = 2 * shape.parameters * min(rows, batch) / self._useful
        return steps * (max(weights, compute) + shape.layers * LAYER_SECONDS) + self.reading(shape, prompt_tokens)

    @property
    def _useful(self) -> float:
        return EFFICIENCY * self.operations


def rates(store: Store) -> Speed:
    """This machine's, measured now where the store does not have them."""
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
