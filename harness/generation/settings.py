"""How the responses of a run are drawn, and by what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.core.section import Section
from harness.generation.protocol import Sampling


class SamplingSettings(Section):
    """How responses are drawn."""

    train_sampling: Sampling = Sampling()
    eval_sampling: Sampling = Sampling(temperature=0.8)
    samples: int = Field(
        default=1,
        ge=1,
        description="responses a prompt in evaluation, each of which is judged and measured",
    )


class GeneratorSettings(Section):
    """What draws them."""

    generator: Literal["auto", "transformers", "vllm"] = Field(
        default="auto", description="what draws responses; auto is the fastest that is installed"
    )
    generation_batch_size: int = Field(default=64, ge=1)
