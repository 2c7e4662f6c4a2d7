"""Responses from a local model: an own decoding loop over batches of similar length.

What makes it faster than `generate` at the same work: finished rows leave the batch, a step writes into the cache
where `generate` copies all of it, attention over the cache reads each key-value head once for all its query heads, the
head runs on the last position only and is never copied, and tokens are drawn by inversion. On a CPU plain models take a
step of our own (`plain`), with weights that are packed where they are loaded for it (`packed`).

A row's random numbers depend on (seed, purpose, row) alone, not on the batch it is in, and batches are formed
from the full list, so that a resumed run gives the text of an undisturbed one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import sdpa_mask

from harness.core.errors import UserError
from harness.generation.plain import ROOM, PlainDecoder, plain, similar
from harness.generation.protocol import Sampling
from harness.models.families import FAMILIES, has_own_code, windowed

GROUPED_ATTENTION = "harness_grouped"
# rows are taken out of the batch once this share of it has finished
FINISHED_SHARE = 0.1
# tokens whose probabilities are summed together
BLOCK = 128


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Attention that never repeats key-value heads: on a CPU that copy costs more than the attention itself. In a step
    of one token, the query heads of a group go in as if they were so many queries of one head.

    Shapes: query [B, H, T, D]; key and value [B, G, S, D] with G dividing H; mask [B, 1, T, S], true where seen.

    Raises:
        UserError: the model's attention adds something that this one does not have.
    """
    if extras.get("softcap") is not None or extras.get("s_aux") is not None:
        raise UserError("grouped attention has neither soft capping nor sinks; load the model with its own attention")
    batch, heads, length, width = query.shape
    groups, span = key.shape[1:3]
    if length == 1:
        mask = None if attention_mask is None else attention_mask.expand(batch, 1, heads // groups, span)
        rows = query.reshape(batch, groups, heads // groups, width)
        out = F.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
        return out.reshape(batch, 1, heads, width), None
    if attention_mask is None:  # no padding in this batch: plain causal, from the end of what is there
        attention_mask = torch.ones(length, span, dtype=torch.bool, device=query.device).tril(span - length)
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=heads > groups
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(GROUPED_ATTENTION, grouped_attention)


AttentionMaskInterface.register(GROUPED_ATTENTION, sdpa_mask)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types for it
    """Keys and values of a layer with room for ROOM more tokens: a step writes its token behind the others, where
    `DynamicLayer` copies all of them."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.length = 0
            self.room = [state[:, :, :0] for state in (key_states, value_states)]
        start, self.length = self.length, self.length + key_states.shape[2]
        for kind, states in enumerate((key_states, value_states)):
            if self.length > self.room[kind].shape[2]:
                batch, groups, _, width = states.shape
                larger = states.new_empty(batch, groups, self.length + ROOM, width)
                larger[:, :, :start] = self.room[kind][:, :, :start]
                self.room[kind] = larger
            self.room[kind][:, :, start : self.length] = states
        return self._filled()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.room = [room[indices] for room in self.room]
        self._filled()

    def _filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values


def form_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of all rows in batches of `size`, rows of similar prompt length together."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + size] for start in range(0, len(order), size)]


def row_uniforms(seed: int, purpose: str, row: str, count: int) -> torch.Tensor:
    """`count` uniform numbers in [0, 1) for one row, float64."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{row}".encode()).digest()
    return torch.from_numpy(np.random.default_rng(int.from_bytes(digest[:16], "little")).random(count))


def choose(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """One token a row by inversion: the first whose cumulative probability exceeds the row's uniform number.

    Shapes: logits [B, V], uniforms [B]; the result is [B].
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits if sampling.temperature == 1 else logits.float() / sampling.temperature
    probabilities = torch.softmax(scaled, -1, dtype=torch.float32)
    if sampling.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        # keep a token while the mass before it is below top_p: the first is always kept
        ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, index, ordered)
    # the block that holds the token, then the token within it: one sum over all, and a cumulative one over two rows
    blocks = F.pad(probabilities, (0, -probabilities.shape[-1] % BLOCK)).view(len(logits), -1, BLOCK)
    ends = blocks.sum(-1).cumsum(-1)
    threshold = _below(uniforms.to(ends) * ends[:, -1], ends[:, -1])
    block = torch.searchsorted(ends, threshold[:, None], right=True)
    before = F.pad(ends, (1, 0)).gather(-1, block).squeeze(-1)
    within = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK)).squeeze(1).cumsum(-1)
    rest = _below(threshold - before, within[:, -1])
    return (block * BLOCK + torch.searchsorted(within, rest[:, None], right=True)).squeeze(-1)


def _below(threshold: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Below the total even after rounding, so that no token of probability 0 is ever chosen."""
    return torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))


class Decoder(Protocol):
    """The rows of a batch, and what a model keeps of them."""

    def read(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logits after each prompt, [B, V]."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits after one more token of each row, [B, V]; tokens [B]."""

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some rows alone, in this order."""


def decoder_of(model: Any) -> Decoder:
    if model.config._attn_implementation == GROUPED_ATTENTION and plain(model):
        return PlainDecoder(model)
    return ForwardDecoder(model)


@torch.inference_mode()
def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniforms: torch.Tensor,
    sampling: Sampling,
    stops: Sequence[int],
    vocabulary: int,
) -> list[list[int]]:
    """Response ids for a batch of prompts, the stop token included where one was drawn. Only the first `vocabulary`
    tokens are: what an embedding has beyond them is padding.

    Shapes: uniforms [B, max_new_tokens].

    Raises:
        UserError: the model's logits are not numbers.
    """
    decoder = decoder_of(model)
    logits = decoder.read(prompts)
    responses: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # rows[i]: the prompt that row i of the batch belongs to
    stopped: set[int] = set()
    uniforms = uniforms.to(model.device)
    for step in range(sampling.max_new_tokens):
        if not logits.sum().isfinite():  # one pass; whatever is not finite stays in a sum
            raise UserError(f"{model.name_or_path} gives logits that are not finite; its weights are broken")
        logits[:, vocabulary:] = -torch.inf
        tokens = choose(logits, uniforms[rows, step], sampling)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row not in stopped:
                responses[row].append(token)
                if token in stops:
                    stopped.add(row)
        alive = [index for index, row in enumerate(rows) if row not in stopped]
        if not alive:
            break
        if len(rows) - len(alive) > FINISHED_SHARE * len(rows):
            chosen = torch.tensor(alive, device=model.device)
            decoder.keep(chosen)
            tokens = tokens[chosen]
            rows = [rows[index] for index in alive]
        if step + 1 < sampling.max_new_tokens:
            logits = decoder.step(tokens)
    return responses


class ForwardDecoder:
    """Any model, through its own `forward` and cache; prompts are padded on the left."""

    def __init__(self, model: Any) -> None:
        self.model = model
        # caches of windowed layers do not hold whole prompts, and cannot be joined
        config = model.config
        self.joins = config.model_type in FAMILIES and not windowed(config) and not has_own_code(model)

    def read(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Prompts are read in groups of similar length, so that one long prompt does not make the others as long."""
        caches: list[Cache] = []
        logits: list[torch.Tensor] = []
        lengths = [len(prompt) for prompt in prompts]
        for group in [prompts[rows] for rows in similar(lengths)] if self.joins else [prompts]:
            caches.append(self._new_cache())
            mask = self._mask(group)
            ids = torch.tensor([[0] * (mask.shape[1] - len(p)) + list(p) for p in group], device=self.model.device)
            logits.append(self._next_logits(ids, mask, (mask.cumsum(1) - 1).clamp_(min=0), caches[-1]))
        self.mask = self._mask(prompts)
        self.positions = self.mask.sum(1, keepdim=True) - 1
        self.cache = caches[0] if len(caches) == 1 else self._joined(caches, self.mask.shape[1])
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        self.positions = self.positions + 1
        return self._next_logits(tokens[:, None], self.mask, self.positions, self.cache)

    def keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]

    def _mask(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """1 where a row has a token, [B, the longest]."""
        width = max(map(len, prompts))
        return torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.model.device)

    def _next_logits(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """The logits after the last of `ids`, [B, V]; the cache grows by them."""
        # by index, not by count: a slice of the hidden states is in pieces, and matmul would copy the head for each row
        own = has_own_code(self.model)
        last: Any = torch.tensor([-1], device=ids.device) if ids.shape[1] > 1 and not own else 1
        logits: torch.Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits[:, -1]
        return logits

    def _joined(self, caches: Sequence[Cache], width: int) -> Cache:
        joined = self._new_cache()
        for layer in range(len(caches[0].layers)):
            parts = [(cache.layers[layer].keys, cache.layers[layer].values) for cache in caches]
            keys, values = (
                torch.cat([F.pad(part[kind], (0, 0, width - part[kind].shape[2], 0)) for part in parts])
                for kind in (0, 1)
            )
            joined.update(keys, values, layer)
        return joined

    def _new_cache(self) -> Cache:
        if not self.joins:
            return DynamicCache(config=self.model.config)
        return Cache(layers=[RoomyLayer() for _ in range(self.model.config.num_hidden_layers)])
