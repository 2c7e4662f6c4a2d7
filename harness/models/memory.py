"""How much memory a stage needs on its device, in bytes, by formula: an estimate, with the packed layout.

Weights train in float32 (4 bytes), with a gradient (4) and AdamW's two moments (8) each. Under bf16 autocast each
linear layer's weights are copied once a micro-batch (2), and a layer keeps 30 bytes for each number in a token's hidden
state, 8 for each in its MLP and 4 for each in its keys, until the backward pass has been there: as measured.

A frozen model's weights lie in memory as in its checkpoint; its head is raised to float32, or rounded, as a product's
operand.
"""

from __future__ import annotations

from harness.models.shapes import Shape

FP32, BF16 = 4, 2
CHUNK_BYTES = 2**25 * FP32  # of logits at once (logprobs/model.py, which imports torch)
ADAM = 2 * FP32
# How a chunk of logits is held: as such, as probabilities, and as their gradient.
COPIES_OF_LOGITS = 3
# Logits of the last position in sampling: as such, at their temperature, as probabilities and cumulated.
COPIES_IN_SAMPLING = 4
Parts = dict[str, int]


def training(
    shape: Shape,
    tokens: int,
    bf16: bool = True,
    checkpointing: bool = False,
    lora_rank: int = 0,
) -> Parts:
    """tokens: of a micro-batch."""
    trained = adapter_parameters(shape, lora_rank) if lora_rank else shape.parameters
    layer = tokens * activations_per_token(shape, bf16)
    copies = linear_parameters(shape) * BF16 if bf16 else 0
    kept = shape.layers * layer
    if checkpointing:  # the hidden states between layers, and one layer computed again
        kept, copies = shape.layers * tokens * shape.hidden * FP32 + layer, copies // shape.layers
    return {
        "weights": (shape.parameters + (trained if lora_rank else 0)) * FP32,
        "gradients": trained * FP32,
        "optimizer": trained * ADAM,
        "activations": kept + copies,
        "logits": _logits(shape, tokens, COPIES_OF_LOGITS) + (0 if lora_rank else _head(shape, FP32)),
    }


def reading(shape: Shape, tokens: int, weight_bytes: int = FP32) -> Parts:
    """A frozen model that reads micro-batches of so many tokens: scoring, distributions, a local judge."""
    layer = tokens * (20 * shape.hidden + 3 * BF16 * shape.mlp)
    return {
        "weights": shape.parameters * weight_bytes,
        "activations": layer,
        "logits": _logits(shape, tokens, 2, FP32 if weight_bytes == BF16 else BF16),
    }


def generation(shape: Shape, rows: int, prompt_tokens: int, new_tokens: int) -> Parts:
    """A batch of so many rows, of at most so many tokens each."""
    return {
        "weights": shape.parameters * BF16,
        "cache": rows * (prompt_tokens + new_tokens) * cache_per_token(shape),
        "activations": rows * prompt_tokens * BF16 * (4 * shape.hidden + 3 * shape.mlp),
        "logits": rows * shape.vocabulary * FP32 * COPIES_IN_SAMPLING,
    }


def pruning(shape: Shape) -> Parts:
    """Weights, their gradients, and the pruned copy."""
    whole = shape.parameters * FP32
    return {"weights": whole, "gradients": whole, "pruned": whole}


def activations_per_token(shape: Shape, bf16: bool = True) -> int:
    """What one layer keeps of one token for the backward pass."""
    if bf16:
        return 30 * shape.hidden + 8 * shape.mlp + 4 * shape.key_value
    return 32 * shape.hidden + 16 * shape.mlp + 8 * shape.key_value


def cache_per_token(shape: Shape) -> int:
    """Keys and values of all layers."""
    return 2 * shape.layers * shape.key_value * BF16


def linear_parameters(shape: Shape) -> int:
    """Of attention (whose queries are taken to be as wide as the hidden state) and MLPs, all layers."""
    return shape.layers * shape.hidden * (2 * shape.hidden + 2 * shape.key_value + 3 * shape.mlp)


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Of a low-rank adapter in each of these matrices: its rank times the matrix's two widths."""
    widths = 4 * shape.hidden + 2 * (shape.hidden + shape.key_value) + 3 * (shape.hidden + shape.mlp)
    return shape.layers * rank * widths


def _logits(shape: Shape, tokens: int, copies: int, operand: int = BF16) -> int:
    """A chunk of them, and the head as their operand, of so many bytes a number."""
    return copies * min(CHUNK_BYTES, tokens * shape.vocabulary * FP32) + _head(shape, operand)


def _head(shape: Shape, size: int) -> int:
    return shape.vocabulary * shape.hidden * size
