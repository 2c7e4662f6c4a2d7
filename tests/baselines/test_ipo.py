"""IPO against plain arithmetic, known values, and TRL's."""

from __future__ import annotations

import pytest
import torch

from baselines.ipo import METHOD, ipo_loss
from tests.baselines.pairs import known, loss_of, made_up, trl_cpo, trl_dpo
from tests.baselines.rows import close


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_is_the_squared_distance_of_the_margin_from_half_of_one_over_beta(beta: float) -> None:
    policy, models, _ = made_up()
    rows = zip(policy.tolist(), models["reference"].tolist(), strict=True)
    expected = [((p[0] - r[0]) - (p[1] - r[1]) - 0.5 / beta) ** 2 for p, r in rows]
    close(ipo_loss(policy, models["reference"], beta), expected)


@pytest.mark.parametrize(("means", "value"), [(False, 9.0), (True, 21.390625)])
def test_known_values(means: bool, value: float) -> None:
    assert known(METHOD, length_normalised=means) == pytest.approx(value, abs=1e-9)


def test_means_are_the_default() -> None:
    assert known(METHOD) == known(METHOD, length_normalised=True, beta=0.1)


def test_means_are_what_trls_dpo_trainer_computes() -> None:
    policy, models, lengths = made_up()
    expected = trl_dpo("ipo", policy, models["reference"], lengths, 0.1)
    close(loss_of(METHOD, policy, models, lengths), expected)


def test_sums_are_what_trls_cpo_trainer_computes_of_log_ratios() -> None:
    policy, models, _ = made_up()
    close(ipo_loss(policy, models["reference"], 0.1), trl_cpo("ipo", policy - models["reference"], 0.1))


@pytest.mark.parametrize("means", [True, False])
def test_it_is_0_at_a_margin_of_half_of_one_over_beta_and_turns_back_beyond(means: bool) -> None:
    _, models, lengths = made_up()
    scale = lengths if means else torch.ones_like(lengths)
    for beyond, sign in ((0.0, 0), (1.0, 1), (-1.0, -1)):
        policy = models["reference"].clone()
        policy[:, 0] += (5.0 + beyond) * scale[:, 0]
        policy.requires_grad_(True)
        loss = loss_of(METHOD, policy, models, lengths, beta=0.1, length_normalised=means)
        close(loss.detach(), [beyond**2] * 6, 1e-9)
        (gradient,) = torch.autograd.grad(loss.sum(), policy)
        close(gradient[:, 0] * scale[:, 0], [2.0 * sign] * 6, 1e-9)
