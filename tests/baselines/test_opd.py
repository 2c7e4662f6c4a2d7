"""OPD's loss against plain arithmetic, and its gradient in expectation against that of the reverse KL."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from baselines import opd
from baselines.opd import opd_loss
from harness.methods import Control, selected_controls
from tests.baselines.two_steps import TwoSteps, descended, expected_gradient, logits_of, loss_of, made, of_logits

TEACHER = made(0.3, 0.8, 0.45)
POLICY = made(0.6, 0.35, 0.7)
OTHERS = {"itself": None, "as it was before": made(0.5, 0.5, 0.6), "the teacher": TEACHER}


def loss(policy: Tensor, sampled: Tensor) -> Tensor:
    return opd_loss(policy, TEACHER.tokens, sampled)


def of_reverse_kl(logits: Tensor, sampler: TwoSteps) -> Tensor:
    """The gradient of KL(policy ‖ teacher) at each token, where the sampler gets to."""
    kl = of_logits(logits).kl_by_token(TEACHER, sampler.first.exp().detach())
    return torch.autograd.grad(kl, logits)[0]


def test_a_tokens_loss_is_its_importance_times_its_log_ratio() -> None:
    policy, teacher, sampled = (torch.tensor(row, dtype=torch.float64) for row in ([-1, -2.5], [-2, -0.5], [-1, -3]))
    expected = [-(-2 - -1), -math.exp(0.5) * (-0.5 - -2.5)]
    torch.testing.assert_close(opd_loss(policy, teacher, sampled), torch.tensor(expected, dtype=torch.float64))


def test_the_method_gives_its_policy_teacher_and_sampler_each_its_place() -> None:
    policy, teacher, sampled = (torch.tensor(row, dtype=torch.float64) for row in ([-1, -2.5], [-2, -0.5], [-1, -3]))
    found = loss_of(opd.METHOD, policy, sampled, {"teacher": teacher}, torch.tensor([0, 0]))
    torch.testing.assert_close(found, torch.tensor([1.0, -math.exp(0.5) * 2.0], dtype=torch.float64))


@pytest.mark.parametrize("sampler", OTHERS.values(), ids=OTHERS)
def test_its_expected_gradient_is_that_of_the_reverse_kl_whoever_sampled(sampler: TwoSteps | None) -> None:
    logits = logits_of(POLICY)
    found = expected_gradient(logits, loss, sampler)
    torch.testing.assert_close(found, of_reverse_kl(logits, sampler or POLICY), rtol=1e-12, atol=1e-12)


def test_its_expected_value_on_own_samples_is_the_reverse_kl() -> None:
    value = (POLICY.responses.exp()[:, None] * loss(POLICY.tokens, POLICY.tokens).view(4, 2)).sum()
    torch.testing.assert_close(value, POLICY.kl_by_token(TEACHER, POLICY.first.exp()))
    torch.testing.assert_close(value, (POLICY.responses.exp() * (POLICY.responses - TEACHER.responses)).sum())


def test_the_advantage_has_no_gradient() -> None:
    policy = POLICY.tokens.requires_grad_()
    teacher = TEACHER.tokens.requires_grad_()
    value = opd_loss(policy, teacher, POLICY.tokens)
    of_policy, of_teacher = torch.autograd.grad(value.sum(), (policy, teacher), allow_unused=True)
    torch.testing.assert_close(of_policy, value.detach())
    assert of_teacher is None


def test_it_gets_to_the_teacher_and_turned_round_away_from_it() -> None:
    found = descended(POLICY, loss)
    torch.testing.assert_close(found.tokens, TEACHER.tokens, rtol=1e-6, atol=1e-6)
    away = descended(POLICY, lambda policy, sampled: -loss(policy, sampled), steps=10)
    reached = POLICY.first.exp()
    assert away.kl_by_token(TEACHER, reached) > 2 * POLICY.kl_by_token(TEACHER, reached)


def test_its_controls_are_as_many_tokens_of_sft_and_stored_responses() -> None:
    found: list[Control] = selected_controls(opd.METHOD, opd.Settings(), "basic")
    sft, stored = found
    assert (sft.method, sft.match_tokens, sft.overrides) == ("sft", True, {"start": "sft"})
    assert opd.METHOD.fresh_share(opd.Settings.model_validate(stored.overrides)) == 0
    assert opd.METHOD.fresh_share(opd.Settings()) == 1
