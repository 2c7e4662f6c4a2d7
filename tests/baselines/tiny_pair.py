"""A tiny student and teacher, trained through the loop; and how far apart they are on prompts that it never saw."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.core.progress import Tick
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel
from harness.methods import Method
from harness.training import loop
from harness.training.data import Data, Fresh, Stored, plan_steps
from harness.training.frozen import Frozen, Local
from harness.training.sampling import Writer
from tests.conftest import tiny_model

VOCABULARY = 48


def examples(seed: int, count: int = 16) -> list[Example]:
    draw = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(length)]

    return [Example(row, ids(4), (ids(8),), f"prompt-{row}") for row in range(count)]


SEEN, HELD_OUT = examples(0), examples(1)


@functools.cache
def teacher() -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=2, hidden=48, vocabulary=VOCABULARY).requires_grad_(False))


def student() -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=0, vocabulary=VOCABULARY))


def distributions(model: LogProbModel) -> Tensor:
    """Its log-probs at the held-out response tokens, [T, V]."""
    return model.log_prob_rows(collate(HELD_OUT, model.layout)).rows(slice(None), VOCABULARY)


def quiet(done: int, total: int) -> None:
    pass


def trained(method: Method, seed: int, folder: Path, tick: Tick = quiet, **settings: Any) -> LogProbModel:
    """The student after some steps of the method on the prompts that are seen; it goes on where `folder` has a
    checkpoint."""
    common = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "precision": "fp32", "checkpoint_steps": 1000}
    chosen: Any = method.settings.model_validate({**common, **settings})
    model = student()
    steps = plan_steps(SEEN, chosen.batch_size, chosen.epochs, seed)
    data: Data = Stored(SEEN, steps)
    share = method.fresh_share(chosen)
    if share:
        sampling = Sampling(temperature=chosen.sampling_temperature, max_new_tokens=8)
        writer = Writer(model, sampling, [], VOCABULARY, 8, chosen, seed)
        data = Fresh(SEEN, steps, 0, share, chosen.fresh_every, chosen.samples, seed, writer)
    frozen = Frozen(readers={"teacher": Local(teacher(), VOCABULARY)}, temperature=chosen.temperature)
    folder.mkdir(parents=True, exist_ok=True)
    loop.train(model, data, frozen, method, chosen, seed, folder, tick)
    return model.requires_grad_(False)
