"""A method's own loss on prompts that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.core.progress import Tick
from harness.core.records import Facts, Measured, write_jsonl
from harness.logprobs.batching import Example, check_prompts, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel, why_padded
from harness.logprobs.scoring import autocast
from harness.methods import Method, MethodSettings, TokenSettings, methods
from harness.models import loading
from harness.models.locate import model_folder
from harness.run.jobs import MEASURED, NOT_FINITE, OWN_LOSS, LossJob
from harness.run.stages.inputs import tokenizer_of
from harness.run.stages.train import data_in, examples_of, frozen_of
from harness.store import Store
from harness.training.frozen import Frozen
from harness.training.micro_batch import Counts, MicroBatch

ADVICE = "lower micro_batch_tokens"


def loss_stage(job: LossJob, store: Store, work: Path, tick: Tick) -> Facts:
    """All prompts as one step of the training that would come next, as far as its loss: of each prompt the sum of its
    losses, and how many it is the mean of (see `_counted`)."""
    method = methods.get(job.method)
    settings = method.settings.model_validate(job.settings)
    folder = model_folder(job.start, store)
    tokenizer = tokenizer_of(job.start, folder)
    read = examples_of(job, tokenizer, store)
    check_prompts(read.examples, settings.micro_batch_tokens, "micro_batch_tokens")
    frozen = frozen_of(job, method, settings, read, tokenizer, store)
    if method.transform is not None:
        frozen = replace(frozen, sums=method.transform(dict(frozen.sums), settings, job.seed))
    # as the training left it: its weights in float32, rounded where a product is
    model = LogProbModel(loading.load_model(folder, torch.float32, remote_code=job.start.remote_code))
    model.eval()
    every = [list(range(len(read.examples)))]
    examples = data_in(every, job, method, settings, read, model, tokenizer).batch(0)
    carried = store.read(job.start.artifact).facts.get("state", {}) if job.start.artifact else {}
    found = _losses(model, examples, method, settings, frozen, carried, tick)
    counts = _counted(examples, method, settings)
    whole = Counts(examples)
    write_jsonl(
        work / MEASURED,
        (
            Measured(prompt_id=name, values={OWN_LOSS: (share * sum(counts.values()), counts[name])})
            for name, share in found.items()
            if np.isfinite(share)
        ),
    )
    fresh = [one for one in examples if one.fresh is not None]
    return {
        **read.facts,
        "tokens": sum(example.tokens for example in examples),
        "prompts": len(found),
        "response_tokens": whole.token,
        NOT_FINITE: [name for name, share in found.items() if not np.isfinite(share)],
        "padded": why_padded(model.causal_lm),
        **({"fresh_tokens": sum(len(one.responses[one.fresh or 0]) for one in fresh)} if job.sampling else {}),
    }


@torch.no_grad()
def _losses(
    model: LogProbModel,
    examples: Sequence[Example],
    method: Method,
    settings: MethodSettings,
    frozen: Frozen,
    carried: dict[str, float],
    tick: Tick,
) -> dict[str, float]:
    """Each prompt's share of the loss of all of them, which is their sum."""
    counts, found = Counts(examples), dict[str, float]()
    device = next(model.parameters()).device
    by_prompt: dict[str, list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(example.name, []).append(example)
    for number, (name, of_prompt) in enumerate(by_prompt.items()):
        tick(number, len(by_prompt))
        found[name] = 0.0
        for part in split_by_tokens(of_prompt, settings.micro_batch_tokens, model.layout):
            with memory_errors(part, model.layout, ADVICE):
                batch = collate(part, model.layout).to(device)
                made = MicroBatch(part, batch, counts, method, settings, frozen, 1.0, carried)
                share, _ = made.loss(model, partial(autocast, batch, settings.precision))
                found[name] += float(share)
    return found


def _counted(examples: Sequence[Example], method: Method, settings: MethodSettings) -> dict[str, int]:
    """Of each prompt, how many of what its losses are summed over and divided by: tokens, responses or examples. Where
    terms of the loss are divided by different ones, each prompt counts as one."""
    own = settings.per if isinstance(settings, TokenSettings) else None
    # what the setting `nll` adds is divided as the term that it stands beside
    per, *others = {own if own and term.level != "sequence" else term.per for term in method.terms}
    found: dict[str, int] = {}
    for example in examples:
        found[example.name] = found.get(example.name, 0) + Counts([example]).of(per)
    return dict.fromkeys(found, 1) if others else found
