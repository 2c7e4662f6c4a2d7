"""Prompt sets: by name, from the package or the hub, or from the user's own files."""

from __future__ import annotations

from harness.prompts.fetch import MissingPromptsError
from harness.prompts.normalise import PromptSet, read_set
from harness.prompts.overlap import Overlap, overlap
from harness.prompts.sets import Card, Library, evaluation_set, prompt_sets, training_set

__all__ = [
    "Card",
    "Library",
    "MissingPromptsError",
    "Overlap",
    "PromptSet",
    "evaluation_set",
    "overlap",
    "prompt_sets",
    "read_set",
    "training_set",
]
