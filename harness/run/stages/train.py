"""One method's training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.progress import Tick
from harness.core.records import Facts
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel, why_padded
from harness.logprobs.targets import StoredTopK, Target
from harness.methods import MethodSettings, TokenSettings, methods
from harness.models import chat, loading, tokenizers
from harness.models.locate import model_folder
from harness.models.reference import Model
from harness.run.jobs import TOP_K, TrainJob
from harness.run.stages.inputs import ReadExamples, data_of, load_prompts, read_signal, require_made_of, tokenizer_of
from harness.store import Store
from harness.training import adapters, loop


def train_stage(job: TrainJob, store: Store, work: Path, tick: Tick) -> Facts:
    method = methods.get(job.method)
    settings = method.settings.model_validate(job.settings)
    loop.check_tracker(job.tracker)
    folder, own_code = model_folder(job.start, store), job.start.remote_code
    tokenizer = tokenizer_of(job.start, folder)
    data = data_of(job.prompts, job.responses, tokenizer, store, job.max_prompt_tokens)
    signals = {name: read_signal(ref, data.keys, job.responses, store) for name, ref in job.signals.items()}
    tokens = None
    if job.token_match is not None:
        epochs, refs = job.token_match
        tokens = epochs * data_of(job.prompts, refs, tokenizer, store, job.max_prompt_tokens).tokens
    target = _target(job, data, tokenizer, settings, store)
    start = loading.load_model(folder, torch.float32, remote_code=own_code)
    model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
    del start
    steps = loop.plan_steps(data.examples, settings.batch_size, settings.epochs, job.seed, tokens)
    plan = loop.Work(data.examples, steps, signals, target)
    whole = loop.train(model, plan, method, settings, job.seed, work, tick, job.tracker)
    if loop.is_main_process():
        if whole is not None:  # the ranks hold shares of the model: make it whole from the files it started from
            # in main memory: the shares are still on their devices
            start = loading.load_model(folder, torch.float32, on=torch.device("cpu"), remote_code=own_code)
            model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
            _, unknown = model.load_state_dict(whole, strict=False)
            assert not unknown, f"trained weights without a place: {unknown}"
        trained = adapters.without_adapter(model.causal_lm)
        # whoever loads it stops where it has learnt to end, which its base's may not say
        stops = chat.stop_ids(trained, tokenizer)
        trained.generation_config.eos_token_id = stops if len(stops) > 1 else next(iter(stops), None)
        loading.save_checkpoint(trained, tokenizer, work)
        (work / loop.CHECKPOINT).unlink(missing_ok=True)
    pairs = method.data == "pairs"
    return {
        **data.facts,
        "steps": len(steps),
        "examples": len(data.examples),
        "tokens": sum(data.examples[row].tokens for rows in steps for row in rows),
        "equal_pairs": sum(e.responses[0] == e.responses[-1] for e in data.examples) if pairs else 0,
        "parameters": model.causal_lm.num_parameters(),
        "ranks": loop.ranks(),
        "padded": why_padded(model.causal_lm),
    }


def _target(
    job: TrainJob, data: ReadExamples, tokenizer: Any, settings: MethodSettings, store: Store
) -> Callable[[Sequence[Example]], Target] | None:
    """Where a token-level method gets the teacher's distributions: the teacher itself, or its stored top k."""
    vocabulary = chat.vocabulary_size(tokenizer)
    if job.teacher is not None:
        folder = model_folder(job.teacher, store)
        tokenizers.require_one_tokenizer(tokenizer, tokenizer_of(job.teacher, folder), load_prompts(job.prompts, store))
        teacher = LogProbModel(loading.reading_model(folder, job.teacher.remote_code))
        device = next(teacher.parameters()).device
        return lambda part: teacher.target(collate(part, teacher.layout).to(device), vocabulary)
    if job.distributions is not None:
        artifact = store.read(job.distributions)
        read = Model.model_validate(artifact.manifest["job"]["model"])
        theirs = tokenizer_of(read, model_folder(read, store))
        tokenizers.require_one_tokenizer(tokenizer, theirs, load_prompts(job.prompts, store))
        require_made_of(job.distributions, job.responses, store)
        stored = np.load(artifact.path / TOP_K)
        lengths = [len(example.responses[0]) for example in data.examples]
        assert isinstance(settings, TokenSettings)
        top_k = StoredTopK(
            stored["ids"], stored["log_probs"], np.concatenate([[0], np.cumsum(lengths)]), settings.tail, vocabulary
        )
        return lambda part: top_k.of(part, loading.device())
    return None
