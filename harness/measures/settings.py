"""What is measured of responses beside what a judge says."""

from __future__ import annotations

from pydantic import Field

from harness.core.section import NamesIfAny, Section


class MeasureSettings(Section):
    """Which measures a run shows."""

    measures: NamesIfAny | None = Field(
        default=None, description="those that are shown (list measures); all that can be measured where this is not set"
    )
