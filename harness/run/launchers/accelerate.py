"""A job performed on several ranks, where its stage can be; else in this process."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.core.records import Facts
from harness.run.jobs import Job
from harness.run.launchers.inline import Perform, inline
from harness.run.launchers.process import in_child, stage_arguments
from harness.store import Store

RANKS_VARIABLE = "DADPO_HARNESS_RANKS"


def on_ranks(processes: int, accelerate_config: str | None) -> Perform:
    command = functools.partial(ranks_command, processes=processes, accelerate_config=accelerate_config)

    def perform(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
        if not job.on_ranks:
            return inline(job, store, work, tick)
        if any(model.served and "@" in urlsplit(model.served.base_url).netloc for model in job.models):
            raise UserError(
                "a training on several ranks asks the teacher's server from each of them, and none is told the "
                "credentials in teacher_server.base_url: put the key into the environment (teacher_server.key_variable)"
            )
        return in_child(command, job, store, work, tick, ranks_environment(processes, os.environ))

    return perform


def ranks_command(job_file: Path, work: Path, processes: int, accelerate_config: str | None) -> list[str]:
    """Several ranks of one stage: as the user's own file of accelerate says, else plain data parallelism."""
    count = str(processes)
    if accelerate_config is None:
        start = ["torch.distributed.run", "--standalone", "--nproc_per_node", count]
    else:
        file = str(Path(accelerate_config).expanduser())
        start = ["accelerate.commands.launch", "--config_file", file, "--num_processes", count]
    return [sys.executable, "-m", *start, *stage_arguments(job_file, work)]


def ranks_environment(processes: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What ranks find set: how many they are to be, and a fair share of the CPU's threads."""
    added = {RANKS_VARIABLE: str(processes)}
    if processes > 1 and "OMP_NUM_THREADS" not in environment:
        added["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    return added
