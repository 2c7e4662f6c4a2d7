"""What holds for all trainings of a run; what each method can set for itself is in methods/settings.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.core.section import Section


class TrainingSettings(Section):
    """What all trainings of a run read and report to."""

    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="longer training prompts lose their beginning, in training and its scoring"
    )
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = None
