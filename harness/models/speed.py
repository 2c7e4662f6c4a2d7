"""How long a model takes on a machine, by its shape and two rates of the machine: enough to say whether a run takes
minutes or days."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.shapes import Shape

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

    def training(self, shape: Shape, tokens: int, checkpointing: bool, lora: bool) -> float:
        """Seconds of a training: backward is twice the forward pass, or as much where weights are frozen; what was not
        kept is computed again."""
        passes = (2 if lora else 3) + (1 if checkpointing else 0)
        return passes * self.reading(shape, tokens)

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
