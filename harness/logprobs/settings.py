"""How frozen models are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.core.section import Section


class ScoringSettings(Section):
    """How the log-probs of frozen models are computed."""

    scoring_batch_tokens: int = Field(default=4096, ge=1)
    scoring_precision: Literal["bf16", "fp32"] = "bf16"
