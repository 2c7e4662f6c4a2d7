"""Decoding against step-by-step oracles, and sampling against probabilities."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    SmolLM3Config,
)
from transformers.cache_utils import DynamicLayer

from harness.core.errors import UserError
from harness.generation import plain, sampler
from harness.generation.protocol import Sampling
from harness.generation.sampler import (
    GROUPED_ATTENTION,
    RoomyLayer,
    choose,
    decode_batch,
    form_batches,
    grouped_attention,
    row_uniforms,
)
from harness.models.families import PADDED_FAMILIES
from harness.models.loading import load_model
from tests.conftest import GEMMA2, tiny_model

FAMILIES = ["llama", "qwen2"]
GREEDY = Sampling(temperature=0, max_new_tokens=12)
DRAWN = Sampling(temperature=1, max_new_tokens=12)
STOPS = list(range(0, 512, 9))  # many, so that rows of a random model end, each at another step
BELOW_ONE = math.nextafter(1.0, 0.0)


def ragged_prompts(count: int = 6, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    prompts = [[draw.randrange(3, 512) for _ in range(draw.randint(2, 20))] for _ in range(count - 1)]
    return [*prompts, [draw.randrange(3, 512)]]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Path:
    return checkpoints[request.param]


@pytest.fixture(params=["step", "forward"])
def model(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Computed by a step of our own, and by its own `forward`, as on a GPU."""
    if request.param == "forward":
        monkeypatch.setattr(sampler, "plain", lambda model: False)
    return load_model(folder, torch.float32, GROUPED_ATTENTION)


def uniforms_for(rows: Sequence[int], sampling: Sampling = DRAWN) -> Tensor:
    return torch.stack([row_uniforms(0, "test", str(row), sampling.max_new_tokens) for row in rows])


def decode(model: Any, prompts: list[list[int]], sampling: Sampling, stops: Sequence[int] = ()) -> list[list[int]]:
    return decode_batch(model, prompts, uniforms_for(range(len(prompts)), sampling), sampling, stops, 512)


@torch.no_grad()
def greedy_oracle(stock: Any, prompt: list[int], stops: Sequence[int], limit: int) -> list[int]:
    """One sequence at a time, without cache or padding, with the stock attention."""
    response: list[int] = []
    while len(response) < limit and not (response and response[-1] in stops):
        logits = stock(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0, -1]
        response.append(int(logits.argmax()))
    return response


@torch.no_grad()
def sampled_oracle(stock: Any, prompt: list[int], uniforms: Tensor) -> list[int]:
    """The same, drawing from the model's own logits by inversion, in float64."""
    response: list[int] = []
    for uniform in uniforms:
        logits = stock(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0, -1]
        cumulative = torch.softmax(logits.double(), -1).cumsum(-1)
        response.append(int((cumulative <= uniform * cumulative[-1]).sum()))
    return response


def cut_at_stop(response: list[int], stops: Sequence[int]) -> list[int]:
    for index, token in enumerate(response):
        if token in stops:
            return response[: index + 1]
    return response


# ---- attention


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no-mask"])
@pytest.mark.parametrize(("length", "span"), [(7, 7), (1, 9), (3, 9)], ids=["prefill", "step", "chunk"])
def test_grouped_attention_equals_torchs(length: int, span: int, masked: bool, heads: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads, length, 8, generator=generator)
    key, value = (torch.randn(2, groups, span, 8, generator=generator) for _ in range(2))
    seen = torch.ones(length, span, dtype=torch.bool).tril(span - length)
    mask = None
    if masked:
        mask = seen & (torch.rand(2, 1, length, span, generator=generator) < 0.7)
        mask[..., 0] = True  # every query sees something
    wanted = F.scaled_dot_product_attention(query, key, value, seen if mask is None else mask, enable_gqa=True)
    found, weights = grouped_attention(None, query, key, value, mask)
    assert weights is None
    torch.testing.assert_close(found, wanted.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_grouped_attention_takes_a_scale() -> None:
    query, key, value = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    wanted = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.5, enable_gqa=True)
    found, _ = grouped_attention(None, query, key, value, None, scaling=0.5)
    torch.testing.assert_close(found, wanted.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_a_query_that_sees_nothing_stays_finite() -> None:
    """Padding on the left has such queries; what they give is never read, but must not be NaN."""
    mask = torch.ones(3, 3, dtype=torch.bool).tril()[None, None].clone()
    mask[..., 0] = False
    found, _ = grouped_attention(None, *(torch.randn(1, 2, 3, 8) for _ in range(3)), mask)
    assert torch.isfinite(found).all()


# ---- the cache


@pytest.mark.parametrize("room", [0, 2, 64])
def test_a_cache_with_room_holds_what_a_plain_one_holds(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "ROOM", room)
    generator = torch.Generator().manual_seed(0)
    roomy, plain = RoomyLayer(), DynamicLayer()
    rows = 5
    for length, left in ((4, None), (1, [4, 0, 2]), (1, None), (3, [1]), (1, None), (1, None)):
        keys, values = (torch.randn(rows, 2, length, 8, generator=generator) for _ in range(2))
        for found, wanted in zip(roomy.update(keys, values), plain.update(keys, values), strict=True):
            assert torch.equal(found, wanted)
        if left is not None:
            rows = len(left)
            for cache in (roomy, plain):
                cache.batch_select_indices(torch.tensor(left))
        assert roomy.get_seq_length() == plain.get_seq_length()
        assert torch.equal(roomy.keys, plain.keys)
        assert torch.equal(roomy.values, plain.values)


def test_a_response_that_outgrows_its_room_is_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ragged_prompts(8)
    wanted = decode(model, prompts, DRAWN, STOPS)
    for module in (plain, sampler):
        monkeypatch.setattr(module, "ROOM", 3)
    assert decode(model, prompts, DRAWN, STOPS) == wanted
    monkeypatch.setattr(sampler, "plain", lambda model: False)
    assert decode(model, prompts, DRAWN, STOPS) == wanted


# ---- decoding


@pytest.mark.parametrize("stops", [(), STOPS], ids=["no-stops", "stops"])
def test_greedy_decoding_equals_a_step_by_step_argmax(folder: Path, model: Any, stops: Sequence[int]) -> None:
    stock, prompts = load_model(folder, torch.float32), ragged_prompts()
    found = decode(model, prompts, GREEDY, stops)
    assert found == [greedy_oracle(stock, prompt, stops, GREEDY.max_new_tokens) for prompt in prompts]


def test_equal_lengths_without_padding_equal_a_step_by_step_argmax(folder: Path, model: Any) -> None:
    stock, prompts = load_model(folder, torch.float32), [[5, 6, 7], [300, 301, 302]]
    assert decode(model, prompts, GREEDY) == [greedy_oracle(stock, prompt, (), 12) for prompt in prompts]


def test_sampling_draws_from_the_models_own_logits(folder: Path, model: Any) -> None:
    stock, prompts = load_model(folder, torch.float32), ragged_prompts()
    uniforms = uniforms_for(range(len(prompts)))
    assert decode(model, prompts, DRAWN) == [sampled_oracle(stock, *row) for row in zip(prompts, uniforms, strict=True)]


@pytest.mark.parametrize("stops", [(), STOPS], ids=["no-stops", "stops"])
def test_the_batch_does_not_change_a_rows_text(model: Any, stops: Sequence[int]) -> None:
    prompts = ragged_prompts(8)
    uniforms = uniforms_for(range(8))
    together = decode_batch(model, prompts, uniforms, DRAWN, stops, 512)
    for rows in ([0], [7], [3, 1], [6, 2, 5, 4]):
        part = decode_batch(model, [prompts[row] for row in rows], uniforms[rows], DRAWN, stops, 512)
        assert part == [together[row] for row in rows]


def test_stop_tokens_end_rows_and_are_kept(model: Any) -> None:
    prompts = ragged_prompts(8)
    endless = decode(model, prompts, DRAWN)
    found = decode(model, prompts, DRAWN, STOPS)
    assert found == [cut_at_stop(response, STOPS) for response in endless]
    assert len({len(response) for response in found}) > 2  # rows did end at different steps
    assert any(response[-1] in STOPS for response in found)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_finished_rows_that_leave_do_not_disturb_the_others(
    model: Any, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ragged_prompts(8)
    wanted = [cut_at_stop(response, STOPS) for response in decode(model, prompts, DRAWN)]
    monkeypatch.setattr(sampler, "FINISHED_SHARE", share)
    assert decode(model, prompts, DRAWN, STOPS) == wanted


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_no_response_is_longer_than_max_new_tokens(model: Any, limit: int) -> None:
    prompts = ragged_prompts(3)
    sampling = Sampling(temperature=1, max_new_tokens=limit)
    found = decode_batch(model, prompts, uniforms_for(range(3)), sampling, (), 512)
    assert [len(response) for response in found] == [limit] * 3
    assert found == [response[:limit] for response in decode(model, prompts, DRAWN)]


def test_a_first_token_that_stops_is_the_whole_response(model: Any) -> None:
    prompts = ragged_prompts(3)
    first = [response[0] for response in decode(model, prompts, DRAWN)]
    assert decode(model, prompts, DRAWN, first) == [[token] for token in first]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, Sampling(top_p=0.8, max_new_tokens=12)], ids=str)
def test_what_pads_an_embedding_is_never_drawn(sampling: Sampling) -> None:
    padded = tiny_model("llama", seed=0, vocabulary=544, tied=False)
    with torch.no_grad():  # whatever the hidden state, one of the rows beyond the vocabulary is the likeliest
        padded.lm_head.weight[512:528] = 100 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
        padded.lm_head.weight[528:] = -padded.lm_head.weight[512:528]
    prompts = ragged_prompts()
    uniforms = uniforms_for(range(len(prompts)), sampling)
    assert max(map(max, decode_batch(padded, prompts, uniforms, sampling, (), 544))) >= 512
    found = decode_batch(padded, prompts, uniforms, sampling, (), 512)
    assert max(map(max, found)) < 512
    padded.lm_head.weight = torch.nn.Parameter(padded.lm_head.weight[:512])  # as if there were no padding
    assert found == decode_batch(padded, prompts, uniforms, sampling, (), 512)


# ---- other architectures: right, or refused

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(MistralConfig(**SIZES, sliding_window=4), id="sliding-window"),
        pytest.param(
            OPTConfig(
                vocab_size=64,
                hidden_size=32,
                ffn_dim=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                word_embed_proj_dim=32,
                max_position_embeddings=64,
                init_std=0.3,
            ),
            id="learned-positions",
        ),
        pytest.param(GraniteConfig(**SIZES, logits_scaling=8.0), id="logit-scaling"),
        pytest.param(
            Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, attn_logit_softcapping=None),
            id="softcapped-logits",
        ),
        pytest.param(
            Gemma2Config(
                **SIZES, head_dim=8, final_logit_softcapping=None, attn_logit_softcapping=0.5, query_pre_attn_scalar=1
            ),
            id="softcapped-attention",
        ),
        pytest.param(
            GptOssConfig(**SIZES, head_dim=8, num_local_experts=2, num_experts_per_tok=1),
            id="attention-sinks",
        ),
        pytest.param(
            GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
            id="no-model-attribute",
        ),
    ],
)
def test_other_architectures_are_decoded_rightly_or_refused(config: Any) -> None:
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = [[index % 60 + 3 for index in range(start, start + length)] for start, length in ((0, 9), (20, 3))]
    uniforms = uniforms_for(range(2))
    wanted = [sampled_oracle(causal_lm, *row) for row in zip(prompts, uniforms, strict=True)]
    causal_lm.set_attn_implementation(GROUPED_ATTENTION)
    with contextlib.suppress(UserError):
        assert decode_batch(causal_lm, prompts, uniforms, DRAWN, (), 64) == wanted


# ---- models that are sampled with the attention that they come with

OWN_ATTENTION: dict[str, Any] = {
    "gemma2": GEMMA2(**SIZES),  # a window in every other layer, capped attention, capped logits
    "gemma3_text": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=4, query_pre_attn_scalar=8),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "cohere": CohereConfig(**SIZES, logit_scale=0.25),
    "cohere2": Cohere2Config(**SIZES, sliding_window=4, logit_scale=0.25),
    "granite": GraniteConfig(**SIZES, logits_scaling=8.0, attention_multiplier=0.5, residual_multiplier=0.5),
    "olmo2": Olmo2Config(**SIZES),
    "phi3": Phi3Config(**SIZES, sliding_window=4),
    "smollm3": SmolLM3Config(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
    "qwen2": Qwen2Config(**SIZES, sliding_window=4, use_sliding_window=True, max_window_layers=1),
}


def test_every_padded_family_is_sampled_here() -> None:
    assert {config.model_type for config in OWN_ATTENTION.values()} >= PADDED_FAMILIES


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_a_model_with_attention_of_its_own_says_what_generate_says(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(OWN_ATTENTION[family], dtype=torch.float32).save_pretrained(tmp_path)
    causal_lm = load_model(tmp_path, torch.float32)
    draw = random.Random(0)
    prompts = [[draw.randrange(3, 64) for _ in range(length)] for length in (1, 14, 3, 9, 2, 6)]
    endless = [
        causal_lm.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=GREEDY.max_new_tokens,
            eos_token_id=None,
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    uniforms = uniforms_for(range(len(prompts)), GREEDY)
    assert decode_batch(causal_lm, prompts, uniforms, GREEDY, (), 64) == endless
    for stops in ([endless[0][1]], [endless[1][4], endless[2][2]]):  # rows that leave the batch do not matter
        wanted = [cut_at_stop(response, stops) for response in endless]
        assert decode_batch(causal_lm, prompts, uniforms, GREEDY, stops, 64) == wanted


# ---- choosing


def many_draws(logits: Tensor, sampling: Sampling, count: int = 20_000) -> Tensor:
    uniforms = torch.from_numpy(np.random.default_rng(0).random(count))
    return choose(logits.expand(count, -1), uniforms, sampling)


LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.0, 0.7, -0.5, 1.0, -2.0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_match_probabilities(temperature: float) -> None:
    counts = torch.bincount(many_draws(LOGITS, Sampling(temperature=temperature)), minlength=8).double()
    expected = 20_000 * torch.softmax(LOGITS.double() / temperature, -1)
    chi_square = ((counts - expected).square() / expected).sum().item()
    assert chi_square < 30  # 7 degrees of freedom: passed by chance once in ten thousand


def test_frequencies_under_top_p_match_the_renormalised_probabilities() -> None:
    counts = torch.bincount(many_draws(LOGITS, Sampling(top_p=0.6)), minlength=8).double()
    kept = [2, 6, 4]  # of masses .29, .24 and .17
    expected = 20_000 * torch.softmax(LOGITS[kept].double(), -1)
    assert counts[kept].sum() == 20_000
    assert ((counts[kept] - expected).square() / expected).sum().item() < 20


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.62, 0.9, 0.97])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, seed: int) -> None:
    logits = torch.randn(10, generator=torch.Generator().manual_seed(seed))
    probabilities, order = torch.softmax(logits.double(), -1).sort(descending=True)
    size = int((probabilities.cumsum(0) < top_p).sum()) + 1
    grid = torch.linspace(0, BELOW_ONE, 4001, dtype=torch.float64)
    chosen = choose(logits.expand(4001, -1), grid, Sampling(top_p=top_p))
    assert set(chosen.tolist()) == set(order[:size].tolist())


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("uniform", [0.0, 0.5, BELOW_ONE])
def test_a_token_of_probability_zero_is_never_chosen(uniform: float, top_p: float) -> None:
    infinity = float("inf")
    logits = torch.tensor(
        [
            [-infinity, 0.0, -infinity, 0.0, -infinity],
            [-infinity, -infinity, 1.0, -infinity, -infinity],
            [0.0, -infinity, -infinity, -infinity, 0.1],
            [-200.0, 0.0, 0.0, 0.0, -200.0],  # underflows to 0
        ]
    )
    chosen = choose(logits, torch.full((4,), uniform, dtype=torch.float64), Sampling(top_p=top_p))
    assert torch.all(logits.gather(-1, chosen[:, None]) > -100)


@pytest.mark.parametrize("uniform", [0.0, BELOW_ONE])
def test_a_large_vocabulary_has_a_choice_at_both_ends(uniform: float) -> None:
    logits = torch.randn(16, 50_000, generator=torch.Generator().manual_seed(0))
    logits[:, :100] = logits[:, -100:] = -float("inf")
    chosen = choose(logits, torch.full((16,), uniform, dtype=torch.float64), Sampling())
    assert ((chosen >= 100) & (chosen < 49_900)).all()


def test_choosing_inverts_the_cumulative_probabilities() -> None:
    logits = torch.log(torch.tensor([0.25, 0.5, 0.25])).expand(5, -1)
    uniforms = torch.tensor([0.0, 0.24, 0.26, 0.74, 0.76], dtype=torch.float64)
    assert choose(logits, uniforms, Sampling()).tolist() == [0, 0, 1, 1, 2]


def test_temperature_zero_is_argmax() -> None:
    logits = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    uniforms = torch.full((6,), 0.999, dtype=torch.float64)
    assert torch.equal(choose(logits, uniforms, Sampling(temperature=0)), logits.argmax(-1))
    assert torch.equal(choose(logits, uniforms, Sampling(temperature=0, top_p=0.5)), logits.argmax(-1))


# ---- random numbers and batches


def test_row_uniforms_are_a_function_of_seed_purpose_and_row() -> None:
    keys = [(0, "train", "a/0"), (1, "train", "a/0"), (0, "eval", "a/0"), (0, "train", "a/1"), (0, "train", "b/0")]
    first = [row_uniforms(*key, 8) for key in keys]
    again = [row_uniforms(*key, 8) for key in keys]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({tuple(row.tolist()) for row in first}) == len(keys)


def test_row_uniforms_are_uniform_and_move_no_global_state() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    values = row_uniforms(3, "test", "row", 10_000)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert values.dtype == torch.float64
    assert ((values >= 0) & (values < 1)).all()
    assert values.mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_longer_row_of_uniforms_begins_with_the_shorter() -> None:
    assert torch.equal(row_uniforms(0, "test", "row", 20)[:8], row_uniforms(0, "test", "row", 8))


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (23, 5), (7, 100)])
def test_form_batches_covers_every_row_once(count: int, size: int) -> None:
    lengths = [random.Random(count).randint(1, 50) for _ in range(count)]
    batches = form_batches(lengths, size)
    assert sorted(row for batch in batches for row in batch) == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= size


def test_form_batches_puts_similar_lengths_together() -> None:
    assert form_batches([9, 2, 9, 1, 5], 2) == [[3, 1], [4, 0], [2]]
