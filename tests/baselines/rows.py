"""Made-up distributions, and plain arithmetic to hold losses of them to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.methods import DistributionInputs, Method

# a teacher and a policy over four outcomes, that each method's value is known of
TEACHER, POLICY = [0.40, 0.35, 0.15, 0.10], [0.20, 0.30, 0.10, 0.40]

Row = Sequence[float]


def logs(*rows: Row) -> Tensor:
    """Masses as float64 log-probs [n, V]."""
    return torch.tensor(rows, dtype=torch.float64).log()


def log_probs(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Made-up distributions over the last axis, as float64 log-probs."""
    logits = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.log_softmax(scale * logits, -1)


def close(actual: Tensor, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=tolerance, check_device=False
    )


def of_rows(formula: Callable[[Row, Row], float], policy: Tensor, teacher: Tensor) -> list[float]:
    """formula(q, p) of the masses of each pair of rows, in Python's floats."""
    return [formula(q, p) for q, p in zip(policy.exp().tolist(), teacher.exp().tolist(), strict=True)]


def divergence(first: Row, second: Row) -> float:
    """KL(first ‖ second) of masses."""
    return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True))


def blend(first: Row, second: Row, weight: float) -> list[float]:
    """weight · first + (1 − weight) · second."""
    return [weight * a + (1 - weight) * b for a, b in zip(first, second, strict=True)]


def halves(q: Row, p: Row) -> float:
    m = blend(p, q, 0.5)
    return (divergence(p, m) + divergence(q, m)) / 2


def adaptive(q: Row, p: Row) -> float:
    order = sorted(range(len(p)), key=lambda v: -p[v])
    mass, head = 0.0, []
    for place, v in enumerate(order):
        mass += p[v]
        head += [v] if place == 0 or mass <= 0.5 else []
    gaps = [abs(a - b) for a, b in zip(p, q, strict=True)]
    share = sum(gaps[v] for v in head) / sum(gaps)
    return share * divergence(p, q) + (1 - share) * divergence(q, p)


def towards(q: Row, p: Row) -> float:
    powers = [b**0.6 * a**0.4 for a, b in zip(p, q, strict=True)]
    return -sum(x / sum(powers) * math.log(b) for x, b in zip(powers, q, strict=True))


# of each method at its defaults: what it declares, of (policy, teacher) in plain arithmetic
DECLARED = {
    "kd": lambda q, p: divergence(p, q),
    "rkl": divergence,
    "jsd": halves,
    "gkd": halves,
    "skl": lambda q, p: divergence(p, blend(p, q, 0.1)),
    "srkl": lambda q, p: divergence(q, blend(q, p, 0.1)),
    "tvd": lambda q, p: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "akl": adaptive,
    "taid": towards,
}


def bucketed(rows: Tensor, top: Tensor) -> Tensor:
    """The log-probs of the `top` outcomes of each row, and of all others together."""
    rest = rows.exp().scatter(-1, top, 0.0).sum(-1, keepdim=True).log()
    return torch.cat([rows.gather(-1, top), rest], -1)


def loss_of(method: Method, policy: Tensor, teacher: Tensor, **settings: Any) -> Tensor:
    """A method's own loss of rows [n, V], as the loop calls it before its first step."""
    chosen = method.settings(**settings)
    labels = torch.zeros(len(policy), dtype=torch.long)
    inputs = DistributionInputs(
        policy,
        method.roles,
        {"teacher": teacher},
        state=method.state(chosen) if method.state else {},
        labels=labels,
        label_log_probs=policy[:, 0],
        row=labels,
        role=labels,
    )
    return method.loss(inputs, chosen)
