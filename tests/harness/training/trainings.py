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

from harness.core.records import METRICS
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example, Layout
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.logprobs.targets import Support
from harness.methods import DistributionSettings, FreshSettings, Method, MethodSettings, methods
from harness.methods.method import WRITERS
from harness.training import loop
from harness.training.adapters import with_adapter
from harness.training.data import Data, Fresh, Order, Stored, plan_steps
from harness.training.frozen import Frozen, Local, Reader, Sums
from harness.training.sampling import Writer
from tests.conftest import tiny_model

KINDS = ["sft", "kd", "ddpo", "dadpo"]
# of the examples below, each micro-batch holds one: no prompt is longer, no two examples fit
ONE_BY_ONE = 8
VOCABULARY = 512
STOPS = range(3, 67)  # so many that a policy soon ends
SAMPLED_AT_ONCE = 3
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


@functools.cache
def reference(layout: Layout | None = None) -> LogProbModel:
    """The student as it starts."""
    return LogProbModel(tiny_model("llama", seed=0).requires_grad_(False), layout)


@functools.cache
def signals() -> Sums:
    """The log-probs of all pairs under the student as it starts, and under the teacher."""
    return {
        name: sequence_log_probs(model, PAIRS, "fp32", 4096, quiet).astype(np.float32)
        for name, model in (("reference", reference()), ("teacher", teacher()))
    }


def frozen_of(method: Method, settings: MethodSettings, rows: int, layout: Layout | None = None) -> Frozen:
    """What a method reads: sums that are there, where no more is read of stored responses; else the models."""
    written = [WRITERS[who] for _, who, _ in method.written(settings)]
    if method.levels() == {"sequence"} and not method.fresh_share(settings):
        return Frozen({name: signals()[name][:rows] for name in method.reads})
    read = {*method.reads, *(written if "token" in method.levels() else ())}
    models = {"reference": reference, "teacher": teacher}
    by_rows = settings if isinstance(settings, DistributionSettings) else DistributionSettings()
    readers: dict[str, Reader] = {name: Local(models[name](layout), VOCABULARY) for name in sorted(read)}
    return Frozen(
        readers=readers,
        support=Support(by_rows.support, by_rows.top_k, by_rows.top_k_of),
        temperature=by_rows.temperature,
        wrote=tuple(written),
    )


def data_of(
    method: Method, settings: MethodSettings, model: LogProbModel, rows: int, seed: int, tokens: int | None = None
) -> Data:
    """The first `rows` examples; of a method with fresh responses, those that the policy writes in their place."""
    examples = (PAIRS if len(method.roles) == 2 else RESPONSES)[:rows]
    share = method.fresh_share(settings)
    if not share:
        return Stored(examples, plan_steps(examples, settings.batch_size, settings.epochs, seed, tokens))
    assert isinstance(settings, FreshSettings)
    sampling = Sampling(temperature=settings.sampling_temperature, max_new_tokens=settings.max_new_tokens or 8)
    writer = Writer(model, sampling, STOPS, VOCABULARY, SAMPLED_AT_ONCE, settings, seed)
    place = [who for _, who, _ in method.responses].index("policy")
    steps: Sequence[Sequence[int]] | Order = Order(rows, settings.batch_size, seed)
    if tokens is None:
        steps = plan_steps(examples, settings.batch_size, settings.epochs, seed)
    return Fresh(examples, steps, place, share, settings.fresh_every, settings.samples, seed, writer, tokens)


@dataclass(frozen=True)
class Trained:
    """What a training did. gradients: of each step, all parameters', before they are clipped. seeds: that each step
    began with. steps: the examples that each saw, with what the policy wrote. whole: the weights of a model that is
    sharded over ranks."""

    model: LogProbModel
    metrics: list[dict[str, Any]]
    gradients: list[list[Tensor]]
    seeds: list[int]
    steps: list[list[Example]]
    done: loop.Done

    @property
    def weights(self) -> State:
        return dict(self.model.causal_lm.state_dict())

    @property
    def whole(self) -> dict[str, Any] | None:
        return self.done.whole

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
    model = LogProbModel(with_adapter(start or tiny_model("llama", seed=0), settings, seed), layout)
    data = Watched(data_of(method, settings, model, rows, seed, tokens))
    frozen = frozen_of(method, settings, rows, layout)
    work.mkdir(parents=True, exist_ok=True)
    with recorded() as (gradients, seeds):
        done = loop.train(model, data, frozen, method, settings, seed, work, tick, tracker)
    return Trained(model, read_metrics(work), gradients, seeds, data.seen, done)


class Watched:
    """Data, and the examples that were asked for."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.seen: list[list[Example]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def batch(self, step: int) -> Sequence[Example]:
        self.seen.append(list(self.data.batch(step)))
        return self.seen[-1]


def read_metrics(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


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
