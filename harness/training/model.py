"""From a batch to log-probs in one module, so that the hooks of DDP and FSDP fire around all of it.

The head runs on response positions only, a chunk of rows at a time, and its logits are computed again in the
backward pass: [tokens, vocabulary] never exists for more than a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.models.catalog import FAMILIES
from harness.training.batching import Batch

CHUNK_ROWS = 256
TokenLoss = Callable[[Tensor, Tensor], Tensor]


class _LabelLogProbs(torch.autograd.Function):
    """log softmax(hidden @ weight.T)[label] of each row, in chunks, with the logits recomputed in backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        out = hidden.new_empty(len(labels), dtype=torch.float32)
        for part in _chunks(len(labels)):
            rows = torch.log_softmax((hidden[part] @ weight.T).float(), -1)
            out[part] = rows.gather(-1, labels[part, None]).squeeze(-1)
        ctx.save_for_backward(hidden, weight, labels)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, labels = ctx.saved_tensors
        (grad,) = grads
        grad_hidden = torch.empty_like(hidden)
        # the sum over chunks stays in fp32, whatever the operands are
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for part in _chunks(len(labels)):
            # d log p(label) / d logits = onehot(label) − p
            rows = torch.softmax((hidden[part] @ weight.T).float(), -1).mul_(-grad[part, None])
            rows.scatter_add_(-1, labels[part, None], grad[part, None])
            rows = rows.to(weight.dtype)
            grad_hidden[part] = rows @ weight
            if grad_weight is not None:
                grad_weight += rows.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None


def _chunks(total: int) -> list[slice]:
    return [slice(start, min(start + CHUNK_ROWS, total)) for start in range(0, total, CHUNK_ROWS)]


def _autocast_dtype(device: torch.device, default: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else default


def label_log_probs(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """log π(label) of each row: hidden [T, H], weight [V, H], labels [T] → [T] float32, nats.

    The product's operands have autocast's dtype where it is on; the softmax and its sums are float32.
    """
    dtype = _autocast_dtype(hidden.device, hidden.dtype)
    result: Tensor = _LabelLogProbs.apply(hidden.to(dtype), weight.to(dtype), labels)  # type: ignore[no-untyped-call]
    return result


def log_prob_rows(hidden: Tensor, weight: Tensor, vocabulary: int | None = None) -> Tensor:
    """All log-probs of some rows: [n, H] → [n, V] float32, over the first `vocabulary` outcomes if given."""
    dtype = _autocast_dtype(hidden.device, hidden.dtype)
    logits = (hidden.to(dtype) @ weight.to(dtype).T).float()
    return torch.log_softmax(logits[:, :vocabulary], -1)


class LogProbModel(nn.Module):
    """A causal language model as a map from a batch to what losses need."""

    def __init__(self, causal_lm: Any) -> None:
        super().__init__()
        self.causal_lm = causal_lm

    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states at the positions that predict response tokens, [T, H]."""
        states: Tensor = self.causal_lm.model(
            input_ids=batch.input_ids,
            attention_mask=batch.mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state
        return states.flatten(0, 1)[batch.predict]

    @property
    def head(self) -> Tensor:
        weight: Tensor = self.causal_lm.get_output_embeddings().weight
        return weight

    def forward(self, batch: Batch, token_loss: TokenLoss | None = None, teacher: LogProbModel | None = None) -> Tensor:
        """Log-probs of the response tokens, [T] float32; or, with `token_loss` and a frozen `teacher`, that
        loss of each response token's two rows of log-probs, [T]."""
        hidden = self.hidden(batch)
        if token_loss is None or teacher is None:
            return label_log_probs(hidden, self.head, batch.labels)
        with torch.no_grad():
            teacher_hidden = teacher.hidden(batch)
        # the same tokenizer may come with embeddings padded to different sizes; the shared ids are the first
        vocabulary = min(len(self.head), len(teacher.head))

        def chunk(student_rows: Tensor, teacher_rows: Tensor, weight: Tensor) -> Tensor:
            with torch.no_grad():
                target = log_prob_rows(teacher_rows, teacher.head, vocabulary)
            return token_loss(log_prob_rows(student_rows, weight, vocabulary), target)

        return torch.cat(
            [
                checkpoint(chunk, hidden[part], teacher_hidden[part], self.head, use_reentrant=False)
                for part in _chunks(len(hidden))
            ]
        )


def supported(causal_lm: Any) -> bool:
    """Whether this head, and a prompt shared between responses, give the model's own log-probs."""
    config = causal_lm.config
    windowed = bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
    bias = getattr(causal_lm.get_output_embeddings(), "bias", None) is not None
    return config.model_type in FAMILIES and not (windowed or bias)
