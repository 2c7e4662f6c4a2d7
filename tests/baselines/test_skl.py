from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from baselines.kd import kd_loss
from baselines.skl import Settings, skl_loss
from tests.baselines.rows import close, log_probs, logs


def test_without_the_skew_it_is_kd() -> None:
    policy, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    close(skl_loss(policy, teacher, 1e-9), kd_loss(policy, teacher), 1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_it_is_bounded_where_the_policy_gives_the_teachers_outcome_nothing(alpha: float) -> None:
    close(skl_loss(logs([1e-300, 1.0]), logs([1.0, 1e-300]), alpha), [-math.log(alpha)])


def test_it_differs_from_the_code_that_leaves_the_teachers_entropy_out_by_that_entropy() -> None:
    policy, teacher = log_probs(0, 5, 20).requires_grad_(), log_probs(1, 5, 20)
    cross = -(teacher.exp() * (0.1 * teacher.exp() + 0.9 * policy.exp()).log()).sum(-1)
    ours = skl_loss(policy, teacher, 0.1)
    close(ours.detach(), (cross + (teacher.exp() * teacher).sum(-1)).detach())
    close(*(torch.autograd.grad(loss.sum(), policy)[0] for loss in (ours, cross)))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_mixture_of_one_is_refused(alpha: float) -> None:
    with pytest.raises(ValidationError):
        Settings(alpha=alpha)
