"""One function a stage: a job (plain data) in, files in a workspace out, and facts about the work.

The models' code is imported here and below, and so only where something is computed. A stage finds in its workspace
what an interrupted attempt left, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.core.allocator import give_back, keep_freed_memory
from harness.core.progress import Tick
from harness.core.records import Facts
from harness.run.jobs import (
    ConvertJob,
    DistributionsJob,
    EmbedJob,
    Job,
    JudgeJob,
    PromptsJob,
    PruneJob,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.run.stages.judge import embed_stage, judge_stage
from harness.run.stages.prepare import convert_stage, prompts_stage, prune_stage
from harness.run.stages.respond import respond_stage
from harness.run.stages.score import distributions_stage, score_stage
from harness.run.stages.train import train_stage
from harness.store import Store


def perform(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    """Do a job in its workspace; the caller commits it."""
    keep_freed_memory()
    try:
        return _STAGES[type(job)](job, store, work, tick)
    finally:
        give_back()


_STAGES: dict[type[Job], Callable[..., Facts]] = {
    PromptsJob: prompts_stage,
    ConvertJob: convert_stage,
    PruneJob: prune_stage,
    RespondJob: respond_stage,
    ScoreJob: score_stage,
    DistributionsJob: distributions_stage,
    EmbedJob: embed_stage,
    TrainJob: train_stage,
    JudgeJob: judge_stage,
}
