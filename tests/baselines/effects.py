"""Trainings of a tiny student on a tiny teacher, by any method, and what they did to held-out prompts."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.core.progress import Tick
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.logprobs.targets import Support
from harness.methods import DistributionSettings, FreshSettings, Method
from harness.methods.method import WRITERS
from harness.training import loop
from harness.training.data import Data, Fresh, Stored, plan_steps
from harness.training.frozen import Frozen, Local
from harness.training.sampling import Writer
from tests.baselines.rows import DECLARED, of_rows
from tests.conftest import tiny_model

VOCABULARY, PROMPT, LENGTH, SAMPLES = 32, 4, 6, 4
TRAINED, HELD_OUT = 48, 32
SEEDS = (0, 1, 2)
OWN = 8
# A tiny model bears much; a few dozen steps have to show.
COMMON = {"epochs": 4, "batch_size": 8, "precision": "fp32", "warmup_ratio": 0.0, "micro_batch_tokens": 4096}
ORDERS = list(itertools.permutations(range(SAMPLES)))


def quiet(done: int, total: int, note: str = "") -> None:
    pass


@functools.cache
def models() -> dict[str, Any]:
    """The student as it starts, which is the reference, and the teacher."""
    made = {
        "reference": tiny_model("llama", 0, vocabulary=VOCABULARY),
        "teacher": tiny_model("llama", 2, 48, VOCABULARY),
    }
    return {name: model.requires_grad_(False) for name, model in made.items()}


@torch.no_grad()
def sampled(model: Any, prompts: Tensor, seed: int) -> Tensor:
    """[prompts, LENGTH] ids, each token drawn from the model's distribution."""
    generator, ids = torch.Generator().manual_seed(seed), prompts
    for _ in range(LENGTH):
        mass = torch.softmax(model(input_ids=ids).logits[:, -1].double(), -1)
        ids = torch.cat([ids, torch.multinomial(mass, 1, generator=generator)], 1)
    return ids[:, prompts.shape[1] :]


@functools.cache
def prompts_of(held_out: bool) -> Tensor:
    generator = torch.Generator().manual_seed(int(held_out))
    return torch.randint(3, VOCABULARY, (HELD_OUT if held_out else TRAINED, PROMPT), generator=generator)


@functools.cache
def responses_of(who: str, sample: int, held_out: bool = False) -> Tensor:
    name = {"student": "reference"}.get(who, who)
    return sampled(models()[name], prompts_of(held_out), seed=10 + sample + 100 * held_out)


def examples_of(method: Method, written: Sequence[tuple[str, str, int]]) -> list[Example]:
    rows = [responses_of(who, sample).tolist() for _, who, sample in written]
    return [
        Example(row, prompt, tuple(responses[row] for responses in rows), f"p{row}")
        for row, prompt in enumerate(prompts_of(False).tolist())
    ]


def trained(method: Method, folder: Path, seed: int, tick: Tick = quiet, **overrides: Any) -> Any:
    """The student after a training with this method, which goes on where `folder` has a checkpoint."""
    settings = method.settings.model_validate(
        {**COMMON, "learning_rate": 3e-3, "max_new_tokens": LENGTH, **overrides}
        if issubclass(method.settings, FreshSettings)
        else {**COMMON, "learning_rate": 3e-3, **overrides}
    )
    written = method.written(settings)
    examples = examples_of(method, written)
    model = LogProbModel(copy.deepcopy(models()["reference"]).requires_grad_(True))
    share, frozen = method.fresh_share(settings), {name: LogProbModel(one) for name, one in fresh_models().items()}
    steps = plan_steps(examples, settings.batch_size, settings.epochs, seed)
    data: Data = Stored(examples, steps)
    if share and isinstance(settings, FreshSettings):
        writer = Writer(model, Sampling(max_new_tokens=LENGTH), [], VOCABULARY, 64, settings, seed)
        data = Fresh(examples, steps, 0, share, settings.fresh_every, settings.samples, seed, writer)
    by_sums = method.levels() == {"sequence"}
    sums = {
        name: sequence_log_probs(frozen[name], examples, "fp32", 4096, quiet).astype(np.float32)
        for name in method.reads
        if by_sums
    }
    rows = settings if isinstance(settings, DistributionSettings) else DistributionSettings()
    readers = {} if by_sums else {name: Local(one, VOCABULARY) for name, one in frozen.items()}
    if method.teacher_sees:  # a teacher of its own that knows more: the real one stands for the demonstration's effect
        readers["teacher"] = Local(frozen["teacher"], VOCABULARY)
    said = Frozen(
        sums,
        None,
        readers,
        Support(rows.support, min(rows.top_k, VOCABULARY), rows.top_k_of),
        rows.temperature,
        tuple(WRITERS[who] for _, who, _ in written),
    )
    folder.mkdir(parents=True, exist_ok=True)
    loop.train(model, data, said, method, settings, seed, folder, tick)
    model.causal_lm.set_attn_implementation("eager")  # it is read by itself from here on
    return model.causal_lm.eval()


def fresh_models() -> dict[str, Any]:
    return {name: copy.deepcopy(model) for name, model in models().items()}


# ---- what a student says on held-out prompts, in float64, by no code of the harness


@torch.no_grad()
def rows_of(model: Any, prompts: Tensor, responses: Tensor) -> Tensor:
    """Log-probs in the places of the response tokens, [prompts, LENGTH, V]."""
    logits = model(input_ids=torch.cat([prompts, responses], 1)).logits.double()
    return torch.log_softmax(logits[:, PROMPT - 1 : -1], -1)


def log_prob(model: Any, responses: Tensor) -> Tensor:
    """Of each held-out response, [prompts]."""
    rows = rows_of(model, prompts_of(True), responses)
    return rows.gather(-1, responses[..., None]).squeeze(-1).sum(-1)


def along(model: Any, responses: Tensor) -> tuple[Tensor, Tensor]:
    """(teacher's, student's) log-probs along these responses to the held-out prompts."""
    return tuple(rows_of(one, prompts_of(True), responses) for one in (models()["teacher"], model))  # type: ignore[return-value]


def reverse_kl(model: Any) -> float:
    """Along the model's own samples, several of each prompt: one alone moves more than a training does."""
    prompts = prompts_of(True).repeat(OWN, 1)
    own = sampled(model, prompts, seed=7)
    p, q = (rows_of(one, prompts, own) for one in (models()["teacher"], model))
    return float((q.exp() * (q - p)).sum(-1).mean())


def divergence_from(name: str) -> Callable[[Any], float]:
    """What a divergence declares, in plain arithmetic, at each token of the teacher's responses."""

    def measure(model: Any) -> float:
        p, q = (rows.flatten(0, 1) for rows in along(model, responses_of("teacher", 0, True)))
        return float(np.mean(of_rows(DECLARED[name], q, p)))

    return measure


def nll(model: Any) -> float:
    return -float(log_prob(model, responses_of("teacher", 0, True)).mean() / LENGTH)


def beyond(model: Any) -> float:
    """KL(q ‖ r^(1−L) p^L / Z) at L = 1.25, along the model's own samples."""
    own = sampled(model, prompts_of(True), seed=7)
    p, q = along(model, own)
    r = rows_of(models()["reference"], prompts_of(True), own)
    target = torch.log_softmax(1.25 * p - 0.25 * r, -1)
    return float((q.exp() * (q - target)).sum(-1).mean())


def lost_likeliest(model: Any) -> float:
    """How much likelier the model finds its likeliest token than the teacher's."""
    p, q = along(model, responses_of("teacher", 0, True))
    return float((q.max(-1).values - q.gather(-1, p.argmax(-1, keepdim=True)).squeeze(-1)).mean())


def lost_margin(model: Any) -> float:
    """−(log-prob of the teacher's response − that of the student's): what pair methods lower."""
    return float(
        (log_prob(model, responses_of("student", 0, True)) - log_prob(model, responses_of("teacher", 0, True))).mean()
    )


def lost_order(model: Any) -> float:
    """JSD between the teacher's and the model's Plackett-Luce distributions over orders of four samples, by their
    mean log-probs a token."""
    said, wanted = (
        torch.stack([log_prob(one, responses_of("student", sample, True)) for sample in range(SAMPLES)], 1)
        for one in (model, models()["teacher"])
    )
    found = []
    for a, b in zip(said.tolist(), wanted.tolist(), strict=True):
        q, p = (np.array([_plackett_luce([one[i] for i in order]) for order in ORDERS]) for one in (a, b))
        m = (p + q) / 2
        found.append(float((p * np.log(p / m) + q * np.log(q / m)).sum() / 2))
    return float(np.mean(found))


def _plackett_luce(log_probs: Sequence[float]) -> float:
    worth = np.exp((np.array(log_probs) - max(log_probs)) / LENGTH)
    return float(np.prod([worth[place] / worth[place:].sum() for place in range(len(worth))])) + 1e-300
