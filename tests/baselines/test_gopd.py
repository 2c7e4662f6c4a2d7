"""G-OPD's loss, where it gets to token by token, and where daDPO gets to response by response."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines import dadpo, gopd
from baselines.dadpo import dadpo_loss
from baselines.gopd import gopd_loss, same_target
from baselines.opd import opd_loss
from harness.methods import selected_controls
from tests.baselines.two_steps import Loss, TwoSteps, descended, expected_gradient, logits_of, loss_of, made, of_logits

# they agree on the first token and, after one of the two, on the second; after the other the teacher is surer
REFERENCE = made(0.23, 0.5, 0.5)
TEACHER = made(0.23, 0.8, 0.5)
POLICY = made(0.4, 0.6, 0.3)


def loss_at(extrapolation: float) -> Loss:
    return lambda policy, sampled: gopd_loss(policy, REFERENCE.tokens, TEACHER.tokens, sampled, extrapolation)


def target(extrapolation: float) -> TwoSteps:
    """r^(1−L) p^L, normalised at each token."""
    return of_logits(((1 - extrapolation) * logits_of(REFERENCE) + extrapolation * logits_of(TEACHER)).detach())


def dadpo_optimum(extrapolation: float) -> Tensor:
    """Log-probs [4] of the responses where daDPO's expected loss is least, of all policies, at the betas of this L: the
    teacher's response is chosen, the reference's rejected."""
    betas = same_target(extrapolation)
    chosen, rejected = (each.flatten() for each in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    pairs = torch.stack([chosen, rejected], 1)
    share = (TEACHER.responses[chosen] + REFERENCE.responses[rejected]).exp()
    logits = REFERENCE.responses.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        policy = torch.log_softmax(logits, -1)
        of_pairs = dadpo_loss(policy[pairs], REFERENCE.responses[pairs], TEACHER.responses[pairs], **betas)
        value = (share * of_pairs).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return torch.log_softmax(logits.detach(), -1)


def of_first(responses: Tensor) -> float:
    """How likely the first token 0 is, of log-probs [4]."""
    return float(responses.exp()[:2].sum())


def test_at_1_it_is_opd() -> None:
    policy, sampled = POLICY.tokens, REFERENCE.tokens
    torch.testing.assert_close(loss_at(1.0)(policy, sampled), opd_loss(policy, TEACHER.tokens, sampled))


def test_its_advantage_is_the_papers() -> None:
    q, r, p = POLICY.tokens, REFERENCE.tokens, TEACHER.tokens
    torch.testing.assert_close(loss_at(1.7)(q, q), (q - r) - 1.7 * (p - r))


@pytest.mark.parametrize("settings", [{}, {"extrapolation": 1.7}], ids=str)
def test_the_method_gives_each_model_its_place(settings: dict[str, float]) -> None:
    beyond = settings.get("extrapolation", 1.25)
    policy, sampled = POLICY.tokens, made(0.5, 0.5, 0.6).tokens
    models = {"reference": REFERENCE.tokens, "teacher": TEACHER.tokens}
    expected = [
        -math.exp(q - old) * (beyond * (p - r) - (q - r))
        for q, old, r, p in zip(*(each.tolist() for each in (policy, sampled, *models.values())), strict=True)
    ]
    found = loss_of(gopd.METHOD, policy, sampled, models, **settings)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("extrapolation", [0.5, 1.25, 7.0])
def test_its_expected_gradient_is_that_of_the_reverse_kl_to_its_target(extrapolation: float) -> None:
    logits = logits_of(POLICY)
    kl = of_logits(logits).kl_by_token(target(extrapolation), POLICY.first.exp())
    (expected,) = torch.autograd.grad(kl, logits)
    found = expected_gradient(logits, loss_at(extrapolation))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("extrapolation", [1.0, 1.25, 7.0])
def test_it_gets_to_its_target_token_by_token(extrapolation: float) -> None:
    found = descended(REFERENCE, loss_at(extrapolation))
    torch.testing.assert_close(found.responses.exp(), target(extrapolation).responses.exp(), rtol=0, atol=1e-3)


def test_turned_round_it_gets_away_from_its_target() -> None:
    loss = loss_at(1.25)
    away = descended(POLICY, lambda policy, sampled: -loss(policy, sampled), steps=10)
    reached = POLICY.first.exp()
    assert away.kl_by_token(target(1.25), reached) > 2 * POLICY.kl_by_token(target(1.25), reached)


def test_dadpo_is_elsewhere_at_the_same_exponent_with_one_normaliser_a_response() -> None:
    by_response = torch.log_softmax(-6 * REFERENCE.responses + 7 * TEACHER.responses, -1)
    torch.testing.assert_close(dadpo_optimum(7.0), by_response, rtol=1e-4, atol=1e-4)
    assert of_first(dadpo_optimum(7.0)) == pytest.approx(0.80, abs=0.005)
    assert of_first(target(7.0).responses) == pytest.approx(0.23, abs=0.005)


def test_dadpo_is_where_it_is_at_1() -> None:
    torch.testing.assert_close(dadpo_optimum(1.0), target(1.0).responses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extrapolation", [0.1, 1.0, 1.25, 7.0, 20.0, 21.0, 50.0])
def test_the_betas_of_its_control_solve_for_the_exponent(extrapolation: float) -> None:
    settings = dadpo.Settings.model_validate(same_target(extrapolation))
    power = (1 + settings.beta_teacher) / (settings.beta_reference + settings.beta_teacher)
    assert power == pytest.approx(extrapolation, rel=1e-9)


def test_its_controls_add_dadpo_at_the_same_exponent() -> None:
    *_, control = selected_controls(gopd.METHOD, gopd.Settings(extrapolation=7.0), "basic")
    assert control.method == "dadpo"
    assert dadpo.Settings.model_validate(control.overrides) == dadpo.Settings()


def test_an_exponent_of_0_is_refused() -> None:
    with pytest.raises(ValidationError):
        gopd.Settings(extrapolation=0)
