"""Attention over a packed row: each example alone, its responses blind to one another.

On a CPU: one operation that goes through the row a response at a time, and in its gradient a block of queries at a
time, reads for each only the keys that it sees, and never repeats key-value heads. It costs what the examples cost
apart, however long the row. On a GPU:
FlexAttention, which skips what the mask leaves out. `visible` says the same as a dense mask, for tests and for flex.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

PACKED_ATTENTION = "harness_packed"
# queries that are computed together: few calls, and little of what causality leaves out
BLOCK = 128


def visible(spans: Tensor, length: int) -> Tensor:
    """Whom a token sees: spans [examples, k + 2] → [length, length] bool, true where the query (row) sees the key."""
    example, branch = _owners(spans, length)
    index = torch.arange(length, device=spans.device)
    return _sees(example, branch, index[:, None], index[None, :])


def _owners(spans: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Of each token: its example, and its part of it (0 the prompt, 1, 2, … the responses)."""
    index = torch.arange(length, device=spans.device)
    example = torch.searchsorted(spans[:, -1].contiguous(), index, right=True).clamp(max=len(spans) - 1)
    branch = (index[:, None] >= spans[example][:, 1:-1]).sum(1)
    return example, branch


def _sees(example: Tensor, branch: Tensor, query: Tensor, key: Tensor) -> Tensor:
    same = example[query] == example[key]
    own = (branch[key] == 0) | (branch[key] == branch[query])
    return same & own & (key <= query)


# ---- on a CPU
def _branches(spans: Tensor) -> Iterator[tuple[int, int, slice | None]]:
    """(first token, end, prompt): a stretch of causal attention, and before it a prompt that all of it sees, where that
    is not in it: prompt and first response are one such stretch, the other responses are beside it."""
    for start, prompt_end, *ends in spans.tolist():
        yield start, ends[0], None
        for first, end in itertools.pairwise(ends):
            yield first, end, slice(start, prompt_end)


def _blocks(spans: Tensor) -> Iterator[tuple[int, int, int, slice | None]]:
    """(first query, end, first key, prompt): a block of queries sees the keys from the first up to each query itself,
    and before them a prompt, where it is not among these."""
    for first, end, prompt in _branches(spans):
        for begin in range(first, end, BLOCK):
            yield begin, min(begin + BLOCK, end), first, prompt


def _seen(x: Tensor, first: int, end: int, prompt: slice | None) -> Tensor:
    """The keys or values that a block sees, [..., S, D] of [..., T, D]."""
    return x[..., first:end, :] if prompt is None else torch.cat([x[..., prompt, :], x[..., first:end, :]], -2)


@functools.cache
def _behind(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu_(1)


def _weights(query: Tensor, keys: Tensor, length: int) -> Tensor:
    """Attention weights of a block: query [G, n · length, D] (scaled), keys [G, S, D] → [G, n · length, S]."""
    scores = torch.bmm(query, keys.transpose(1, 2))
    # only the last `length` keys can lie behind a query of this block
    diagonal = scores.view(-1, length, scores.shape[-1])[:, :, -length:]
    diagonal.masked_fill_(_behind(length), float("-inf"))
    return torch.softmax(scores, -1)


def _grouped(x: Tensor, groups: int) -> Tensor:
    """[H, L, D] → [G, H / G · L, D]: the query heads of one key-value head side by side."""
    return x.reshape(groups, -1, x.shape[-1])


@torch.library.custom_op("dadpo_harness::packed_attention", mutates_args=())
def packed_attention(query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float) -> Tensor:
    """Attention within each example of a packed row.

    Shapes: query [1, H, T, D]; key and value [1, G, T, D], G dividing H; spans [examples, k + 2]; the result is
    [1, T, H, D]. All of one dtype; the softmax is computed in float32. (An operation of its own, not a function, so
    that torch.compile takes it as one.)
    """
    out = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
    for first, end, prompt in _branches(spans):
        keys, values = _seen(key, first, end, prompt), _seen(value, first, end, prompt)
        length, seen = end - first, keys.shape[2]
        mask = None if prompt is None else torch.ones(length, seen, dtype=torch.bool).tril_(seen - length)
        mixed = F.scaled_dot_product_attention(
            query[:, :, first:end], keys, values, mask, is_causal=mask is None, scale=scale, enable_gqa=True
        )
        out[:, first:end] = mixed.transpose(1, 2)
    return out


@packed_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float) -> Tensor:
    return query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])


@torch.library.custom_op("dadpo_harness::packed_attention_backward", mutates_args=())
def _packed_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value; the weights are computed again, so that none are kept. (SDPA's own gradient
    takes longer.)"""
    groups = key.shape[1]
    scaled = query * scale
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    # a key is seen by several blocks: their sum is never kept in less than float32
    wide = torch.promote_types(key.dtype, torch.float32)
    grad_key = torch.zeros_like(key, dtype=wide, memory_format=torch.contiguous_format)
    grad_value = torch.zeros_like(grad_key)
    for begin, end, first, prompt in _blocks(spans):
        block = _grouped(scaled[0, :, begin:end], groups)
        grad_block = _grouped(grad[0, begin:end].transpose(0, 1), groups)
        keys, values = _seen(key[0], first, end, prompt), _seen(value[0], first, end, prompt)
        weights = _weights(block, keys, end - begin)
        grad_weights = torch.bmm(grad_block, values.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_query[0, :, begin:end] = torch.bmm(grad_scores, keys).view(-1, end - begin, query.shape[3])
        for total, part in (
            (grad_key[0], torch.bmm(grad_scores.transpose(1, 2), block)),
            (grad_value[0], torch.bmm(weights.transpose(1, 2), grad_block)),
        ):
            own = part.shape[1] - (end - first)
            total[:, first:end] += part[:, own:]
            if prompt is not None:
                total[:, prompt] += part[:, :own]
    return grad_query.mul_(scale), grad_key.to(key.dtype), grad_value.to(value.dtype)


@_packed_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query, key, value, spans = ctx.saved_tensors
    return *_packed_backward(grad.to(query.dtype), query, key, value, spans, ctx.scale), None, None


packed_attention.register_autograd(_backward, setup_context=_keep)


# ---- on a GPU
@functools.cache
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # past this limit it would run uncompiled, with all scores in memory; students and teachers, with gradients and
    # without, count one by one
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention, dynamic=True)


def _block_mask(spans: Tensor, length: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    example, branch = _owners(spans, length)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return _sees(example, branch, query, key)

    return create_block_mask(sees, None, None, length, length, device=spans.device)


# ---- as transformers calls it
def visibility(spans: Tensor, length: int) -> Any:
    """What the attention of each layer is handed: made once for a batch."""
    return spans if spans.device.type == "cpu" else _block_mask(spans, length)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    visibility: Any = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention that transformers' layers call. Under autocast rotary embeddings leave query and key in float32.

    Raises:
        ValueError: the model was called without a packed batch.
    """
    if visibility is None:
        raise ValueError("a model with packed attention is called through LogProbModel, with a packed batch")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)
    if isinstance(visibility, Tensor):
        return packed_attention(query, key, value, visibility, scale), None
    mixed = _flex()(query, key, value, block_mask=visibility, scale=scale, enable_gqa=True)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(PACKED_ATTENTION, _attention)


AttentionMaskInterface.register(PACKED_ATTENTION, lambda *_, **__: None)
