"""DPKD, both forms of it, against plain arithmetic, known values, DPO, and each other."""

from __future__ import annotations

import math

import pytest
import torch

from baselines import dadpo, dpkd, dpkd_token
from baselines.dpkd_token import dpkd_token_loss
from harness.methods import DistributionInputs
from tests.baselines.pairs import known, loss_of, made_up, softplus, trl_dpo
from tests.baselines.rows import POLICY, TEACHER, close, log_probs, logs

# one position: teacher and policy
P, Q = logs(TEACHER), logs(POLICY)


# ---- pairs, the teacher as reference


def test_is_dpo_of_means_with_the_teacher_as_reference() -> None:
    policy, models, lengths = made_up()
    mean, teacher = (policy / lengths).tolist(), (models["teacher"] / lengths).tolist()
    expected = [softplus(-0.3 * ((p[0] - t[0]) - (p[1] - t[1]))) for p, t in zip(mean, teacher, strict=True)]
    found = loss_of(dpkd.METHOD, policy, models, lengths, beta=0.3)
    close(found, expected)


def test_known_values() -> None:
    assert known(dpkd.METHOD, length_normalised=False) == pytest.approx(0.598139, abs=1e-6)
    assert known(dpkd.METHOD) == pytest.approx(softplus(-0.1 * (0.25 + 0.125)), abs=1e-12)


@pytest.mark.parametrize(("means", "kind"), [(True, "sigmoid_norm"), (False, "sigmoid")])
def test_is_what_trls_dpo_trainer_computes_with_the_teacher_as_its_reference(means: bool, kind: str) -> None:
    policy, models, lengths = made_up()
    expected = trl_dpo(kind, policy, models["teacher"], lengths, 0.1)
    found = loss_of(dpkd.METHOD, policy, models, lengths, length_normalised=means)
    close(found, expected)


def test_with_sums_it_is_dadpo_without_a_reference() -> None:
    policy, models, lengths = made_up()
    found = loss_of(dpkd.METHOD, policy, models, lengths, beta=0.4, length_normalised=False)
    close(found, loss_of(dadpo.METHOD, policy, models, lengths, beta_reference=0.0, beta_teacher=0.4))


def test_a_policy_that_is_the_teacher_loses_log_2() -> None:
    _, models, lengths = made_up()
    found = loss_of(dpkd.METHOD, models["teacher"], models, lengths)
    close(found, [math.log(2)] * 6)


# ---- tokens, argmax against argmax


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_known_position(beta: float) -> None:
    margin = math.log(0.20 / 0.40) - math.log(0.40 / 0.10)
    assert float(dpkd_token_loss(Q, P, beta)) == pytest.approx(softplus(-beta * margin), abs=1e-12)


def test_is_a_loop_over_positions() -> None:
    policy, teacher = log_probs(0, 8, 12), log_probs(1, 8, 12)
    expected = []
    for q, p in zip(policy.tolist(), teacher.tolist(), strict=True):
        best, own = p.index(max(p)), q.index(max(q))
        expected.append(softplus(-0.1 * ((q[best] - q[own]) - (p[best] - p[own]))))
    close(dpkd_token_loss(policy, teacher, 0.1), expected)


def test_where_both_like_the_same_token_most_it_is_log_2_without_a_gradient_and_nowhere_below() -> None:
    policy, teacher = log_probs(0, 8, 12), log_probs(1, 8, 12)
    alike = teacher.argmax(-1)
    policy[:4].scatter_(-1, alike[:4, None], 1.0)
    policy.requires_grad_(True)
    loss = dpkd_token_loss(policy, teacher, 0.1)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    close(loss[:4], [math.log(2)] * 4)
    assert (loss >= math.log(2) - 1e-12).all()
    assert gradient[:4].abs().max() == 0


def test_a_step_down_raises_the_teachers_token_over_the_policys_own_and_nothing_else() -> None:
    policy = Q.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(dpkd_token_loss(policy, P, 0.1).sum(), policy)
    assert gradient[0, 0] < 0 < gradient[0, 3]
    assert gradient[0, 1] == gradient[0, 2] == 0
    assert float(dpkd_token_loss(Q - 0.1 * gradient, P, 0.1)) < float(dpkd_token_loss(Q, P, 0.1))
    assert float(dpkd_token_loss(Q + 0.1 * gradient, P, 0.1)) > float(dpkd_token_loss(Q, P, 0.1))


def test_teacher_and_policy_exchanged_are_the_same_function() -> None:
    policy, teacher = log_probs(0, 8, 12).requires_grad_(True), log_probs(1, 8, 12)
    losses = dpkd_token_loss(policy, teacher, 1.0), dpkd_token_loss(teacher, policy, 1.0)
    close(*losses)
    gradients = [torch.autograd.grad(loss.sum(), policy)[0] for loss in losses]
    close(*gradients)
    assert gradients[0].abs().max() > 0.1


@pytest.mark.parametrize("ruled_out_by", ["policy", "teacher"])
def test_outcomes_that_one_rules_out_are_neither_s_most_likely(ruled_out_by: str) -> None:
    policy, teacher = log_probs(0, 8, 12), log_probs(1, 8, 12)
    expected = dpkd_token_loss(policy, teacher, 0.1)
    absent, likely = torch.full((8, 1), -torch.inf, dtype=torch.float64), torch.zeros(8, 1, dtype=torch.float64)
    columns = (absent, likely) if ruled_out_by == "policy" else (likely, absent)
    policy, teacher = (torch.cat([own, more], -1) for own, more in zip((policy, teacher), columns, strict=True))
    policy.requires_grad_(True)
    loss = dpkd_token_loss(policy, teacher, 0.1)
    close(loss.detach(), expected)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert gradient.isfinite().all()


def test_autograd_agrees_with_finite_differences() -> None:
    policy, teacher = log_probs(0, 8, 12).requires_grad_(True), log_probs(1, 8, 12)
    assert torch.autograd.gradcheck(lambda policy: dpkd_token_loss(policy, teacher, 0.5), policy)


def test_the_method_gives_its_beta_and_the_likelihood_weighs_1() -> None:
    inputs = DistributionInputs(Q, dpkd_token.METHOD.roles, {"teacher": P})
    settings = dpkd_token.Settings(beta=0.7)
    close(dpkd_token.METHOD.loss(inputs, settings), dpkd_token_loss(Q, P, 0.7))
    assert (settings.nll, settings.start) == (1.0, "sft")


def test_of_responses_of_one_token_both_forms_are_one() -> None:
    both = torch.tensor([[0, 3]])  # the teacher's most likely token, and the policy's
    found = loss_of(
        dpkd.METHOD, Q.gather(-1, both), {"teacher": P.gather(-1, both)}, torch.ones(1, 2, dtype=torch.long), beta=0.3
    )
    close(found, dpkd_token_loss(Q, P, 0.3))
