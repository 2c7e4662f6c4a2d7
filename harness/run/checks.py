"""What is refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.judging import Judge
from harness.models.reference import Model
from harness.prompts import PromptSet


def require_distinct_names(eval_sets: Sequence[tuple[PromptSet, bool]]) -> None:
    names = [found.name for found, _ in eval_sets]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two evaluation sets are named '{name}'; rename one of the files, or name it with prompts.NAME.path"
            )


def require_one_turn(name: str, train: Sequence[Prompt]) -> None:
    """No training prompt may go on after the model's answer: a training has one response to each."""
    several = next((prompt.id for prompt in train if prompt.turns), None)
    if several is not None:
        raise UserError(
            f"training set '{name}': prompt '{several}' has further turns, and a training takes one; evaluate on it"
        )


def require_measurable(judge: Judge, evaluation: dict[str, list[Prompt]]) -> None:
    """What is measured is measured of single answers."""
    for name, prompts in evaluation.items():
        if judge.measures and any(prompt.turns for prompt in prompts):
            raise UserError(
                f"judge '{judge.name}' measures answers to one turn, and '{name}' has prompts of several; name a judge "
                "that reads (list judges)"
            )


def require_unseen(train: Sequence[Prompt], evaluation: dict[str, list[Prompt]]) -> None:
    """No evaluation prompt may be a training prompt."""
    seen = {prompt.messages for prompt in train}
    for name, prompts in evaluation.items():
        shared = [prompt.id for prompt in prompts if prompt.messages in seen]
        if shared:
            raise UserError(
                f"evaluation set '{name}' holds {len(shared)} of the training prompts (first: {shared[0]}); "
                "judge on prompts that training never saw"
            )


def require_comparable(student: Model, teacher: Model, prompts: Sequence[Prompt]) -> None:
    """Refuse what no token-level method can work with, where both models are folders that are here already."""
    folders = [(Path(model.path), model) for model in (student, teacher) if model.path]
    if len(folders) == 2 and all((folder / "tokenizer.json").is_file() for folder, _ in folders):
        from harness.models import tokenizers as loading

        one, other = (loading.load_tokenizer(path, m.chat_template, m.remote_code) for path, m in folders)
        loading.require_one_tokenizer(one, other, prompts)
