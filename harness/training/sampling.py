"""Responses from the model that is being trained, by the project's own sampler at the speed that it has outside.

While it samples the model is as it would be loaded for that: weights in the training's lower precision, attention that
reads a cache, nothing random on. Its masters are put back afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from harness.generation import sampler
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example, memory_errors
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import token_log_probs
from harness.methods import MethodSettings
from harness.training.data import Wanted, Written

PURPOSE = "fresh"
ADVICE = "lower max_new_tokens of the method, or generation_batch_size"


@contextlib.contextmanager
def as_sampled(model: LogProbModel, precision: str) -> Iterator[Any]:
    """The causal language model of a model in training, ready to be sampled from."""
    causal_lm, attention = model.causal_lm, model.causal_lm.config._attn_implementation
    modes = {module: module.training for module in model.modules()}
    compiled = {module: module._compiled_call_impl for module in model.modules() if module._compiled_call_impl}
    # a parameter is replaced and not its data: whoever follows its gradients, as DDP does, would lose it
    masters = [
        (module, name, parameter)
        for module in (model.modules() if precision == "bf16" else ())
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    try:
        model.eval()
        for module in compiled:  # for a batch that grows by a token a step it would be compiled again and again
            module._compiled_call_impl = None
        if model.layout == "packed":
            causal_lm.set_attn_implementation(sampler.GROUPED_ATTENTION)
        narrow = {master: torch.nn.Parameter(master.to(torch.bfloat16), False) for _, _, master in masters}
        for module, name, master in masters:
            module._parameters[name] = narrow[master]
        yield causal_lm
    finally:
        for module, name, master in masters:
            module._parameters[name] = master
        if model.layout == "packed":
            causal_lm.set_attn_implementation(attention)
        for module, call in compiled.items():
            module._compiled_call_impl = call
        for module, training in modes.items():
            module.training = training


class Writer:
    """Has the policy write. stops, vocabulary: see sampler.decode_batch. batch_size: rows that are sampled at once.
    Batches are formed from all rows and then shared among ranks, so that the text is the same however many they are."""

    def __init__(
        self,
        model: LogProbModel,
        sampling: Sampling,
        stops: Sequence[int],
        vocabulary: int,
        batch_size: int,
        settings: MethodSettings,
        seed: int,
    ) -> None:
        self.model, self.sampling, self.stops, self.vocabulary = model, sampling, stops, vocabulary
        self.batch_size, self.settings, self.seed = batch_size, settings, seed

    def __call__(self, wanted: Sequence[Wanted], with_log_probs: bool) -> list[Written]:
        """In the order of `wanted`."""
        state = PartialState()
        batches = sampler.form_batches([len(one.example.prompt) for one in wanted], self.batch_size)
        mine = batches[state.process_index :: state.num_processes]
        found = [(places, self._batch([wanted[place] for place in places], with_log_probs)) for places in mine]
        everywhere = gather_object(found) if state.num_processes > 1 else found
        written = {place: one for places, batch in everywhere for place, one in zip(places, batch, strict=True)}
        return [written[place] for place in range(len(wanted))]

    def _batch(self, wanted: Sequence[Wanted], with_log_probs: bool) -> list[Written]:
        count = self.sampling.max_new_tokens
        uniforms = torch.stack(
            [sampler.row_uniforms(self.seed, f"{PURPOSE}/{one.step}", one.name, count) for one in wanted]
        )
        prompts = [one.example.prompt for one in wanted]
        with (
            as_sampled(self.model, self.settings.precision) as causal_lm,
            memory_errors([one.example for one in wanted], self.model.layout, ADVICE),
        ):
            ids = sampler.decode_batch(causal_lm, prompts, uniforms, self.sampling, self.stops, self.vocabulary)
        log_probs: list[list[float] | None] = [None] * len(ids)
        if with_log_probs:
            examples = [Example(place, prompts[place], (row,)) for place, row in enumerate(ids)]
            modes = {module: module.training for module in self.model.modules()}
            self.model.eval()
            budget = self.settings.micro_batch_tokens
            read = token_log_probs(self.model, examples, self.settings.precision, budget)
            log_probs = [row.tolist() for row in read]
            for module, training in modes.items():
                module.training = training
        return [Written(row, said, row[-1] in self.stops) for row, said in zip(ids, log_probs, strict=True)]
