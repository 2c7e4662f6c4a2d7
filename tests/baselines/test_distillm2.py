"""DistiLLM-2 against plain arithmetic and known values."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines.distillm2 import METHOD, Settings, distillm2_loss, weight_at
from baselines.skl import skl_loss
from baselines.srkl import srkl_loss
from harness.methods import DistributionInputs

close = torch.testing.assert_close

P = torch.tensor([[0.40, 0.35, 0.15, 0.10]], dtype=torch.float64).log()
Q = torch.tensor([[0.20, 0.30, 0.10, 0.40]], dtype=torch.float64).log()
CHOSEN, REJECTED = torch.tensor([True]), torch.tensor([False])
ROLES = torch.tensor([0, 0, 1, 0, 1, 1])


def rows(seed: int, outcomes: int = 9) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.log_softmax(torch.randn(len(ROLES), outcomes, dtype=torch.float64, generator=draw), -1)


def loss_of(policy: Tensor, teacher: Tensor, progress: float, **settings: float) -> Tensor:
    inputs = DistributionInputs(policy, METHOD.roles, {"teacher": teacher}, progress, role=ROLES)
    return METHOD.loss(inputs, Settings(**settings))


@pytest.mark.parametrize(("progress", "b"), [(0.0, 1.0), (0.25, 1.25), (0.5, 1.5), (0.99, 1.5)])
def test_chosen_rows_have_forward_and_rejected_rows_reverse_kl_to_the_mixtures(progress: float, b: float) -> None:
    policy, teacher = rows(0), rows(1)
    expected = []
    for q, p, role in zip(policy.exp().tolist(), teacher.exp().tolist(), ROLES.tolist(), strict=True):
        pairs = list(zip(p, q, strict=True))
        if role == 0:
            expected.append((2 - b) * sum(x * math.log(x / (0.1 * x + 0.9 * y)) for x, y in pairs))
        else:
            expected.append(b * sum(y * math.log(y / (0.9 * x + 0.1 * y)) for x, y in pairs))
    close(loss_of(policy, teacher, progress), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("chosen", "value"), [(CHOSEN, 0.209970), (REJECTED, 0.242116)])
def test_known_values(chosen: Tensor, value: float) -> None:
    assert float(distillm2_loss(Q, P, chosen, 1.0, 0.1)) == pytest.approx(value, abs=1e-6)


def test_the_weights_add_up_to_2_all_along() -> None:
    for progress in (0.0, 0.3, 0.5, 1.0):
        b = weight_at(progress, 1.5)
        assert float(distillm2_loss(Q, P, CHOSEN, b, 0.1)) == pytest.approx((2 - b) * float(skl_loss(Q, P, 0.1)))
        assert float(distillm2_loss(Q, P, REJECTED, b, 0.1)) == pytest.approx(b * float(srkl_loss(Q, P, 0.1)))


def test_b_stays_at_1_where_it_is_to_end_there() -> None:
    assert [weight_at(progress, 1.0) for progress in (0.0, 0.4, 1.0)] == [1.0, 1.0, 1.0]


def test_the_directions_turned_round_are_another_loss() -> None:
    policy, teacher = rows(0), rows(1)
    found, turned = (loss_of(*both, 0.0) for both in ((policy, teacher), (teacher, policy)))
    assert not torch.allclose(found, turned, rtol=1e-2)


@pytest.mark.parametrize("only", [0, 1])
def test_a_chunk_may_hold_rows_of_one_role_alone(only: int) -> None:
    policy, teacher = rows(0), rows(1)
    everything = loss_of(policy, teacher, 0.3)
    part = only == ROLES
    close(distillm2_loss(policy[part], teacher[part], ROLES[part] == 0, 1.3, 0.1), everything[part])


def test_outcomes_that_one_rules_out_give_finite_losses_and_gradients() -> None:
    policy, teacher = rows(0), rows(1)
    teacher[:, 2], policy[:, 4] = -torch.inf, -torch.inf
    policy.requires_grad_(True)
    loss = loss_of(policy, teacher, 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert loss.isfinite().all() and gradient.isfinite().all()


def test_autograd_agrees_with_finite_differences_and_a_step_down_comes_nearer() -> None:
    teacher, logits = rows(1), rows(0).requires_grad_(True)

    def loss(logits: Tensor) -> Tensor:
        return loss_of(torch.log_softmax(logits, -1), teacher, 0.3)

    assert torch.autograd.gradcheck(loss, logits)
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    assert (loss(logits - 0.1 * gradient) < loss(logits)).all()
    assert (loss(logits + 0.1 * gradient) > loss(logits)).all()


@pytest.mark.parametrize("values", [{"alpha": 0}, {"alpha": 1}, {"rejected_weight": 0.9}, {"rejected_weight": 2.1}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)
