from __future__ import annotations

import torch

from baselines.tvd import tvd_loss
from tests.baselines.rows import close, log_probs, logs


def test_it_is_1_less_what_the_two_share() -> None:
    policy, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    close(tvd_loss(policy, teacher), 1 - torch.minimum(policy.exp(), teacher.exp()).sum(-1))


def test_distributions_that_share_nothing_are_at_1() -> None:
    close(tvd_loss(logs([1.0, 0.0]), logs([0.0, 1.0])), [1.0])


def test_it_hardly_moves_what_the_policy_hardly_says() -> None:
    logits = torch.tensor([[0.0, -20.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(tvd_loss(torch.log_softmax(logits, -1), logs([0.1, 0.9])).sum(), logits)
    assert gradient.abs().max() < 1e-8
