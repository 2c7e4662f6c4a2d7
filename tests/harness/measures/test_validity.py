"""What measures of fidelity say is true: nothing of the teacher itself, more of a larger dose, and of drafted tokens
what drafting them comes to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from harness.logprobs.batching import Example
from harness.logprobs.comparing import LiveTeacher, compare
from harness.logprobs.model import LogProbModel
from harness.measures import Tokens, measures
from harness.measures.acceptance import accepted_length
from tests.conftest import tiny_model
from tests.harness.making import quiet

PROMPTS, PROMPT, LENGTH, VOCABULARY = 40, 4, 16, 512
# the measures that a dose moves, with what more of it does to them
WORSE = {"forward_kl": 1, "reverse_kl": 1, "acceptance": -1, "accepted_length": -1, "top1": -1, "nll": 1}
Student = Callable[[float], Any]


def teacher() -> Any:
    return tiny_model("llama", seed=2, hidden=48)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Prompts of random ids with what the teacher drew."""
    draw, model = torch.Generator().manual_seed(0), teacher()
    rows = torch.randint(3, VOCABULARY, (PROMPTS, PROMPT), generator=draw)
    with torch.no_grad():
        for _ in range(LENGTH):
            drawn = torch.multinomial(model(input_ids=rows).logits[:, -1].softmax(-1), 1, generator=draw)
            rows = torch.cat([rows, drawn], 1)
    return [Example(i, row[:PROMPT], (row[PROMPT:],)) for i, row in enumerate(rows.tolist())]


def measured(student: Any, examples: Sequence[Example]) -> dict[str, float]:
    """Each measure over all of the same responses, by its own `values`: as a ratio."""
    columns = compare(
        LogProbModel(student), LiveTeacher(LogProbModel(teacher())), examples, VOCABULARY, 1.0, "fp32", 4096, quiet
    )
    names = [field.name for field in fields(Tokens) if field.name != "ended"]
    starts = range(0, PROMPTS * LENGTH, LENGTH)
    read = [Tokens(**{name: columns[name][i : i + LENGTH] for name in names}, ended=False) for i in starts]
    found = {name: np.concatenate([measures.get(name).values(tokens) for tokens in read]) for name in WORSE}
    return {name: values.sum() / len(values) for name, values in found.items()}


def warmed(dose: float) -> Any:
    """The teacher with its logits divided by 1 + dose."""
    model = teacher()
    with torch.no_grad():
        model.model.norm.weight /= 1 + dose
    return model


def noisy(dose: float) -> Any:
    """The teacher with noise on its weights, `dose` of their spread."""
    model, draw = teacher(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter += dose * noise * (parameter.std() if parameter.dim() > 1 else 0)
    return model


DOSES: dict[str, tuple[Student, tuple[float, ...]]] = {
    "temperature": (warmed, (0.0, 0.2, 0.5, 1.0, 2.0)),
    "noise": (noisy, (0.0, 0.05, 0.1, 0.2, 0.4)),
}


@pytest.mark.parametrize("kind", DOSES)
def test_more_of_a_dose_is_farther_from_the_teacher(kind: str, examples: list[Example]) -> None:
    student, doses = DOSES[kind]
    series = [measured(student(dose), examples) for dose in doses]
    for name, sign in WORSE.items():
        values = [sign * found[name] for found in series]
        # temperature leaves the likeliest token what it is
        weakly = name == "top1"
        assert all(b >= a if weakly else b > a for a, b in itertools.pairwise(values)), (name, values)
    assert kind == "temperature" or series[-1]["top1"] < series[0]["top1"]


@pytest.mark.parametrize("kind", DOSES)
def test_the_teacher_is_no_distance_from_itself(kind: str, examples: list[Example]) -> None:
    found = measured(DOSES[kind][0](0.0), examples)
    exact = {"forward_kl": 0, "reverse_kl": 0, "acceptance": 1, "accepted_length": 4, "top1": 1}
    assert {name: found[name] for name in exact} == pytest.approx(exact, abs=1e-5)


# ---- drafted tokens

END, IDS = 0, 3


def model_of(seed: int) -> Callable[[tuple[int, ...]], list[float]]:
    """Probabilities of the next of IDS tokens, which depend on all that stand before."""

    def probabilities(before: tuple[int, ...]) -> list[float]:
        draw = np.random.default_rng([seed, len(before), *before])
        return list(draw.dirichlet(np.ones(IDS)))

    return probabilities


P, Q = model_of(1), model_of(2)


def responses(limit: int, before: tuple[int, ...] = (), chance: float = 1.0) -> Iterator[tuple[tuple[int, ...], float]]:
    """All that P may say, with its probability: up to the end or to the limit."""
    if len(before) == limit or (before and before[-1] == END):
        yield before, chance
        return
    for token, p in enumerate(P(before)):
        yield from responses(limit, (*before, token), chance * p)


def taken(before: tuple[int, ...], drafted: int) -> float:
    """How many of so many tokens that Q drafts one after another are taken on average: each with probability
    min(1, p / q), and none after one that was refused or after the end."""
    if not drafted:
        return 0.0
    total = 0.0
    for token, (p, q) in enumerate(zip(P(before), Q(before), strict=True)):
        more = 0.0 if token == END else taken((*before, token), drafted - 1)
        total += q * min(1.0, p / q) * (1 + more)
    return total


def as_tokens(response: tuple[int, ...]) -> Tokens:
    said = {
        name: np.array([math.log(model(response[:i])[token]) for i, token in enumerate(response)])
        for name, model in (("teacher_log_prob", P), ("student_log_prob", Q))
    }
    none: Any = np.zeros(len(response))
    others = {f.name: none for f in fields(Tokens) if f.name not in said and f.name != "ended"}
    return Tokens(**said, **others, ended=response[-1] == END)  # type: ignore[arg-type]


@pytest.mark.parametrize("drafted", [1, 2, 4])
def test_the_accepted_length_is_what_drafting_comes_to(drafted: int) -> None:
    limit = 6
    for start in range(limit - drafted + 1):
        # along the teacher's responses, on average over all that there are
        found = sum(
            chance * accepted_length(as_tokens(response), drafted)[start]
            for response, chance in responses(limit)
            if len(response) > start
        )
        # by drafting after each beginning of them
        wanted = sum(chance * taken(before, drafted) for before, chance in responses(start) if END not in before)
        assert found == pytest.approx(wanted, abs=1e-12)
        assert start == 0 or wanted > 0.01


def test_it_is_not_what_independent_tokens_would_give() -> None:
    found = sum(chance * accepted_length(as_tokens(response), 4)[0] for response, chance in responses(6))
    alpha = float(np.mean([sum(map(min, P(before), Q(before))) for before, _ in responses(3)]))
    assert abs(found - sum(alpha**k for k in range(1, 5))) > 0.05
