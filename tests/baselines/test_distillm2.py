"""DistiLLM-2 against plain arithmetic and known values."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines.distillm2 import METHOD, Settings, distillm2_loss, weight_at
from baselines.skl import skl_loss
from baselines.srkl import srkl_loss
from harness.methods import DistributionInputs
from tests.baselines.rows import POLICY, TEACHER, blend, close, divergence, log_probs, logs

P, Q = logs(TEACHER), logs(POLICY)
CHOSEN, REJECTED = torch.tensor([True]), torch.tensor([False])
ROLES = torch.tensor([0, 0, 1, 0, 1, 1])


def made_up() -> tuple[Tensor, Tensor]:
    """The policy's and the teacher's log-probs of as many rows as there are roles."""
    return log_probs(0, len(ROLES), 9), log_probs(1, len(ROLES), 9)


def loss_of(policy: Tensor, teacher: Tensor, progress: float, **settings: float) -> Tensor:
    inputs = DistributionInputs(policy, METHOD.roles, {"teacher": teacher}, progress, role=ROLES)
    return METHOD.loss(inputs, Settings(**settings))


@pytest.mark.parametrize(("progress", "b"), [(0.0, 1.0), (0.25, 1.25), (0.5, 1.5), (0.99, 1.5)])
def test_chosen_rows_have_forward_and_rejected_rows_reverse_kl_to_the_mixtures(progress: float, b: float) -> None:
    policy, teacher = made_up()
    expected = []
    for q, p, role in zip(policy.exp().tolist(), teacher.exp().tolist(), ROLES.tolist(), strict=True):
        forward, reverse = divergence(p, blend(p, q, 0.1)), divergence(q, blend(p, q, 0.9))
        expected.append((2 - b) * forward if role == 0 else b * reverse)
    close(loss_of(policy, teacher, progress), expected)


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
    policy, teacher = made_up()
    found, turned = (loss_of(*both, 0.0) for both in ((policy, teacher), (teacher, policy)))
    assert not torch.allclose(found, turned, rtol=1e-2)


@pytest.mark.parametrize("only", [0, 1])
def test_a_chunk_may_hold_rows_of_one_role_alone(only: int) -> None:
    policy, teacher = made_up()
    everything = loss_of(policy, teacher, 0.3)
    part = only == ROLES
    close(distillm2_loss(policy[part], teacher[part], ROLES[part] == 0, 1.3, 0.1), everything[part])


def test_outcomes_that_one_rules_out_give_finite_losses_and_gradients() -> None:
    policy, teacher = made_up()
    teacher[:, 2], policy[:, 4] = -torch.inf, -torch.inf
    policy.requires_grad_(True)
    loss = loss_of(policy, teacher, 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert loss.isfinite().all() and gradient.isfinite().all()


def test_autograd_agrees_with_finite_differences_and_a_step_down_comes_nearer() -> None:
    logits, teacher = made_up()
    logits.requires_grad_(True)

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
