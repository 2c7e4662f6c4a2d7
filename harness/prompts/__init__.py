"""Prompt sets: JSONL files with a card, from the package or from the user's disk."""

from harness.prompts.sets import PromptSet, evaluation_set, prompt_sets, read_prompts, training_set

__all__ = ["PromptSet", "evaluation_set", "prompt_sets", "read_prompts", "training_set"]
