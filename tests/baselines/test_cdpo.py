"""cDPO against plain arithmetic, known values, DPO, and TRL's."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from baselines.cdpo import METHOD, Settings, cdpo_loss
from baselines.ddpo import ddpo_loss
from tests.baselines.pairs import LENGTHS, POLICY, REFERENCE, known, made_up, softplus, trl_cpo, trl_dpo
from tests.baselines.rows import close


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_is_dpo_of_the_pair_and_of_the_pair_turned_round(beta: float, epsilon: float) -> None:
    policy, models, _ = made_up()
    rows = zip(policy.tolist(), models["reference"].tolist(), strict=True)
    margins = [beta * ((p[0] - r[0]) - (p[1] - r[1])) for p, r in rows]
    expected = [(1 - epsilon) * softplus(-margin) + epsilon * softplus(margin) for margin in margins]
    close(cdpo_loss(policy, models["reference"], beta, epsilon), expected)


def test_known_value() -> None:
    assert known(METHOD) == known(METHOD, beta=0.1, label_smoothing=0.1) == pytest.approx(0.618139, abs=1e-6)


def test_without_wrong_labels_it_is_ddpo() -> None:
    policy, models, _ = made_up()
    assert known(METHOD, label_smoothing=0.0) == pytest.approx(0.598139, abs=1e-6)
    close(cdpo_loss(policy, models["reference"], 0.4, 0.0), ddpo_loss(policy, models["reference"], 0.4))


def test_is_what_trls_cpo_trainer_computes_of_log_ratios() -> None:
    policy, models, _ = made_up()
    expected = trl_cpo("sigmoid", policy - models["reference"], 0.3, label_smoothing=0.2)
    close(cdpo_loss(policy, models["reference"], 0.3, 0.2), expected)


def test_is_not_robust_dpo() -> None:
    """Which is (DPO − ε (DPO + DPO turned round)) / (1 − 2ε), as TRL has it."""
    (robust,) = trl_dpo("robust", POLICY, REFERENCE, LENGTHS, 0.1, label_smoothing=0.1)
    assert robust == pytest.approx(0.573139, abs=1e-6)
    assert known(METHOD) - robust > 0.04


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.4])
def test_it_is_least_where_the_probability_of_the_pair_is_1_less_epsilon(epsilon: float) -> None:
    end = math.log((1 - epsilon) / epsilon) / 0.1
    policy = torch.tensor([[end, 0.0], [end + 1, 0.0], [end - 1, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = cdpo_loss(policy, torch.zeros(3, 2, dtype=torch.float64), 0.1, epsilon)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert float(gradient[0, 0]) == pytest.approx(0, abs=1e-12)
    assert gradient[1, 0] > 0 > gradient[2, 0]
    assert loss[0] < loss[1] and loss[0] < loss[2]


@pytest.mark.parametrize("values", [{"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"beta": 0}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)
