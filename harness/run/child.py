"""A job performed in a process of its own, for the one that holds its workspace."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import traceback
from pathlib import Path

from harness.core.disk import writing
from harness.core.errors import NotFiniteError, UserError
from harness.core.files import write_atomically
from harness.run.jobs import Job
from harness.run.launchers.accelerate import RANKS_VARIABLE
from harness.run.launchers.inline import inline
from harness.run.launchers.process import ERROR, FACTS
from harness.store import Store


def end_with_parent() -> None:
    """End this process as soon as the one that holds the lock is gone, even where that was killed outright: another
    may take the workspace then. Ranks inherit the pipe from what starts them."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=watch, daemon=True).start()


def perform_for_parent(job: Job, job_file: Path, store: Store, work: Path) -> None:
    """Perform a job in a workspace that the parent holds, alone or as one of several ranks."""
    first = os.environ.get("RANK", "0") == "0"
    try:
        _as_many_as_wanted()
        job.prepare()
        with writing(work):
            facts = inline(job, store, work, _print_progress if first else _silent)
    except Exception as error:
        _leave_error(job_file.with_suffix(ERROR), error)
        raise
    if first:
        write_atomically(job_file.with_suffix(FACTS), json.dumps(facts))


def _as_many_as_wanted() -> None:
    """Accelerate starts one process, whatever number it is told, where its file is not about several."""
    there = os.environ.get("WORLD_SIZE", "1")
    wanted = os.environ.get(RANKS_VARIABLE, there)
    if there != wanted:
        raise UserError(
            f"accelerate started {there} of {wanted} processes; set distributed_type in your accelerate_config"
        )


def _print_progress(done: int, total: int, note: str = "") -> None:
    print(json.dumps({"done": done, "total": total}), flush=True)


def _silent(done: int, total: int, note: str = "") -> None:
    pass


def _leave_error(path: Path, error: Exception) -> None:
    """Of several ranks the first one is heard: the others then fail for want of it."""
    left = {
        "by_user": isinstance(error, UserError),
        "not_finite": isinstance(error, NotFiniteError),
        "message": str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}",
        "traceback": traceback.format_exc(),
    }
    with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        json.dump(left, file)
