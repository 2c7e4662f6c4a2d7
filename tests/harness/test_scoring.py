"""Sequence log-probs under a frozen model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from harness.scoring import sequence_log_probs
from harness.training.batching import Example
from harness.training.model import LogProbModel
from tests.conftest import tiny_model


def quiet(done: int, total: int) -> None:
    pass


def random_examples(count: int, k: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids() -> list[int]:
        return [draw.randrange(3, 512) for _ in range(draw.randint(1, 12))]

    return [Example(index, ids(), tuple(ids() for _ in range(k))) for index in range(count)]


def oracle(causal_lm: Any, example: Example) -> list[float]:
    sums = []
    for response in example.responses:
        logits = causal_lm(input_ids=torch.tensor([[*example.prompt, *response]])).logits[0].double()
        rows = torch.log_softmax(logits, -1)[len(example.prompt) - 1 : -1]
        sums.append(rows.gather(-1, torch.tensor(response)[:, None]).sum().item())
    return sums


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_scores_equal_one_sequence_at_a_time_in_the_order_given(family: str, k: int) -> None:
    causal_lm = tiny_model(family, seed=0)
    examples = random.Random(3).sample(random_examples(9, k), 9)  # rows are numbered otherwise than they stand
    found = sequence_log_probs(LogProbModel(causal_lm), examples, "fp32", 60, quiet)
    with torch.no_grad():
        wanted = np.array([oracle(causal_lm, example) for example in examples])
    assert found.shape == (9, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 40, 10**6])
def test_batch_tokens_do_not_change_the_values(batch_tokens: int) -> None:
    model, examples = LogProbModel(tiny_model("llama", seed=1)), random_examples(12, 2)
    usual = sequence_log_probs(model, examples, "fp32", 200, quiet)
    np.testing.assert_allclose(sequence_log_probs(model, examples, "fp32", batch_tokens, quiet), usual, atol=1e-4)


def test_rows_need_not_be_numbered_from_zero() -> None:
    model, examples = LogProbModel(tiny_model("llama", seed=1)), random_examples(6, 2)
    sparse = [Example(10 * (9 - example.index), example.prompt, example.responses) for example in examples]
    np.testing.assert_allclose(
        sequence_log_probs(model, sparse, "fp32", 60, quiet),
        sequence_log_probs(model, examples, "fp32", 60, quiet),
        atol=1e-4,
    )


def test_scoring_moves_no_random_state() -> None:
    model, examples = LogProbModel(tiny_model("qwen2", seed=2)), random_examples(6, 2)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
    sequence_log_probs(model, examples, "bf16", 60, quiet)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]


def test_bf16_is_near_fp32_and_leaves_the_weights_alone() -> None:
    causal_lm, examples = tiny_model("llama", seed=3), random_examples(6, 2)
    weights = {name: tensor.clone() for name, tensor in causal_lm.state_dict().items()}
    exact, near = (sequence_log_probs(LogProbModel(causal_lm), examples, p, 60, quiet) for p in ("fp32", "bf16"))
    assert not np.array_equal(exact, near)
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.5)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in causal_lm.state_dict().items())


def test_no_gradient_is_kept() -> None:
    causal_lm = tiny_model("llama", seed=4)
    sequence_log_probs(LogProbModel(causal_lm), random_examples(3, 1), "fp32", 60, quiet)
    assert all(parameter.grad is None for parameter in causal_lm.parameters())


def test_ticks_count_tokens_up_to_the_end() -> None:
    ticks: list[tuple[int, int]] = []
    examples = random_examples(6, 2)
    model = LogProbModel(tiny_model("llama", seed=5))
    sequence_log_probs(model, examples, "fp32", 30, lambda done, total: ticks.append((done, total)))
    total = sum(example.tokens for example in examples)
    assert ticks[0] == (0, total)
    assert ticks[-1] == (total, total)
    assert ticks == sorted(ticks)
