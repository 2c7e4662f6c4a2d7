"""Attention over a packed row, against a dense mask and stock attention in float64."""

from __future__ import annotations

import copy
import itertools
import random
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from transformers.modeling_layers import GradientCheckpointingLayer

from harness.logprobs import attention
from harness.logprobs import model as model_module
from harness.logprobs.attention import BLOCK, packed_attention, visible
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel
from tests.conftest import tiny_model

# a prompt's length and its responses'
Lengths = Sequence[tuple[int, tuple[int, ...]]]


def ragged(examples: int, k: int, seed: int, longest: int = 12) -> Lengths:
    draw = random.Random(seed)
    return [(draw.randint(1, longest), tuple(draw.randint(1, longest) for _ in range(k))) for _ in range(examples)]


CASES: dict[str, Lengths] = {
    "alone": [(5, (3,))],
    "ones": [(1, (1, 1)), (1, (1, 1)), (1, (1, 1))],
    "one-token-responses": [(7, (1, 1)), (4, (1, 6)), (9, (5, 1))],
    "one-token-prompts": [(1, (4,)), (1, (1,)), (1, (9,))],
    "pairs": ragged(6, 2, seed=0),
    "many": ragged(40, 2, seed=1, longest=6),
    "singles": ragged(9, 1, seed=2),
    "triples": ragged(5, 3, seed=3),
    "block-edges": [(127, (1, 129)), (128, (128, 127)), (1, (BLOCK, BLOCK + 1)), (257, (BLOCK - 1, 2))],
    "singles-at-block-edges": [(100, (27,)), (100, (28,)), (100, (29,)), (1, (256,)), (256, (1,)), (128, (257,))],
    "triples-at-block-edges": [(120, (7, 128, 8)), (3, (129, 257, 125))],
}
assert {127, 128, 129} == {BLOCK - 1, BLOCK, BLOCK + 1}


@pytest.fixture(params=CASES)
def lengths(request: pytest.FixtureRequest) -> Lengths:
    return CASES[request.param]


def spans_of(lengths: Lengths) -> Tensor:
    rows, at = [], 0
    for prompt, responses in lengths:
        rows.append([at + edge for edge in itertools.accumulate((0, prompt, *responses))])
        at = rows[-1][-1]
    return torch.tensor(rows)


def seen(lengths: Lengths) -> Tensor:
    """The mask: a token sees, of what stands before it, its own example's prompt and its own part of it."""
    parts = [(number, part) for number, (_, responses) in enumerate(lengths) for part in range(len(responses) + 1)]
    counts = torch.tensor([length for prompt, responses in lengths for length in (prompt, *responses)])
    part_sees = torch.tensor([[key in ((example, 0), (example, part)) for key in parts] for example, part in parts])
    mask = part_sees.repeat_interleave(counts, 0).repeat_interleave(counts, 1)
    return mask & torch.ones_like(mask).tril()


def operands(length: int, heads: int = 4, groups: int = 2, size: int = 8, seed: int = 0) -> tuple[Tensor, ...]:
    """query, key and value in float64, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, size), (1, groups, length, size), (1, groups, length, size)]
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return tuple(tensor.requires_grad_() for tensor in made)


def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Stock attention, with repeated key-value heads and the mask written out: [1, T, H, D]."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale).transpose(1, 2)


def upstream(output: Tensor) -> Tensor:
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(output.dtype)


# ---- whom a token sees


def test_visible_by_hand() -> None:
    # P P P C C R R R | P C R
    found = visible(torch.tensor([[0, 3, 5, 8], [8, 9, 10, 11]]), 11)
    assert found.dtype == torch.bool
    assert [keys.nonzero().flatten().tolist() for keys in found] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 5],
        [0, 1, 2, 5, 6],
        [0, 1, 2, 5, 6, 7],
        [8],
        [8, 9],
        [8, 10],
    ]


def test_visible_equals_the_definition(lengths: Lengths) -> None:
    mask = seen(lengths)
    assert torch.equal(visible(spans_of(lengths), len(mask)), mask)


@pytest.mark.parametrize("added", [1, 200])
def test_what_is_added_to_a_row_is_seen_by_nothing_in_it(lengths: Lengths, added: int) -> None:
    mask = seen(lengths)
    found = visible(spans_of(lengths), len(mask) + added)
    assert torch.equal(found[: len(mask), : len(mask)], mask)
    assert not found[: len(mask), len(mask) :].any()
    assert found.diagonal().all()


def test_every_token_sees_itself(lengths: Lengths) -> None:
    spans = spans_of(lengths)
    assert visible(spans, int(spans[-1, -1])).diagonal().all()  # a softmax over nothing makes NaN


# ---- the operation


def assert_like_dense(lengths: Lengths, scale: float = 8**-0.5, **sizes: int) -> None:
    mask = seen(lengths)
    inputs = operands(len(mask), **sizes)
    found = packed_attention(*inputs, spans_of(lengths), scale)
    wanted = dense(*inputs, mask, scale)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    found_gradients = torch.autograd.grad(found, inputs, upstream(found))
    wanted_gradients = torch.autograd.grad(wanted, inputs, upstream(wanted))
    for got, want in zip(found_gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def test_values_and_gradients_equal_dense_attention(lengths: Lengths) -> None:
    assert_like_dense(lengths)


@pytest.mark.parametrize("block", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_size_of_a_block_does_not_matter(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    assert_like_dense(ragged(7, k, seed=10 + k))


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 1), (6, 2), (6, 3), (1, 1)])
def test_query_heads_share_key_value_heads_in_groups(heads: int, groups: int) -> None:
    assert_like_dense(ragged(4, 2, seed=20), heads=heads, groups=groups)


@pytest.mark.parametrize("scale", [1.0, 0.05, 0.3712])
def test_the_scale_is_the_one_given(scale: float) -> None:
    assert_like_dense(ragged(4, 2, seed=21), scale=scale)


def test_gradcheck() -> None:
    lengths = [(2, (2, 1)), (1, (1, 3))]
    inputs = operands(10, heads=2, groups=1, size=3)
    assert torch.autograd.gradcheck(lambda q, k, v: packed_attention(q, k, v, spans_of(lengths), 0.7), inputs)


def test_inputs_need_not_be_contiguous(lengths: Lengths) -> None:
    spans = spans_of(lengths)
    plain = [x.detach() for x in operands(int(spans[-1, -1]))]
    # as transformers makes them: heads beside one another in memory, and a value that is repeated, not copied
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in plain[:2]]
    strided.append(plain[2][:, :1].expand(plain[2].shape))
    plain[2] = strided[2].contiguous()
    assert not any(x.is_contiguous() for x in strided[:2]) or len(strided[0][0, 0]) == 1
    results = []
    for inputs in (plain, strided):
        inputs = [x.requires_grad_() for x in inputs]
        out = packed_attention(*inputs, spans, 0.3)
        assert out.is_contiguous()
        # neither need the gradient that comes in be contiguous
        wide = upstream(out).transpose(1, 2).contiguous().transpose(1, 2) if inputs is strided else upstream(out)
        results.append([out, *torch.autograd.grad(out, inputs, wide)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_inputs_are_left_as_they_were() -> None:
    lengths = CASES["pairs"]
    inputs, spans = operands(len(seen(lengths))), spans_of(lengths)
    before = [x.detach().clone() for x in inputs]
    out = packed_attention(*inputs, spans, 0.3)
    grad = upstream(out)
    out.backward(grad)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert torch.equal(grad, upstream(out))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float32, 2e-6)], ids=["bf16", "fp32"])
def test_narrow_types_are_near_float64(lengths: Lengths, dtype: torch.dtype, tolerance: float) -> None:
    mask, spans = seen(lengths), spans_of(lengths)
    narrow = [x.detach().to(dtype).requires_grad_() for x in operands(len(mask))]
    exact = [x.detach().double().requires_grad_() for x in narrow]
    found, wanted = packed_attention(*narrow, spans, 8**-0.5), dense(*exact, mask, 8**-0.5)
    pairs = [(found, wanted)]
    grad = upstream(found)
    pairs += zip(
        torch.autograd.grad(found, narrow, grad), torch.autograd.grad(wanted, exact, grad.double()), strict=True
    )
    for got, want in pairs:
        assert got.dtype == dtype
        assert got.shape == want.shape
        assert (got.double() - want).abs().max() <= tolerance * want.abs().max()


def test_a_keys_gradient_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # 601 queries, each a block, that all look for the first key: in bf16 a sum of ones stops at 256
    monkeypatch.setattr(attention, "BLOCK", 1)
    query, key, value = (torch.zeros(1, 1, 601, 2, dtype=torch.bfloat16) for _ in range(3))
    query[:], key[0, 0, 0] = 8.0, 64.0
    value.requires_grad_()
    packed_attention(query, key, value, spans_of([(600, (1,))]), 1.0).sum().backward()
    assert value.grad is not None
    assert value.grad[0, 0, 0].tolist() == [600, 600]  # bf16's step is 4 there


def test_no_example_or_response_reaches_another() -> None:
    lengths: Lengths = [(4, (3, 5)), (2, (6, 130)), (140, (2, 1))]
    spans = spans_of(lengths)
    inputs = operands(int(spans[-1, -1]))
    out = packed_attention(*inputs, spans, 0.4)
    mask = seen(lengths)
    for start, prompt_end, first_end, second_end in spans.tolist():
        for begin, end in ((start, prompt_end), (prompt_end, first_end), (first_end, second_end)):
            gradients = torch.autograd.grad(out[:, begin:end].sum(), inputs, retain_graph=True)
            reached = mask[begin:end].any(0)
            for grad in gradients[1:]:
                assert torch.equal(grad[0].abs().sum((0, 2)) > 0, reached)  # all that is seen, and only that
            assert not gradients[0][0, :, :begin].any() and not gradients[0][0, :, end:].any()


def test_weights_kept_in_inference_serve_training_afterwards() -> None:
    lengths: Lengths = [(3, (2, 2)), (1, (5, 1))]
    attention._behind.cache_clear()
    with torch.inference_mode():
        inputs = operands(14)
        packed_attention(*inputs, spans_of(lengths), 0.3)
    assert_like_dense(lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["pairs", "triples", "singles"])
def test_the_operation_is_a_good_citizen_of_torch(case: str, dtype: torch.dtype) -> None:
    spans = spans_of(CASES[case])
    inputs = [x.detach().to(dtype).requires_grad_() for x in operands(int(spans[-1, -1]))]
    # schema (nothing mutated, nothing aliased), autograd, shapes, and all of it under torch.compile with free sizes
    torch.library.opcheck(packed_attention, (*inputs, spans, 0.3))
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    torch.library.opcheck(packed_attention, (*strided, spans, 0.3))


def test_the_backward_operation_is_one_too() -> None:
    spans = spans_of(CASES["pairs"])
    plain = [x.detach() for x in operands(int(spans[-1, -1]))]
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in plain]
    grad = upstream(packed_attention(*plain, spans, 0.3))
    for inputs in (plain, strided):
        torch.library.opcheck(
            attention._packed_backward, (grad, *inputs, spans, 0.3), test_utils=("test_schema", "test_faketensor")
        )


# ---- the mask of a GPU


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_the_mask_of_a_gpu_gives_the_same(lengths: Lengths) -> None:
    spans = spans_of(lengths)
    length = int(spans[-1, -1])
    inputs = [x.detach() for x in operands(length)]
    wanted = packed_attention(*inputs, spans, 0.4)
    for added in (0, -length % BLOCK):  # as it is, and filled up to whole blocks
        row = [F.pad(x, (0, 0, 0, added), value=7.0) for x in inputs]
        mask = attention._block_mask(spans, length + added)
        found = flex_attention(*row, block_mask=mask, scale=0.4, enable_gqa=True).transpose(1, 2)
        torch.testing.assert_close(found[:, :length], wanted, rtol=1e-9, atol=1e-11)
        assert found.isfinite().all()


def test_the_mask_of_a_gpu_is_the_visible_one_and_leaves_blocks_out(lengths: Lengths) -> None:
    spans = spans_of(lengths)
    length = int(spans[-1, -1])
    mask = attention._block_mask(spans, length)
    index = torch.arange(length)
    entries = mask.mask_mod(None, None, index[:, None], index[None, :])
    assert torch.equal(entries, seen(lengths))
    # a block that is left out is one that nobody sees, and the others are not left out
    side = mask.BLOCK_SIZE[0]
    blocks = F.pad(seen(lengths), (0, -length % side, 0, -length % side)).unflatten(1, (-1, side)).any(2)
    blocks = blocks.unflatten(0, (-1, side)).any(1)
    assert torch.equal(mask.to_dense()[0, 0].bool(), blocks)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("scale", [0.05, None, 0.9])
@torch.no_grad()
def test_the_attention_of_a_gpu_is_handed_types_scale_and_mask(
    scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_flex", lambda: flex_attention)
    spans = spans_of(CASES["pairs"])
    query, key, value = (x.detach() for x in operands(int(spans[-1, -1])))
    query, key, value = query.float(), key.float(), value.to(torch.bfloat16)
    inputs = (None, query, key, value, None)
    wanted, _ = attention._attention(*inputs, scaling=scale, visibility=spans)
    found, weights = attention._attention(
        *inputs, scaling=scale, visibility=attention._block_mask(spans, len(query[0, 0]))
    )
    assert weights is None
    assert (found.shape, found.dtype) == (wanted.shape, torch.bfloat16)
    assert found.is_contiguous()
    assert (found.float() - wanted.float()).abs().max() <= 2e-2 * wanted.abs().max()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_model_on_the_road_of_a_gpu_gives_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LogProbModel(tiny_model(family, seed=3))
    batch = collate(random_examples(CASES["pairs"]))
    with torch.no_grad():
        wanted = model(batch)
        monkeypatch.setattr(model_module, "visibility", attention._block_mask)
        monkeypatch.setattr(attention, "_flex", lambda: flex_attention)
        monkeypatch.setattr(attention, "packed_attention", None)
        found = model(batch)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# ---- as transformers calls it


def random_examples(lengths: Lengths, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, 512) for _ in range(count)]

    return [Example(index, ids(p), tuple(map(ids, responses))) for index, (p, responses) in enumerate(lengths)]


def test_mixed_types_are_brought_to_the_values() -> None:
    lengths = CASES["pairs"]
    spans = spans_of(lengths)
    query, key, value = (x.detach().float() for x in operands(int(spans[-1, -1])))
    found, weights = attention._attention(None, query, key, value.bfloat16(), None, scaling=0.3, visibility=spans)
    assert weights is None
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, packed_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), spans, 0.3))


def test_the_usual_scale_is_that_of_the_heads_size() -> None:
    spans = spans_of(CASES["pairs"])
    inputs = [x.detach() for x in operands(int(spans[-1, -1]), size=16)]
    found, _ = attention._attention(None, *inputs, None, visibility=spans)
    assert torch.equal(found, packed_attention(*inputs, spans, 0.25))


def test_without_a_packed_batch_there_is_no_attention() -> None:
    # flex attention without a mask would not even be causal
    inputs = [x.detach() for x in operands(6)]
    with pytest.raises(ValueError, match="LogProbModel"):
        attention._attention(None, *inputs, None, scaling=0.3)
    causal_lm = LogProbModel(tiny_model("llama", seed=3)).causal_lm
    with pytest.raises(ValueError, match="LogProbModel"):
        causal_lm(torch.tensor([[5, 6, 7]]))


def log_probs_and_gradients(model: LogProbModel, examples: list[Example]) -> dict[str, Tensor]:
    model.zero_grad()
    batch = collate(examples)
    values = model(batch)
    (batch.sum_by_response(values) * torch.linspace(-1, 1, len(examples) * batch.k).view(-1, batch.k)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"": values.detach(), **gradients}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_give_the_same() -> None:
    stock = tiny_model("llama", seed=4)
    eager, compiled = LogProbModel(stock), LogProbModel(copy.deepcopy(stock))
    torch._dynamo.reset()
    counters: Any = torch._dynamo.utils.counters
    counters.clear()
    layers = [module for module in compiled.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert len(layers) == 2
    for layer in layers:
        layer.compile(dynamic=True)
    for number, lengths in enumerate((ragged(5, 2, seed=30), ragged(9, 2, seed=31, longest=40))):
        examples = random_examples(lengths, seed=number)
        found, wanted = (log_probs_and_gradients(model, examples) for model in (compiled, eager))
        assert found.keys() == wanted.keys()
        for name, want in wanted.items():
            scale = want.abs().max().item()
            assert (found[name] - want).abs().max() <= 1e-5 * max(1.0, scale), name
    assert counters["stats"]["unique_graphs"] == 1  # one layer's code serves all layers and lengths
    assert not counters["graph_break"]
