"""The harness's own loop on the same work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.workload import BETA_REFERENCE, BETA_TEACHER, Workload
from harness.core.allocator import keep_freed_memory
from harness.core.records import METRICS, read_jsonl
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.methods import MethodSettings, methods
from harness.models import loading
from harness.training import loop

NAME = "dadpo-harness"


def _settings(work: Workload) -> MethodSettings:
    betas = {
        "ddpo": {"beta": BETA_REFERENCE},
        "dadpo": {"beta_reference": BETA_REFERENCE, "beta_teacher": BETA_TEACHER},
    }
    return methods.get(work.method).settings.model_validate(
        {
            "learning_rate": work.learning_rate,
            "batch_size": work.rows_a_step,
            "micro_batch_tokens": work.micro_batch_tokens,
            "checkpoint_steps": 10**6,
            "precision": work.precision,
            "compile": work.compile,
            **betas.get(work.method, {}),
        }
    )


def train(work: Workload, begin: Callable[[], None], end: Callable[[], None]) -> dict[str, Any]:
    """Train through the workload; the losses of its steps, and the seconds of the reference's log-probs."""
    keep_freed_memory()
    settings, method = _settings(work), methods.get(work.method)
    # the schedule is the one thing that the peer is not asked to share
    loop.learning_rate_at = lambda *_: work.learning_rate
    model = LogProbModel(loading.load_model(Path(work.model), torch.float32))
    examples = [Example(i, row.prompt, tuple(row.responses)) for i, row in enumerate(work.rows)]
    signals: loop.Signals = {}
    seconds = 0.0
    if method.signals:
        began = time.monotonic()
        sums = sequence_log_probs(model, examples, work.precision, settings.micro_batch_tokens, lambda *_: None)
        seconds = time.monotonic() - began
        offsets = np.array([row.teacher for row in work.rows])
        made = {"reference_log_probs": sums, "teacher_log_probs": sums + offsets}
        signals = {name: made[name].astype(np.float32) for name in method.signals}
    target = None
    if method.level == "token":
        teacher = LogProbModel(loading.load_model(Path(work.teacher), torch.float32).requires_grad_(False))
        device = loading.device()

        def target(part: Any) -> Any:
            return teacher.target(collate(part).to(device))

    n = work.rows_a_step
    steps = [list(range(start, start + n)) for start in range(0, n * work.steps, n)]
    started = False

    def tick(done: int, total: int, note: str = "") -> None:  # called before each step, and once after the last
        nonlocal started
        if started:
            end()
        started = True
        if done < total:
            begin()

    folder = Path(tempfile.mkdtemp())
    loop.train(model, loop.Work(examples, steps, signals, target), method, settings, 0, folder, tick)
    losses = [float(row["loss"]) for _, row in read_jsonl(folder / METRICS)]
    return {"losses": losses, "reference_seconds": seconds}
