"""A job performed in a process of its own, which gives all of its memory back.

This process holds the artifact's lock and workspace and commits it. A child, `harness stage JOB.json --work DIR`, only
performs the job in that workspace (run/child.py). It leaves its facts or its error in a file beside JOB.json, and
prints its progress.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import NotFiniteError, UserError
from harness.core.files import write_atomically
from harness.core.progress import Tick
from harness.core.records import Facts
from harness.run.jobs import Job
from harness.run.launchers.inline import inline
from harness.serving import resident
from harness.store import STORE_VARIABLE, Store

Command = Callable[[Path, Path], list[str]]  # of a job's file and its workspace
FACTS, ERROR = ".facts", ".error"
KEPT_LINES, SHOWN_LINES, STOP_SECONDS = 40, 6, 10.0


class ChildError(Exception):
    """What a child wrote when it failed: the cause that `--debug` shows."""


def in_process(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    """Where that gives memory back; else here."""
    if not job.apart:
        return inline(job, store, work, tick)
    return in_child(process_command, job, store, work, tick)


def process_command(job_file: Path, work: Path) -> list[str]:
    return [sys.executable, *stage_arguments(job_file, work)]


def stage_arguments(job_file: Path, work: Path) -> list[str]:
    return ["-m", "harness", "stage", str(job_file), "--work", str(work)]


def in_child(
    command: Command, job: Job, store: Store, work: Path, tick: Tick, added: Mapping[str, str] | None = None
) -> Facts:
    """Perform a job by a command; its facts. This process lets go of its own models before.

    Raises:
        UserError: the child's own, or one that says how it died.
    """
    with resident.only(()), tempfile.TemporaryDirectory(prefix="dadpo-harness-") as folder:
        job_file = Path(folder) / "job.json"
        write_atomically(job_file, job.model_dump_json())
        environment = {**os.environ, STORE_VARIABLE: str(store.root.absolute()), **(added or {})}
        status, lines = _follow(command(job_file, work.absolute()), environment, tick)
        facts = _left(job_file.with_suffix(FACTS))
        if status == 0 and facts is not None:
            return facts
        error = _left(job_file.with_suffix(ERROR))
    if error is None:
        raise UserError(_death(job, status, lines)) from ChildError("\n" + "\n".join(lines))
    message = error["message"] if error["by_user"] else _death(job, status, [error["message"]])
    kind = NotFiniteError if error["not_finite"] else UserError
    raise kind(message) from ChildError("\n" + error["traceback"])


def _left(path: Path) -> dict[str, Any] | None:
    """What a child left in a file; None where it died before."""
    try:
        left: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return left


def _death(job: Job, status: int, lines: list[str]) -> str:
    how = f"status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"
    last = f"; its last lines: {' | '.join(lines[-SHOWN_LINES:])}" if lines else ""
    return (
        f"{job.label or job.ref}: its process ended with {how}; the same command goes on from the last checkpoint{last}"
    )


def _follow(command: list[str], environment: Mapping[str, str], tick: Tick) -> tuple[int, list[str]]:
    """Run a child to its end, its progress going to `tick`: its status and the last lines of what else it printed.

    Its standard input is a pipe on which nothing is ever written: it closes when this process is gone, however it went.
    """
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    with (
        _sigterm_raises(),
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as child,
    ):
        assert child.stdin and child.stdout
        try:
            for line in child.stdout:
                progress = _progress(line)
                if progress:
                    tick(*progress)
                elif line.strip(" =-\n"):  # rulers say nothing
                    kept.append(line.strip())
            return child.wait(), list(kept)
        except BaseException:
            child.stdin.close()
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise


def _progress(line: str) -> tuple[int, int] | None:
    try:
        data = json.loads(line)
        return int(data["done"]), int(data["total"])
    except (ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM as an exception, so that children are stopped before this process ends."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
