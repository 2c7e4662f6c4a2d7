from __future__ import annotations

import math

import pytest
import torch

from baselines.rkl import rkl_loss
from baselines.srkl import srkl_loss
from tests.baselines.rows import close, log_probs, logs


def test_without_the_skew_it_is_the_reverse_kl() -> None:
    policy, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    close(srkl_loss(policy, teacher, 1e-9), rkl_loss(policy, teacher), 1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("mass", [1e-300, 0.0])
def test_it_is_bounded_where_the_teacher_gives_the_policys_outcome_nothing(alpha: float, mass: float) -> None:
    close(srkl_loss(logs([1.0, 1e-300]), logs([mass, 1.0]), alpha), [-math.log(alpha)])


def test_its_gradient_goes_through_the_mixture_too() -> None:
    policy, teacher = log_probs(0, 5, 20).requires_grad_(), log_probs(1, 5, 20)
    (found,) = torch.autograd.grad(srkl_loss(policy, teacher, 0.1).sum(), policy)
    q, m = policy.detach().exp(), 0.9 * teacher.exp() + 0.1 * policy.detach().exp()
    close(found, q * ((q / m).log() + 1 - 0.1 * q / m))
