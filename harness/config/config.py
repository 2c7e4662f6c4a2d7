"""Frozen, typed configuration. YAML in, fully resolved YAML out; an unknown key is an error with a suggestion.

Layers, weakest first: defaults, preset, configuration file, `--set`, command-line options. `training.KEY` sets
KEY for every method; `settings.METHOD.KEY` sets it for one. A later layer's `training.KEY` also replaces what
an earlier layer said for single methods, so that `--set training.learning_rate=1e-5` means what it says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator

from harness.core.section import Section
from harness.generation.protocol import Sampling
from harness.judging.settings import Judging
from harness.models.specs import Prune
from harness.prompts.settings import TEST_SHARE, PromptSource
from harness.serving.settings import VLLM, ModelServer

# How and where a run is made, and so no part of what it is: of its keys, its results and its resolved configuration.
MACHINE = frozenset({"store", "launcher", "processes", "accelerate_config", "vllm.python"})


class Limits(Section):
    """Prompts per set; the first ones of the file. None is all."""

    train: int | None = Field(default=None, ge=1)
    eval: int | None = Field(default=None, ge=1)


class JudgeConfig(Section):
    """What `judge` and `judge-check` take: the part of a run's configuration that is about judging."""

    judge: Judging = Judging()
    vllm: VLLM = VLLM()
    trust_remote_code: bool = False
    store: str | None = None


class Config(Section):
    student: str
    prune: Prune | None = Field(default=None, description="prune the student, or prune it otherwise than its entry")
    teacher: str | None = None
    trust_remote_code: bool = Field(
        default=False, description="run the Python code that a model comes with; any model of the run"
    )
    teacher_server: ModelServer | None = Field(default=None, description="the teacher is behind this server, not here")
    methods: tuple[str, ...] = ("sft", "kd", "ddpo", "dadpo")
    controls: Literal["none", "basic", "full"] = "basic"
    contrasts: tuple[tuple[str, str], ...] | None = Field(
        default=None, description="rows to be tested against each other; each method's own where this is not set"
    )
    judge: Judging = Judging()
    vllm: VLLM = VLLM()
    train_prompts: str = "everyday-train"
    eval: tuple[str, ...] = ("everyday-test", "followups", "longer-tasks")
    prompts: dict[str, PromptSource] = Field(default={}, description="prompt sets of your own, by name")
    test_share: float = Field(default=TEST_SHARE, gt=0, lt=1, description="of a set that is cut into @train and @test")
    limits: Limits = Limits()
    train_sampling: Sampling = Sampling()
    eval_sampling: Sampling = Sampling(temperature=0.8)
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="longer prompts lose their beginning, in training and scoring"
    )
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = None
    generator: Literal["auto", "transformers", "vllm"] = Field(
        default="auto", description="what draws responses; auto is the fastest that is installed"
    )
    generation_batch_size: int = Field(default=64, ge=1)
    scoring_batch_tokens: int = Field(default=4096, ge=1)
    scoring_precision: Literal["bf16", "fp32"] = "bf16"
    training: dict[str, Any] = Field(default={})
    settings: dict[str, dict[str, Any]] = Field(default={})
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    launcher: Literal["inline", "process", "accelerate"] = "inline"
    processes: int = Field(default=1, ge=1, description="ranks of a training")
    accelerate_config: str | None = Field(
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

    @field_validator("prompts")
    @classmethod
    def _names(cls, value: dict[str, PromptSource]) -> dict[str, PromptSource]:
        for name in value:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"'{name}' is no name: letters, digits, '.', '-' and '_' only")
        return value

    @field_validator("methods", "eval")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one is needed")
        if len(set(value)) < len(value):
            raise ValueError("one is named twice")
        return value


def to_yaml(config: Config) -> str:
    data = config.model_dump(mode="json", exclude={*MACHINE, "training"})  # `training` is resolved into `settings`
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
