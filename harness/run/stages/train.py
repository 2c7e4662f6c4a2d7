"""One method's training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.core.records import Facts, Ref
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel, why_padded
from harness.logprobs.scoring import response_starts
from harness.logprobs.targets import StoredTopK, Support
from harness.methods import DistributionSettings, FreshSettings, Method, MethodSettings, methods
from harness.methods.checking import shown
from harness.methods.method import WRITERS
from harness.models import chat, loading, tokenizers
from harness.models.families import dropout_of
from harness.models.locate import model_folder
from harness.models.reference import Model
from harness.run.jobs import TOP_K, LearningJob, TrainJob
from harness.run.stages.inputs import (
    ReadExamples,
    data_of,
    load_prompts,
    read_signal,
    require_made_of,
    responses_by_key,
    tokenizer_of,
)
from harness.store import Store
from harness.training import adapters, loop
from harness.training.data import Data, Fresh, Order, Rows, Stored, plan_steps
from harness.training.frozen import Frozen, Local, Reader, Served
from harness.training.sampling import Writer


def train_stage(job: TrainJob, store: Store, work: Path, tick: Tick) -> Facts:
    method = methods.get(job.method)
    settings = method.settings.model_validate(job.settings)
    loop.check_tracker(job.tracker)
    budget = _budget(job, store)
    folder, own_code = model_folder(job.start, store), job.start.remote_code
    tokenizer = tokenizer_of(job.start, folder)
    read = examples_of(job, tokenizer, store)
    frozen = frozen_of(job, method, settings, read, tokenizer, store)
    start = loading.load_model(folder, torch.float32, remote_code=own_code)
    model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
    del start
    # what the policy will write is as long as it is: a budget's steps are planned by nobody
    rows: Rows = Order(len(read.examples), settings.batch_size, job.seed)
    if job.sampling is None or budget is None:
        rows = plan_steps(read.examples, settings.batch_size, settings.epochs, job.seed, budget)
    data = data_in(rows, job, method, settings, read, model, tokenizer, budget)
    done = loop.train(model, data, frozen, method, settings, job.seed, work, tick, job.tracker)
    if loop.is_main_process():
        if done.whole is not None:  # the ranks hold shares of the model: make it whole from the files it started from
            # in main memory: the shares are still on their devices
            start = loading.load_model(folder, torch.float32, on=torch.device("cpu"), remote_code=own_code)
            model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
            _, unknown = model.load_state_dict(done.whole, strict=False)
            assert not unknown, f"trained weights without a place: {unknown}"
        trained = adapters.without_adapter(model.causal_lm)
        # whoever loads it stops where it has learnt to end, which its base's may not say
        stops = chat.stop_ids(trained, tokenizer)
        trained.generation_config.eos_token_id = stops if len(stops) > 1 else next(iter(stops), None)
        loading.save_checkpoint(trained, tokenizer, work)
        (work / loop.CHECKPOINT).unlink(missing_ok=True)
    pairs, rates = len(method.roles) == 2 and len(job.stored) == 2, dropout_of(model.causal_lm.config)
    return {
        **read.facts,
        "steps": done.steps,
        "examples": len(read.examples),
        "tokens": done.tokens,
        **({} if budget is None else {"budget": budget}),
        "equal_pairs": sum(e.responses[0] == e.responses[-1] for e in read.examples) if pairs else 0,
        "parameters": model.causal_lm.num_parameters(),
        "ranks": loop.ranks(),
        "padded": why_padded(model.causal_lm),
        **({"fresh_tokens": done.fresh_tokens, "cut": done.cut} if job.sampling else {}),
        **({"state": dict(done.state)} if done.state else {}),
        **({"dropout": rates, "dropout_on": method.with_dropout(settings)} if rates else {}),
    }


def _budget(job: TrainJob, store: Store) -> int | None:
    """The tokens that it takes of the student: as many as the training that it is matched to took in all, with where
    that one started, but for those that its own start took; None where its settings say how long it is.

    Raises:
        UserError: there are none left.
    """
    if job.match is None:
        return None
    there = _trained_in_all(job.match, store)
    before = 0 if job.start.artifact is None else _trained_in_all(job.start.artifact, store)
    if before >= there:
        raise UserError(
            f"{job.label}: nothing is left to train on: it takes as many tokens as another training did with its "
            f"start, {there:,}, and its own start took {before:,}; match a method that takes more, or set "
            f"settings.{job.method}.start=student"
        )
    return there - before


def _trained_in_all(ref: Ref, store: Store) -> int:
    """The tokens of a student's training, and of those that it started from; none of a student before training."""
    if not ref.startswith("train/"):
        return 0
    made = store.read(ref)
    start = made.manifest["job"]["start"]["artifact"]
    return int(made.facts["tokens"]) + (_trained_in_all(start, store) if start else 0)


def data_in(
    rows: Rows,
    job: LearningJob,
    method: Method,
    settings: MethodSettings,
    read: ReadExamples,
    model: LogProbModel,
    tokenizer: Any,
    budget: int | None = None,
) -> Data:
    """What each step of rows sees: stored examples, or what the model writes for it, until it has written a budget."""
    if job.sampling is None or not isinstance(settings, FreshSettings):
        assert not isinstance(rows, Order)
        return Stored(read.examples, rows)
    assert job.batch_size is not None
    stops, vocabulary = chat.stop_ids(model.causal_lm, tokenizer), chat.vocabulary_size(tokenizer)
    writer = Writer(model, job.sampling, stops, vocabulary, job.batch_size, settings, job.seed)
    place = next(place for place, (_, who, _) in enumerate(method.responses) if who == "policy")
    share, every, samples = settings.fresh_share, settings.fresh_every, settings.samples
    return Fresh(read.examples, rows, place, share, every, samples, job.seed, writer, budget)


def examples_of(job: LearningJob, tokenizer: Any, store: Store) -> ReadExamples:
    """Prompts with the stored response of each role; with none in the place of what the policy writes itself."""
    samples = [sample for ref, sample in zip(job.responses, job.samples, strict=False) if ref is not None]
    read = data_of(job.prompts, job.stored, tokenizer, store, job.max_prompt_tokens, samples, job.beside)
    if len(job.stored) == len(job.responses):
        return read

    def placed(example: Example) -> Example:
        stored = iter(example.responses)
        return replace(example, responses=tuple(() if ref is None else next(stored) for ref in job.responses))

    return replace(read, examples=list(map(placed, read.examples)))


def frozen_of(
    job: LearningJob, method: Method, settings: MethodSettings, read: ReadExamples, tokenizer: Any, store: Store
) -> Frozen:
    """What frozen models say: what was computed before, and the models that are read as the policy is."""
    vocabulary = chat.vocabulary_size(tokenizer)
    by_rows = settings if isinstance(settings, DistributionSettings) else DistributionSettings()
    support = Support(by_rows.support, by_rows.top_k, by_rows.top_k_of)
    prompts = load_prompts(job.prompts, store)

    def require_one_tokenizer(model: Model) -> Path:
        folder = model_folder(model, store)
        tokenizers.require_one_tokenizer(tokenizer, tokenizer_of(model, folder), prompts)
        return folder

    stored: StoredTopK | None = None
    if job.distributions is not None:
        artifact = store.read(job.distributions)
        require_one_tokenizer(Model.model_validate(artifact.manifest["job"]["model"]))
        require_made_of(job.distributions, job.stored, store)
        found = np.load(artifact.path / TOP_K)
        stored = StoredTopK(found["ids"], found["log_probs"], response_starts(read.examples), support, vocabulary)
    readers: dict[str, Reader] = {}
    for name, model in (("reference", job.reference), ("teacher", job.teacher)):
        if model is None:
            continue
        folder = require_one_tokenizer(model)
        if model.served is not None:
            readers[name] = Served(model.served, vocabulary, loading.device())
            continue
        local = LogProbModel(loading.reading_model(folder, model.remote_code))
        seen = _shown(job, method, read, tokenizer, store) if name == "teacher" and method.teacher_sees else None
        readers[name] = Local(local, vocabulary, seen) if seen else Local(local, vocabulary)
    return Frozen(
        sums={name: read_signal(ref, read.keys, job.stored, store) for name, ref in job.signals.items()},
        stored=stored,
        readers=readers,
        support=support,
        temperature=by_rows.temperature,
        wrote=tuple(WRITERS[who] for _, who, _ in method.written(settings)),
    )


def _shown(
    job: LearningJob, method: Method, read: ReadExamples, tokenizer: Any, store: Store
) -> Callable[[Example], Example]:
    """What a teacher that is shown the demonstration reads in the place of each example's prompt."""
    assert job.demonstrations is not None
    demonstrations = responses_by_key(job.demonstrations, store)
    prompts = {prompt.id: prompt for prompt in load_prompts(job.prompts, store)}
    encoded = []
    for name, _ in read.keys:
        messages = shown(method, prompts[name].messages, demonstrations[name, 0].text)
        encoded.append(chat.encode_chat(tokenizer, messages))
    return lambda example: replace(example, prompt=encoded[example.index])
