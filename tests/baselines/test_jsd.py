from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from baselines.jsd import Settings, jsd_loss
from baselines.kd import kd_loss
from baselines.rkl import rkl_loss
from tests.baselines.rows import POLICY, TEACHER, close, log_probs, logs


@pytest.mark.parametrize(("beta", "value"), [(0.1, 0.023053), (0.5, 0.068656), (0.9, 0.028174)])
def test_beta_is_the_teachers_weight(beta: float, value: float) -> None:
    close(jsd_loss(logs(POLICY), logs(TEACHER), beta), [value], 1e-4)
    close(jsd_loss(logs(TEACHER), logs(POLICY), 1 - beta), [value], 1e-4)


def test_at_its_ends_it_is_the_forward_and_the_reverse_kl() -> None:
    policy, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    close(jsd_loss(policy, teacher, 0.0), kd_loss(policy, teacher))
    close(jsd_loss(policy, teacher, 1.0), rkl_loss(policy, teacher))
    # near them it is β, or 1 − β, times as much
    close(jsd_loss(policy, teacher, 1e-7) / 1e-7, kd_loss(policy, teacher), 1e-4)
    close(jsd_loss(policy, teacher, 1 - 1e-7) / 1e-7, rkl_loss(policy, teacher), 1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_trls_gkd_computes_the_same_and_has_the_same_gradient(beta: float) -> None:
    trl = pytest.importorskip("trl.experimental.gkd")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 40, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = 3 * torch.randn(2, 7, 40, dtype=torch.float64, generator=generator)
    labels = torch.tensor([[-100, -100, 3, 4, 5, 6, 2], [-100, 8, 9, 2, -100, -100, -100]])
    theirs = trl.GKDTrainer.generalized_jsd_loss(logits, teacher, labels, beta=beta)
    said = labels != -100
    rows = torch.log_softmax(logits[said], -1), torch.log_softmax(teacher[said], -1)
    ours = jsd_loss(*rows, beta).sum() / said.sum()
    close(ours, theirs.detach())
    close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))
    if beta != 0.5:  # with the weight of the other one it is another number
        assert (jsd_loss(*rows, 1 - beta).sum() / said.sum() - theirs).abs() > 1e-2


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_liger_kernels_computes_the_same(beta: float) -> None:
    liger = pytest.importorskip("liger_kernel.chunked_loss.jsd_loss").LigerFusedLinearJSDFunction
    policy, teacher = log_probs(0, 5, 40), log_probs(1, 5, 40, scale=3.0)
    close(jsd_loss(policy, teacher, beta).sum(), liger.distillation_loss_fn(policy, teacher, beta))


def test_what_the_teacher_rules_out_costs_the_policys_mass_there() -> None:
    policy, teacher = logs([0.7, 0.3]), logs([1.0, 0.0])
    m = 0.5 * 0.7 + 0.5
    expected = 0.5 * math.log(1 / m) + 0.5 * (0.7 * math.log(0.7 / m) + 0.3 * math.log(2))
    close(jsd_loss(policy, teacher, 0.5), [expected])


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_a_weight_outside_0_and_1_is_refused(beta: float) -> None:
    with pytest.raises(ValidationError):
        Settings(beta=beta)
