"""The training loop. It knows steps of examples, what frozen models say of them, and a loss; it names no method."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.modeling_layers import GradientCheckpointingLayer

from harness.core.errors import NotFiniteError, UserError
from harness.core.files import write_atomically
from harness.core.progress import Tick
from harness.core.records import METRICS
from harness.logprobs.batching import Example, Layout, check_prompts, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel
from harness.methods import Method, MethodSettings
from harness.methods.checking import advanced, started
from harness.training import adapters
from harness.training.data import Data, Fresh
from harness.training.frozen import Frozen
from harness.training.micro_batch import Counts, MicroBatch, observed_names

CHECKPOINT = "checkpoint.pt"
ADVICE = "lower micro_batch_tokens, or set gradient_checkpointing=true or lora_rank"
# whole tensors in main memory, whatever the ranks hold of them; an adapter's, where only that is trained
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
State = Mapping[str, float]


def learning_rate_at(done: int, total: int, settings: MethodSettings, size: int = 1) -> float:
    """Linear warm-up over `warmup_ratio` of the whole, then a cosine to 0. done: before this step; size: of this step,
    in what the whole is counted in."""
    warmup = round(settings.warmup_ratio * total)
    if done < warmup:
        return settings.learning_rate * (done + size) / (warmup + size)
    progress = (done - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def shares(examples: Sequence[Example], ranks: int, budget: int, layout: Layout) -> list[list[list[Example]]]:
    """The micro-batches of each rank: as many on all, some of them empty, so that collective calls meet."""
    ordered = sorted(examples, key=lambda e: (-e.tokens, e.index))
    parts = [split_by_tokens(ordered[rank::ranks], budget, layout) for rank in range(ranks)]
    most = max(map(len, parts))
    return [own + [[]] * (most - len(own)) for own in parts]


@dataclass(frozen=True)
class Done:
    """What a training leaves beside the model. whole: the trained weights, where the model itself ends up holding only
    a rank's share of them, else None. steps: that it took. tokens: that it saw; fresh_tokens: of these, that the policy
    wrote. cut: how many of its responses did not end. state: that its method carries."""

    whole: dict[str, Any] | None
    steps: int
    tokens: int
    fresh_tokens: int
    cut: int
    state: State


def train(
    model: LogProbModel,
    data: Data,
    frozen: Frozen,
    method: Method,
    settings: MethodSettings,
    seed: int,
    folder: Path,
    tick: Tick,
    tracker: str | None = None,
) -> Done:
    """Train in place, on as many ranks as this process is one of, going on from the checkpoint in `folder` if there is
    one.

    Raises:
        UserError: the loss is not finite or memory does not suffice; the message names the batch.
    """
    accelerator = _accelerator(model, settings, tracker, folder)
    if accelerator.is_fsdp2 and isinstance(data, Fresh):
        raise UserError(
            f"{method.name} samples from the policy as it trains, which sharded weights (FSDP) cannot yet; train it on "
            "one device, or replicated: leave accelerate_config out, or set fresh_share=0"
        )
    check_prompts(data.examples, settings.micro_batch_tokens, "micro_batch_tokens")
    _prepare_layers(model, settings)
    _set_modes(model, method.with_dropout(settings))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    module, optimizer = accelerator.prepare(model, optimizer)
    if method.transform is not None:
        frozen = replace(frozen, sums=method.transform(dict(frozen.sums), settings, seed))
    step = _Step(accelerator, module, optimizer, model.layout, method, settings, frozen)
    state = dict(started(method, settings))
    number, seen, written, cut, state = _resume(folder, module, optimizer, data, state, accelerator.is_main_process)
    accelerator.wait_for_everyone()
    at, kept = seen if data.by_tokens else number, number  # at: how much of the data's total is done

    def keep(step: int) -> None:
        beside = {"tokens": seen, "written": written, "cut": cut, "state": state, "data": data.saved()}
        _save(folder, step, module, optimizer, beside, accelerator.is_main_process)

    with _metrics(folder, accelerator) as log:
        while at < data.total:
            tick(*data.progress(number, seen))
            began = time.monotonic()
            # a step's random numbers (an adapter's dropout) follow from these alone: no checkpoint holds any
            torch.manual_seed(
                int(np.random.SeedSequence([seed, number, accelerator.process_index]).generate_state(1)[0])
            )
            try:
                examples = data.batch(number)
                size = sum(example.tokens for example in examples)
                part = size if data.by_tokens else 1
                lr = learning_rate_at(at, data.total, settings, part)
                row = step.take(examples, lr, at / data.total, state)
            except UserError:
                # whatever keeps this step from being taken, a server that is away or too little memory, those before
                # it are not taken again; a rank alone can save nothing
                if number > kept and accelerator.num_processes == 1:
                    keep(number)
                raise
            number, at = number + 1, at + part
            if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
                batch = ", ".join(example.name or str(example.index) for example in examples)
                raise NotFiniteError(
                    f"the loss of {method.name} is {row['loss']} and its gradient norm {row['grad_norm']} at step "
                    f"{number} (training data: {batch}); a lower learning_rate, or precision fp32, may help; "
                    f"the loss is in {method.file}"
                )
            if method.advance is not None:
                state = dict(advanced(method, state, row["loss"], min(1.0, at / data.total), settings))
            seen += size
            written += sum(len(one.responses[one.fresh]) for one in examples if one.fresh is not None)
            cut += sum(one.fresh is not None and not one.ended for one in examples)
            speed = size / (time.monotonic() - began)
            carried = {f"state_{name}": value for name, value in state.items()}
            log({**row, **carried, "step": number, "learning_rate": lr, "tokens": seen, "tokens_per_s": speed})
            if number % settings.checkpoint_steps == 0 and at < data.total:
                keep(number)
                kept = number
    _, everything = data.progress(number, seen)
    tick(everything, everything)
    whole = get_model_state_dict(module, options=WHOLE) if _sharded(module) else None
    accelerator.unwrap_model(module, keep_fp32_wrapper=False)  # the caller's module without autocast around it
    return Done(whole, number, seen, written, cut, state)


def _accelerator(model: LogProbModel, settings: MethodSettings, tracker: str | None, folder: Path) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)  # another training may have run in this process
    on_cpu = next(model.parameters()).device.type == "cpu"
    precision = "bf16" if settings.precision == "bf16" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu, log_with=tracker, project_dir=folder)
    if accelerator.is_fsdp2:
        # precision as without shards: accelerate would round all weights to bf16, and what the model returns
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
        # it asks the model which layers to shard one by one, and to tie weights again that it has moved
        model._no_split_modules, model.tie_weights = model.causal_lm._no_split_modules, model.causal_lm.tie_weights
    elif accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(
            f"trainings run on plain data parallelism or FSDP2, not on {accelerator.distributed_type.value}; "
            "set fsdp_version: 2 in your accelerate_config"
        )
    elif os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        raise UserError("accelerate does not shard on this device (FSDP needs a GPU); leave accelerate_config out")
    if tracker is not None:
        accelerator.init_trackers("dadpo-harness", config=settings.model_dump(mode="json"))
    return accelerator


def check_tracker(tracker: str | None) -> None:
    """Refuse a tracker whose package is missing.

    Raises:
        UserError: with the command that brings it.
    """
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise UserError(f"tracker={tracker}: its package is not installed; pip install {tracker}")


def _prepare_layers(model: LogProbModel, settings: MethodSettings) -> None:
    if settings.gradient_checkpointing:
        model.causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        # layer by layer: one layer's code serves all of them, and the hooks between them stay as they are
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.compile(dynamic=True)


def _set_modes(model: LogProbModel, dropout: bool) -> None:
    """What is random in training alone is on in all modules or in none: dropout in modules of its own, in attention and
    in a layer's function, noise in routers. An adapter's was asked for, and is on."""
    model.train(dropout)
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):  # it computes again what is in training, and nothing else
            module.training = True
    for module in adapters.dropouts(model.causal_lm):
        module.train()


@dataclass(frozen=True)
class _Step:
    """One optimizer step on any number of ranks, in any number of micro-batches. Losses are divided by the step's
    count on all ranks, never by a micro-batch's, so neither number moves the gradient."""

    accelerator: Accelerator
    model: Any
    optimizer: Any
    layout: Layout
    method: Method
    settings: MethodSettings
    frozen: Frozen

    def take(
        self, examples: Sequence[Example], learning_rate: float, progress: float, state: State
    ) -> dict[str, float]:
        """Metrics of the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        counts = Counts(examples)
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        parts = shares(examples, ranks, self.settings.micro_batch_tokens, self.layout)[rank]
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            shown = part or examples[:1]
            # shards that do not meet at each micro-batch would keep the whole model's gradients on every rank
            meet = last or self.accelerator.is_fsdp2
            alone = contextlib.nullcontext() if meet else self.accelerator.no_sync(self.model)
            with alone, memory_errors(shown, self.layout, ADVICE):
                batch = collate(shown, self.layout).to(self.accelerator.device)
                made = MicroBatch(shown, batch, counts, self.method, self.settings, self.frozen, progress, state)
                share, observed = made.loss(self.model, self.accelerator.autocast)
                share = share if part else 0 * share
                self.accelerator.backward(share * ranks)  # gradients are averaged over ranks
            if part:
                observed["loss"] = share.detach()
                sums = {name: sums.get(name, 0) + value for name, value in observed.items()}
        with memory_errors(parts[0] or examples[:1], self.layout, ADVICE):  # the first step makes Adam's moments
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return self._gathered(sums, counts) | counts.observed() | {"grad_norm": float(norm)}

    def _gathered(self, sums: dict[str, Tensor], counts: Counts) -> dict[str, float]:
        """Over all ranks: the loss, which is divided already, and means over examples of what is observed."""
        names = ["loss", *observed_names(self.method)]
        zero = torch.zeros((), device=self.accelerator.device)
        values = torch.stack([sums.get(name, zero).float() for name in names])
        loss, *totals = self.accelerator.reduce(values, "sum").tolist()
        return {"loss": loss} | {name: total / counts.example for name, total in zip(names[1:], totals, strict=True)}


@contextlib.contextmanager
def _metrics(folder: Path, accelerator: Accelerator) -> Iterator[Callable[[dict[str, float]], None]]:
    """Where a step's metrics go: a line of metrics.jsonl, and the tracker if there is one."""
    if not accelerator.is_main_process:
        yield lambda row: None
        return
    with (folder / METRICS).open("a", encoding="utf-8") as file:

        def log(row: dict[str, float]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            accelerator.log(row, step=int(row["step"]))

        yield log
    # not end_training: this rank alone would leave the others, which still have weights to gather
    for tracker in accelerator.trackers:
        tracker.finish()


def _sharded(model: Any) -> bool:
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def _save(folder: Path, step: int, model: Any, optimizer: Any, others: Mapping[str, Any], main: bool) -> None:
    """A checkpoint, whole or not there: written beside and renamed. others: what it holds beside weights and
    moments."""
    weights, moments = get_state_dict(model, optimizer.optimizer, options=WHOLE)
    if main:
        # a frozen weight's second name, as of a tied head, is not left out of them
        weights = {name: weight for name, weight in weights.items() if name in moments["state"]}
        beside = folder / f"{CHECKPOINT}.tmp"
        try:
            with beside.open("wb") as file:  # a path's own writer does not say why it failed
                torch.save({"step": step, "model": weights, "optimizer": moments, **others}, file)
            beside.replace(folder / CHECKPOINT)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _resume(
    folder: Path, model: Any, optimizer: Any, data: Data, state: State, main: bool
) -> tuple[int, int, int, int, dict[str, float]]:
    """Load the checkpoint, cut the metrics to its step, and return that step, the tokens seen and written by then, how
    many responses were cut, and the method's state; zeros and `state` where there is none.

    Raises:
        UserError: it cannot be read.
    """
    step, tokens, written, cut = 0, 0, 0, 0
    if (folder / CHECKPOINT).is_file():
        try:
            found = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{folder / CHECKPOINT} is broken; delete it to train from the start") from error
        if "cut" not in found:
            raise UserError(f"{folder / CHECKPOINT} is of an earlier version; delete it to train from the start")
        set_state_dict(
            model,
            optimizer.optimizer,
            model_state_dict=found["model"],
            optim_state_dict=found["optimizer"],
            options=WHOLE,
        )
        step, tokens, written, cut, state = (found[name] for name in ("step", "tokens", "written", "cut", "state"))
        data.restore(found["data"])
    if main:
        (folder / f"{CHECKPOINT}.tmp").unlink(missing_ok=True)
        if (folder / METRICS).is_file():
            lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()[:step]
            write_atomically(folder / METRICS, "".join(line + "\n" for line in lines))
    return step, tokens, written, cut, dict(state)


def ranks() -> int:
    """Of how many ranks this process is one."""
    return int(PartialState().num_processes)


def is_main_process() -> bool:
    return bool(PartialState().is_main_process)
