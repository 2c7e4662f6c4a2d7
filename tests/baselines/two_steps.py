"""A policy that writes two tokens of two: all its responses, so that expectations are sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.methods import Method, TokenInputs

ROW = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])  # of the tokens of all four responses, one after the other
RESPONSES = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


@dataclass(frozen=True)
class TwoSteps:
    """first: log-probs [2] of the first token. second: log-probs [2, 2] of the second, after each first."""

    first: Tensor
    second: Tensor

    @property
    def tokens(self) -> Tensor:
        """Log-probs of the tokens of all responses [8]."""
        a, b = RESPONSES.T
        return torch.stack([self.first[a], self.second[a, b]], 1).flatten()

    @property
    def responses(self) -> Tensor:
        """Log-probs of all responses [4]."""
        return self.tokens.view(4, 2).sum(1)

    def kl_by_token(self, other: TwoSteps, reached: Tensor) -> Tensor:
        """KL(self ‖ other) at the first token and, weighted by `reached` [2], after each first."""
        first, second = (
            (mine.exp() * (mine - its)).sum(-1)
            for mine, its in ((self.first, other.first), (self.second, other.second))
        )
        return first + (reached * second).sum()


def made(first: float, after_0: float, after_1: float) -> TwoSteps:
    """From the probabilities of token 0: first, and after each first token."""
    likely = torch.tensor([first, after_0, after_1], dtype=torch.float64)
    rows = torch.stack([likely, 1 - likely], 1).log()
    return TwoSteps(rows[0], rows[1:])


def of_logits(logits: Tensor) -> TwoSteps:
    """From logits [3, 2]: of the first token, and after each first."""
    rows = torch.log_softmax(logits, -1)
    return TwoSteps(rows[0], rows[1:])


def logits_of(policy: TwoSteps) -> Tensor:
    return torch.cat([policy.first[None], policy.second]).clone().requires_grad_()


Loss = Callable[[Tensor, Tensor], Tensor]


def expected_gradient(logits: Tensor, loss: Loss, sampler: TwoSteps | None = None) -> Tensor:
    """Of a loss of tokens, given their log-probs under the policy of these logits and under the sampler (by default
    the policy as it is): its gradient in the logits, in expectation over the sampler's responses."""
    policy = of_logits(logits)
    sampler = sampler or of_logits(logits.detach())
    of_tokens = loss(policy.tokens, sampler.tokens)
    (found,) = torch.autograd.grad((sampler.responses.exp()[:, None] * of_tokens.view(4, 2)).sum(), logits)
    return found


def descended(start: TwoSteps, loss: Loss, steps: int = 300, rate: float = 2.0) -> TwoSteps:
    """Where gradient descent on the expected loss gets, each step on the policy's own responses."""
    logits = logits_of(start)
    for _ in range(steps):
        logits = (logits - rate * expected_gradient(logits, loss)).detach().requires_grad_()
    return of_logits(logits.detach())


def loss_of(
    method: Method,
    policy: Tensor,
    sampled: Tensor,
    models: dict[str, Tensor],
    row: Tensor = ROW,
    **settings: Any,
) -> Tensor:
    """A token-level method's own loss of tokens [T], given just what it names."""
    read = {name: models[name] for name in method.reads}
    inputs = TokenInputs(policy, method.roles, read, sampled=sampled, labels=row, row=row, role=row * 0)
    return method.loss(inputs, method.settings(**settings))
