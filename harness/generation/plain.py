"""The step of models whose layers are plain: RMSNorm, rotary positions, grouped attention, SwiGLU.

It calls the model's own modules, but nothing between them: no masks are built, no keys and values copied, and a row's
tokens stand in the cache from its beginning on, so that rows of any length lie beside one another and each writes its
next token where it ends. What a row does not have yet is hidden from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from harness.generation.packed import plus, silu, times
from harness.models.families import windowed

# the classes that are known to be plain (where no window is set); a test holds each to its own `generate`
PLAIN = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
# positions that do not depend on how long a row is
ROTARY = frozenset({"default", "linear", "llama3", "yarn"})
# padding among prompts that are read together
PADDED_SHARE = 0.15
# tokens that a cache has room for before it is copied to a larger place
ROOM = 64

# tokens of prompts that are read together: what is made of so many stays near the processor
READ = 4096

# of a layer's number and each token's queries, keys and values [n, H + 2 G, D]: what its queries see, [n, H * D]
_Attend = Callable[[int, Tensor], Tensor]


def plain(model: Any) -> bool:
    """Whether a model is computed here as it computes itself. On a GPU its own way is faster."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model) in PLAIN
        and model.device.type == "cpu"
        and not windowed(config)
        and config.hidden_act == "silu"
        and rope.get("rope_type") in ROTARY
    )


class PlainDecoder:
    """The rows of a batch, each with its keys and values.

    Shapes: cache of a layer [B, room, 2 G, D], keys before values. lengths: the tokens of each row that are there."""

    def __init__(self, model: Any) -> None:
        self.model, self.layers = model, model.model.layers
        self.heads, self.groups = model.config.num_attention_heads, model.config.num_key_value_heads
        self.width = self.layers[0].self_attn.head_dim
        self.scale = self.layers[0].self_attn.scaling

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The logits after each prompt, [B, V]."""
        self.lengths = [len(prompt) for prompt in prompts]
        self.room = max(self.lengths) + ROOM
        shape = (len(prompts), self.room, 2 * self.groups, self.width)
        # zeros: what is hidden is multiplied all the same, and memory that nobody wrote may hold what is no number
        self.cache = [torch.zeros(shape, dtype=self.model.dtype) for _ in self.layers]
        return torch.cat([self._read(prompts[rows], rows) for rows in _pieces(self.lengths)])

    def _read(self, prompts: Sequence[Sequence[int]], rows: slice) -> Tensor:
        """Prompts one after another, without padding but where they see themselves; rows: theirs."""
        lengths = self.lengths[rows]
        ends = torch.tensor(lengths).cumsum(0)
        parts = []  # rows of the batch, the places of their tokens here [b, w], and where [b, w] there is one
        for alike in similar(lengths):
            own = torch.tensor(lengths[alike])[:, None]
            steps = torch.arange(int(own.max()))
            places = (ends[alike, None] - own) + steps.minimum(own - 1)
            parts.append((slice(rows.start + alike.start, rows.start + alike.stop), places, steps < own))

        def attend(layer: int, heads: Tensor) -> Tensor:
            seen = []
            for here, places, there in parts:
                padded = heads[places]
                self.cache[layer][here, : places.shape[1]] = padded[:, :, self.heads :]
                query, key, value = torch.split(padded.transpose(1, 2), [self.heads, self.groups, self.groups], 1)
                out = F.scaled_dot_product_attention(
                    query, key, value, is_causal=True, scale=self.scale, enable_gqa=self.heads > self.groups
                )
                seen.append(out.transpose(1, 2)[there])
            return torch.cat(seen).flatten(1)

        ids = torch.tensor([token for prompt in prompts for token in prompt])
        positions = torch.cat([torch.arange(length) for length in lengths])
        return self._logits(self._states(ids, positions, attend)[ends - 1])

    def step(self, tokens: Tensor) -> Tensor:
        """The logits after one more token of each row, [B, V]; tokens [B]."""
        rows, places = torch.arange(len(tokens)), torch.tensor(self.lengths)
        self.lengths = [length + 1 for length in self.lengths]
        if max(self.lengths) > self.room:
            self._make_room()
        parts = []  # rows that see about as many tokens, how many at most, and what of them each row does not have
        for alike in similar(self.lengths):
            own = torch.tensor(self.lengths[alike])
            span = int(own.max())
            beyond = torch.arange(span) >= own[:, None]
            bias = torch.zeros(beyond.shape, dtype=self.model.dtype).masked_fill_(beyond, -torch.inf)[:, None, None]
            shape = (-1, 1, self.heads // self.groups, -1)
            parts.append((alike, span, bias.expand(shape) if beyond.any() else None))

        def attend(layer: int, heads: Tensor) -> Tensor:
            query, states = torch.split(heads, [self.heads, 2 * self.groups], 1)
            cache = self.cache[layer]
            cache[rows, places] = states
            # the query heads of a group go in as if they were so many queries of one head
            query = query.reshape(len(rows), self.groups, -1, self.width)
            seen = []
            for here, span, bias in parts:
                key, value = cache[here, :span].transpose(1, 2).chunk(2, 1)
                seen.append(F.scaled_dot_product_attention(query[here], key, value, attn_mask=bias, scale=self.scale))
            return (seen[0] if len(seen) == 1 else torch.cat(seen)).flatten(1)

        return self._logits(self._states(tokens, places, attend))

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows alone, in this order."""
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        for layer, cache in enumerate(self.cache):
            self.cache[layer] = cache[rows]

    def _make_room(self) -> None:
        self.room += ROOM
        for layer, cache in enumerate(self.cache):
            self.cache[layer] = F.pad(cache, (0, 0, 0, 0, 0, ROOM))

    def _states(self, ids: Tensor, positions: Tensor, attend: _Attend) -> Tensor:
        """The last layer's output for ids [n] at positions [n]: [n, hidden]."""
        x: Tensor = self.model.model.embed_tokens(ids)
        cosine, sine = (turn[0, :, None] for turn in self.model.model.rotary_emb(x, positions[None]))
        half, turned = self.width // 2, self.heads + self.groups
        sine = torch.cat((-sine[..., :half], sine[..., half:]), -1)
        for number, layer in enumerate(self.layers):
            attention, mlp = layer.self_attn, layer.mlp
            read = _norm(layer.input_layernorm, x)
            states = [product(read) for product in (attention.q_proj, attention.k_proj, attention.v_proj)]
            heads = torch.cat(states, -1).view(len(ids), -1, self.width)
            if hasattr(attention, "q_norm"):
                heads[:, : self.heads] = attention.q_norm(heads[:, : self.heads])
                heads[:, self.heads : turned] = attention.k_norm(heads[:, self.heads : turned])
            turning = heads[:, :turned]
            turning.copy_(torch.addcmul(turning * cosine, turning.roll(half, -1), sine))
            x = plus(attention.o_proj, attend(number, heads), x)
            read = _norm(layer.post_attention_layernorm, x)
            x = plus(mlp.down_proj, times(mlp.up_proj, read, silu(mlp.gate_proj, read)), x)
        return x

    def _logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(_norm(self.model.model.norm, states))
        return logits


def _norm(module: Any, x: Tensor) -> Tensor:
    """RMSNorm in fewer operations than the module takes."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    size = torch.hypot(norm, norm.new_tensor((x.shape[-1] * module.variance_epsilon) ** 0.5))
    out: Tensor = (x / size.div_(x.shape[-1] ** 0.5)).to(x.dtype).mul_(module.weight)
    return out


def _pieces(lengths: Sequence[int]) -> list[slice]:
    """Consecutive prompts with at most READ tokens together, or one longer."""
    starts = [0]
    for row in range(1, len(lengths)):
        if sum(lengths[starts[-1] : row + 1]) > READ:
            starts.append(row)
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(lengths)])]


def similar(lengths: Sequence[int]) -> list[slice]:
    """Consecutive rows in groups whose padding is at most PADDED_SHARE of them."""
    starts, tokens, longest = [0], 0, 0
    for row, length in enumerate(lengths):
        tokens, longest = tokens + length, max(longest, length)
        if tokens < (1 - PADDED_SHARE) * (row + 1 - starts[-1]) * longest:
            starts.append(row)
            tokens = longest = length
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(lengths)])]
