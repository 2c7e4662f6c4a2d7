"""The training loop. It knows batches, signals and a loss; it names no method."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor

from harness.config import MethodSettings
from harness.errors import UserError
from harness.jobs import METRICS
from harness.methods import Method, SequenceInputs
from harness.training.batching import Batch, Example, collate, split_by_tokens
from harness.training.model import LogProbModel

CHECKPOINT = "checkpoint.pt"
Signals = dict[str, NDArray[np.float32]]
Tick = Callable[[int, int], None]


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


def train(
    model: LogProbModel,
    examples: Sequence[Example],
    signals: Signals,
    method: Method,
    settings: MethodSettings,
    seed: int,
    work: Path,
    tick: Tick,
    teacher: LogProbModel | None = None,
    tokens: int | None = None,
) -> dict[str, Any]:
    """Train in place; facts of the training. Goes on from the checkpoint in `work`, if there is one.

    signals: {name: [N, k]} float32, row i belonging to examples[i]; `examples[i].index` must be i.

    Raises:
        UserError: the loss is not finite; the message names the batch.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # another training may have run in this process
    on_cpu = next(model.parameters()).device.type == "cpu"
    accelerator = Accelerator(mixed_precision="bf16" if settings.precision == "bf16" else "no", cpu=on_cpu)
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    if method.transform is not None:
        signals = method.transform(signals, settings, seed)
    steps = plan_steps(examples, settings.batch_size, settings.epochs, seed, tokens)
    sizes = [sum(examples[row].tokens for row in rows) for rows in steps]
    first = _resume(work, accelerator.unwrap_model(model), optimizer)
    seen = sum(sizes[:first])

    with (work / METRICS).open("a", encoding="utf-8") as metrics_file:
        for step in range(first, len(steps)):
            tick(seen, sum(sizes))
            began = time.monotonic()
            lr = learning_rate_at(step, len(steps), settings)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = [examples[row] for row in steps[step]]
            row = _step(accelerator, model, optimizer, batch, signals, method, settings, teacher)
            if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
                raise UserError(
                    f"the loss of {method.name} is {row['loss']} and its gradient norm {row['grad_norm']} at step "
                    f"{step + 1} (rows {steps[step]} of the training data); a lower learning_rate, or precision fp32, "
                    "may help"
                )
            seen += sizes[step]
            seconds = time.monotonic() - began
            row |= {
                "step": step + 1,
                "learning_rate": lr,
                "tokens": seen,
                "tokens_per_s": sizes[step] / seconds,
            }
            metrics_file.write(json.dumps(row) + "\n")
            metrics_file.flush()
            if (step + 1) % settings.checkpoint_steps == 0 and step + 1 < len(steps):
                _save(work, step + 1, accelerator.unwrap_model(model), optimizer)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # the caller's module without autocast around it
    tick(sum(sizes), sum(sizes))
    return {
        "steps": len(steps),
        "examples": len(examples),
        "tokens": sum(sizes),
    }


def _step(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    examples: Sequence[Example],
    signals: Signals,
    method: Method,
    settings: MethodSettings,
    teacher: LogProbModel | None,
) -> dict[str, float]:
    """One optimizer step; its metrics. Losses are divided by the step's count, never by a micro-batch's."""
    count = len(examples)
    if method.per == "token":
        count = sum(len(response) for example in examples for response in example.responses)
    parts = split_by_tokens(examples, settings.micro_batch_tokens)
    total = 0.0
    observed: list[SequenceInputs] = []
    for part in parts:
        batch = collate(part).to(accelerator.device)
        if method.level == "token":
            losses = model(batch, lambda student, target: method.loss(student, target, settings), teacher)
        else:
            inputs = _sequence_inputs(model(batch), batch, part, signals)
            losses = method.loss(inputs, settings)
            observed.append(inputs)
        loss = losses.sum() / count
        accelerator.backward(loss)
        total += loss.item()
    norm = accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": total, "grad_norm": float(norm), **_observations(observed)}


def _sequence_inputs(log_probs: Tensor, batch: Batch, examples: Sequence[Example], signals: Signals) -> SequenceInputs:
    rows = [example.index for example in examples]
    return SequenceInputs(
        policy=batch.sum_by_response(log_probs),
        lengths=batch.lengths(),
        signals={name: torch.from_numpy(values[rows]).to(log_probs.device) for name, values in signals.items()},
    )


def _observations(inputs: Sequence[SequenceInputs]) -> dict[str, float]:
    """What users look at: mean log-probs of the responses, and for pairs margins against the reference.

    Both log-probs falling is normal in DPO: only their margin is trained.
    """
    if not inputs:
        return {}
    policy = torch.cat([part.policy for part in inputs]).detach()
    if policy.shape[1] == 1:
        return {"log_prob": policy.mean().item()}
    found = {"log_prob_chosen": policy[:, 0].mean().item(), "log_prob_rejected": policy[:, 1].mean().item()}
    if "reference_log_probs" in inputs[0].signals:
        shift = policy - torch.cat([part.reference for part in inputs])
        margin = shift[:, 0] - shift[:, 1]
        found |= {
            "shift_chosen": shift[:, 0].mean().item(),
            "shift_rejected": shift[:, 1].mean().item(),
            "margin": margin.mean().item(),
            "accuracy": (margin > 0).float().mean().item(),
        }
    return found


def _save(work: Path, step: int, model: LogProbModel, optimizer: Any) -> None:
    """A checkpoint, whole or not there: written beside and renamed."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    beside = work / f"{CHECKPOINT}.tmp"
    torch.save(state, beside)
    beside.replace(work / CHECKPOINT)


def _resume(work: Path, model: LogProbModel, optimizer: Any) -> int:
    """Load the checkpoint, cut the metrics to its step, and return that step; 0 where there is none."""
    (work / f"{CHECKPOINT}.tmp").unlink(missing_ok=True)
    step = 0
    if (work / CHECKPOINT).is_file():
        state = torch.load(work / CHECKPOINT, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        step = int(state["step"])
    metrics = work / METRICS
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8").splitlines()[:step]
        metrics.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return step
