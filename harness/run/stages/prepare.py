"""Prompt sets read, checkpoints converted, students pruned."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.core.progress import Tick
from harness.core.records import Facts, write_jsonl
from harness.models import convert, loading, pruning, weights
from harness.models.locate import folder_digest, is_language_model, model_folder, unchanged
from harness.prompts import read_set
from harness.run.jobs import PROMPTS, ConvertJob, PromptsJob, PruneJob
from harness.run.stages.inputs import data_of, tokenizer_of
from harness.store import Store


def prompts_stage(job: PromptsJob, store: Store, work: Path, tick: Tick) -> Facts:
    found = read_set(job.label, job.source, download=True).first(job.limit)
    if job.held_out:
        found = found.hold_out(job.held_out)[job.validation]
    unchanged(job.source.path or found.source, found.digest, job.digest)
    write_jsonl(work / PROMPTS, found.prompts)
    return {"prompts": len(found.prompts)}


def convert_stage(job: ConvertJob, store: Store, work: Path, tick: Tick) -> Facts:
    path = Path(job.path)
    if job.format == "gguf":
        unchanged(path, file_sha256(path), job.digest)
        facts = convert.dequantise_gguf(path, work)
    else:
        unchanged(path, folder_digest(path, store, pickled=True), job.digest)
        if job.base is None:
            facts = convert.to_safetensors(path, work, tick)
        else:
            base = model_folder(job.base, store)
            facts = convert.merge_adapter(path, base, work, job.base.remote_code)
    if is_language_model(work) and (said := weights.fault(work)):
        raise UserError(f"{path}: {said}")
    return facts


def prune_stage(job: PruneJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = tokenizer_of(job.model, folder)
    model = loading.load_model(folder, torch.float32, remote_code=job.model.remote_code)
    data = data_of(job.prompts, [job.responses], tokenizer, store)
    pruned = pruning.prune_mlps(model, [(e.prompt, e.responses[0]) for e in data.examples], job.ratio, tick)
    loading.save_checkpoint(pruned, tokenizer, work)
    return {
        "parameters_before": model.num_parameters(),
        "parameters": pruned.num_parameters(),
        "mlp_width_before": model.config.intermediate_size,
        "mlp_width": pruned.config.intermediate_size,
        "tokens": data.tokens,
    }
