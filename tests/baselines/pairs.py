"""What tests of losses of several responses share: made-up log-probs, a method's own call, and TRL's trainers as
functions of the same tensors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.methods import Method, SequenceInputs

# one pair whose losses are known: sums of log-probs in nats (chosen, rejected), and lengths in tokens
POLICY = torch.tensor([[-4.0, -10.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[-5.0, -9.0]], dtype=torch.float64)
LENGTHS = torch.tensor([[4, 8]])


def softplus(x: float) -> float:
    """log(1 + e^x) = −log σ(−x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def made_up(seed: int = 0, examples: int = 6, k: int = 2) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Sums of log-probs [examples, k] under the policy and under each frozen model, float64, and lengths."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (examples, k), generator=draw)
    policy, reference, teacher = (
        -lengths * (0.2 + 2 * torch.rand(examples, k, dtype=torch.float64, generator=draw)) for _ in range(3)
    )
    return policy, {"reference": reference, "teacher": teacher}, lengths


def loss_of(method: Method, policy: Tensor, models: dict[str, Tensor], lengths: Tensor, **settings: Any) -> Tensor:
    """A sequence-level method's own loss, given just what it names."""
    read = {name: models[name] for name in method.reads}
    return method.loss(SequenceInputs(policy, method.roles, read, lengths=lengths), method.settings(**settings))


def known(method: Method, **settings: Any) -> float:
    """Its loss of the known pair."""
    models = {"reference": REFERENCE, "teacher": REFERENCE}
    return float(loss_of(method, POLICY, models, LENGTHS, **settings))


def downhill(loss: Callable[[Tensor], Tensor], policy: Tensor) -> Tensor:
    """What one step of gradient descent adds to the policy's log-probs."""
    policy = policy.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(policy).sum(), policy)
    return -gradient


class _Alone:
    """An accelerator of one process."""

    device = torch.device("cpu")

    def gather(self, values: Any) -> Any:
        return values

    gather_for_metrics = gather


def trl_dpo(
    kind: str, policy: Tensor, reference: Tensor, lengths: Tensor, beta: float, label_smoothing: float = 0.0
) -> list[float]:
    """TRL's DPO trainer's losses of pairs; each response's tokens share its log-prob alike."""
    trainer = pytest.importorskip("trl").DPOTrainer
    found = []
    for sums, reference_sums, tokens in zip(policy, reference, lengths, strict=True):
        longest = int(tokens.max())
        mask = (torch.arange(longest) < tokens[:, None]).long()
        output = SimpleNamespace(
            log_probs=mask * (sums / tokens)[:, None],
            entropy=torch.zeros(2, longest),
            mean_logits=torch.zeros(2, longest),
            is_top1=mask.bool(),
        )
        itself = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=_Alone(),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=[kind],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=label_smoothing,
            use_weighting=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            _tp_size=1,
        )
        row = torch.cat([torch.zeros(2, 1, dtype=torch.long), mask], 1)  # a prompt of one token
        batch = {
            "input_ids": row,
            "attention_mask": row,
            "completion_mask": row,
            "ref_chosen_logps": reference_sums[:1],
            "ref_rejected_logps": reference_sums[1:],
        }
        found.append(float(trainer._compute_loss(itself, lambda output=output, **_: output, batch, False)))
    return found


def trl_cpo(kind: str, policy: Tensor, beta: float, label_smoothing: float = 0.0, gamma: float = 0.0) -> Tensor:
    """TRL's CPO trainer's losses of pairs of log-probs [pairs, 2], without its likelihood term."""
    trainer = pytest.importorskip("trl.experimental.cpo").CPOTrainer
    itself = SimpleNamespace(
        accelerator=_Alone(), alpha=0.0, loss_type=kind, beta=beta, label_smoothing=label_smoothing, simpo_gamma=gamma
    )
    return trainer.cpo_loss(itself, policy[:, 0], policy[:, 1])[0]


def trl_orpo(mean: Tensor, beta: float) -> Tensor:
    """TRL's ORPO trainer's odds terms of pairs of mean log-probs [pairs, 2], as it adds them to a loss."""
    trainer = pytest.importorskip("trl.experimental.orpo").ORPOTrainer
    return -trainer.odds_ratio_loss(SimpleNamespace(accelerator=_Alone(), beta=beta), mean[:, 0], mean[:, 1])[0]
