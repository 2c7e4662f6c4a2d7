"""What holds of every sequence-level method of pairs: its gradient, its direction, and what it reads."""

from __future__ import annotations

import pytest
import torch

from harness.methods import PAIR, methods
from tests.baselines.pairs import downhill, loss_of, made_up

PAIRS = [name for name, method in methods.items() if method.levels() == {"sequence"} and method.responses == PAIR]


def test_all_pair_methods_are_here() -> None:
    assert set(PAIRS) >= {"ddpo", "dadpo", "simpo", "ipo", "cdpo", "orpo", "dpkd"}


@pytest.mark.parametrize("name", PAIRS)
def test_autograd_agrees_with_finite_differences(name: str) -> None:
    policy, models, lengths = made_up()
    method = methods.get(name)
    assert torch.autograd.gradcheck(
        lambda sums: loss_of(method, sums, models, lengths), policy.requires_grad_(True), eps=1e-6
    )


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_down_raises_chosen_over_rejected_and_the_loss_turned_round_lowers_it(name: str) -> None:
    policy, models, lengths = made_up()
    method = methods.get(name)
    for sign in (1, -1):
        step = downhill(lambda sums, sign=sign: sign * loss_of(method, sums, models, lengths), policy)
        assert (sign * (step[:, 0] - step[:, 1]) > 0).all()


@pytest.mark.parametrize("name", PAIRS)
def test_roles_exchanged_are_another_loss(name: str) -> None:
    policy, models, lengths = made_up()
    method = methods.get(name)
    turned = loss_of(method, policy.flip(-1), {key: sums.flip(-1) for key, sums in models.items()}, lengths.flip(-1))
    assert not torch.allclose(loss_of(method, policy, models, lengths), turned, rtol=1e-3)


@pytest.mark.parametrize(
    "name", [name for name in PAIRS if "length_normalised" in methods.get(name).settings.model_fields]
)
def test_length_normalised_is_the_same_loss_of_mean_log_probs(name: str) -> None:
    policy, models, lengths = made_up()
    means = policy / lengths, {key: sums / lengths for key, sums in models.items()}
    normalised = loss_of(methods.get(name), policy, models, lengths, length_normalised=True)
    torch.testing.assert_close(normalised, loss_of(methods.get(name), *means, lengths, length_normalised=False))
    of_sums = loss_of(methods.get(name), policy, models, lengths, length_normalised=False)
    assert not torch.allclose(normalised, of_sums, rtol=1e-3)


@pytest.mark.parametrize("margin", [-1e5, 1e5])
@pytest.mark.parametrize("name", PAIRS)
def test_losses_and_gradients_stay_finite_at_extreme_margins(name: str, margin: float) -> None:
    policy = torch.tensor([[-2e5 + margin, -2e5]], requires_grad=True)
    models = dict.fromkeys(("reference", "teacher"), torch.full((1, 2), -2e5))
    loss = loss_of(methods.get(name), policy, models, torch.tensor([[100, 1]]))
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert loss.isfinite().all() and gradient.isfinite().all()
