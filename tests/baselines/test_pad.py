"""PAD against a loop over orders, known values, and what its public code has in the divergence's place."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.jsd import jsd_loss
from baselines.pad import METHOD, pad_loss, ranking_log_probs
from tests.baselines.pairs import loss_of, made_up
from tests.baselines.rows import POLICY, TEACHER, blend, close, divergence, logs


def orders(scores: list[float]) -> dict[tuple[int, ...], float]:
    """The Plackett-Luce probability of each order: the first is drawn among all, the next among the others, …"""
    found = {}
    for order in itertools.permutations(range(len(scores))):
        left, probability = list(order), 1.0
        for placed in order:
            probability *= math.exp(scores[placed]) / sum(math.exp(scores[other]) for other in left)
            left.remove(placed)
        found[order] = probability
    return found


@pytest.mark.parametrize("k", [2, 3, 4])
def test_orders_have_the_probability_of_drawing_them_one_by_one(k: int) -> None:
    scores = torch.randn(3, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [list(orders(row).values()) for row in scores.tolist()]
    found = ranking_log_probs(scores).exp()
    close(found, expected)
    close(found.sum(-1), [1.0] * 3)


def test_of_two_responses_it_is_the_bradley_terry_model() -> None:
    scores = torch.tensor([[1.2, -0.3]], dtype=torch.float64)
    close(ranking_log_probs(scores)[:, 0], F.logsigmoid(scores[:, 0] - scores[:, 1]))


@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_is_the_divergence_of_two_models_orders(beta: float) -> None:
    policy, models, lengths = made_up(k=4)
    expected = []
    for own, theirs, tokens in zip(policy.tolist(), models["teacher"].tolist(), lengths.tolist(), strict=True):
        one, other = (
            orders([beta * value / long for value, long in zip(sums, tokens, strict=True)]) for sums in (own, theirs)
        )
        both = list(one.values()), list(other.values())
        middle = blend(*both, 0.5)
        expected.append(0.5 * divergence(both[0], middle) + 0.5 * divergence(both[1], middle))
    found = loss_of(METHOD, policy, models, lengths, beta=beta)
    close(found, expected, 1e-9)


P, Q = logs(TEACHER), logs(POLICY)


def test_the_divergence_is_a_true_one_and_not_what_the_public_code_has() -> None:
    """Which is KL(m ‖ p) and KL(m ‖ q), for F.kl_div takes its arguments the other way round."""
    middle = torch.logaddexp(P, Q) - math.log(2)
    theirs = 0.5 * sum(F.kl_div(row, middle, reduction="none", log_target=True).sum() for row in (Q, P))
    assert float(theirs) == pytest.approx(0.076969, abs=1e-6)
    assert float(jsd_loss(Q, P, 0.5)) == pytest.approx(0.068656, abs=1e-6)


def test_a_policy_that_ranks_as_the_teacher_does_loses_nothing_whatever_its_log_probs() -> None:
    policy, _, lengths = made_up(k=4)
    close(pad_loss(policy, policy - 3.0 * lengths, lengths, 10.0), [0.0] * 6, 1e-9)


def test_the_opposite_order_of_scores_far_apart_loses_log_2() -> None:
    policy, lengths = torch.tensor([[-8.0, -16.0, -24.0, -32.0]]), torch.full((1, 4), 8)
    assert float(pad_loss(policy, policy.flip(-1), lengths, 100.0)) == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("beta", [10.0, 1000.0])
def test_loss_and_gradient_stay_finite_where_orders_are_all_but_certain(beta: float) -> None:
    policy, models, lengths = made_up(k=4)
    policy = policy.float().requires_grad_(True)
    loss = pad_loss(policy, models["teacher"].float(), lengths, beta)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert loss.isfinite().all() and gradient.isfinite().all()


def test_a_step_down_brings_the_order_nearer_and_one_up_takes_it_away() -> None:
    policy, models, lengths = made_up(k=4)
    policy.requires_grad_(True)

    def loss(sums: Tensor) -> Tensor:
        return pad_loss(sums, models["teacher"], lengths, 1.0)

    (gradient,) = torch.autograd.grad(loss(policy).sum(), policy)
    assert (loss(policy - 0.1 * gradient) < loss(policy)).all()
    assert (loss(policy + 0.1 * gradient) > loss(policy)).all()
    assert torch.autograd.gradcheck(loss, policy)


def test_its_responses_are_four_samples_of_the_student() -> None:
    assert [(who, sample) for _, who, sample in METHOD.responses] == [("student", sample) for sample in range(4)]
