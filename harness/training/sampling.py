"""Responses from the model that is being trained, by the project's own sampler at the speed that it has outside.

While it samples the model is as it would be loaded for that: weights in the training's lower precision (packed, where a
loaded one's are), attention that reads a cache, nothing random on. Its masters are put back afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from harness.core.allocator import out_of_memory
from harness.core.errors import UserError
from harness.generation import sampler
from harness.generation.packed import PackedLinear, linear_layers, packed
from harness.generation.plain import plain
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import token_log_probs
from harness.methods import MethodSettings
from harness.training.data import Wanted, Written

PURPOSE = "fresh"
ADVICE = "lower max_new_tokens of the method, or generation_batch_size"


@contextlib.contextmanager
def _evaluating(model: LogProbModel) -> Iterator[None]:
    """Nothing random is on; afterwards each module is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


_Place = tuple[torch.nn.Module, str, torch.nn.Parameter]  # where a parameter is, and by which name


def _narrow(masters: Sequence[_Place], layers: Container[torch.nn.Module]) -> Iterator[torch.nn.Parameter]:
    """Each parameter in bf16, once where modules share it; weights of `layers` packed."""
    narrow: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module, name, master in masters:
        if module in layers and name == "weight":
            yield packed(master.to(torch.bfloat16))
            continue
        if master not in narrow:
            narrow[master] = torch.nn.Parameter(master.to(torch.bfloat16), False)
        yield narrow[master]


@contextlib.contextmanager
def as_sampled(model: LogProbModel, precision: str) -> Iterator[Any]:
    """The causal language model of a model in training, ready to be sampled from."""
    causal_lm, attention = model.causal_lm, model.causal_lm.config._attn_implementation
    compiled = {module: module._compiled_call_impl for module in model.modules() if module._compiled_call_impl}
    # a parameter is replaced and not its data: whoever follows its gradients, as DDP does, would lose it
    masters = [
        (module, name, parameter)
        for module in (model.modules() if precision == "bf16" else ())
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    layers: set[torch.nn.Linear] = set()
    with _evaluating(model):
        try:
            for module in compiled:  # for a batch that grows by a token a step it would be compiled again and again
                module._compiled_call_impl = None
            if model.layout == "packed":
                causal_lm.set_attn_implementation(sampler.GROUPED_ATTENTION)
            if masters and model.layout == "packed" and plain(causal_lm):
                layers |= set(linear_layers(causal_lm))
            for (module, name, _), narrow in zip(masters, _narrow(masters, layers), strict=True):
                module._parameters[name] = narrow
            for module in layers:
                module.__class__ = PackedLinear
            yield causal_lm
        finally:
            for module in layers:
                module.__class__ = torch.nn.Linear
            for module, name, master in masters:
                module._parameters[name] = master
            if model.layout == "packed":
                causal_lm.set_attn_implementation(attention)
            for module, call in compiled.items():
                module._compiled_call_impl = call


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
        asked = [[wanted[place] for place in places] for places in mine]
        found = list(zip(mine, self._written(asked, with_log_probs) if asked else [], strict=True))
        everywhere = gather_object(found) if state.num_processes > 1 else found
        by_place = {place: one for places, batch in everywhere for place, one in zip(places, batch, strict=True)}
        return [by_place[place] for place in range(len(wanted))]

    def _written(self, batches: Sequence[Sequence[Wanted]], with_log_probs: bool) -> list[list[Written]]:
        with as_sampled(self.model, self.settings.precision) as causal_lm:
            drawn = [self._drawn(causal_lm, batch) for batch in batches]
        read: list[list[list[float] | None]] = [[None] * len(rows) for rows in drawn]
        if with_log_probs:
            read = self._read(batches, drawn)
        return [
            [Written(row, said, row[-1] in self.stops) for row, said in zip(rows, of_rows, strict=True)]
            for rows, of_rows in zip(drawn, read, strict=True)
        ]

    def _drawn(self, causal_lm: Any, batch: Sequence[Wanted]) -> list[list[int]]:
        """The ids of each response."""
        count = self.sampling.max_new_tokens
        uniforms = torch.stack(
            [sampler.row_uniforms(self.seed, f"{PURPOSE}/{one.step}", one.name, count) for one in batch]
        )
        prompts = [one.example.prompt for one in batch]
        try:
            return sampler.decode_batch(causal_lm, prompts, uniforms, self.sampling, self.stops, self.vocabulary)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            names = ", ".join(one.example.name or str(one.example.index) for one in batch)
            raise UserError(
                f"out of memory while {len(batch)} responses of at most {count:,} tokens were sampled, to prompts of "
                f"{max(map(len, prompts)):,} tokens and fewer ({names}); {ADVICE}"
            ) from error

    def _read(
        self, batches: Sequence[Sequence[Wanted]], drawn: Sequence[Sequence[list[int]]]
    ) -> list[list[list[float] | None]]:
        """The log-probs of each response's tokens under the policy as it is."""
        found: list[list[list[float] | None]] = []
        with _evaluating(self.model):
            for batch, rows in zip(batches, drawn, strict=True):
                pairs = enumerate(zip(batch, rows, strict=True))
                examples = [Example(place, one.example.prompt, (row,)) for place, (one, row) in pairs]
                read = token_log_probs(self.model, examples, self.settings.precision, self.settings.micro_batch_tokens)
                found.append([row.tolist() for row in read])
        return found
