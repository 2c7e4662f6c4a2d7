"""Frozen, typed configuration, composed of the rooms' settings. YAML in, fully resolved YAML out; an unknown key is an
error with a suggestion. A setting is written in its room (`settings.py`), and is a setting of a run by that alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator

from harness.core.section import OfTheMachine, Section, machine_settings
from harness.generation.settings import GeneratorSettings, SamplingSettings
from harness.judging.settings import Judging
from harness.logprobs.settings import ScoringSettings
from harness.measures.settings import MeasureSettings
from harness.methods.settings import MethodChoice
from harness.models.settings import ModelSettings
from harness.prompts.settings import PromptSettings
from harness.serving.settings import VLLM
from harness.training.settings import TrainingSettings


class JudgingSettings(Section):
    """Who judges, and the vLLM that a judge or a generator may need."""

    judge: Judging = Judging()
    vllm: VLLM = VLLM()


class JudgeConfig(JudgingSettings):
    """What `judge` and `judge-check` take: the part of a run's configuration that is about judging."""

    trust_remote_code: bool = False
    store: OfTheMachine[str | None] = None


class Config(  # the settings of the last come first in config.yaml
    MeasureSettings,
    ScoringSettings,
    GeneratorSettings,
    TrainingSettings,
    SamplingSettings,
    PromptSettings,
    JudgingSettings,
    MethodChoice,
    ModelSettings,
):
    """A run: the settings of the rooms, which own them, those of single methods, and where the run is made."""

    training: dict[str, Any] = Field(default={})
    settings: dict[str, dict[str, Any]] = Field(default={})
    seed: int = Field(default=0, ge=0)
    store: OfTheMachine[str | None] = None
    launcher: OfTheMachine[Literal["inline", "process", "accelerate"]] = "inline"
    processes: OfTheMachine[int] = Field(default=1, ge=1, description="ranks of a training")
    accelerate_config: OfTheMachine[str | None] = Field(
        default=None, description="your own configuration file of accelerate, for FSDP2"
    )

    @field_validator("processes", "accelerate_config")
    @classmethod
    def _of_accelerate(cls, value: int | str | None, info: ValidationInfo) -> int | str | None:
        if value not in (1, None) and info.data.get("launcher") != "accelerate":
            raise ValueError("only accelerate starts several ranks; add --set launcher=accelerate")
        return value

    @field_validator("accelerate_config")
    @classmethod
    def _a_file(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).expanduser().is_file():
            raise ValueError("there is no such file")
        return value


MACHINE = machine_settings(Config)


def to_yaml(config: Config) -> str:
    data = config.model_dump(mode="json", exclude={"training"})  # it is resolved into `settings`
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
