"""The training loop. It knows batches, signals, targets and a loss; it names no method."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.modeling_layers import GradientCheckpointingLayer

from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.progress import Tick
from harness.core.records import METRICS
from harness.logprobs.batching import Batch, Example, Layout, check_prompts, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel
from harness.logprobs.targets import Target
from harness.methods import Method, MethodSettings, SequenceInputs

CHECKPOINT = "checkpoint.pt"
ADVICE = "lower micro_batch_tokens, or set gradient_checkpointing=true or lora_rank"
# whole tensors in main memory, whatever the ranks hold of them; an adapter's, where only that is trained
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
Signals = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Work:
    """What is trained on. signals: {name: [N, k]} float32, row i belonging to examples[i], whose `index` is i.
    steps: the rows of each optimizer step. target: a teacher's distributions of some examples, for token losses."""

    examples: Sequence[Example]
    steps: Sequence[Sequence[int]]
    signals: Signals = field(default_factory=dict)
    target: Callable[[Sequence[Example]], Target] | None = None


def plan_steps(
    examples: Sequence[Example], batch_size: int, epochs: int, seed: int, tokens: int | None = None
) -> list[list[int]]:
    """Which rows of the data each optimizer step sees: a new order every epoch; the last batch may be smaller.

    With `tokens`, epochs go on until that many tokens are planned, whatever `epochs` says.
    """
    if not examples:
        raise ValueError("no examples to train on")
    steps: list[list[int]] = []
    planned = epoch = 0
    while planned < tokens if tokens is not None else epoch < epochs:
        order = np.random.default_rng([seed, epoch]).permutation(len(examples)).tolist()
        for start in range(0, len(order), batch_size):
            if tokens is not None and planned >= tokens:
                break
            steps.append(order[start : start + batch_size])
            planned += sum(examples[row].tokens for row in steps[-1])
        epoch += 1
    return steps


def learning_rate_at(step: int, total: int, settings: MethodSettings) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine to 0. Steps count from 0."""
    warmup = round(settings.warmup_ratio * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def shares(examples: Sequence[Example], ranks: int, budget: int, layout: Layout) -> list[list[list[Example]]]:
    """The micro-batches of each rank: as many on all, some of them empty, so that collective calls meet."""
    ordered = sorted(examples, key=lambda e: (-e.tokens, e.index))
    parts = [split_by_tokens(ordered[rank::ranks], budget, layout) for rank in range(ranks)]
    most = max(map(len, parts))
    return [own + [[]] * (most - len(own)) for own in parts]


def train(
    model: LogProbModel,
    data: Work,
    method: Method,
    settings: MethodSettings,
    seed: int,
    folder: Path,
    tick: Tick,
    tracker: str | None = None,
) -> dict[str, Any] | None:
    """Train in place, on as many ranks as this process is one of, going on from the checkpoint in `folder` if there is
    one.

    Returns the trained weights, where `model` itself ends up holding only a rank's share of them; else None.

    Raises:
        UserError: the loss is not finite or memory does not suffice; the message names the batch.
    """
    check_prompts(data.examples, settings.micro_batch_tokens, "micro_batch_tokens")
    accelerator = _accelerator(model, settings, tracker, folder)
    _prepare_layers(model, settings)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    module, optimizer = accelerator.prepare(model, optimizer)
    signals = data.signals if method.transform is None else method.transform(data.signals, settings, seed)
    step = _Step(accelerator, module, optimizer, model.layout, method, settings, signals, data.target)
    sizes = [sum(data.examples[row].tokens for row in rows) for rows in data.steps]
    first = _resume(folder, module, optimizer, accelerator.is_main_process)
    accelerator.wait_for_everyone()
    seen = sum(sizes[:first])

    with _metrics(folder, accelerator) as log:
        for number in range(first, len(data.steps)):
            tick(seen, sum(sizes))
            began = time.monotonic()
            # a step's random numbers (an adapter's dropout) follow from these alone: no checkpoint holds any
            torch.manual_seed(
                int(np.random.SeedSequence([seed, number, accelerator.process_index]).generate_state(1)[0])
            )
            lr = learning_rate_at(number, len(data.steps), settings)
            row = step.take([data.examples[index] for index in data.steps[number]], lr)
            if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
                batch = ", ".join(data.examples[index].name or str(index) for index in data.steps[number])
                raise UserError(
                    f"the loss of {method.name} is {row['loss']} and its gradient norm {row['grad_norm']} at step "
                    f"{number + 1} (training data: {batch}); a lower learning_rate, or precision fp32, may help"
                )
            seen += sizes[number]
            speed = sizes[number] / (time.monotonic() - began)
            log({**row, "step": number + 1, "learning_rate": lr, "tokens": seen, "tokens_per_s": speed})
            if (number + 1) % settings.checkpoint_steps == 0 and number + 1 < len(data.steps):
                _save(folder, number + 1, module, optimizer, accelerator.is_main_process)
    tick(sum(sizes), sum(sizes))
    whole = get_model_state_dict(module, options=WHOLE) if _sharded(module) else None
    accelerator.unwrap_model(module, keep_fp32_wrapper=False)  # the caller's module without autocast around it
    return whole


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
    signals: Signals
    target: Callable[[Sequence[Example]], Target] | None

    def take(self, examples: Sequence[Example], learning_rate: float) -> dict[str, float]:
        """Metrics of the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        count = len(examples)
        if self.method.per == "token":
            count = sum(len(response) for example in examples for response in example.responses)
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
                loss, observed = self._loss(shown)
                share = loss / count if part else 0 * loss
                self.accelerator.backward(share * ranks)  # gradients are averaged over ranks
            if part:
                observed["loss"] = share.detach()
                sums = {name: sums.get(name, 0) + value for name, value in observed.items()}
        with memory_errors(parts[0] or examples[:1], self.layout, ADVICE):  # the first step makes Adam's moments
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return self._gathered(sums, len(examples)) | {"grad_norm": float(norm)}

    def _loss(self, part: Sequence[Example]) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss of a micro-batch, and sums of what is observed."""
        batch = collate(part, self.layout).to(self.accelerator.device)
        with self.accelerator.autocast():  # FSDP has none of its own
            if self.method.level == "token":
                assert self.target is not None
                target = self.target(part)
                return self.model(batch, lambda own, other: self.method.loss(own, other, self.settings), target), {}
            log_probs = self.model(batch)
        inputs = self._inputs(log_probs, batch, part)
        return self.method.loss(inputs, self.settings).sum(), _observations(inputs)

    def _inputs(self, log_probs: Tensor, batch: Batch, part: Sequence[Example]) -> SequenceInputs:
        rows = [example.index for example in part]
        return SequenceInputs(
            policy=batch.sum_by_response(log_probs),
            lengths=batch.lengths(),
            signals={
                name: torch.from_numpy(values[rows]).to(log_probs.device) for name, values in self.signals.items()
            },
        )

    def _gathered(self, sums: dict[str, Tensor], examples: int) -> dict[str, float]:
        """Over all ranks: the loss, which is divided already, and means of what is observed."""
        names = ["loss", *_OBSERVED]
        zero = torch.zeros((), device=self.accelerator.device)
        values = torch.stack([sums.get(name, zero).float() for name in names])
        loss, *totals = self.accelerator.reduce(values, "sum").tolist()
        return {"loss": loss} | {
            name: total / examples for name, total in zip(_OBSERVED, totals, strict=True) if name in sums
        }


_OBSERVED = ("log_prob", "log_prob_chosen", "log_prob_rejected", "shift_chosen", "shift_rejected", "margin", "accuracy")


def _observations(inputs: SequenceInputs) -> dict[str, Tensor]:
    """What users look at, summed over examples: log-probs of the responses, and for pairs margins against the
    reference. Both log-probs falling is normal in DPO: only their margin is trained."""
    policy = inputs.policy.detach()
    if policy.shape[1] == 1:
        return {"log_prob": policy.sum()}
    found = {"log_prob_chosen": policy[:, 0].sum(), "log_prob_rejected": policy[:, 1].sum()}
    if "reference_log_probs" in inputs.signals:
        shift = policy - inputs.reference
        margin = shift[:, 0] - shift[:, 1]
        found |= {
            "shift_chosen": shift[:, 0].sum(),
            "shift_rejected": shift[:, 1].sum(),
            "margin": margin.sum(),
            "accuracy": (margin > 0).float().sum(),
        }
    return found


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


def _save(folder: Path, step: int, model: Any, optimizer: Any, main: bool) -> None:
    """A checkpoint, whole or not there: written beside and renamed."""
    weights, moments = get_state_dict(model, optimizer.optimizer, options=WHOLE)
    if main:
        # a frozen weight's second name, as of a tied head, is not left out of them
        weights = {name: weight for name, weight in weights.items() if name in moments["state"]}
        beside = folder / f"{CHECKPOINT}.tmp"
        try:
            with beside.open("wb") as file:  # a path's own writer does not say why it failed
                torch.save({"step": step, "model": weights, "optimizer": moments}, file)
            beside.replace(folder / CHECKPOINT)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _resume(folder: Path, model: Any, optimizer: Any, main: bool) -> int:
    """Load the checkpoint, cut the metrics to its step, and return that step; 0 where there is none.

    Raises:
        UserError: it cannot be read.
    """
    step = 0
    if (folder / CHECKPOINT).is_file():
        try:
            state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{folder / CHECKPOINT} is broken; delete it to train from the start") from error
        set_state_dict(
            model,
            optimizer.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=WHOLE,
        )
        step = int(state["step"])
    if main:
        (folder / f"{CHECKPOINT}.tmp").unlink(missing_ok=True)
        if (folder / METRICS).is_file():
            lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()[:step]
            write_atomically(folder / METRICS, "".join(line + "\n" for line in lines))
    return step


def ranks() -> int:
    """Of how many ranks this process is one."""
    return int(PartialState().num_processes)


def is_main_process() -> bool:
    return bool(PartialState().is_main_process)
