"""The architectures that are taken, and how each is computed."""

from __future__ import annotations

from typing import Any

# Families whose logits are the head's product with the last hidden states and nothing more, and whose attention is the
# plain one (where no window is set): their batches are packed. A test holds each to its own logits; add a family with
# its test.
FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Families with scaled or capped logits, windows, or something else of their own: they travel padded, through their own
# `forward`. Tested as the others are.
PADDED_FAMILIES = frozenset(
    {"cohere", "cohere2", "gemma", "gemma2", "gemma3_text", "granite", "olmo2", "phi3", "smollm3"}
)

# Placeholders of images that text models of a family never see: their published tokenizers have them all the same.
TOKENS_WITHOUT_EMBEDDING = {"gemma3_text": frozenset({"<image_soft_token>"})}


def windowed(config: Any) -> bool:
    """Whether a model's attention forgets what lies far back."""
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def has_own_code(causal_lm: Any) -> bool:
    """Whether a loaded model runs Python code of its checkpoint's, of which nothing is known."""
    return any(kind.__module__.startswith("transformers_modules") for kind in type(causal_lm).__mro__)
