"""How one job is performed: in this process, in one of its own, or on several ranks. No part of what it makes.

This process holds the artifact's lock and workspace and commits it. A child, `harness stage JOB.json --work DIR`, only
performs the job in that workspace. It leaves its facts or its error in a file beside JOB.json, and prints its progress.
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

from harness.config import Config
from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.core.records import Facts
from harness.models.reference import Model
from harness.run.jobs import Job
from harness.serving import resident
from harness.store import STORE_VARIABLE, Store

Perform = Callable[[Job, Store, Path, Tick], Facts]


Command = Callable[[Path, Path], list[str]]  # of a job's file and its workspace


FACTS, ERROR = ".facts", ".error"


RANKS_VARIABLE = "DADPO_HARNESS_RANKS"


KEPT_LINES, SHOWN_LINES, STOP_SECONDS = 40, 6, 10.0


# the stages without a model to load: a process of their own would give no memory back
LIGHT = ("prompts", "judge")


class ChildError(Exception):
    """What a child wrote when it failed: the cause that `--debug` shows."""


def inline(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    from harness.models.locate import folder_of
    from harness.run.stages.perform import perform  # torch: only where there is something to compute

    with resident.only([folder_of(model, store) for model in job.holds]):
        return perform(job, store, work, tick)


def launcher(config: Config) -> Perform:
    """The launcher that the configuration names."""

    def in_a_process(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
        if job.stage in LIGHT or _elsewhere(job):
            return inline(job, store, work, tick)
        with resident.only(()):
            return in_child(process_command, job, store, work, tick)

    def on_ranks(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
        if job.stage != "train":
            return inline(job, store, work, tick)

        def command(job_file: Path, work: Path) -> list[str]:
            return ranks_command(job_file, work, config.processes, config.accelerate_config)

        with resident.only(()):
            return in_child(command, job, store, work, tick, ranks_environment(config.processes, os.environ))

    return {"inline": inline, "process": in_a_process, "accelerate": on_ranks}[config.launcher]


def _elsewhere(job: Job) -> bool:
    """Whether the model is in no process of ours, or in vLLM's own. A child would know neither a server's credentials
    nor vLLM's interpreter: no job's file holds them."""
    model = getattr(job, "model", None)
    return isinstance(model, Model) and (model.served is not None or getattr(job, "generator", "") == "vllm")


def process_command(job_file: Path, work: Path) -> list[str]:
    return [sys.executable, *_stage(job_file, work)]


def ranks_command(job_file: Path, work: Path, processes: int, accelerate_config: str | None) -> list[str]:
    """Several ranks of one stage: as the user's own file of accelerate says, else plain data parallelism."""
    count = str(processes)
    if accelerate_config is None:
        start = ["torch.distributed.run", "--standalone", "--nproc_per_node", count]
    else:
        file = str(Path(accelerate_config).expanduser())
        start = ["accelerate.commands.launch", "--config_file", file, "--num_processes", count]
    return [sys.executable, "-m", *start, *_stage(job_file, work)]


def _stage(job_file: Path, work: Path) -> list[str]:
    return ["-m", "harness", "stage", str(job_file), "--work", str(work)]


def ranks_environment(processes: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What ranks find set: how many they are to be, and a fair share of the CPU's threads."""
    added = {RANKS_VARIABLE: str(processes)}
    if processes > 1 and "OMP_NUM_THREADS" not in environment:
        added["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    return added


# ---- this process's side
def in_child(
    command: Command, job: Job, store: Store, work: Path, tick: Tick, added: Mapping[str, str] | None = None
) -> Facts:
    """Perform a job by a command; its facts.

    Raises:
        UserError: the child's own, or one that says how it died.
    """
    with tempfile.TemporaryDirectory(prefix="dadpo-harness-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        environment = {**os.environ, STORE_VARIABLE: str(store.root.absolute()), **(added or {})}
        status, lines = _follow(command(job_file, work.absolute()), environment, tick)
        facts = _left(job_file.with_suffix(FACTS))
        if status == 0 and facts is not None:
            return facts
        error = _left(job_file.with_suffix(ERROR))
    if error is None:
        raise UserError(_death(job, status, lines)) from ChildError("\n" + "\n".join(lines))
    message = error["message"] if error["by_user"] else _death(job, status, [error["message"]])
    raise UserError(message) from ChildError("\n" + error["traceback"])


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
