from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.akl import akl_loss, head
from baselines.kd import kd_loss
from baselines.rkl import rkl_loss
from tests.baselines.rows import POLICY, TEACHER, close, log_probs, logs


def test_the_authors_order_weights_by_a_third_and_not_as_the_ascending_one_does() -> None:
    policy, teacher = logs(POLICY), logs(TEACHER)
    forward, reverse = kd_loss(policy, teacher), rkl_loss(policy, teacher)
    close(akl_loss(policy, teacher, 0.5), forward / 3 + reverse * 2 / 3)
    ascending = 5 / 12 * forward + 7 / 12 * reverse
    close(ascending, [0.297557], 1e-5)
    assert (akl_loss(policy, teacher, 0.5) - ascending).abs() > 5e-3


@pytest.mark.parametrize("first", [1, 3, 64])
@pytest.mark.parametrize("mu", [0.1, 0.5, 0.9, 0.999])
def test_the_head_of_the_likeliest_outcomes_is_that_of_all_of_them_sorted(mu: float, first: int) -> None:
    teacher = torch.cat([log_probs(0, 6, 300, scale=scale) for scale in (0.0, 1.0, 5.0)])
    ordered, ids = teacher.sort(dim=-1, descending=True)
    inside = ordered.exp().cumsum(-1) <= mu
    inside[:, 0] = True
    found = head(teacher, mu, first)
    # of equal masses any may be the head's
    close(found[6:].double(), torch.zeros_like(inside).scatter(-1, ids, inside)[6:].double())
    assert (found.sum(-1) == inside.sum(-1)).all()


def weights_gradient(policy: Tensor, teacher: Tensor) -> Tensor:
    logits = policy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(akl_loss(torch.log_softmax(logits, -1), teacher, 0.5).sum(), logits)
    return gradient


def test_the_weights_have_no_gradient() -> None:
    policy, teacher = logs(POLICY), logs(TEACHER)
    logits = policy.clone().requires_grad_()
    rows = torch.log_softmax(logits, -1)
    (expected,) = torch.autograd.grad((kd_loss(rows, teacher) / 3 + rkl_loss(rows, teacher) * 2 / 3).sum(), logits)
    close(weights_gradient(policy, teacher), expected)
