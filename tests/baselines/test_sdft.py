"""SDFT's divergences against plain arithmetic and TRL's, and what its teacher reads."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines import sdft
from baselines.sdft import METHOD, Divergence, sdft_loss, with_demonstration
from harness.methods import selected_controls

P = torch.tensor([[0.40, 0.35, 0.15, 0.10]], dtype=torch.float64).log()
Q = torch.tensor([[0.20, 0.30, 0.10, 0.40]], dtype=torch.float64).log()


@pytest.mark.parametrize(("divergence", "expected"), [("forward", 0.253402), ("reverse", 0.329097), ("jsd", 0.068656)])
def test_each_divergence_has_its_own_direction(divergence: Divergence, expected: float) -> None:
    assert float(sdft_loss(Q, P, divergence)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("divergence", "alpha"), [("forward", 0.0), ("jsd", 0.5), ("reverse", 1.0)])
def test_it_is_trls_over_the_students_most_likely_tokens(divergence: Divergence, alpha: float) -> None:
    peer = pytest.importorskip("trl.experimental.sdft.loss_utils").compute_topk_self_distillation_loss
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 20, dtype=torch.float64, generator=draw) for _ in range(2))
    student.requires_grad_()
    theirs = peer(student, teacher, distillation_topk=5, distillation_alpha=alpha, distillation_add_tail=False)

    top = student.topk(5, -1).indices

    def renormalised(logits: Tensor) -> Tensor:
        return torch.log_softmax(torch.log_softmax(logits, -1).gather(-1, top), -1)

    ours = sdft_loss(renormalised(student), renormalised(teacher), divergence)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(each.sum(), student)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("divergence", ["forward", "jsd", "reverse"])
def test_its_gradient_is_that_of_finite_differences(divergence: Divergence) -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    teacher = torch.log_softmax(torch.arange(15, dtype=torch.float64).view(3, 5).sin(), -1)
    torch.autograd.gradcheck(lambda z: sdft_loss(torch.log_softmax(z, -1), teacher, divergence), [logits])


@pytest.mark.parametrize("divergence", ["forward", "jsd", "reverse"])
def test_descent_gets_to_the_teacher_and_turned_round_away_from_it(divergence: Divergence) -> None:
    def after(sign: float, steps: int) -> float:
        logits = Q.clone()
        for _ in range(steps):
            logits = logits.requires_grad_()
            value = sdft_loss(torch.log_softmax(logits, -1), P, divergence).sum()
            logits = (logits - sign * torch.autograd.grad(value, logits)[0]).detach()
        return float(sdft_loss(torch.log_softmax(logits, -1), P, divergence).sum())

    start = float(sdft_loss(Q, P, divergence).sum())
    assert after(1, 300) < 1e-6 < start < after(-1, 20)


def test_the_teacher_sees_the_demonstration_after_the_last_turn_and_the_same_turns_before() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    system, asked = with_demonstration(messages, "Air scatters blue light most.")
    assert system == messages[0]
    assert asked["role"] == "user"
    assert asked["content"].startswith(messages[1]["content"])
    assert "Air scatters blue light most." in asked["content"]
    assert messages[1]["content"] == "Why is the sky blue?"


def test_it_needs_text_alone() -> None:
    assert METHOD.reads == ("teacher",) and METHOD.teacher_sees is with_demonstration
    assert METHOD.fresh_share(sdft.Settings()) == 1
    with pytest.raises(ValidationError):
        sdft.Settings(teacher_signal="stored")


def test_its_controls_start_where_it_starts() -> None:
    continued, stored = selected_controls(METHOD, sdft.Settings(), "basic")
    assert (continued.method, continued.overrides, continued.match_tokens) == ("sft", {"start": "student"}, True)
    assert (stored.method, stored.overrides) == ("sdft", {"fresh_share": 0, "stored": "student"})
