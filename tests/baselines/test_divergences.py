"""What holds of every method that compares the policy's distributions with the teacher's."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from baselines.divergences import kl, mixture
from harness.methods import methods, selected_controls
from tests.baselines.rows import (
    DECLARED,
    POLICY,
    TEACHER,
    Row,
    blend,
    bucketed,
    close,
    divergence,
    log_probs,
    logs,
    loss_of,
    of_rows,
)

VECTORS = {
    "kd": 0.253402,
    "rkl": 0.329097,
    "jsd": 0.068656,
    "gkd": 0.068656,
    "skl": 0.209970,
    "srkl": 0.242116,
    "tvd": 0.3,
    "akl": 0.303865,
    "taid": 1.386829,
}
SYMMETRIC = {"jsd", "gkd", "tvd"}
every = pytest.mark.parametrize("name", DECLARED)


@every
def test_each_has_its_known_value(name: str) -> None:
    close(loss_of(methods.get(name), logs(POLICY), logs(TEACHER)), [VECTORS[name]], 5e-6)


@every
@pytest.mark.parametrize(("outcomes", "scale"), [(2, 1.0), (7, 1.0), (50, 0.3), (200, 3.0)])
def test_each_is_what_it_declares_in_plain_arithmetic(name: str, outcomes: int, scale: float) -> None:
    policy, teacher = log_probs(0, 5, outcomes, scale=scale), log_probs(1, 5, outcomes, scale=scale)
    close(loss_of(methods.get(name), policy, teacher), of_rows(DECLARED[name], policy, teacher), 1e-10)


def between(q: Row, p: Row, beta: float) -> float:
    """β KL(p ‖ m) + (1−β) KL(q ‖ m), m = βp + (1−β)q: at no ½ the wrong way round is another value."""
    m = blend(p, q, beta)
    return beta * divergence(p, m) + (1 - beta) * divergence(q, m)


@pytest.mark.parametrize("name", ["jsd", "gkd"])
@pytest.mark.parametrize("beta", [0.1, 0.8])
def test_a_method_s_beta_is_the_teacher_s_weight(name: str, beta: float) -> None:
    policy, teacher = log_probs(0, 5, 9), log_probs(1, 5, 9)
    expected = of_rows(lambda q, p: between(q, p, beta), policy, teacher)
    close(loss_of(methods.get(name), policy, teacher, beta=beta), expected)


@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, {"beta": beta}) for name in ("jsd", "gkd") for beta in (0.0, 1.0)]
    + [("sdft", {"divergence": divergence}) for divergence in ("forward", "reverse")],
)
def test_a_method_s_ends_are_forward_and_reverse_kl(name: str, settings: dict[str, Any]) -> None:
    policy, teacher = log_probs(0, 5, 9), log_probs(1, 5, 9)
    forward = settings in ({"beta": 0.0}, {"divergence": "forward"})
    expected = of_rows(lambda q, p: divergence(p, q) if forward else divergence(q, p), policy, teacher)
    close(loss_of(methods.get(name), policy, teacher, **settings), expected)


@every
def test_the_wrong_way_round_is_another_value(name: str) -> None:
    method, policy, teacher = methods.get(name), log_probs(0, 6, 9), log_probs(1, 6, 9)
    forth, back = loss_of(method, policy, teacher), loss_of(method, teacher, policy)
    apart = (forth - back).abs()
    assert (apart < 1e-12).all() if name in SYMMETRIC else (apart > 1e-4).all()


@every
def test_a_top_k_and_a_tail_are_outcomes_as_any(name: str) -> None:
    policy, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    top = teacher.topk(4).indices
    few = bucketed(policy, top), bucketed(teacher, top)
    found = loss_of(methods.get(name), *few)
    close(found, of_rows(DECLARED[name], *few), 1e-10)
    if name not in ("akl", "taid"):  # an f-divergence can only lose by merging outcomes
        assert (found <= loss_of(methods.get(name), policy, teacher) + 1e-12).all()


@every
def test_masses_that_do_not_sum_to_1_are_summed_as_they_are(name: str) -> None:
    policy, teacher = log_probs(0, 5, 20)[:, :6], log_probs(1, 5, 20)[:, :6]
    close(loss_of(methods.get(name), policy, teacher), of_rows(DECLARED[name], policy, teacher), 1e-10)


@every
def test_the_teacher_itself_is_no_loss_and_no_gradient(name: str) -> None:
    logits = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    teacher = torch.log_softmax(logits.detach(), -1)
    found = loss_of(methods.get(name), torch.log_softmax(logits, -1), teacher)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    # cross-entropy ends at the entropy
    close(found, -(teacher.exp() * teacher).sum(-1) if name == "taid" else torch.zeros(3))
    close(gradient, torch.zeros(3, 8))


def without_target(name: str, policy: Tensor, teacher: Tensor) -> Tensor:
    """The loss with what has no gradient held at the policy of the seed 0: that finite differences may be taken of."""
    fixed = torch.log_softmax(seeded(), -1)
    if name == "taid":
        return -(torch.softmax(0.6 * fixed + 0.4 * teacher, -1) * policy).sum(-1)
    gaps = (fixed.exp() - teacher.exp()).abs()
    head = teacher.exp() == teacher.exp().max(-1, keepdim=True).values
    assert (teacher.exp().topk(2).values.sum(-1) > 0.5).all()
    share = (gaps * head).sum(-1) / gaps.sum(-1)
    return share * kl(teacher, policy) + (1 - share) * kl(policy, teacher)


def seeded() -> Tensor:
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@every
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    method, teacher = methods.get(name), logs(TEACHER, POLICY, [0.05, 0.45, 0.3, 0.2])

    def loss(logits: Tensor) -> Tensor:
        return loss_of(method, torch.log_softmax(logits, -1), teacher)

    logits = seeded().requires_grad_()
    if name not in ("akl", "taid"):
        assert torch.autograd.gradcheck(loss, logits)
        return
    (found,) = torch.autograd.grad(loss(logits).sum(), logits)
    step = 1e-6
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for row in range(3):
        for v in range(4):
            for sign in (1, -1):
                moved = seeded()
                moved[row, v] += sign * step
                held = without_target(name, torch.log_softmax(moved, -1), teacher)
                expected[row, v] += sign * held.sum() / (2 * step)
    close(found, expected, 1e-8)


@every
@pytest.mark.parametrize("policy_too", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outcomes_that_are_ruled_out_give_finite_losses_and_gradients(
    name: str, policy_too: bool, dtype: torch.dtype
) -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    teacher_logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).to(dtype)
    teacher_logits[:, 2] = -torch.inf
    if policy_too:
        logits[:, 2] = -torch.inf
    logits.requires_grad_()
    found = loss_of(methods.get(name), torch.log_softmax(logits, -1), torch.log_softmax(teacher_logits, -1))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert found.isfinite().all() and gradient.isfinite().all()
    if policy_too:  # as if the outcome were not there
        kept = [0, 1, 3, 4, 5]
        few = torch.log_softmax(logits.detach()[:, kept], -1), torch.log_softmax(teacher_logits[:, kept], -1)
        close(found, loss_of(methods.get(name), *few), 1e-5 if dtype is torch.float32 else 1e-12)


# the target of taid moves with the policy: test_taid.py descends it
@pytest.mark.parametrize("name", [name for name in DECLARED if name != "taid"])
@pytest.mark.parametrize("turned", ["", "sign", "direction"])
def test_descending_it_lowers_what_it_declares_and_nothing_turned_round_does(name: str, turned: str) -> None:
    """Of a policy that cannot be the teacher: one number places it between two distributions. Each method ends at the
    least of what it declares; the loss with its sign turned, or of the teacher from the policy's side, does not."""
    one, other, teacher = log_probs(3, 12, scale=2.0), log_probs(4, 12, scale=2.0), log_probs(5, 12, scale=2.0)
    grid = torch.linspace(-2, 3, 501, dtype=torch.float64)
    family = torch.log_softmax(grid[:, None] * one + (1 - grid[:, None]) * other, -1)
    rows = teacher.expand_as(family)
    declared = torch.tensor(of_rows(DECLARED[name], family, rows))
    pair = (rows, family) if turned == "direction" else (family, rows)
    found = loss_of(methods.get(name), *pair) * (-1 if turned == "sign" else 1)
    at_the_least = bool(found.argmin() == declared.argmin())
    assert at_the_least is (not turned or (turned == "direction" and name in SYMMETRIC))


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_a_mixture_is_of_masses(weight: float) -> None:
    first, second = log_probs(0, 3, 5), log_probs(1, 3, 5)
    close(mixture(first, second, weight).exp(), weight * first.exp() + (1 - weight) * second.exp())


@pytest.mark.parametrize("name", ["skl", "srkl"])
@pytest.mark.parametrize("start", ["student", "sft"])
def test_the_skewed_ones_are_held_to_kd_from_where_they_start(name: str, start: Literal["student", "sft"]) -> None:
    method = methods.get(name)
    (control,) = selected_controls(method, method.settings(start=start), "basic")
    assert (control.name, control.method, control.overrides) == (f"kd-from-{start}", "kd", {"start": start})
    assert method.settings().start == "sft"
