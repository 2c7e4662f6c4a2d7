"""SimPO against plain arithmetic, known values, and TRL's."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from baselines.simpo import METHOD, Settings, simpo_loss
from tests.baselines.pairs import known, made_up, softplus, trl_cpo
from tests.baselines.rows import close


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (10.0, 5.0), (2.5, 0.0)])
def test_is_minus_log_sigmoid_of_the_scaled_gap_of_means_less_the_margin(beta: float, gamma: float) -> None:
    policy, _, lengths = made_up()
    rows = zip(policy.tolist(), lengths.tolist(), strict=True)
    expected = [
        softplus(gamma - beta * (good / long_good - bad / long_bad)) for (good, bad), (long_good, long_bad) in rows
    ]
    close(simpo_loss(policy, lengths, beta, gamma), expected)


@pytest.mark.parametrize(("gamma", "value"), [(1.0, 0.974077), (0.5, 0.693147)])
def test_known_values(gamma: float, value: float) -> None:
    assert known(METHOD, beta=2.0, gamma=gamma) == pytest.approx(value, abs=1e-6)


def test_the_defaults_are_a_beta_of_2_and_half_of_it_as_margin() -> None:
    assert known(METHOD) == known(METHOD, beta=2.0, gamma=1.0)


def test_without_a_margin_it_is_dpo_of_means_without_a_reference() -> None:
    policy, _, lengths = made_up()
    close(simpo_loss(policy, lengths, 0.7, 0.0), trl_cpo("sigmoid", policy / lengths, 0.7))


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (10.0, 3.0)])
def test_is_what_trl_computes(beta: float, gamma: float) -> None:
    policy, _, lengths = made_up()
    close(simpo_loss(policy, lengths, beta, gamma), trl_cpo("simpo", policy / lengths, beta, gamma=gamma))


def test_two_responses_alike_lose_by_the_margin_whatever_their_lengths() -> None:
    mean, lengths = -1.5, torch.tensor([[3, 60]])
    assert float(simpo_loss(mean * lengths, lengths, 2.0, 1.0)) == pytest.approx(math.log1p(math.e))


@pytest.mark.parametrize("values", [{"beta": 0}, {"gamma": -1}, {"gamma_beta_ratio": 0.5}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)
