"""A job performed in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.core.progress import Tick
from harness.core.records import Facts
from harness.models.locate import folder_of
from harness.run.jobs import Job
from harness.serving import resident
from harness.store import Store

Perform = Callable[[Job, Store, Path, Tick], Facts]  # how a job is done in its workspace; the caller commits it


def inline(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    from harness.run.stages.perform import perform

    with resident.only([folder_of(model, store) for model in job.holds]):
        return perform(job, store, work, tick)
