"""Each method lowers on held-out prompts what it says that it lowers, beyond the spread of seeds; turned round it does
not. All of it is measured in float64, by no code of the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from harness.core.errors import UserError
from harness.methods import DistributionInputs, Method, methods
from tests.baselines.effects import (
    SEEDS,
    beyond,
    divergence_from,
    lost_likeliest,
    lost_margin,
    lost_order,
    models,
    nll,
    reverse_kl,
    trained,
)

# What each method that trains on no pair says that it lowers.
LOWERED: dict[str, Callable[[Any], float]] = {
    **{name: divergence_from(name) for name in ("akl", "jsd", "kd", "skl", "srkl", "tvd")},
    "dpkd-token": lost_likeliest,
    "gkd": divergence_from("jsd"),
    "gopd": beyond,
    "iw-opd": reverse_kl,
    "minillm": reverse_kl,
    "opd": reverse_kl,
    "pad": lost_order,
    "rkl": reverse_kl,
    "sdft": divergence_from("kd"),
    "sft": nll,
    "taid": divergence_from("kd"),  # where its target ends
}

# Where a method's own settings would hide it: a likelihood that is added to the loss, and a scale of scores at which
# the orders of a tiny pair are all but certain, without a gradient.
SETTINGS: dict[str, dict[str, Any]] = {"dpkd-token": {"nll": 0.0}, "pad": {"beta": 1.0, "epochs": 24}}


def declared(method: Method) -> Callable[[Any], float]:
    return lost_margin if "chosen" in method.roles else LOWERED[method.name]


def turned(method: Method) -> Method:
    """The same with the sign of each term turned round."""

    def negative(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda inputs, settings: -loss(inputs, settings)

    also = tuple(replace(term, loss=negative(term.loss)) for term in method.also)
    return replace(method, loss=negative(method.loss), also=also)


def changes(method: Method, folder: Path, seeds: tuple[int, ...] = SEEDS) -> np.ndarray[Any, Any]:
    """What trainings with these seeds changed of what the method lowers."""
    measure = declared(method)
    before = measure(models()["reference"])
    settings = SETTINGS.get(method.name, {})
    found = [measure(trained(method, folder / str(seed), seed, **settings)) - before for seed in seeds]
    print(method.name, before, found)
    return np.array(found)


LEAST = 0.01  # of what there was: what falls by less is as good as where it was


def lowers(found: np.ndarray[Any, Any], before: float) -> bool:
    """Whether it fell, by more than seeds differ (two standard deviations) and by some share of what there was."""
    fell = -found.mean()
    return bool(found.max() < 0 and fell > 2 * found.std(ddof=1) and fell > LEAST * abs(before))


def test_a_fall_of_next_to_nothing_is_none() -> None:
    seeds = np.array([1.0, 1.1, 0.9])
    assert lowers(-0.1 * seeds, 0.5) and lowers(-0.1 * seeds, -0.5)
    assert not lowers(-2.65e-8 * np.ones(3), 0.5)
    assert not lowers(0.1 * seeds, 0.5) and not lowers(np.array([-0.3, -0.1, -0.01]), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_a_method_lowers_what_it_says_on_held_out_prompts(name: str, tmp_path: Path) -> None:
    method = methods.get(name)
    assert lowers(changes(method, tmp_path), declared(method)(models()["reference"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_turned_round_it_does_not(name: str, tmp_path: Path) -> None:
    try:
        method = methods.get(name)
        found = changes(turned(method), tmp_path, SEEDS[:2])
    except UserError as error:  # what only grows ends as no number
        assert "lower learning_rate" in str(error)
    else:
        assert not lowers(found, declared(method)(models()["reference"]))


def from_the_other_side(method: Method) -> Method:
    """The same with teacher and policy in each other's places."""

    def loss(inputs: DistributionInputs, settings: Any) -> Tensor:
        return method.loss(replace(inputs, policy=inputs.teacher, models={"teacher": inputs.policy}), settings)

    return replace(method, loss=loss)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opposite", "settings"), [("kd", "rkl", {}), ("skl", "srkl", {"alpha": 0.01})])
def test_a_divergence_leans_its_own_way_and_from_the_other_side_the_other_way(
    name: str, opposite: str, settings: dict[str, float], tmp_path: Path
) -> None:
    """Either direction brings two distributions nearer in both; which of the two falls more tells them apart."""
    own, other = divergence_from(name), divergence_from(opposite)

    def leans(method: Method, folder: str) -> np.ndarray[Any, Any]:
        students = [trained(method, tmp_path / folder / str(seed), seed, **settings) for seed in SEEDS]
        return np.array([np.log(own(student) / other(student)) for student in students])

    found = leans(methods.get(name), "own") - leans(from_the_other_side(methods.get(name)), "turned")
    assert lowers(found, 0.1)  # of logarithms: a tenth of a per cent
    assert not lowers(-found, 0.1)
