"""What is measured of responses beside what a judge says."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from harness.core.section import NamesIfAny, Section


class MeasureSettings(Section):
    """Which measures a run shows, and what its models are asked beside."""

    measures: NamesIfAny | None = Field(
        default=None, description="those that are shown (list measures); all that can be measured where this is not set"
    )
    retention: NamesIfAny = Field(
        default=(), description="tasks of lm-evaluation-harness, names or YAML files, that models are asked at the end"
    )
    retention_limit: int | None = Field(
        default=None, ge=1, description="documents of each of these tasks at most; all where this is not set"
    )

    @field_validator("retention_limit")
    @classmethod
    def _of_tasks(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("retention"):
            raise ValueError("no task is named; add --retention TASK")
        return value
