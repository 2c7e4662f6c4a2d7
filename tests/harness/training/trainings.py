"""Tiny trainings: their data and models, and what a training did. Rank processes import this too."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from harness.logprobs.batching import Example, Layout, collate
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.logprobs.targets import DenseTarget
from harness.methods import Method, methods
from harness.training import loop
from harness.training.adapters import with_adapter
from tests.conftest import tiny_model

KINDS = ["sft", "kd", "ddpo", "dadpo"]
# of the examples below, each micro-batch holds one: no prompt is longer, no two examples fit
ONE_BY_ONE = 8
VOCABULARY = 512
State = dict[str, Tensor]


def quiet(done: int, total: int) -> None:
    pass


def random_examples(count: int, k: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(least, most))]

    return [
        Example(index, ids(3, ONE_BY_ONE), tuple(ids(2, 10) for _ in range(k)), f"prompt-{index}")
        for index in range(count)
    ]


PAIRS = random_examples(40, k=2)
RESPONSES = [dataclasses.replace(example, responses=example.responses[:1]) for example in PAIRS]


def new_student(layout: Layout | None = None) -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=0), layout)


@functools.cache
def teacher(layout: Layout | None = None) -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=2, hidden=48).requires_grad_(False), layout)


def teachers_target(layout: Layout | None, examples: Sequence[Example]) -> DenseTarget:
    return teacher(layout).target(collate(examples, teacher(layout).layout), VOCABULARY)


@functools.cache
def signals() -> loop.Signals:
    """The log-probs of all pairs under the student as it starts, and under the teacher."""
    return {
        f"{name}_log_probs": sequence_log_probs(model, PAIRS, "fp32", 4096, quiet).astype(np.float32)
        for name, model in (("reference", new_student()), ("teacher", teacher()))
    }


@dataclass(frozen=True)
class Trained:
    """What a training did. gradients: of each step, all parameters', before they are clipped. seeds: that each step
    began with. whole: the weights of a model that is sharded over ranks."""

    model: LogProbModel
    metrics: list[dict[str, Any]]
    gradients: list[list[Tensor]]
    seeds: list[int]
    whole: dict[str, Any] | None

    @property
    def weights(self) -> State:
        return dict(self.model.causal_lm.state_dict())

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.metrics]


def train(
    kind: str | Method,
    work: Path,
    seed: int = 0,
    rows: int = 20,
    tick: loop.Tick = quiet,
    tokens: int | None = None,
    layout: Layout | None = None,
    tracker: Any = None,
    start: Any = None,
    **overrides: Any,
) -> Trained:
    """Train a fresh student, or `start`, on the first `rows` examples; goes on where `work` holds a checkpoint."""
    method = methods.get(kind) if isinstance(kind, str) else kind
    common = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", "warmup_ratio": 0.0}
    settings = method.settings.model_validate({**common, **overrides})
    examples = (PAIRS if method.data == "pairs" else RESPONSES)[:rows]
    model = LogProbModel(with_adapter(start or tiny_model("llama", seed=0), settings, seed), layout)
    data = loop.Work(
        examples,
        loop.plan_steps(examples, settings.batch_size, settings.epochs, seed, tokens),
        {name: signals()[name][:rows] for name in method.signals},
        functools.partial(teachers_target, layout) if method.level == "token" else None,
    )
    work.mkdir(parents=True, exist_ok=True)
    with recorded() as (gradients, seeds):
        whole = loop.train(model, data, method, settings, seed, work, tick, tracker)
    return Trained(model, read_metrics(work), gradients, seeds, whole)


def read_metrics(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / loop.METRICS).read_text().splitlines()]


@contextlib.contextmanager
def recorded() -> Iterator[tuple[list[list[Tensor]], list[int]]]:
    """The gradients of each step, whole, as they come to be clipped; and its seed."""
    steps: list[list[Tensor]] = []
    seeds: list[int] = []
    clip = Accelerator.clip_grad_norm_

    def record(accelerator: Any, parameters: Any, *rest: Any) -> Any:
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        steps.append([whole(parameter.grad) for parameter in parameters])
        seeds.append(torch.initial_seed())
        return clip(accelerator, parameters, *rest)

    with mock.patch.object(Accelerator, "clip_grad_norm_", record):
        yield steps, seeds


def whole(tensor: Any) -> Tensor:
    """A tensor that ranks may hold shares of, as it is now."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def apart(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """How far tensors are from others, as a share of the others' size; of the pair where it is largest."""
    pairs = zip(one, other, strict=True)
    return max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs)


def same_weights(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class InterruptionError(Exception):
    pass


def interrupt_at(step: int) -> loop.Tick:
    """A tick that raises as the given step (from 0) begins."""
    calls = iter(range(1000))

    def tick(done: int, total: int) -> None:
        if next(calls) == step:
            raise InterruptionError

    return tick
