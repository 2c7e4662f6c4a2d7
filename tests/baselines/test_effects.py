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
from harness.methods import Method, methods
from tests.baselines.effects import (
    SEEDS,
    beyond,
    forward_kl,
    jsd,
    lost_likeliest,
    lost_margin,
    lost_order,
    models,
    nll,
    reverse_kl,
    skewed_forward,
    skewed_reverse,
    trained,
    variation,
)

# What each method that trains on no pair says that it lowers.
LOWERED: dict[str, Callable[[Any], float]] = {
    "akl": forward_kl,
    "dpkd-token": lost_likeliest,
    "gkd": jsd,
    "gopd": beyond,
    "iw-opd": reverse_kl,
    "jsd": jsd,
    "kd": forward_kl,
    "minillm": reverse_kl,
    "opd": reverse_kl,
    "pad": lost_order,
    "rkl": reverse_kl,
    "sdft": forward_kl,
    "sft": nll,
    "skl": skewed_forward,
    "srkl": skewed_reverse,
    "taid": forward_kl,
    "tvd": variation,
}


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
    found = [measure(trained(method, folder / str(seed), seed)) - before for seed in seeds]
    print(method.name, before, found)
    return np.array(found)


def lowers(found: np.ndarray[Any, Any]) -> bool:
    """Whether it fell, by more than seeds differ: two standard deviations."""
    return bool(found.max() < 0 and -found.mean() > 2 * found.std(ddof=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_a_method_lowers_what_it_says_on_held_out_prompts(name: str, tmp_path: Path) -> None:
    assert lowers(changes(methods.get(name), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_turned_round_it_does_not(name: str, tmp_path: Path) -> None:
    try:
        found = changes(turned(methods.get(name)), tmp_path, SEEDS[:2])
    except UserError as error:  # what only grows ends as no number
        assert "lower learning_rate" in str(error)
    else:
        assert not lowers(found)
