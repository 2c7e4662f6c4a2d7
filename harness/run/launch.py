"""Running the jobs of a road: what is missing is made, in order. How one job is performed is its launcher's affair."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from harness.core.environment import environment
from harness.core.errors import NotFiniteError
from harness.core.progress import StageView, Tick, plain_console
from harness.core.records import Ref
from harness.models.locate import folder_of
from harness.run import known
from harness.run.jobs import PEAK_MEMORY, UNANSWERED, Job, ReadingJob
from harness.run.launchers import Perform, inline
from harness.serving import resident
from harness.store import Store


def run_job(job: Job, store: Store, tick: Tick, perform: Perform = inline, console: Console | None = None) -> bool:
    """Make one artifact unless it is there; whether it was made. Another process may be making it: then wait.

    Raises:
        NotFiniteError: what was computed came to no number; it says of which artifact.
        UserError: of the stage.
    """
    if _is_there(job, store, console or plain_console()):
        return False
    with store.making(job.ref) as work:
        if store.has(job.ref):  # the other process has just finished
            work.rmdir()
            return False
        known.note(job, store)
        resumed = any(work.iterdir())  # then the seconds and the memory are those of the last attempt alone
        began = time.monotonic()
        try:
            facts = perform(job, store, work, tick) | ({"resumed": True} if resumed else {})
        except NotFiniteError as error:
            error.ref = job.ref
            raise
        peak = facts.pop(PEAK_MEMORY, None)
        if facts.get(UNANSWERED):
            return False  # a failed call is never an artifact; the workspace keeps what was answered
        seconds = time.monotonic() - began
        store.commit(job.ref, work, job.model_dump(mode="json"), facts, seconds, environment(), peak)
    return True


def run_jobs(
    jobs: Iterable[Job],
    store: Store,
    console: Console,
    perform: Perform = inline,
    labels: Mapping[Ref, str] = MappingProxyType({}),
) -> int:
    """Make every artifact that is missing, in order; how many this process made. labels: what people see of jobs in
    place of their own labels."""
    count = 0
    missing = [job for job in jobs if not _is_there(job, store, console)]
    with StageView(console, len(missing)) as view:
        for job, models in zip(missing, left_in_memory(missing, store), strict=True):
            label = labels.get(job.ref, job.label)
            tick = view.stage(label)
            began = time.monotonic()
            with resident.wanted(models):
                made = run_job(job, store, tick, perform, console)
            count += made
            note = job.note(store.read(job.ref).facts if store.has(job.ref) else None)
            view.finish(label, time.monotonic() - began, f"; {note}" if note else "")
    return count


def left_in_memory(jobs: Sequence[Job], store: Store) -> list[frozenset[Path]]:
    """The models that each job may find and leave in memory, by their folders. Of a job that reads responses with what
    a later one holds too, among others, these others as well: no more is there then than that one takes."""
    found: list[frozenset[Path]] = []
    later: frozenset[Path] = frozenset()
    for job in reversed(jobs):
        own = frozenset(folder_of(model, store) for model in job.holds)
        later = later if isinstance(job, ReadingJob) and own <= later else own
        found.append(later)
    return found[::-1]


def _is_there(job: Job, store: Store, console: Console) -> bool:
    """Whether a job's artifact is there, whole. A damaged one is set aside, with a line that says so."""
    damage = store.set_aside_if_damaged(job.ref)
    if damage:
        line = f"warning: {job.label or job.ref} is made again: {damage}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return store.has(job.ref)
