"""ORPO against plain arithmetic, a known value, and TRL's."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from baselines.orpo import METHOD, Settings, log_odds, orpo_loss
from tests.baselines.pairs import known, made_up, softplus, trl_orpo
from tests.baselines.rows import close


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_is_the_mean_likelihood_of_chosen_and_the_log_sigmoid_of_the_odds_ratio(weight: float) -> None:
    policy, _, lengths = made_up()
    expected = []
    for (good, bad), (long_good, long_bad) in zip(policy.tolist(), lengths.tolist(), strict=True):
        p, q = math.exp(good / long_good), math.exp(bad / long_bad)
        expected.append(-good / long_good + weight * softplus(-math.log(p * (1 - q) / (q * (1 - p)))))
    close(orpo_loss(policy, lengths, weight), expected)


def test_known_value() -> None:
    likelihood = known(METHOD, odds_weight=0.0)
    assert likelihood == pytest.approx(1.0, abs=1e-12)
    assert known(METHOD, odds_weight=1.0) - likelihood == pytest.approx(0.524716, abs=1e-6)
    assert known(METHOD) == pytest.approx(1.0 + 0.0524716, abs=1e-7)


def test_the_odds_term_is_what_trl_computes() -> None:
    policy, _, lengths = made_up()
    odds = orpo_loss(policy, lengths, 0.1) - orpo_loss(policy, lengths, 0.0)
    close(odds, trl_orpo(policy / lengths, 0.1), 1e-6)  # which is float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odds_and_gradients_stay_finite_where_every_token_is_certain(dtype: torch.dtype) -> None:
    mean = torch.tensor([0.0, -1e-9, -1e-3, -1.0, -200.0], dtype=dtype, requires_grad=True)
    odds = log_odds(mean)
    (gradient,) = torch.autograd.grad(odds.sum(), mean)
    assert odds.isfinite().all() and gradient.isfinite().all()
    assert (odds[:-1] >= odds[1:]).all()


def test_odds_of_half_are_0() -> None:
    assert float(log_odds(torch.tensor(0.5, dtype=torch.float64).log())) == pytest.approx(0, abs=1e-12)


def test_it_starts_from_the_untrained_student() -> None:
    assert Settings().start == "student"


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(odds_weight=-0.1)
