"""MiniLLM's returns against their sum, and its gradient in expectation against that of the KL of whole responses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines.minillm import METHOD, Settings, returns
from baselines.opd import policy_gradient
from harness.methods import DistributionInputs
from tests.baselines.rows import close, divergence, log_probs, of_rows
from tests.baselines.two_steps import ROW, TwoSteps, expected_gradient, logits_of, loss_of, made, of_logits

TEACHER = made(0.3, 0.8, 0.45)
POLICY = made(0.6, 0.35, 0.7)
REWARDS = [[-0.5, 0.2, -1.0, 0.1], [0.3], [2.0, -0.5]]


@pytest.mark.parametrize("length_normalised", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.95, 1.0])
def test_a_return_is_the_discounted_sum_of_what_follows_in_its_response(gamma: float, length_normalised: bool) -> None:
    expected = [
        sum(gamma**ahead * value for ahead, value in enumerate(one[t + 1 :]))
        / (max(len(one) - t - 1, 1) if length_normalised else 1)
        for one in REWARDS
        for t in range(len(one))
    ]
    flat = torch.tensor([value for one in REWARDS for value in one], dtype=torch.float64)
    row = torch.tensor([number for number, one in enumerate(REWARDS) for _ in one])
    found = returns(flat, row, gamma, length_normalised)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    "settings", [{}, {"gamma": 0.5}, {"length_normalised": False}, {"gamma": 0.0, "length_normalised": False}], ids=str
)
def test_the_method_raises_a_token_by_what_the_teacher_finds_likelier_after_it(settings: dict[str, Any]) -> None:
    """Its first term, against a loop."""
    gamma, divided = settings.get("gamma", 0.95), settings.get("length_normalised", True)
    row = torch.tensor([number for number, one in enumerate(REWARDS) for _ in one])
    policy = -torch.rand(len(row), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampled = -torch.rand(len(row), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rewards = torch.tensor([value for one in REWARDS for value in one], dtype=torch.float64)
    policy.requires_grad_()
    found = loss_of(METHOD, policy, sampled, {"teacher": policy.detach() + rewards}, row, **settings)
    ratios = iter((policy.detach() - sampled).exp().tolist())
    expected = []
    for one in REWARDS:
        for t in range(len(one)):
            after = sum(gamma**ahead * value for ahead, value in enumerate(one[t + 1 :]))
            expected.append(-next(ratios) * after / (max(len(one) - t - 1, 1) if divided else 1))
    close(found.detach(), expected)
    (gradient,) = torch.autograd.grad(found.sum(), policy)
    close(gradient, expected)  # of the ratio alone


def of_later_tokens(policy: Tensor, sampled: Tensor) -> Tensor:
    return policy_gradient(policy, sampled, returns(TEACHER.tokens - policy.detach(), ROW, 1.0, False))


def of_responses(policy: TwoSteps) -> Tensor:
    """KL(policy ‖ teacher) of whole responses."""
    return (policy.responses.exp() * (policy.responses - TEACHER.responses)).sum()


def test_undiscounted_its_two_terms_have_the_gradient_of_the_kl_of_responses() -> None:
    logits = logits_of(POLICY)
    of_each_token = of_logits(logits).kl_by_token(TEACHER, POLICY.first.exp())
    (own,) = torch.autograd.grad(of_each_token, logits)
    (expected,) = torch.autograd.grad(of_responses(of_logits(logits)), logits)
    torch.testing.assert_close(own + expected_gradient(logits, of_later_tokens), expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(own, expected)  # what a token does to later ones is something


def test_its_second_term_is_the_reverse_kl_of_each_token() -> None:
    (own,) = METHOD.also
    assert own.level == "distribution" and own.weight(Settings()) == 1
    assert METHOD.levels() == {"token", "distribution"}
    policy, teacher = log_probs(0, 5, 9), log_probs(1, 5, 9)
    inputs = DistributionInputs(policy, METHOD.roles, {"teacher": teacher})
    close(own.loss(inputs, Settings()), of_rows(divergence, policy, teacher))


def test_a_stored_top_k_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"teacher_signal": "stored"})
