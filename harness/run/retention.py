"""Who is asked by tasks of lm-evaluation-harness, where a run names some."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config import Config
from harness.measures.tasks import Task
from harness.models.reference import Model
from harness.run.jobs import RetentionJob

SERVED = "retention: the teacher is behind a server, and is not asked; tasks need a model's own log-probs"


def retention_jobs(config: Config, tasks: Mapping[str, Task], models: Mapping[str, Model]) -> dict[str, RetentionJob]:
    """Of each row whose model is here, the job that asks it; none where no task is named."""
    if not tasks:
        return {}
    return {
        row: RetentionJob(
            label=f"retention: {row}",
            model=model,
            tasks={name: task.digest for name, task in tasks.items()},
            files={name: task.file for name, task in tasks.items() if task.file},
            limit=config.retention_limit,
            batch_size=config.generation_batch_size,
            precision=config.scoring_precision,
        )
        for row, model in models.items()
        if not model.served
    }
