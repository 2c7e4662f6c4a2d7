"""A job done by its stage's function: a job (plain data) in, files in a workspace out, and facts about the work.

The models' code is imported with the function, and so only where something is computed. A stage finds in its workspace
what an interrupted attempt left, and goes on from there.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

from harness.core.allocator import give_back, keep_freed_memory
from harness.core.peak import watch_memory
from harness.core.progress import Tick
from harness.core.records import Facts
from harness.run.jobs import PEAK_MEMORY, Job
from harness.store import Store


def perform(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    """Do a job in its workspace; the caller commits it. Beside the stage's facts is the memory that it took; of several
    ranks, which take the same, each says its own."""
    keep_freed_memory()
    stage = pkgutil.resolve_name(job.work)
    peak = watch_memory()
    try:
        facts: Facts = stage(job, store, work, tick)
        return {**facts, PEAK_MEMORY: peak()}
    finally:
        give_back()
