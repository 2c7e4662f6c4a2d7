"""Which models a run is about."""

from __future__ import annotations

from pydantic import Field

from harness.core.section import Section
from harness.models.specs import Prune
from harness.serving.settings import ModelServer

TEACHER_SERVER = "teacher_server"  # the setting below, as errors name it


class ModelSettings(Section):
    """The student and its teacher."""

    student: str
    prune: Prune | None = Field(default=None, description="prune the student, or prune it otherwise than its entry")
    teacher: str | None = None
    trust_remote_code: bool = Field(
        default=False, description="run the Python code that a model comes with; any model of the run"
    )
    teacher_server: ModelServer | None = Field(default=None, description="the teacher is behind this server, not here")
