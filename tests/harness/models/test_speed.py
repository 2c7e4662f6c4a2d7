"""Times by a model's size and a machine's rates."""

from __future__ import annotations

import pytest

from harness.models.shapes import Shape
from harness.models.speed import EFFICIENCY, LAYER_SECONDS, Speed

SHAPE = Shape(parameters=1000, layers=2, hidden=10, mlp=30, key_value=5, vocabulary=100)
SLOW = Speed(operations=1000 / EFFICIENCY, bandwidth=100.0)


def test_reading_takes_two_operations_a_parameter_and_token() -> None:
    assert SLOW.reading(SHAPE, 5) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("checkpointing", "lora", "passes"), [(False, False, 3), (True, False, 4), (False, True, 2), (True, True, 3)]
)
def test_training_is_several_readings(checkpointing: bool, lora: bool, passes: int) -> None:
    assert SLOW.training(SHAPE, 5, checkpointing, lora) == pytest.approx(passes * 10.0)


def test_sampling_reads_the_weights_once_a_step_or_computes_longer() -> None:
    # 5 rows in batches of 2: three batches of 4 steps; weights take 20 s a step, two rows 4 s to compute
    few = SLOW.generation(SHAPE, rows=5, batch=2, prompt_tokens=0, new_tokens=4)
    assert few == pytest.approx(3 * 4 * (20 + 2 * LAYER_SECONDS))
    many = SLOW.generation(SHAPE, rows=50, batch=50, prompt_tokens=0, new_tokens=4)
    assert many == pytest.approx(4 * (100 + 2 * LAYER_SECONDS))
