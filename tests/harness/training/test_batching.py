"""Batches by hand, and micro-batches that lose nothing."""

from __future__ import annotations

import random

import pytest
import torch

from harness.training.batching import Batch, Example, collate, split_by_tokens

PAIR = Example(0, [10, 11, 12], ([20, 21], [30, 31, 32]))
SHORT = Example(1, [13], ([22], [33]))


def sees(batch: Batch, row: int) -> list[list[int]]:
    """For each query of a row, the keys that it sees."""
    assert batch.mask is not None
    return [keys.nonzero().flatten().tolist() for keys in batch.mask[row, 0]]


def random_examples(count: int, seed: int) -> list[Example]:
    draw = random.Random(seed)
    return [
        Example(index, [1] * draw.randint(1, 30), ([2] * draw.randint(1, 20), [3] * draw.randint(1, 20)))
        for index in range(count)
    ]


def test_shared_layout_by_hand() -> None:
    batch = collate([PAIR, SHORT], pad=99)
    assert (batch.examples, batch.k) == (2, 2)
    assert batch.input_ids.tolist() == [
        [10, 11, 12, 20, 21, 30, 31, 32],
        [13, 22, 33, 99, 99, 99, 99, 99],
    ]
    # the rejected branch goes on where the prompt ends
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 4, 3, 4, 5]
    assert batch.position_ids[1, :3].tolist() == [0, 1, 1]
    # the prompt's last token predicts the first token of both branches
    assert batch.predict.tolist() == [2, 3, 2, 5, 6, 8, 8]
    assert batch.labels.tolist() == [20, 21, 30, 31, 32, 22, 33]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2, 3]


def test_shared_mask_hides_the_chosen_from_the_rejected() -> None:
    batch = collate([PAIR, SHORT])
    assert batch.mask is not None
    assert (batch.mask.shape, batch.mask.dtype) == ((2, 1, 8, 8), torch.bool)
    assert sees(batch, 0) == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 5],
        [0, 1, 2, 5, 6],
        [0, 1, 2, 5, 6, 7],
    ]
    assert sees(batch, 1)[:3] == [[0], [0, 1], [0, 2]]


def test_no_query_is_without_a_key() -> None:
    batch = collate(random_examples(12, seed=0))
    assert batch.mask is not None
    assert batch.mask.any(-1).all()  # else a softmax over nothing makes NaN, in padding too


def test_padded_layout_by_hand() -> None:
    batch = collate([PAIR, SHORT], "padded", pad=99)
    assert batch.input_ids.tolist() == [
        [10, 11, 12, 20, 21, 99],
        [10, 11, 12, 30, 31, 32],
        [13, 22, 99, 99, 99, 99],
        [13, 33, 99, 99, 99, 99],
    ]
    assert batch.mask is None
    assert torch.equal(batch.position_ids, torch.arange(6).repeat(4, 1))
    assert batch.predict.tolist() == [2, 3, 8, 9, 10, 12, 18]
    assert batch.labels.tolist() == [20, 21, 30, 31, 32, 22, 33]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2, 3]


def test_single_responses_need_no_mask() -> None:
    batch = collate([Example(0, [10, 11], ([20, 21, 22],)), Example(1, [12], ([23],))])
    assert batch.mask is None
    assert batch.k == 1
    assert batch.predict.tolist() == [1, 2, 3, 5]
    assert batch.labels.tolist() == [20, 21, 22, 23]


def test_three_branches_see_the_prompt_and_themselves_alone() -> None:
    batch = collate([Example(0, [10, 11], ([20, 21], [30], [40, 41]))])
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 2, 2, 3]
    assert sees(batch, 0)[4:] == [[0, 1, 4], [0, 1, 5], [0, 1, 5, 6]]
    assert batch.predict.tolist() == [1, 2, 1, 1, 5]


def test_one_token_responses_are_predicted_by_the_prompt_alone() -> None:
    batch = collate([Example(0, [10, 11, 12], ([20], [30]))])
    assert batch.predict.tolist() == [2, 2]
    assert batch.labels.tolist() == [20, 30]
    assert batch.lengths().tolist() == [[1, 1]]


@pytest.mark.parametrize("layout", ["shared", "padded"])
def test_ragged_rows_keep_every_response_token_in_order(layout: str) -> None:
    draw = random.Random(1)
    examples = [
        Example(
            index,
            [draw.randrange(5, 100) for _ in range(draw.randint(1, 9))],
            tuple([draw.randrange(5, 100) for _ in range(draw.randint(1, 9))] for _ in range(2)),
        )
        for index in range(7)
    ]
    batch = collate(examples, layout)  # type: ignore[arg-type]
    responses = [list(response) for example in examples for response in example.responses]
    for number, response in enumerate(responses):
        mine = batch.owner == number
        assert batch.labels[mine].tolist() == response
        ids = batch.input_ids.flatten()[batch.predict[mine]].tolist()
        assert ids == [examples[number // 2].prompt[-1], *response[:-1]]  # each token is predicted by its predecessor
        positions = batch.position_ids.flatten()[batch.predict[mine]]
        start = len(examples[number // 2].prompt) - 1
        assert positions.tolist() == list(range(start, start + len(response)))
    assert batch.lengths().flatten().tolist() == [len(response) for response in responses]


def test_sum_by_response_sums_each_response() -> None:
    batch = collate([PAIR, SHORT])
    sums = batch.sum_by_response(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]))
    assert sums.tolist() == [[3.0, 28.0], [32.0, 64.0]]


def test_tokens_counts_the_prompt_once() -> None:
    assert PAIR.tokens == 3 + 2 + 3


@pytest.mark.parametrize("budget", [1, 40, 64, 200, 10**6])
def test_split_keeps_everything_within_the_budget(budget: int) -> None:
    examples = random_examples(50, seed=2)
    parts = split_by_tokens(examples, budget)
    assert sorted(example.index for part in parts for example in part) == list(range(50))
    for part in parts:
        width = collate(part).input_ids.numel()
        assert width <= budget or len(part) == 1
    sizes = [collate(part).input_ids.shape[1] for part in parts]
    assert sizes == sorted(sizes, reverse=True)  # memory that suffices for the first suffices for the rest


def test_split_puts_an_oversized_example_alone() -> None:
    long = Example(7, [1] * 100, ([2] * 10,))
    short = [Example(index, [1] * 3, ([2] * 2,)) for index in range(3)]
    assert split_by_tokens([*short, long], 15) == [[long], short]


def test_a_huge_budget_makes_one_micro_batch() -> None:
    assert len(split_by_tokens(random_examples(20, seed=3), 10**9)) == 1


def test_split_does_not_depend_on_the_order_given() -> None:
    examples = random_examples(30, seed=4)
    shuffled = random.Random(0).sample(examples, len(examples))
    assert split_by_tokens(shuffled, 150) == split_by_tokens(examples, 150)
