"""What a frozen model says of responses: their log-probs, and the largest log-probs at each of their tokens."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.core.errors import UserError
from harness.logprobs import model as model_module
from harness.logprobs.batching import Example, Layout
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs, top_log_probs
from tests.conftest import tiny_model

LAYOUTS: list[Layout] = ["packed", "padded"]
LONGEST = 12


def quiet(done: int, total: int) -> None:
    pass


def random_examples(count: int, k: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids() -> list[int]:
        return [draw.randrange(3, 512) for _ in range(draw.randint(1, LONGEST))]

    return [Example(index, ids(), tuple(ids() for _ in range(k))) for index in range(count)]


def shuffled(examples: list[Example]) -> list[Example]:
    """Rows that are numbered otherwise than they stand."""
    return random.Random(3).sample(examples, len(examples))


def own_rows(causal_lm: Any, example: Example) -> list[Tensor]:
    """For each response, [R, V] logits of a float64 copy with stock attention, one sequence at a time."""
    rows = []
    with torch.no_grad():
        for response in example.responses:
            logits = causal_lm(input_ids=torch.tensor([[*example.prompt, *response]])).logits[0]
            rows.append(logits[len(example.prompt) - 1 : -1])
    return rows


def own_sums(causal_lm: Any, examples: list[Example]) -> Any:
    """[examples, k] float64."""
    own = copy.deepcopy(causal_lm).double()
    return np.array(
        [
            [
                torch.log_softmax(rows, -1).gather(-1, torch.tensor(response)[:, None]).sum().item()
                for rows, response in zip(own_rows(own, example), example.responses, strict=True)
            ]
            for example in examples
        ]
    )


# ---- sequence log-probs


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_scores_equal_one_sequence_at_a_time_in_the_order_given(
    family: str, tied: bool, k: int, layout: Layout
) -> None:
    causal_lm, examples = tiny_model(family, seed=0, tied=tied), shuffled(random_examples(9, k))
    wanted = own_sums(causal_lm, examples)
    found = sequence_log_probs(LogProbModel(causal_lm, layout), examples, "fp32", 60, quiet)
    assert found.shape == (9, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_sums_of_many_tokens_are_made_in_float64() -> None:
    causal_lm = tiny_model("llama", seed=1)
    draw = random.Random(4)
    examples = [Example(0, [5, 6], ([draw.randrange(3, 512) for _ in range(480)],))]
    model = LogProbModel(causal_lm)
    values: list[Tensor] = []
    model.register_forward_hook(lambda module, inputs, output: values.append(output))
    found = sequence_log_probs(model, examples, "fp32", 1000, quiet)
    assert found[0, 0] == pytest.approx(sum(values[0].tolist()), abs=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_tokens", [LONGEST, 40, 10**6])
def test_batch_tokens_do_not_change_the_values(batch_tokens: int, layout: Layout) -> None:
    examples = shuffled(random_examples(12, 2))
    model = LogProbModel(tiny_model("llama", seed=1), layout)
    usual = sequence_log_probs(model, examples, "fp32", 200, quiet)
    np.testing.assert_allclose(
        sequence_log_probs(model, examples, "fp32", batch_tokens, quiet), usual, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_layouts_agree(family: str) -> None:
    causal_lm, examples = tiny_model(family, seed=2), random_examples(12, 2)
    padded = sequence_log_probs(LogProbModel(copy.deepcopy(causal_lm), "padded"), examples, "fp32", 60, quiet)
    packed = sequence_log_probs(LogProbModel(causal_lm, "packed"), examples, "fp32", 60, quiet)
    np.testing.assert_allclose(packed, padded, rtol=0, atol=1e-4)


def test_rows_need_not_be_numbered_from_zero() -> None:
    model, examples = LogProbModel(tiny_model("llama", seed=1)), random_examples(6, 2)
    sparse = [Example(10 * (9 - example.index), example.prompt, example.responses) for example in examples]
    np.testing.assert_allclose(
        sequence_log_probs(model, sparse, "fp32", 60, quiet),
        sequence_log_probs(model, examples, "fp32", 60, quiet),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bf16_is_near_fp32_and_leaves_the_weights_alone(layout: Layout) -> None:
    causal_lm, examples = tiny_model("llama", seed=3), random_examples(6, 2)
    weights = {name: tensor.clone() for name, tensor in causal_lm.state_dict().items()}
    model = LogProbModel(causal_lm, layout)
    fine, near = (sequence_log_probs(model, examples, precision, 60, quiet) for precision in ("fp32", "bf16"))
    assert not np.array_equal(fine, near)
    np.testing.assert_allclose(near, fine, rtol=0.05, atol=0.5)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in causal_lm.state_dict().items())


# ---- the largest log-probs


def top(model: LogProbModel, examples: list[Example], k: int = 5, vocabulary: int = 512, **other: Any) -> Any:
    settings = {"precision": "fp32", "batch_tokens": 60, "tick": quiet, **other}
    return top_log_probs(model, examples, k, vocabulary, **settings)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 7, 512])
@pytest.mark.parametrize("responses", [1, 2])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_largest_log_probs_in_the_order_given(
    family: str, responses: int, k: int, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 5 * 512)  # several chunks a batch
    causal_lm, examples = tiny_model(family, seed=6), shuffled(random_examples(9, responses))
    own = copy.deepcopy(causal_lm).double()
    dense = torch.log_softmax(torch.cat([rows for example in examples for rows in own_rows(own, example)]), -1)
    ids, log_probs = top(LogProbModel(causal_lm, layout), examples, k)
    assert ids.shape == log_probs.shape == (sum(len(r) for e in examples for r in e.responses), k)
    assert (ids.dtype, log_probs.dtype) == (np.int32, np.float32)
    np.testing.assert_allclose(log_probs, dense.topk(k).values.numpy(), rtol=0, atol=1e-4)
    # each id has the log-prob beside it; equal ones may stand in another order
    mine = dense.gather(-1, torch.from_numpy(ids.astype(np.int64)))
    np.testing.assert_allclose(log_probs, mine.numpy(), rtol=0, atol=1e-4)
    assert all(len(set(row)) == k for row in ids.tolist())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("vocabulary", [300, 512, 600])
def test_ids_beyond_the_vocabulary_count_for_nothing(vocabulary: int, layout: Layout) -> None:
    causal_lm, examples = tiny_model("qwen2", seed=7, tied=False), random_examples(5, 1)
    own = copy.deepcopy(causal_lm).double()
    logits = torch.cat([rows for example in examples for rows in own_rows(own, example)])
    wanted = torch.log_softmax(logits[:, :vocabulary], -1).topk(4).values
    ids, log_probs = top(LogProbModel(causal_lm, layout), examples, 4, vocabulary)
    assert ids.max() < min(vocabulary, 512)
    np.testing.assert_allclose(log_probs, wanted.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_tokens", [LONGEST, 10**6])
def test_batch_tokens_do_not_change_the_largest(batch_tokens: int, layout: Layout) -> None:
    model, examples = LogProbModel(tiny_model("llama", seed=8), layout), shuffled(random_examples(9, 2))
    usual, other = top(model, examples), top(model, examples, batch_tokens=batch_tokens)
    assert np.array_equal(usual[0], other[0])
    np.testing.assert_allclose(usual[1], other[1], rtol=0, atol=1e-5)


def test_the_largest_log_probs_have_float32_logits_in_bf16_too() -> None:
    # with a head of bf16's steps apart, logits rounded to bf16 would tie
    causal_lm, examples = tiny_model("llama", seed=9, tied=False), random_examples(6, 1)
    fine, near = (top(LogProbModel(causal_lm), examples, 512, precision=precision)[1] for precision in ("fp32", "bf16"))
    assert not np.array_equal(fine, near)
    np.testing.assert_allclose(near[:, 0], fine[:, 0], rtol=0, atol=0.5)
    assert min(len(np.unique(row)) for row in near) > 480


# ---- both

Score = Callable[[LogProbModel, list[Example], str, int, Callable[[int, int], None]], Any]
BOTH: dict[str, Score] = {
    "sequences": sequence_log_probs,
    "largest": lambda model, examples, precision, budget, tick: top_log_probs(
        model, examples, 3, 512, precision, budget, tick
    ),
}


@pytest.fixture(params=BOTH)
def score(request: pytest.FixtureRequest) -> Score:
    return BOTH[request.param]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scoring_moves_no_random_state(score: Score, layout: Layout) -> None:
    model, examples = LogProbModel(tiny_model("qwen2", seed=2), layout), random_examples(6, 2)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    score(model, examples, "bf16", 60, quiet)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]
    assert random.getstate() == before[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_gradient_is_kept(score: Score, layout: Layout) -> None:
    model = LogProbModel(tiny_model("llama", seed=4), layout)
    recorded: list[bool] = []
    model.causal_lm.model.register_forward_hook(
        lambda module, inputs, output: recorded.append(output.last_hidden_state.requires_grad)
    )
    score(model, random_examples(3, 1), "fp32", 60, quiet)
    assert recorded and not any(recorded)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_ticks_count_tokens_up_to_the_end(score: Score) -> None:
    ticks: list[tuple[int, int]] = []
    examples = random_examples(6, 2)
    model = LogProbModel(tiny_model("llama", seed=5))
    score(model, examples, "fp32", 30, lambda done, total: ticks.append((done, total)))
    total = sum(example.tokens for example in examples)
    assert len(ticks) > 3
    assert ticks[0] == (0, total)
    assert ticks[-1] == (total, total)
    assert ticks == sorted(ticks)


def test_a_prompt_over_the_budget_is_refused_before_anything_is_computed(score: Score) -> None:
    model = LogProbModel(tiny_model("llama", seed=5))
    model.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    examples = [*random_examples(3, 2), Example(3, [5] * 31, ([6], [7]), name="everyday-0042")]
    with pytest.raises(UserError, match=r"prompt everyday-0042 has 31 tokens, more than scoring_batch_tokens = 30"):
        score(model, examples, "fp32", 30, quiet)


def test_out_of_memory_says_which_setting_helps(score: Score) -> None:
    model = LogProbModel(tiny_model("llama", seed=5))

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.causal_lm.model.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match=r"out of memory on a micro-batch of .* tokens .*lower scoring_batch_tokens"):
        score(model, random_examples(3, 2), "fp32", 60, quiet)
