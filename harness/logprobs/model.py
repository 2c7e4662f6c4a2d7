"""From a batch to log-probs in one module, so that the hooks of DDP and FSDP fire around all of it.

The head runs on response positions only: for log-probs of labels on all of them and a tile of the vocabulary at a time,
for losses of distributions, which want whole rows, on a chunk of them. [tokens, vocabulary] never exists for more than
that, neither forward nor backward. What losses make of a chunk's logits, a dozen arrays of their size, exists for a
piece of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.logprobs.attention import BLOCK, PACKED_ATTENTION, visibility
from harness.logprobs.batching import Batch, Layout
from harness.models.families import FAMILIES, has_own_code, windowed

# numbers in a chunk of logits: 128 MiB of float32
CHUNK_NUMBERS = 2**25
# and in a piece of it that a CPU computes a loss of: 4 MiB
PIECE_NUMBERS = 2**20
# outcomes whose logits a CPU computes at a time for all tokens: of fewer its products are slower, more leave its caches
TILE_OUTCOMES = 2048
ValuesOf = Callable[[Tensor, slice], Tensor]  # logits [n, V] float32 of the tokens in a slice → [n] values
LogitRows = Callable[[slice], Tensor]  # of a batch's T response tokens those in a slice: [n, V] float32


def chunks(total: int, vocabulary: int) -> list[slice]:
    """Slices of `total` rows, each with at most CHUNK_NUMBERS logits."""
    rows = max(1, CHUNK_NUMBERS // vocabulary)
    return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]


def _pieces(chunk: slice, vocabulary: int, device: torch.device) -> list[slice]:
    """Slices of a chunk; a GPU, which would wait for each, takes it whole."""
    rows = max(1, PIECE_NUMBERS // vocabulary) if device.type == "cpu" else chunk.stop - chunk.start
    return [slice(start, min(start + rows, chunk.stop)) for start in range(chunk.start, chunk.stop, rows)]


def _tiles(tokens: int, vocabulary: int, device: torch.device) -> list[slice]:
    """Slices of the vocabulary; a GPU, which would wait for each, takes as much as a chunk may hold."""
    size = max(1, CHUNK_NUMBERS // max(1, tokens))
    size = min(size, TILE_OUTCOMES) if device.type == "cpu" else size
    return [slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size)]


def _operand_dtype(device: torch.device, default: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else default


def _operands(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What `_product` multiplies as numbers of `dtype`, made once for all products."""
    # a CPU has no product of bf16 operands with a float32 result, but rounds float32 ones to bf16 as it multiplies them
    held = dtype if hidden.is_cuda else torch.float32
    return hidden.to(held), weight.to(held)


@contextlib.contextmanager
def _bf16_products() -> Iterator[None]:
    """Float32 operands are rounded to bf16 where a CPU multiplies these faster; sums stay float32."""
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _product(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    """one [n, H] @ other [m, H].T → [n, m] float32, never rounded to less: half-precision logits are off by some
    hundredths of a nat, and a sequence sums hundreds of them. dtype: of the operands."""
    with torch.autocast(one.device.type, enabled=False):
        if one.is_cuda and dtype != torch.float32:
            return torch.mm(one, other.T, out_dtype=torch.float32)
        with _bf16_products() if dtype == torch.bfloat16 else contextlib.nullcontext():
            return one @ other.T


def _at_labels(labels: Tensor, tile: slice) -> tuple[Tensor, Tensor]:
    """Of each token where in a tile of the vocabulary its label is, and whether it is there at all: [T] both."""
    here = (labels >= tile.start) & (labels < tile.stop)
    return (labels - tile.start).clamp(0, tile.stop - tile.start - 1), here


class _LabelLogProbs(torch.autograd.Function):
    """log softmax(hidden @ weight.T)[label] of each token, a tile of the vocabulary at a time, with the logits computed
    again in backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        dtype = _operand_dtype(hidden.device, hidden.dtype)
        states, head = _operands(hidden, weight, dtype)
        tiles = _tiles(len(labels), len(weight), hidden.device)
        sums = hidden.new_empty(len(tiles), len(labels), dtype=torch.float32)  # log Σ exp of each tile's
        said = hidden.new_zeros(len(labels), dtype=torch.float32)
        for tile, total in zip(tiles, sums, strict=True):
            logits = _product(states, head[tile], dtype)
            place, here = _at_labels(labels, tile)
            said += logits.gather(1, place[:, None])[:, 0].where(here, 0)
            torch.logsumexp(logits, 1, out=total)
        whole = sums.logsumexp(0)
        ctx.save_for_backward(hidden, weight, labels, whole)
        ctx.dtype = dtype
        return said - whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, labels, whole = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        states, head = _operands(hidden, weight, ctx.dtype)
        rate = -grads[0][:, None]  # d log p(label) / d logits = −(p − onehot(label))
        scaled = (rate * hidden).to(ctx.dtype)
        # a sum over tiles stays in float32, whatever the operands are
        grad_hidden = torch.zeros_like(hidden, dtype=torch.promote_types(hidden.dtype, torch.float32))
        grad_weight = torch.empty_like(weight) if needs_weight else None
        for tile in _tiles(len(labels), len(weight), hidden.device):
            # [outcomes, T]: a CPU computes the weight's gradient from this layout in half the time
            columns = _product(head[tile], states, ctx.dtype).sub_(whole).exp_()
            place, here = _at_labels(labels, tile)
            columns.scatter_add_(0, place[None], -here[None].to(columns.dtype))
            columns = columns.to(ctx.dtype)
            if needs_hidden:
                grad_hidden += columns.T @ head[tile].to(ctx.dtype)
            if grad_weight is not None:
                grad_weight[tile] = columns @ scaled
        return grad_hidden.mul_(rate).to(hidden.dtype) if needs_hidden else None, grad_weight, None


def label_log_probs(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """log π(label) of each row: hidden [T, H], weight [V, H], labels [T] → [T] float32, nats.

    Logits, softmax and sums are float32. The products' operands have autocast's dtype where it is on.
    """
    result: Tensor = _LabelLogProbs.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return result


class _SummedRows(torch.autograd.Function):
    """The sum of values of rows, with its gradients made beside it: the sum has one gradient, so what a chunk's logits
    say to hidden states and weight is known as soon as they are there, and no logits are computed twice."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, values_of: ValuesOf, gradients: bool) -> Tensor:
        needs_hidden, needs_weight = (needed and gradients for needed in ctx.needs_input_grad[:2])
        dtype = _operand_dtype(hidden.device, hidden.dtype)
        wide_hidden, wide_weight = _operands(hidden, weight, dtype)
        narrow_hidden, narrow_weight = hidden.to(dtype), weight.to(dtype)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in chunks(len(hidden), len(weight)):
            logits = _product(wide_hidden[part], wide_weight, dtype)
            rows = logits.new_empty(logits.shape, dtype=dtype) if needs_hidden or needs_weight else None
            for piece in _pieces(part, len(weight), logits.device):
                here = slice(piece.start - part.start, piece.stop - part.start)
                own = logits[here].requires_grad_(rows is not None)
                with torch.enable_grad():
                    value = values_of(own, piece).sum()
                total += value.detach()
                if rows is not None:
                    rows[here] = torch.autograd.grad(value, own)[0]
            if rows is None:
                continue
            if grad_hidden is not None:
                grad_hidden[part] = rows @ narrow_weight
            if grad_weight is not None:
                grad_weight += rows.T @ narrow_hidden[part]
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        (grad,) = grads
        return (
            None if grad_hidden is None else grad_hidden * grad,
            None if grad_weight is None else grad_weight * grad,
            None,
            None,
        )


def summed_rows(hidden: Tensor, weight: Tensor, values_of: ValuesOf) -> Tensor:
    """Σ values of the logits hidden [T, H] @ weight [V, H].T over rows, a chunk at a time → a float32 number."""
    gradients = torch.is_grad_enabled()  # inside the function it never is
    result: Tensor = _SummedRows.apply(hidden, weight, values_of, gradients)  # type: ignore[no-untyped-call]
    return result


def _gathered(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, labels[:, None]).squeeze(-1)


@dataclass(frozen=True)
class DistributionRows:
    """A frozen model's distributions: rows(part, vocabulary) are log-probs [n, vocabulary] of the tokens in a slice,
    over the first `vocabulary` ids, of which there are at most `vocabulary`."""

    rows: Callable[[slice, int], Tensor]
    vocabulary: int


def log_probs_of(logits: Tensor, vocabulary: int, temperature: float = 1.0) -> Tensor:
    """Logits [n, V] → log-probs over the first `vocabulary` ids alone, [n, vocabulary]."""
    shared = logits[:, :vocabulary]
    return torch.log_softmax(shared if temperature == 1 else shared / temperature, -1)


def _read_ahead(logits: LogitRows, size: int) -> LogitRows:
    """The same rows, of which a slice of less than `size` is made with those behind it, up to `size`, and kept: whoever
    asks for a piece asks for the next one then, and a product of few rows is slow."""
    start, held = 0, torch.empty(0)

    def rows(part: slice) -> Tensor:
        nonlocal start, held
        if part.stop is None or part.stop - part.start >= size:
            return logits(part)
        if not start <= part.start <= part.stop <= start + len(held):
            start, held = part.start, logits(slice(part.start, part.start + size))
        return held[part.start - start : part.stop - start]

    return rows


class LogProbModel(nn.Module):
    """A causal language model as a map from a batch to what losses need. `layout` says how its batches travel."""

    def __init__(self, causal_lm: Any, layout: Layout | None = None) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.layout: Layout = layout or layout_of(causal_lm)
        if self.layout == "packed":
            causal_lm.set_attn_implementation(PACKED_ATTENTION)
        else:
            causal_lm.get_output_embeddings().__class__ = _WideHead

    @property
    def head(self) -> Tensor:
        weight: Tensor = self.causal_lm.get_output_embeddings().weight
        return weight

    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states at the positions that predict response tokens, [T, H]; packed batches only."""
        assert batch.spans is not None
        ids, positions = batch.input_ids, batch.position_ids
        if ids.is_cuda:  # whole blocks: FlexAttention has fewer kernels to compile; nobody sees what is added
            ids, positions = (F.pad(x, (0, -x.shape[1] % BLOCK)) for x in (ids, positions))
        states: Tensor = self.causal_lm.model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            visibility=visibility(batch.spans, ids.shape[1]),
        ).last_hidden_state
        return states[0].index_select(0, batch.predict)

    def logits(self, batch: Batch) -> Tensor:
        """The model's own logits at these positions, [T, V] float32; padded batches only."""
        logits: Tensor = self.causal_lm(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).logits
        return logits.flatten(0, 1).index_select(0, batch.predict).float()

    def forward(
        self, batch: Batch, rows: Sequence[ValuesOf] = (), labels: bool = True
    ) -> Tensor | tuple[Tensor | None, ...]:
        """Log-probs of the response tokens, [T] float32, nats. With `rows`: these (None without `labels`), then for
        each of `rows` the sum of its values over the response tokens; all of one forward pass."""
        if self.layout == "padded":
            logits = self.logits(batch)
            found = _gathered(logits, batch.labels) if labels else None
            sums = [values_of(logits, slice(None)).sum() for values_of in rows]
        else:
            hidden = self.hidden(batch)
            found = label_log_probs(hidden, self.head, batch.labels) if labels else None
            sums = [summed_rows(hidden, self.head, values_of) for values_of in rows]
        if not rows:
            assert found is not None
            return found
        return found, *sums

    @torch.no_grad()
    def rows(self, batch: Batch) -> LogitRows:
        """Logits of a batch in its own layout, a chunk at a time."""
        if self.layout == "packed":
            return self.rows_of(self.hidden(batch))
        logits = self.logits(batch)
        return lambda part: logits[part]

    @torch.no_grad()
    def rows_of(self, hidden: Tensor) -> LogitRows:
        """The same from `hidden` states; packed only."""
        dtype = _operand_dtype(hidden.device, hidden.dtype)
        states, head = _operands(hidden, self.head, dtype)

        @torch.no_grad()
        def rows(part: slice) -> Tensor:
            return _product(states[part], head, dtype)

        return rows

    @torch.no_grad()
    def log_prob_rows(self, batch: Batch, vocabulary: int | None = None, temperature: float = 1.0) -> DistributionRows:
        """This model's distributions at a batch's response tokens, in its own layout, over all ids or the first
        `vocabulary`."""
        logits = self.rows(batch)
        if self.layout == "packed":
            logits = _read_ahead(logits, max(1, CHUNK_NUMBERS // len(self.head)))

        @torch.no_grad()
        def rows(part: slice, size: int) -> Tensor:
            return log_probs_of(logits(part), size, temperature)

        return DistributionRows(rows, min(vocabulary or len(self.head), len(self.head)))


class _WideHead(nn.Linear):
    """A head in the precision of its weights or of what it reads, whichever is more: autocast would round the logits of
    a model's own `forward`, which are capped or scaled after the head."""

    def forward(self, hidden: Tensor) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, self.weight.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.to(dtype), self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


def layout_of(causal_lm: Any) -> Layout:
    """Packed where this head, and attention that is told whom to see, give the model's own log-probs; else padded."""
    return "packed" if why_padded(causal_lm) is None else "padded"


def why_padded(causal_lm: Any) -> str | None:
    """What keeps a model from the packed layout, in a few words; None where nothing does."""
    config = causal_lm.config
    if has_own_code(causal_lm):
        return "it is computed by code of its own"
    if config.model_type not in FAMILIES:
        return f"models of type {config.model_type} are not known to have a plain head and plain attention"
    if windowed(config):
        return "its attention is windowed"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope"):
        return "its rotary positions depend on how long a row is"
    if getattr(config, "attention_dropout", 0.0):
        return "its attention has dropout"
    if getattr(causal_lm.get_output_embeddings(), "bias", None) is not None:
        return "its head has a bias"
    return None
