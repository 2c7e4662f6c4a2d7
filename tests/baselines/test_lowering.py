"""On the tiny pair each method brings the policy nearer to the teacher in what it declares, on prompts that were not
trained on; turned round it does not."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from harness.logprobs.model import LogProbModel
from harness.methods import DistributionInputs, Method, methods
from tests.baselines.rows import DECLARED, of_rows
from tests.baselines.tiny_pair import distributions, student, teacher, trained

pytestmark = pytest.mark.slow
SEEDS = range(3)
Loss = Callable[[DistributionInputs, Any], Tensor]


def apart(name: str, model: LogProbModel) -> float:
    """What the method declares, over held-out tokens; of a target that moves, where it ends."""
    formula = DECLARED["kd" if name == "taid" else name]
    return statistics.fmean(of_rows(formula, distributions(model).double(), distributions(teacher()).double()))


def with_loss(method: Method, turn: Callable[[Loss], Loss]) -> Method:
    return dataclasses.replace(method, loss=turn(method.loss))


def negative(loss: Loss) -> Loss:
    return lambda inputs, settings: -loss(inputs, settings)


def from_the_other_side(loss: Loss) -> Loss:
    return lambda inputs, settings: loss(
        dataclasses.replace(inputs, policy=inputs.teacher, models={"teacher": inputs.policy}), settings
    )


def beyond_the_spread(falls: list[float]) -> bool:
    return statistics.fmean(falls) > 3 * statistics.stdev(falls)


@pytest.mark.parametrize("name", DECLARED)
def test_it_lowers_what_it_declares_and_with_its_sign_turned_does_not(name: str, tmp_path: Path) -> None:
    method, began = methods.get(name), apart(name, student())
    falls = [began - apart(name, trained(method, seed, tmp_path / f"own{seed}")) for seed in SEEDS]
    assert beyond_the_spread(falls)
    assert apart(name, trained(with_loss(method, negative), 0, tmp_path / "negative")) > began


@pytest.mark.parametrize(("name", "opposite"), [("kd", "rkl"), ("rkl", "kd"), ("skl", "srkl"), ("srkl", "skl")])
def test_it_leans_its_own_way_and_from_the_other_side_does_not(name: str, opposite: str, tmp_path: Path) -> None:
    """Either direction brings two distributions nearer in both; which of the two falls more tells them apart."""
    own = methods.get(name)
    turned = with_loss(own, from_the_other_side)

    def lean(method: Method, seed: int, folder: str) -> float:
        model = trained(method, seed, tmp_path / f"{folder}{seed}")
        return math.log(apart(opposite, model) / apart(name, model))

    gains = [lean(own, seed, "own") - lean(turned, seed, "turned") for seed in SEEDS]
    assert beyond_the_spread(gains)
    assert not beyond_the_spread([-gain for gain in gains])
