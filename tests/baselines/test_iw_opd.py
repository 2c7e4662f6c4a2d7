"""IW-OPD's weights against its formula, and its gradient against TRL's."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from baselines import iw_opd
from baselines.iw_opd import METHOD, Settings, prefix_weights
from baselines.opd import opd_loss
from harness.methods import TokenInputs

ADVANTAGES = [[-0.5, 0.2, -1.0, 0.1], [0.3], [0.0, 0.0], [2.0, -0.5, 0.25]]
GAMMA = 0.5


def inputs_of(advantages: list[list[float]], policy: Tensor | None = None) -> TokenInputs:
    """Tokens with these advantages, responses after each other, sampled from the policy as it is."""
    row = torch.tensor([number for number, one in enumerate(advantages) for _ in one])
    flat = torch.tensor([value for one in advantages for value in one], dtype=torch.float64)
    policy = (
        -torch.rand(len(flat), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        if policy is None
        else policy
    )
    models = {"teacher": policy.detach() + flat}
    return TokenInputs(policy, ("response",), models, sampled=policy.detach(), labels=row, row=row, role=row * 0)


def weights_of(advantages: list[list[float]], gamma: float = GAMMA) -> list[list[float]]:
    found = []
    for one in advantages:
        sizes = [abs(value) for value in one]
        total = sum(sizes) or 1.0
        found.append([1 + gamma * (1 - sum(sizes[:t]) / total) for t in range(len(one))])
    return found


def losses(inputs: TokenInputs, gamma: float = GAMMA) -> Tensor:
    return METHOD.loss(inputs, Settings(gamma=gamma))


def test_the_weights_of_a_response_are_those_of_the_formula() -> None:
    size = torch.tensor(ADVANTAGES[0], dtype=torch.float64).abs()
    found = prefix_weights(size.cumsum(0) - size, size.sum().expand(4), GAMMA)
    expected = torch.tensor([1.5, 1.361111, 1.305556, 1.027778], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_each_response_has_weights_of_its_own(gamma: float) -> None:
    expected = [
        -weight * value
        for weights, one in zip(weights_of(ADVANTAGES, gamma), ADVANTAGES, strict=True)
        for weight, value in zip(weights, one, strict=True)
    ]
    torch.testing.assert_close(losses(inputs_of(ADVANTAGES), gamma), torch.tensor(expected, dtype=torch.float64))


def test_with_gamma_0_it_is_opd() -> None:
    inputs = inputs_of(ADVANTAGES)
    torch.testing.assert_close(losses(inputs, 0.0), opd_loss(inputs.policy, inputs.teacher, inputs.sampled))


def test_weights_have_no_gradient() -> None:
    policy = -torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = inputs_of(ADVANTAGES, policy.requires_grad_())
    value = losses(inputs)
    (found,) = torch.autograd.grad(value.sum(), policy)
    torch.testing.assert_close(found, value.detach())


def test_its_gradient_is_trls() -> None:
    trainer = pytest.importorskip("trl.experimental.iw_opd").IWOPDTrainer
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 5, 7, dtype=torch.float64, generator=draw, requires_grad=True)
    tokens = torch.randint(7, (2, 5), generator=draw)
    teacher = torch.log_softmax(torch.randn(2, 5, 7, dtype=torch.float64, generator=draw), -1)
    teacher = teacher.gather(-1, tokens[..., None]).squeeze(-1)
    inside = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])

    itself = SimpleNamespace(
        temperature=1.0,
        iw_opd_gamma=GAMMA,
        iw_opd_epsilon=1e-8,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
    )
    peer = trainer._compute_iw_opd_loss(itself, logits, tokens, tokens.masked_fill(~inside, -100), teacher)
    (expected,) = torch.autograd.grad(peer, logits)

    policy = torch.log_softmax(logits, -1).gather(-1, tokens[..., None]).squeeze(-1)[inside]
    row = torch.tensor([0] * 5 + [1] * 3)
    models = {"teacher": teacher[inside]}
    inputs = TokenInputs(policy, ("response",), models, sampled=policy.detach(), labels=row, row=row, role=row * 0)
    (found,) = torch.autograd.grad(losses(inputs).mean(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        iw_opd.Settings(gamma=-0.1)
