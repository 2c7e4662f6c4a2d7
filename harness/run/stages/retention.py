"""What a model still can, by tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from harness.core.files import write_atomically
from harness.core.progress import Tick
from harness.core.records import Facts, plain
from harness.measures import tasks
from harness.models import loading, tokenizers
from harness.models.locate import model_folder, unchanged
from harness.models.shapes import weight_type
from harness.run.jobs import RETENTION, RetentionJob
from harness.store import Store


def retention_stage(job: RetentionJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder, version = model_folder(job.model, store), tasks.installed_version()
    asked = [tasks.Task(name, digest, job.files.get(name)) for name, digest in job.tasks.items()]
    for task in asked:
        where = str(task.file or f"task {task.name} of lm-evaluation-harness")
        unchanged(where, tasks.digest_of(task.file, version, store.digest), task.digest)
    # one of its own: lm-evaluation-harness sets what it needs on it
    tokenizer = tokenizers.load_tokenizer(folder, job.model.chat_template, job.model.remote_code)
    # as log-probs are read: in autocast's type on the checkpoint's weights, or in float32
    dtype = torch.float32 if job.precision == "fp32" else getattr(torch, weight_type(folder) or "float32")
    model = loading.frozen_model(folder, dtype, remote_code=job.model.remote_code)
    scores, how = [], {}
    for task in asked:
        found, how[task.name] = tasks.ask(model, tokenizer, task, job.limit, job.batch_size, job.precision, tick)
        scores += found
    write_atomically(work / RETENTION, json.dumps([plain(score) for score in scores], indent=1) + "\n")
    return {
        "lm_eval": version,
        "chat_template": bool(tokenizer.chat_template),
        "asked": how,
    }
