"""Batches by hand, and micro-batches that lose nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from harness.core.errors import UserError
from harness.logprobs import batching
from harness.logprobs.batching import Batch, Example, Layout, check_prompts, collate, memory_errors, split_by_tokens

PAIR = Example(0, [10, 11, 12], ([20, 21], [30, 31, 32]))
SHORT = Example(1, [13], ([22], [33]))
LAYOUTS: list[Layout] = ["packed", "padded"]


def random_examples(count: int, k: int, seed: int) -> list[Example]:
    """Examples of ragged lengths, one token among them."""
    draw = random.Random(seed)

    def ids(longest: int) -> list[int]:
        return [draw.randrange(5, 500) for _ in range(draw.randint(1, longest))]

    return [Example(index, ids(30), tuple(ids(20) for _ in range(k))) for index in range(count)]


def size(examples: Sequence[Example], layout: Layout) -> int:
    """Tokens of a batch, padding included."""
    return collate(examples, layout).input_ids.numel()


def indices(parts: Sequence[Sequence[Example]]) -> list[list[int]]:
    return [[example.index for example in part] for part in parts]


# ---- collate


def test_packed_layout_by_hand() -> None:
    batch = collate([PAIR, SHORT], pad=99)
    assert (batch.examples, batch.k) == (2, 2)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30, 31, 32, 13, 22, 33]]
    # each response goes on where its prompt ends
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 1]]
    # start, end of the prompt, end of each response
    assert batch.spans is not None
    assert batch.spans.tolist() == [[0, 3, 5, 8], [8, 9, 10, 11]]
    assert batch.attention_mask is None
    # the prompt's last token predicts the first token of both responses
    assert batch.predict.tolist() == [2, 3, 2, 5, 6, 8, 8]
    assert batch.labels.tolist() == [20, 21, 30, 31, 32, 22, 33]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2, 3]


def test_padded_layout_by_hand() -> None:
    batch = collate([PAIR, SHORT], "padded", pad=99)
    assert (batch.examples, batch.k) == (2, 2)
    assert batch.input_ids.tolist() == [
        [10, 11, 12, 20, 21, 99],
        [10, 11, 12, 30, 31, 32],
        [13, 22, 99, 99, 99, 99],
        [13, 33, 99, 99, 99, 99],
    ]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
    ]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5]] * 4
    assert batch.spans is None
    assert batch.predict.tolist() == [2, 3, 8, 9, 10, 12, 18]
    assert batch.labels.tolist() == [20, 21, 30, 31, 32, 22, 33]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2, 3]


def test_single_responses_are_packed_by_hand() -> None:
    batch = collate([Example(0, [10, 11], ([20, 21, 22],)), Example(1, [12], ([23],))])
    assert batch.input_ids.tolist() == [[10, 11, 20, 21, 22, 12, 23]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert batch.spans is not None
    assert batch.spans.tolist() == [[0, 2, 5], [5, 6, 7]]
    assert (batch.examples, batch.k) == (2, 1)
    assert batch.predict.tolist() == [1, 2, 3, 5]
    assert batch.labels.tolist() == [20, 21, 22, 23]
    assert batch.owner.tolist() == [0, 0, 0, 1]


def test_three_responses_are_packed_by_hand() -> None:
    batch = collate([Example(0, [10, 11], ([20, 21], [30], [40, 41]))])
    assert batch.input_ids.tolist() == [[10, 11, 20, 21, 30, 40, 41]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2, 2, 3]]
    assert batch.spans is not None
    assert batch.spans.tolist() == [[0, 2, 4, 5, 7]]
    assert batch.predict.tolist() == [1, 2, 1, 1, 5]
    assert batch.labels.tolist() == [20, 21, 30, 40, 41]
    assert batch.owner.tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_indices_are_of_the_type_that_indexing_takes(layout: Layout) -> None:
    tensors = [value for value in vars(collate([PAIR], layout)).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.dtype for tensor in tensors} == {torch.long}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "empty",
    [
        pytest.param(Example(0, [], ([20], [30])), id="prompt"),
        pytest.param(Example(0, [10], ([], [30])), id="first-response"),
        pytest.param(Example(0, [10], ([20], [])), id="last-response"),
    ],
)
def test_nothing_empty_is_collated(empty: Example, layout: Layout) -> None:
    with pytest.raises(ValueError, match="a prompt or a response without tokens"):
        collate([PAIR, empty], layout)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ragged_rows_keep_every_response_token_in_order(layout: Layout, k: int) -> None:
    examples = random_examples(7, k, seed=1)
    batch = collate(examples, layout)
    responses = [list(response) for example in examples for response in example.responses]
    assert len(batch.labels) == sum(map(len, responses))
    for number, response in enumerate(responses):
        prompt, mine = examples[number // k].prompt, batch.owner == number
        assert batch.labels[mine].tolist() == response
        ids = batch.input_ids.flatten()[batch.predict[mine]].tolist()
        assert ids == [prompt[-1], *response[:-1]]  # each token is predicted by its predecessor
        positions = batch.position_ids.flatten()[batch.predict[mine]].tolist()
        assert positions == list(range(len(prompt) - 1, len(prompt) + len(response) - 1))
    assert batch.lengths().tolist() == [[len(response) for response in example.responses] for example in examples]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_spans_cut_the_row_into_what_it_was_made_of(k: int) -> None:
    examples = random_examples(7, k, seed=2)
    batch = collate(examples)
    assert batch.spans is not None
    row = batch.input_ids[0].tolist()
    for example, edges in zip(examples, batch.spans.tolist(), strict=True):
        pieces = [row[start:end] for start, end in itertools.pairwise(edges)]
        assert pieces == [list(example.prompt), *map(list, example.responses)]
    assert len(row) == sum(example.tokens for example in examples)  # nothing between them, and nothing twice


@pytest.mark.parametrize("k", [1, 2, 3])
def test_both_layouts_have_the_same_response_tokens_in_the_same_order(k: int) -> None:
    examples = random_examples(6, k, seed=3)
    packed, padded = collate(examples), collate(examples, "padded")
    assert torch.equal(packed.labels, padded.labels)
    assert torch.equal(packed.owner, padded.owner)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sum_by_response_sums_each_response(dtype: torch.dtype) -> None:
    batch = collate([PAIR, SHORT])
    sums = batch.sum_by_response(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], dtype=dtype))
    assert sums.tolist() == [[3.0, 28.0], [32.0, 64.0]]
    assert sums.dtype == dtype


def test_sum_by_response_hands_each_token_its_responses_gradient() -> None:
    batch = collate([PAIR, SHORT])
    values = torch.zeros(7, requires_grad=True)
    (batch.sum_by_response(values) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 1, 2, 2, 2, 3, 4]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_moves_to_a_cpu_as_it_is(layout: Layout) -> None:
    batch = collate([PAIR, SHORT], layout)
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    assert vars(moved) == vars(batch)  # the very tensors: nothing is copied


# ---- micro-batches


def test_tokens_and_rows_count_the_prompt_as_the_layout_repeats_it() -> None:
    assert PAIR.tokens == 3 + 2 + 3
    assert PAIR.rows("packed") == [8]
    assert PAIR.rows("padded") == [5, 6]


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("budget", [1, 40, 64, 200, 10**6])
def test_split_keeps_everything_within_the_budget(budget: int, layout: Layout, k: int) -> None:
    examples = random_examples(50, k, seed=4)
    parts = split_by_tokens(examples, budget, layout)
    assert sorted(example.index for part in parts for example in part) == list(range(50))
    assert all(size(part, layout) <= budget or len(part) == 1 for part in parts)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("budget", [70, 150, 400])
def test_split_is_first_fit_in_decreasing_order(budget: int, layout: Layout) -> None:
    parts = split_by_tokens(random_examples(40, 2, seed=5), budget, layout)

    def width(example: Example) -> int:
        return collate([example], layout).input_ids.shape[1]

    for number, part in enumerate(parts):
        assert [width(e) for e in part] == sorted(map(width, part), reverse=True)
        for example in part:
            for earlier in parts[:number]:
                # what lay there when this example, which went elsewhere, was placed
                there = [e for e in earlier if (width(e), e.tokens) > (width(example), example.tokens)]
                as_large = [e for e in earlier if (width(e), e.tokens) == (width(example), example.tokens)]
                there += [e for e in as_large if e.index < example.index]
                assert size([*there, example], layout) > budget


def test_packed_split_by_hand() -> None:
    examples = [Example(index, [1] * 2, ([2] * (tokens - 2),)) for index, tokens in enumerate([5, 4, 6, 5, 3])]
    assert indices(split_by_tokens(examples, 10)) == [[2, 1], [0, 3], [4]]


def test_padded_split_by_hand_counts_the_padding() -> None:
    examples = [Example(index, [1], ([2] * (row - 1),)) for index, row in enumerate([2, 6, 5, 2, 1])]
    # 6 and 5 take 12; beside 6 nothing fits in 11; 5 and 2 take 10, and no third row of 5 is left
    assert indices(split_by_tokens(examples, 11, "padded")) == [[1], [2, 0], [3, 4]]
    # their tokens alone, 16, would be one micro-batch in a row
    assert indices(split_by_tokens(examples, 16)) == [[1, 2, 0, 3, 4]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_puts_an_oversized_example_alone(layout: Layout) -> None:
    long = Example(7, [1] * 100, ([2] * 10,))
    short = [Example(index, [1] * 3, ([2] * 2,)) for index in range(3)]
    assert split_by_tokens([*short, long], 15, layout) == [[long], short]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_fills_a_micro_batch_to_the_last_token(layout: Layout) -> None:
    examples = [Example(index, [1] * 3, ([2] * 2,)) for index in range(6)]
    assert [len(part) for part in split_by_tokens(examples, 15, layout)] == [3, 3]
    assert [len(part) for part in split_by_tokens(examples, 14, layout)] == [2, 2, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_huge_budget_makes_one_micro_batch(layout: Layout) -> None:
    assert len(split_by_tokens(random_examples(20, 2, seed=6), 10**9, layout)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_does_not_depend_on_the_order_given(layout: Layout) -> None:
    examples = random_examples(30, 2, seed=7)
    shuffled = random.Random(0).sample(examples, len(examples))
    assert split_by_tokens(shuffled, 150, layout) == split_by_tokens(examples, 150, layout)


def test_split_of_nothing_is_nothing() -> None:
    assert split_by_tokens([], 100) == []


def test_split_looks_for_room_in_the_last_parts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [Example(index, [1] * 2, ([2] * (tokens - 2),)) for index, tokens in enumerate([6, 5, 5, 4])]
    assert indices(split_by_tokens(examples, 10)) == [[0, 3], [1, 2]]
    monkeypatch.setattr(batching, "OPEN_PARTS", 1)
    assert indices(split_by_tokens(examples, 10)) == [[0], [1, 2], [3]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("open_parts", [1, 3, 32])
def test_a_split_into_many_parts_loses_nothing(
    open_parts: int, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "OPEN_PARTS", open_parts)
    parts = split_by_tokens(random_examples(300, 2, seed=9), 90, layout)
    assert len(parts) > 100
    assert sorted(example.index for part in parts for example in part) == list(range(300))
    assert all(size(part, layout) <= 90 or len(part) == 1 for part in parts)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_split_takes_is_in_proportion_to_its_examples(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = 0
    rows, tokens = Example.rows, Example.tokens.fget  # type: ignore[attr-defined]

    def measuring(measure: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            nonlocal measured
            measured += 1
            return measure(*args)

        return counted

    few, many = (random_examples(count, 2, seed=8) for count in (400, 1600))
    monkeypatch.setattr(Example, "rows", measuring(rows))
    monkeypatch.setattr(Example, "tokens", property(measuring(tokens)))
    counts = []
    for examples in (few, many):
        measured = 0
        assert len(split_by_tokens(examples, 150, layout)) > 64
        counts.append(measured)
    assert counts[1] < 5 * counts[0]


# ---- prompts that fill a micro-batch


def test_a_prompt_over_the_budget_is_refused_by_name() -> None:
    examples = [
        Example(0, [1] * 1300, ([2],), name="everyday-0007"),
        Example(1, [1] * 1500, ([2],), name="everyday-0001"),
        Example(2, [1] * 10, ([2] * 5000,), name="everyday-0002"),
    ]
    with pytest.raises(UserError) as caught:
        check_prompts(examples, 1200, "scoring_batch_tokens")
    message = str(caught.value)
    assert "prompt everyday-0001 has 1,500 tokens" in message  # the longest, not the first
    assert "more than scoring_batch_tokens = 1,200" in message
    assert "raise scoring_batch_tokens" in message
    assert "max_prompt_tokens" in message


def test_a_prompt_without_a_name_is_refused_by_its_row() -> None:
    with pytest.raises(UserError, match=r"^prompt 41 has 5 tokens, more than micro_batch_tokens = 4;"):
        check_prompts([Example(41, [1] * 5, ([2],))], 4, "micro_batch_tokens")


def test_only_prompts_are_held_to_the_budget() -> None:
    check_prompts([Example(0, [1] * 100, ([2] * 900,))], 100, "micro_batch_tokens")


# ---- out of memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["gpu", "cpu"],
)
@pytest.mark.parametrize(("layout", "tokens"), [("packed", 1211), ("padded", 1414)])
def test_out_of_memory_names_the_micro_batch(layout: Layout, tokens: int, error: RuntimeError) -> None:
    part = [
        Example(3, [1] * 200, ([2] * 500, [3] * 500), name="everyday-0042"),
        Example(4, [1] * 3, ([2] * 4, [3] * 4)),
    ]
    with pytest.raises(UserError) as caught, memory_errors(part, layout, "buy some"):
        raise error
    message = str(caught.value)
    assert f"{tokens:,} tokens" in message
    assert "2 examples: everyday-0042, 4" in message
    assert message.endswith("buy some")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("not finite")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as caught, memory_errors([PAIR], "packed", "buy some"):
        raise error
    assert caught.value is error


def test_without_an_error_nothing_is_said() -> None:
    with memory_errors([PAIR], "packed", "buy some"):
        pass
