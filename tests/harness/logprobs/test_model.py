"""Log-probs and token losses from the one module, against each model's own logits and dense float64 computations."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from baselines.kd import kd_loss
from harness.logprobs import model as model_module
from harness.logprobs.attention import PACKED_ATTENTION
from harness.logprobs.batching import Batch, Example, Layout, collate
from harness.logprobs.model import LogProbModel, chunks, label_log_probs, layout_of, summed_rows, why_padded
from harness.logprobs.scoring import top_log_probs
from harness.logprobs.targets import FULL, DenseTarget, Kind, StoredTopK, Support, Target
from harness.models.families import FAMILIES, PADDED_FAMILIES
from harness.models.loading import load_model, reading_model
from tests.conftest import tiny_model
from tests.harness.logprobs.rows import SUPPORTS, dense, summed, top, values_of
from tests.harness.sizes import SIZES

LAYOUTS: list[Layout] = ["packed", "padded"]
BF16 = torch.bfloat16


# ---- oracles


def ragged_examples(count: int = 5, k: int = 2, seed: int = 0, vocabulary: int = 512) -> list[Example]:
    """Examples of ragged lengths; the last three have a prompt, responses, or both of one token."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(draw.randint(low, high))]

    longest = [(12, 9)] * (count - 3) + [(1, 9), (12, 1), (1, 1)]
    return [Example(i, ids(1, p), tuple(ids(1, r) for _ in range(k))) for i, (p, r) in enumerate(longest)]


def examples_of(lengths: Sequence[tuple[int, tuple[int, ...]]], seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, 512) for _ in range(count)]

    return [Example(i, ids(prompt), tuple(map(ids, responses))) for i, (prompt, responses) in enumerate(lengths)]


def own_rows(causal_lm: Any, examples: Sequence[Example]) -> Tensor:
    """[T, V] logits at all response tokens from the stock forward, one prompt with one response at a time."""
    rows = []
    for example in examples:
        for response in example.responses:
            logits = causal_lm(input_ids=torch.tensor([[*example.prompt, *response]])).logits[0]
            rows.append(logits[len(example.prompt) - 1 : -1])
    return torch.cat(rows)


def own_log_probs(causal_lm: Any, examples: Sequence[Example]) -> Tensor:
    """[T] log-probs of the response tokens."""
    labels = torch.tensor([token for e in examples for response in e.responses for token in response])
    return torch.log_softmax(own_rows(causal_lm, examples), -1).gather(-1, labels[:, None]).squeeze(-1)


def exact(causal_lm: Any) -> Any:
    """A float64 copy with stock attention; to be made before a LogProbModel, which sets its own."""
    assert causal_lm.config._attn_implementation != PACKED_ATTENTION
    return copy.deepcopy(causal_lm).double()


def mixed(values: Tensor) -> Tensor:
    """A number to which each token adds otherwise."""
    generator = torch.Generator().manual_seed(5)
    return (values * torch.randn(len(values), generator=generator, dtype=torch.float64).to(values.dtype)).sum()


def gradients(causal_lm: Any, loss: Tensor) -> dict[str, Tensor]:
    causal_lm.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in causal_lm.named_parameters()}


def assert_near(found: Tensor, wanted: Tensor, tolerance: float = 1e-4, name: str = "") -> None:
    """Within `tolerance` of the largest entry of `wanted`."""
    assert found.shape == wanted.shape
    assert (found.double() - wanted.double()).abs().max() <= tolerance * wanted.abs().max().clamp(min=1e-30), name


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        if grad.abs().max() < 1e-6:  # a key's bias: the softmax does not feel it, so all of it is rounding
            assert found[name].abs().max() < 1e-3
        else:
            assert_near(found[name], grad, tolerance, name)


def assert_own(causal_lm: Any, examples: Sequence[Example], layout: Layout, with_gradients: bool = True) -> None:
    """That log-probs and their gradients are those of the model's own forward."""
    own, model = exact(causal_lm), LogProbModel(causal_lm, layout)
    values, wanted = model(collate(examples, layout)), own_log_probs(own, examples)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), wanted, rtol=0, atol=1e-4)
    if with_gradients:
        assert_same_gradients(gradients(causal_lm, mixed(values)), gradients(own, mixed(wanted)))


def from_config(config: Any, attention: str | None = None) -> Any:
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(
        copy.deepcopy(config), dtype=torch.float32, attn_implementation=attention
    )
    with torch.no_grad():
        for name, parameter in causal_lm.named_parameters():
            if "norm" in name or "bias" in name:  # else they would all be 1 or 0, and nobody missed them
                parameter += 0.3 * torch.randn_like(parameter)
    return causal_lm.eval()


# ---- a packed row

PACKED = {
    "llama": LlamaConfig(**SIZES),
    "llama-with-biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama-with-scaled-positions": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": MistralConfig(**SIZES, head_dim=16, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    # the window is stated, as in published checkpoints, and not used
    "qwen2-with-an-unused-window": Qwen2Config(**SIZES, sliding_window=4, use_sliding_window=False),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "qwen3-with-an-unused-window": Qwen3Config(**SIZES, head_dim=16, sliding_window=4, use_sliding_window=False),
}


def test_every_packed_family_is_tested() -> None:
    assert {config.model_type for config in PACKED.values()} == FAMILIES


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", PACKED)
def test_packed_families_equal_their_own_logits(name: str, k: int) -> None:
    causal_lm = from_config(PACKED[name])
    assert why_padded(causal_lm) is None
    assert layout_of(causal_lm) == LogProbModel(copy.deepcopy(causal_lm)).layout == "packed"
    assert_own(causal_lm, ragged_examples(8, k, seed=k, vocabulary=64), "packed")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_both_layouts_equal_the_models_own_logits(family: str, tied: bool, k: int, layout: Layout) -> None:
    assert_own(tiny_model(family, seed=3, tied=tied), ragged_examples(7, k, seed=10 + k), layout)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_row_of_many_examples(family: str, k: int) -> None:
    assert_own(tiny_model(family, seed=4), ragged_examples(40, k, seed=20 + k), "packed")


EDGES = {
    "pairs": [(127, (1, 129)), (128, (128, 127)), (1, (129, 128)), (257, (127, 2))],
    "singles": [(126, (1,)), (126, (2,)), (126, (3,)), (256, (1,)), (1, (128,)), (129, (128,))],
    "triples": [(120, (7, 128, 8)), (3, (129, 257, 125))],
}


@pytest.mark.parametrize("lengths", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_lengths_around_a_block_of_queries(family: str, lengths: Any) -> None:
    assert_own(tiny_model(family, seed=5), examples_of(lengths), "packed")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_under_autocast_both_layouts_are_near_float32(family: str) -> None:
    causal_lm, examples = tiny_model(family, seed=6), ragged_examples(7, seed=30)
    own = own_log_probs(exact(causal_lm), examples)
    found = {}
    for layout in LAYOUTS:
        model = LogProbModel(copy.deepcopy(causal_lm), layout)
        with torch.autocast("cpu", BF16):
            found[layout] = model(collate(examples, layout))
        assert found[layout].dtype == torch.float32
        assert 0.001 < (found[layout] - own).abs().mean() < 0.1
    assert (found["packed"] - found["padded"]).abs().mean() < 0.1


# ---- nobody hears what is not theirs


def swapped(examples: Sequence[Example], number: int, response: int | None = None) -> list[Example]:
    """Other tokens, of the same number, in one example's prompt and responses, or in one response of it."""

    def other(ids: Sequence[int], this: bool) -> list[int]:
        return [(token + 101) % 500 + 3 if this else token for token in ids]

    def change(example: Example) -> Example:
        if example.index != number:
            return example
        responses = tuple(other(r, response in (None, j)) for j, r in enumerate(example.responses))
        return Example(number, other(example.prompt, response is None), responses)

    return [change(example) for example in examples]


@pytest.mark.parametrize("lengths", [ragged_examples(6, 2, seed=40), examples_of(EDGES["pairs"])], ids=["few", "edges"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_other_examples_and_responses_do_not_move_a_bit(family: str, lengths: list[Example]) -> None:
    model, examples = LogProbModel(tiny_model(family, seed=7)), lengths
    batch = collate(examples)
    with torch.no_grad():
        before = model(batch)
        for number in range(len(examples)):
            after = model(collate(swapped(examples, number)))
            mine = batch.owner // 2 == number
            assert torch.equal(after[~mine], before[~mine])
            assert not torch.isclose(after[mine], before[mine]).all()
            for j in (0, 1):
                after = model(collate(swapped(examples, number, j)))
                mine = batch.owner == 2 * number + j
                assert torch.equal(after[~mine], before[~mine])
                assert not torch.isclose(after[mine], before[mine]).all()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_neither_the_length_of_the_other_response_nor_the_place_in_the_row_matters(family: str) -> None:
    model = LogProbModel(tiny_model(family, seed=8))
    prompt, response = [5, 6, 7], [8, 9, 10, 11]
    rows = [
        [Example(0, prompt, ([11], response))],
        [Example(0, prompt, (list(range(300, 440)), response))],
        [*examples_of([(200, (3, 4)), (1, (1, 1))]), Example(2, prompt, ([12, 13], response))],
        [Example(0, prompt, (response, [14])), *examples_of([(9, (3, 4))])],
    ]
    owners = [1, 1, 5, 0]
    with torch.no_grad():
        found = [model(b := collate(row))[b.owner == owner] for row, owner in zip(rows, owners, strict=True)]
        alone = model(collate([Example(0, prompt, (response,))]))
    for values in found:
        torch.testing.assert_close(values, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_no_gradient_leaks(family: str) -> None:
    causal_lm = tiny_model(family, seed=9, tied=False)
    model = LogProbModel(causal_lm)
    kept: list[Tensor] = []
    causal_lm.model.embed_tokens.register_forward_hook(lambda module, inputs, output: kept.append(output))
    examples = examples_of([(4, (5, 3)), (1, (2, 4)), (130, (3, 2))])
    batch = collate(examples)
    values = model(batch)
    assert batch.spans is not None
    for number, (start, prompt_end, *ends) in enumerate(batch.spans.tolist()):
        for j, (begin, end) in enumerate([(prompt_end, ends[0]), (ends[0], ends[1])]):
            mine = batch.owner == 2 * number + j
            (grad,) = torch.autograd.grad(values[mine].sum(), kept[0], retain_graph=True)
            reached = grad[0].abs().sum(-1).nonzero().flatten().tolist()
            # its prompt and all of it but the last token, which predicts nothing
            assert reached == [*range(start, prompt_end), *range(begin, end - 1)]


def test_what_pads_a_row_does_not_matter() -> None:
    model, examples = LogProbModel(tiny_model("qwen2", seed=6), "padded"), ragged_examples()
    with torch.no_grad():
        values = [model(collate(examples, "padded", pad=pad)) for pad in (0, 77)]
    assert torch.equal(values[0], values[1])


# ---- log-probs of labels


def head_operands(rows: int = 23, width: int = 16, vocabulary: int = 64, spread: float = 1.0) -> tuple[Tensor, ...]:
    """hidden, weight (both with gradients), labels."""
    generator = torch.Generator().manual_seed(0)
    hidden = spread * torch.randn(rows, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator)
    labels = torch.randint(0, vocabulary, (rows,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def bf16_numbers(*tensors: Tensor) -> list[Tensor]:
    """The same in float32, rounded to what bf16 can hold."""
    return [tensor.detach().to(BF16).float().requires_grad_(tensor.requires_grad) for tensor in tensors]


def doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def dense_log_probs(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return torch.log_softmax(hidden @ weight.T, -1).gather(-1, labels[:, None]).squeeze(-1)


def test_chunks_cover_every_row_once_and_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 350)
    assert chunks(7, 100) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert chunks(6, 100) == [slice(0, 3), slice(3, 6)]
    assert chunks(2, 1000) == [slice(0, 1), slice(1, 2)]  # one row is the least there is
    assert chunks(0, 100) == []


@pytest.mark.parametrize("rows", [1, 5, 6, 23])
@pytest.mark.parametrize("chunk", [1, 64, 5 * 64, 10**6])
def test_label_log_probs_equal_a_float64_oracle(rows: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", chunk)
    hidden, weight, labels = head_operands(rows)
    result = label_log_probs(hidden, weight, labels)
    wide = doubles(hidden, weight)
    wanted = dense_log_probs(*wide, labels)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), wanted, rtol=1e-6, atol=1e-5)
    found = torch.autograd.grad(mixed(result), (hidden, weight))
    for got, want in zip(found, torch.autograd.grad(mixed(wanted), wide), strict=True):
        assert got.dtype == torch.float32
        assert_near(got, want, 1e-5)


def test_label_log_probs_pass_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 27)
    hidden, weight, labels = head_operands(7, 4, 9)
    # the result is float32 whatever its operands are, so the step is wide and the tolerance that of float32
    assert torch.autograd.gradcheck(
        lambda h, w: label_log_probs(h, w, labels).double(),
        doubles(hidden, weight),
        eps=1e-2,
        atol=1e-3,
        rtol=1e-3,
    )


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    hidden, weight, labels = head_operands()
    wide = doubles(hidden, weight)
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    mixed(label_log_probs(hidden, weight, labels)).backward()
    mixed(dense_log_probs(*wide, labels)).backward()
    for tensor, oracle in zip((hidden, weight), wide, strict=True):
        assert (tensor.grad is None) == (not tensor.requires_grad)
        if tensor.grad is not None and oracle.grad is not None:
            assert_near(tensor.grad, oracle.grad, 1e-5)


@pytest.mark.parametrize("chunk", [5 * 512, 10**7])
def test_logits_are_never_rounded_to_bf16(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", chunk)
    *operands, labels = head_operands(23, 32, 512, spread=2.0)
    hidden, weight = bf16_numbers(*operands)
    wide = doubles(hidden, weight)
    wanted = dense_log_probs(*wide, labels)
    with torch.autocast("cpu", BF16):
        result = label_log_probs(hidden, weight, labels)
        rounded = torch.log_softmax(hidden @ weight.T, -1, dtype=torch.float32)
        rounded = rounded.gather(-1, labels[:, None]).squeeze(-1)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), wanted, rtol=0, atol=2e-5)
    assert (rounded - wanted).abs().mean() > 1e-2  # what such a product would cost

    mixed(result).backward()
    mixed(wanted).backward()
    for tensor, oracle in zip((hidden, weight), wide, strict=True):
        assert tensor.grad is not None and oracle.grad is not None
        assert tensor.grad.dtype == torch.float32
        assert_near(tensor.grad, oracle.grad, 2e-2)  # its products have autocast's dtype


def test_operands_that_are_bf16_are_taken_as_they_are() -> None:
    hidden, weight, labels = head_operands(23, 32, 512)
    narrow = [x.detach().to(BF16).requires_grad_() for x in (hidden, weight)]
    result = label_log_probs(*narrow, labels)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), dense_log_probs(*doubles(*narrow), labels), rtol=0, atol=1e-5)
    assert [grad.dtype for grad in torch.autograd.grad(result.sum(), narrow)] == [BF16, BF16]


@pytest.mark.parametrize("token_level", [False, True], ids=["labels", "tokens"])
def test_a_heads_gradient_is_summed_over_chunks_in_float32(token_level: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 2)  # a row a chunk
    hidden, weight = torch.ones(600, 1), torch.zeros(2, 1, requires_grad=True)
    with torch.autocast("cpu", BF16):
        if token_level:
            certain = torch.tensor([[0.0, -torch.inf]]).expand(600, 2)
            loss = summed_rows(hidden, weight, values_of(kd_loss, dense(certain)))
        else:
            loss = -label_log_probs(hidden, weight, torch.zeros(600, dtype=torch.long)).sum()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [-300, 300]  # in bf16 a sum of halves stops at 128


def test_logits_are_of_the_operands_as_bf16_numbers_under_autocast_and_as_they_are_without() -> None:
    hidden, weight, labels = head_operands(23, 32, 512)
    with torch.autocast("cpu", BF16):
        mixed_precision = label_log_probs(hidden, weight, labels)
        assert torch.is_autocast_enabled("cpu")
    exact = dense_log_probs(*doubles(hidden, weight), labels)
    of_rounded = dense_log_probs(*doubles(*bf16_numbers(hidden, weight)), labels)
    # a CPU without products of bf16 numbers multiplies float32 ones
    wanted = of_rounded if torch.ops.mkldnn._is_mkldnn_bf16_supported() else exact
    torch.testing.assert_close(mixed_precision.double(), wanted, rtol=0, atol=2e-5)
    assert (of_rounded - exact).abs().max() > 1e-3
    # and what comes after has nothing of it
    torch.testing.assert_close(label_log_probs(hidden, weight, labels).double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close((hidden @ weight.T).double(), hidden.double() @ weight.double().T, rtol=0, atol=1e-5)


SUPPORT = {support.kind: support for support in SUPPORTS}


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made under it has, and the most rows of `vocabulary` numbers."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.numbers, self.rows = vocabulary, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
                # a transposed head is a view of it, not rows of logits
                if tensor.dim() and tensor.shape[-1] == self.vocabulary and tensor.is_contiguous():
                    self.rows = max(self.rows, tensor.numel() // self.vocabulary)
        return result


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["labels", "dense", *SUPPORT])
def test_no_more_logits_than_a_chunk_exist(kind: str, autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, width, vocabulary = 50, 8, 521
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 16 * vocabulary + 3)
    hidden, weight, labels = head_operands(rows, width, vocabulary)
    teacher = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3))
    # made before: a teacher's own rows are its own affair
    target = target_of(teacher, "dense" if kind == "labels" else kind)

    def largest(compute: Callable[[], Tensor]) -> Largest:
        with Largest(vocabulary) as seen:
            with torch.autocast("cpu", BF16, enabled=autocast):
                loss = compute()
            loss.backward()
        return seen

    if kind == "labels":
        seen = largest(lambda: label_log_probs(hidden, weight, labels).sum())
    else:
        seen = largest(lambda: summed_rows(hidden, weight, values_of(kd_loss, target)))
    assert hidden.grad is not None and weight.grad is not None
    if kind == "labels":  # of all rows, a part of the vocabulary
        assert seen.rows == 0 and 15 * vocabulary < seen.numbers <= 16 * vocabulary + 3
    else:
        assert seen.rows == 16 and seen.numbers == 16 * vocabulary
    # what is looked for would be seen
    assert largest(lambda: dense_log_probs(hidden, weight, labels).sum()).rows == rows


@pytest.mark.parametrize("token_level", [False, True], ids=["labels", "tokens"])
def test_a_models_batch_makes_no_more_logits_than_a_chunk(token_level: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = 4099
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 10 * vocabulary)
    student = LogProbModel(tiny_model("llama", seed=11, hidden=8, vocabulary=vocabulary))
    teacher = LogProbModel(tiny_model("llama", seed=12, hidden=8, vocabulary=vocabulary))
    batch = collate(ragged_examples(12, seed=50))
    assert len(batch.labels) > 40
    with Largest(vocabulary) as seen:
        if token_level:
            summed(student, batch, kd_loss, target_by(teacher, batch)).backward()
        else:
            student(batch).sum().backward()
    if token_level:
        assert seen.rows == 10 and seen.numbers == 10 * vocabulary
    else:
        assert seen.rows == 0 and 9 * vocabulary < seen.numbers <= 10 * vocabulary


# ---- token losses


def lopsided_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Both directions of KL, weighted so that swapped arguments would show."""
    difference = student - teacher
    return (2.0 * student.exp() * difference - 0.5 * teacher.exp() * difference).sum(-1)


def dense_token_loss(student_logits: Tensor, teacher_logits: Tensor, loss: Any, kind: str, k: int = 4) -> Tensor:
    """Dense float64: both over the outcomes that both have, all of them or the teacher's k largest."""
    size = min(student_logits.shape[-1], teacher_logits.shape[-1])
    teacher = torch.softmax(teacher_logits[:, :size].detach().double(), -1)
    student = torch.softmax(student_logits[:, :size], -1)
    if kind != "dense":
        ids = teacher.topk(k).indices
        outside = torch.ones_like(teacher).scatter(-1, ids, 0.0)

        def outcomes(mass: Tensor) -> Tensor:
            inside = mass.gather(-1, ids)
            if kind == "truncated":
                return inside
            if kind == "renormalised":
                return inside / inside.sum(-1, keepdim=True)
            return torch.cat([inside, (mass * outside).sum(-1, keepdim=True)], -1)

        student, teacher = outcomes(student), outcomes(teacher)
    total: Tensor = loss(student.log(), teacher.log()).sum()
    return total


def target_of(teacher_logits: Tensor, kind: str, k: int = 4) -> Target:
    vocabulary = teacher_logits.shape[-1]
    if kind == "dense":
        return dense(teacher_logits)
    return top(torch.log_softmax(teacher_logits, -1), SUPPORT[kind], vocabulary)


def target_by(teacher: LogProbModel, batch: Batch, vocabulary: int | None = None, support: Support = FULL) -> Target:
    """What a model says at a batch's response tokens."""
    return DenseTarget({"teacher": teacher.log_prob_rows(batch, vocabulary)}, support)


@pytest.mark.parametrize("loss", [kd_loss, lopsided_loss], ids=["kd", "lopsided"])
@pytest.mark.parametrize("kind", ["dense", *SUPPORT])
@pytest.mark.parametrize(("chunk", "piece"), [(1, 1), (5 * 64, 2 * 64), (5 * 64, 10**6), (10**6, 3 * 64)])
def test_summed_rows_equal_dense_autograd(
    chunk: int, piece: int, kind: str, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", chunk)
    monkeypatch.setattr(model_module, "PIECE_NUMBERS", piece)
    hidden, weight, _ = head_operands(spread=0.5)
    teacher = torch.randn(23, 64, generator=torch.Generator().manual_seed(4))
    result = summed_rows(hidden, weight, values_of(loss, target_of(teacher, kind)))
    wide = doubles(hidden, weight)
    wanted = dense_token_loss(wide[0] @ wide[1].T, teacher, loss, kind)
    assert (result.dtype, result.shape) == (torch.float32, ())
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-5)
    # a gradient comes in from whatever the sum goes into
    found = torch.autograd.grad(-3.0 * result + 1.0, (hidden, weight))
    for got, want in zip(found, torch.autograd.grad(-3.0 * wanted + 1.0, wide), strict=True):
        assert got.dtype == torch.float32
        assert_near(got, want, 1e-5)


def test_a_loss_sees_a_piece_at_a_time_and_its_teacher_makes_a_product_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 20 * 512)
    monkeypatch.setattr(model_module, "PIECE_NUMBERS", 3 * 512)
    student, teacher = (LogProbModel(tiny_model("llama", seed=seed)) for seed in (1, 2))
    batch = collate(ragged_examples(12, seed=50))
    count = len(batch.labels)
    seen: list[int] = []
    products: list[int] = []
    product = model_module._product

    def loss(policy: Tensor, theirs: Tensor) -> Tensor:
        seen.append(len(policy))
        return kd_loss(policy, theirs)

    def counted(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        products.append(len(hidden))
        return product(hidden, weight, dtype)

    monkeypatch.setattr(model_module, "_product", counted)
    summed(student, batch, loss, target_by(teacher, batch)).backward()
    assert max(seen) == 3 and sum(seen) == count
    whole = [20] * (count // 20) + [count % 20] * (count % 20 > 0)
    assert sorted(products) == sorted(2 * whole)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_a_token_loss_gives_what_is_frozen_no_gradient(frozen: str) -> None:
    hidden, weight, _ = head_operands(spread=0.5)
    teacher = torch.randn(23, 64)
    wide = doubles(hidden, weight)
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    summed_rows(hidden, weight, values_of(kd_loss, target_of(teacher, "dense"))).backward()
    dense_token_loss(wide[0] @ wide[1].T, teacher, kd_loss, "dense").backward()
    for tensor, oracle in zip((hidden, weight), wide, strict=True):
        assert (tensor.grad is None) == (not tensor.requires_grad)
        if tensor.grad is not None and oracle.grad is not None:
            assert_near(tensor.grad, oracle.grad, 1e-5)


def test_a_token_loss_without_gradients_is_the_same_number() -> None:
    hidden, weight, _ = head_operands(spread=0.5)
    target = target_of(torch.randn(23, 64), "dense")
    with torch.no_grad():
        alone = summed_rows(hidden, weight, values_of(kd_loss, target))
    assert not alone.requires_grad
    assert torch.equal(alone, summed_rows(hidden, weight, values_of(kd_loss, target)).detach())
    assert torch.equal(alone, summed_rows(hidden.detach(), weight.detach(), values_of(kd_loss, target)))


def test_a_token_loss_without_gradients_computes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, _ = head_operands()
    target = target_of(torch.randn(23, 64), "dense")
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.no_grad():
        summed_rows(hidden, weight, values_of(kd_loss, target))


def test_a_token_loss_under_autocast_has_float32_logits() -> None:
    hidden, weight = bf16_numbers(*head_operands(23, 32, 512)[:2])
    teacher = torch.randn(23, 512, generator=torch.Generator().manual_seed(4))
    wide = doubles(hidden, weight)
    with torch.autocast("cpu", BF16):
        result = summed_rows(hidden, weight, values_of(kd_loss, target_of(teacher, "dense")))
    wanted = dense_token_loss(wide[0] @ wide[1].T, teacher, kd_loss, "dense")
    torch.testing.assert_close(result.double(), wanted, rtol=1e-6, atol=1e-4)
    for got, want in zip(torch.autograd.grad(result, (hidden, weight)), torch.autograd.grad(wanted, wide), strict=True):
        assert got.dtype == torch.float32
        assert_near(got, want, 2e-2)


@pytest.mark.parametrize("teacher_layout", LAYOUTS)
@pytest.mark.parametrize("student_layout", LAYOUTS)
@pytest.mark.parametrize(("student_size", "teacher_size"), [(512, 512), (520, 512), (512, 520)])
def test_token_losses_of_models_equal_a_dense_computation(
    student_size: int,
    teacher_size: int,
    student_layout: Layout,
    teacher_layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", 7 * 512)
    student = tiny_model("llama", seed=13, vocabulary=student_size, tied=False)
    teacher = tiny_model("qwen2", seed=14, hidden=48, vocabulary=teacher_size)
    own, own_teacher = exact(student), exact(teacher)
    examples = ragged_examples(k=2, seed=60)
    target = target_by(LogProbModel(teacher, teacher_layout), collate(examples, teacher_layout))
    assert target.vocabulary == teacher_size
    result = summed(LogProbModel(student, student_layout), collate(examples, student_layout), lopsided_loss, target)
    with torch.no_grad():
        teacher_rows = own_rows(own_teacher, examples)
    wanted = dense_token_loss(own_rows(own, examples), teacher_rows, lopsided_loss, "dense")
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-4)
    assert_same_gradients(gradients(student, result), gradients(own, wanted))
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("teacher_layout", LAYOUTS)
@pytest.mark.parametrize("student_layout", LAYOUTS)
@pytest.mark.parametrize("vocabulary", [300, 512, 600, None])
def test_a_teacher_may_be_asked_for_the_first_ids_only(
    vocabulary: int | None, student_layout: Layout, teacher_layout: Layout
) -> None:
    student, teacher = tiny_model("qwen2", seed=21, tied=False), tiny_model("llama", seed=22, tied=False)
    own, own_teacher = exact(student), exact(teacher)
    examples, known = ragged_examples(k=1, seed=62), min(vocabulary or 512, 512)
    target = target_by(LogProbModel(teacher, teacher_layout), collate(examples, teacher_layout), vocabulary)
    assert target.vocabulary == known
    result = summed(LogProbModel(student, student_layout), collate(examples, student_layout), kd_loss, target)
    with torch.no_grad():
        teacher_rows = own_rows(own_teacher, examples)[:, :known]
    wanted = dense_token_loss(own_rows(own, examples)[:, :known], teacher_rows, kd_loss, "dense")
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-4)
    assert_same_gradients(gradients(student, result), gradients(own, wanted))


@pytest.mark.parametrize("kind", SUPPORT)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stored_top_k_of_everything_is_the_teacher_itself(layout: Layout, kind: Kind) -> None:
    # both heads are padded beyond the 512 ids of the tokenizer
    student = LogProbModel(tiny_model("llama", seed=23, vocabulary=520), layout)
    teacher = LogProbModel(tiny_model("llama", seed=24, vocabulary=540), layout)
    examples = ragged_examples(k=1, seed=63)
    ids, log_probs = top_log_probs(teacher, examples, 512, 512, "fp32", 100, lambda done, total: None)
    starts = np.cumsum([0, *(len(example.responses[0]) for example in examples)])
    stored = StoredTopK(ids, log_probs, starts, Support(kind, 512), vocabulary=512)
    part = [examples[3], examples[0], examples[4]]
    batch = collate(part, layout)
    targets = stored.of(part, torch.device("cpu")), target_by(teacher, batch, 512)
    losses = [summed(student, batch, kd_loss, target) for target in targets]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=2e-4)
    assert_same_gradients(*(gradients(student.causal_lm, loss) for loss in losses))


@pytest.mark.parametrize("kind", SUPPORT)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_token_losses_of_models_against_a_top_k(family: str, layout: Layout, kind: str) -> None:
    student, examples = tiny_model(family, seed=15), ragged_examples(k=1, seed=61)
    own = exact(student)
    batch = collate(examples, layout)
    teacher = 2 * torch.randn(len(batch.labels), 512, generator=torch.Generator().manual_seed(6))
    result = summed(LogProbModel(student, layout), batch, kd_loss, target_of(teacher, kind))
    wanted = dense_token_loss(own_rows(own, examples), teacher, kd_loss, kind)
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-4)
    # the student's mass outside a top k is what is left of 1 in float32
    assert_same_gradients(gradients(student, result), gradients(own, wanted), 1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_student_that_is_its_teacher_has_no_divergence(layout: Layout) -> None:
    model, batch = LogProbModel(tiny_model("qwen2", seed=16), layout), collate(ragged_examples(k=1), layout)
    loss = summed(model, batch, kd_loss, target_by(model, batch))
    assert abs(loss.item()) < 1e-5
    loss.backward()
    assert all(parameter.grad.abs().max() < 1e-4 for parameter in model.parameters())


# ---- which models are packed

# sizes, and whatever a family has of its own turned up until it is far from rounding: windows of a few tokens, capped
# and scaled logits
PADDED: dict[str, Any] = {
    "cohere": CohereConfig(**SIZES, logit_scale=0.25, use_qk_norm=True),
    "cohere2": Cohere2Config(**SIZES, logit_scale=0.25, sliding_window=4, sliding_window_pattern=2),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "gemma2": Gemma2Config(
        **SIZES,
        head_dim=8,
        sliding_window=4,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3_text": Gemma3TextConfig(
        **SIZES, head_dim=8, sliding_window=4, sliding_window_pattern=2, query_pre_attn_scalar=8
    ),
    "granite": GraniteConfig(
        **SIZES, logits_scaling=8.0, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2
    ),
    "olmo2": Olmo2Config(**SIZES),
    "phi3": Phi3Config(**SIZES, sliding_window=4),
    "smollm3": SmolLM3Config(**SIZES, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=4),
}


def test_every_padded_family_is_tested() -> None:
    assert PADDED.keys() == PADDED_FAMILIES
    assert all(config.model_type == name for name, config in PADDED.items())
    assert not FAMILIES & PADDED_FAMILIES


# SDPA leaves Gemma 2's soft capping out
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", PADDED)
def test_padded_families_equal_their_own_logits(name: str, attention: str) -> None:
    causal_lm = from_config(PADDED[name], attention)
    reason = why_padded(causal_lm)
    assert reason is not None and name in reason
    assert layout_of(causal_lm) == LogProbModel(causal_lm).layout == "padded"
    assert causal_lm.config._attn_implementation == attention  # its own is left to it
    examples = ragged_examples(7, 2, seed=70, vocabulary=64)
    assert max(len(e.prompt) + len(e.responses[0]) for e in examples) > 8  # more than a window
    assert_own(causal_lm.train(), examples, "padded")


@pytest.mark.parametrize("name", [*PADDED, "llama"])
def test_a_padded_models_logits_are_never_rounded_to_bf16(name: str) -> None:
    model = LogProbModel(from_config(PADDED.get(name) or PACKED[name], "eager"), "padded")
    head = model.causal_lm.get_output_embeddings()
    kept: list[tuple[Tensor, Tensor]] = []
    head.register_forward_hook(lambda module, inputs, output: kept.append((inputs[0], output)))
    batch = collate(ragged_examples(7, 2, seed=73, vocabulary=64), "padded")
    with torch.no_grad(), torch.autocast("cpu", BF16):
        logits = model.logits(batch)
        assert torch.is_autocast_enabled("cpu")
    ((hidden, output),) = kept
    assert output.dtype == torch.float32
    assert_near(output, hidden.double() @ head.weight.double().T, 1e-6)
    # nor is what is made of them
    assert logits.dtype == torch.float32
    assert (logits != logits.to(BF16).float()).float().mean() > 0.9


def test_a_head_is_widened_in_place_and_once(tmp_path: Path) -> None:
    causal_lm = from_config(PADDED["granite"])
    head, weight = causal_lm.get_output_embeddings(), causal_lm.get_output_embeddings().weight
    names = list(causal_lm.state_dict())
    LogProbModel(LogProbModel(causal_lm).causal_lm)
    assert causal_lm.get_output_embeddings() is head and head.weight is weight
    assert list(causal_lm.state_dict()) == names
    causal_lm.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded.get_output_embeddings()) is torch.nn.Linear
    assert torch.equal(loaded.get_output_embeddings().weight, weight)


@pytest.mark.parametrize("name", ["gemma2", "granite", "phi3"])
def test_token_losses_of_padded_families(name: str) -> None:
    student, teacher = from_config(PADDED[name], "eager"), from_config(PADDED["granite"])
    own, own_teacher = exact(student), exact(teacher)
    examples = ragged_examples(k=1, seed=71, vocabulary=64)
    batch = collate(examples, "padded")
    result = summed(LogProbModel(student), batch, kd_loss, target_by(LogProbModel(teacher), batch))
    with torch.no_grad():
        teacher_rows = own_rows(own_teacher, examples)
    wanted = dense_token_loss(own_rows(own, examples), teacher_rows, kd_loss, "dense")
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-4)
    assert_same_gradients(gradients(student, result), gradients(own, wanted))


def with_head_bias() -> Any:
    causal_lm = from_config(LlamaConfig(**SIZES))
    causal_lm.lm_head = torch.nn.Linear(32, 64, bias=True)
    return causal_lm


def used_window(kind: Any, **sizes: Any) -> Any:
    return kind(**SIZES, **sizes, sliding_window=4, use_sliding_window=True, max_window_layers=0)


EXCEPTIONS: dict[str, tuple[str, Callable[[], Any]]] = {
    "mistral-window": ("window", lambda: from_config(MistralConfig(**SIZES, sliding_window=4))),
    "qwen2-window": ("window", lambda: from_config(used_window(Qwen2Config))),
    "qwen3-window": ("window", lambda: from_config(used_window(Qwen3Config, head_dim=8))),
    "dropout": ("dropout", lambda: from_config(LlamaConfig(**SIZES, attention_dropout=0.1))),
    "head-bias": ("bias", with_head_bias),
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_a_packed_familys_exceptions_travel_padded(name: str) -> None:
    word, make = EXCEPTIONS[name]
    causal_lm, examples = make(), ragged_examples(7, 2, seed=72, vocabulary=64)
    assert causal_lm.config.model_type in FAMILIES
    reason = why_padded(causal_lm)
    assert reason is not None and word in reason
    assert layout_of(causal_lm) == "padded"
    assert_own(causal_lm, examples, "padded")


@pytest.mark.parametrize("name", sorted(EXCEPTIONS.keys() - {"dropout"}))  # which training alone would show
def test_packed_an_exception_would_be_another_model(name: str) -> None:
    make, examples = EXCEPTIONS[name][1], ragged_examples(7, 2, seed=72, vocabulary=64)
    with torch.no_grad():
        packed = LogProbModel(make(), "packed")(collate(examples))
        assert (packed - own_log_probs(make(), examples)).abs().max() > 0.05


# positions that are rotated otherwise in a row of more than 16 tokens
ROTARY: dict[str, Any] = {
    "dynamic": LlamaConfig(
        **{**SIZES, "max_position_embeddings": 16},
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    ),
    "longrope": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "short_factor": [1.0] * 4,
            "long_factor": [3.0] * 4,
            "original_max_position_embeddings": 16,
        },
    ),
}


@pytest.mark.parametrize("name", ROTARY)
def test_positions_that_depend_on_the_row_travel_padded(name: str) -> None:
    causal_lm = from_config(ROTARY[name])
    reason = why_padded(causal_lm)
    assert reason is not None and "rotary" in reason
    # as long as nothing is longer than the model was trained for, they are its own
    examples = [Example(0, [5, 6, 7], ([8, 9], [10, 11, 12])), Example(1, [13], ([14] * 12, [15]))]
    assert_own(causal_lm, examples, "padded")


@pytest.mark.xfail(reason="a long row turns the positions of every row beside it, padded or packed", strict=True)
@pytest.mark.parametrize("name", ROTARY)
def test_a_long_row_leaves_the_positions_of_others_alone(name: str) -> None:
    examples = [Example(0, [5, 6, 7], ([8, 9], [10, 11, 12])), Example(1, [13], ([14] * 30, [15]))]
    assert_own(from_config(ROTARY[name]), examples, "padded", with_gradients=False)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(PhiConfig(**SIZES), id="phi"),
        pytest.param(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64), id="gpt2"),
        pytest.param(
            Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
            id="convolution",
        ),
        pytest.param(
            FalconH1Config(**SIZES, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16),
            id="recurrent-state",
        ),
    ],
)
def test_a_family_that_nobody_has_tested_is_not_packed(config: Any) -> None:
    causal_lm = from_config(config)
    assert layout_of(causal_lm) == "padded"
    assert config.model_type in str(why_padded(causal_lm))


def test_a_layout_may_be_asked_for() -> None:
    causal_lm = tiny_model("llama", seed=17)
    stock = causal_lm.config._attn_implementation
    assert LogProbModel(causal_lm, "padded").layout == "padded"
    assert causal_lm.config._attn_implementation == stock
    assert LogProbModel(causal_lm).layout == "packed"
    assert causal_lm.config._attn_implementation == PACKED_ATTENTION


def test_a_saved_model_is_a_stock_one(tmp_path: Path) -> None:
    causal_lm, ids = tiny_model("llama", seed=18), torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        wanted = causal_lm(ids).logits
        LogProbModel(causal_lm).causal_lm.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(ids).logits, wanted, rtol=0, atol=1e-5)
    assert PACKED_ATTENTION not in (tmp_path / "config.json").read_text(encoding="utf-8")


# ---- 16-bit weights, raised where they are used


def held(config: Any, folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """A checkpoint of this type, loaded in float32 and as it is."""
    from_config(config).to(dtype).save_pretrained(folder)
    return load_model(folder, torch.float32).requires_grad_(False), reading_model(folder)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "layout"), [*((name, layout) for name in PACKED for layout in LAYOUTS), *((n, "padded") for n in PADDED)]
)
def test_what_a_model_says_does_not_hang_on_how_its_weights_are_held(
    name: str, layout: Layout, autocast: bool, tmp_path: Path
) -> None:
    config = (PACKED | PADDED)[name]
    found = []
    batch = collate(ragged_examples(vocabulary=config.vocab_size), layout)
    for causal_lm in held(config, tmp_path, BF16):
        model = LogProbModel(causal_lm, layout)
        with torch.no_grad(), torch.autocast("cpu", BF16, enabled=autocast):
            target = model.log_prob_rows(batch)
            found.append((model(batch), target.rows(slice(None), target.vocabulary)))
    (values, rows), (held_values, held_rows) = found
    assert held_values.dtype == held_rows.dtype == torch.float32
    assert torch.equal(held_values, values) and torch.equal(held_rows, rows)  # raising bf16 is exact
    matrices = [module for module in causal_lm.modules() if isinstance(module, nn.Linear | nn.Embedding)]
    assert {module.weight.dtype for module in matrices} == {BF16}


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_float16_weights_are_raised_too(layout: Layout, autocast: bool, tmp_path: Path) -> None:
    batch = collate(ragged_examples(vocabulary=64), layout)
    with torch.no_grad(), torch.autocast("cpu", BF16, enabled=autocast):
        wide, narrow = (LogProbModel(m, layout)(batch) for m in held(PACKED["qwen2"], tmp_path, torch.float16))
    assert torch.equal(wide, narrow)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "layout"), [("llama", "packed"), ("qwen2", "padded"), ("gemma2", "padded"), ("cohere", "padded")]
)
def test_the_residual_stream_of_bf16_weights_is_float32(
    name: str, layout: Layout, autocast: bool, tmp_path: Path
) -> None:
    config = (PACKED | PADDED)[name]
    _, causal_lm = held(config, tmp_path, BF16)
    stream: list[torch.dtype] = []

    def see(_module: Any, inputs: Any, output: Any) -> None:
        stream.extend([inputs[0].dtype, (output[0] if isinstance(output, tuple) else output).dtype])

    for layer in causal_lm.model.layers:
        layer.register_forward_hook(see)
    with torch.no_grad(), torch.autocast("cpu", BF16, enabled=autocast):
        LogProbModel(causal_lm, layout)(collate(ragged_examples(vocabulary=config.vocab_size), layout))
    assert stream == [torch.float32] * 2 * config.num_hidden_layers
