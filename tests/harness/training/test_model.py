"""Log-probs from the one module, against `model(input_ids).logits` and dense computations."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    Lfm2Config,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from harness.methods import methods
from harness.training import model as model_module
from harness.training.batching import Example, collate
from harness.training.model import FAMILIES, LogProbModel, label_log_probs, log_prob_rows, supported
from tests.conftest import tiny_model


def ragged_examples(count: int = 5, k: int = 2, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(3, 512) for _ in range(draw.randint(low, high))]

    examples = [Example(i, ids(1, 12), tuple(ids(1, 9) for _ in range(k))) for i in range(count - 1)]
    return [*examples, Example(count - 1, ids(1, 1), tuple(ids(1, 1) for _ in range(k)))]


def response_rows(causal_lm: Any, prompt: Any, response: Any, vocabulary: int | None = None) -> Tensor:
    """[R, V] log-probs at a response's tokens, one sequence at a time, from the stock logits."""
    logits = causal_lm(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
    return torch.log_softmax(logits[len(prompt) - 1 : -1, :vocabulary].float(), -1)


def oracle_sums(causal_lm: Any, examples: list[Example]) -> Tensor:
    """[examples, k] sums of response log-probs."""
    sums = [
        response_rows(causal_lm, example.prompt, response).gather(-1, torch.tensor(response)[:, None]).sum()
        for example in examples
        for response in example.responses
    ]
    return torch.stack(sums).view(len(examples), -1)


def dpo_like_loss(sums: Tensor) -> Tensor:
    return -F.logsigmoid(0.1 * (sums[:, 0] - sums[:, 1]) + 0.3).mean()


def gradients(causal_lm: Any, loss: Tensor) -> dict[str, Tensor]:
    causal_lm.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in causal_lm.named_parameters()}


def assert_same_gradients(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        scale = grad.abs().max().item()
        torch.testing.assert_close(got[name], grad, rtol=tolerance, atol=tolerance * scale, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_shared_and_padded_layouts_equal_the_models_own_logits(family: str, tied: bool) -> None:
    causal_lm = tiny_model(family, seed=3, tied=tied)
    model, examples = LogProbModel(causal_lm), ragged_examples()
    wanted = oracle_sums(causal_lm, examples)
    wanted_gradients = gradients(causal_lm, dpo_like_loss(wanted))
    for layout in ("shared", "padded"):
        batch = collate(examples, layout)  # type: ignore[arg-type]
        sums = batch.sum_by_response(model(batch))
        assert sums.dtype == torch.float32
        torch.testing.assert_close(sums, wanted, rtol=1e-5, atol=1e-4)
        assert_same_gradients(gradients(causal_lm, dpo_like_loss(sums)), wanted_gradients)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_three_responses_share_a_prompt_without_seeing_each_other(family: str) -> None:
    causal_lm, examples = tiny_model(family, seed=4), ragged_examples(k=3, seed=1)
    batch = collate(examples)
    with torch.no_grad():
        sums = batch.sum_by_response(LogProbModel(causal_lm)(batch))
        torch.testing.assert_close(sums, oracle_sums(causal_lm, examples), rtol=1e-5, atol=1e-4)


def test_the_other_response_does_not_matter() -> None:
    model = LogProbModel(tiny_model("llama", seed=5))
    one, other = (collate([Example(0, [5, 6, 7], (chosen, [8, 9, 10]))]) for chosen in ([11], [300, 301, 302, 303]))
    with torch.no_grad():
        rejected = [batch.sum_by_response(model(batch))[0, 1] for batch in (one, other)]
    torch.testing.assert_close(rejected[0], rejected[1], rtol=1e-5, atol=1e-5)


def test_what_pads_a_row_does_not_matter() -> None:
    model, examples = LogProbModel(tiny_model("qwen2", seed=6)), ragged_examples()
    with torch.no_grad():
        values = [model(collate(examples, pad=pad)) for pad in (0, 77)]
    assert torch.equal(values[0], values[1])


# ---- the one fused operation


@pytest.mark.parametrize("rows", [1, 5, 23])
def test_label_log_probs_equal_a_float64_oracle(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_ROWS", 5)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 16, generator=generator, requires_grad=True)
    weight = torch.randn(64, 16, generator=generator, requires_grad=True)
    labels = torch.randint(0, 64, (rows,), generator=generator)
    upstream = torch.randn(rows, generator=generator)

    result = label_log_probs(hidden, weight, labels)
    found = torch.autograd.grad(result, (hidden, weight), upstream)

    hidden64, weight64 = (tensor.detach().double().requires_grad_() for tensor in (hidden, weight))
    wanted = torch.log_softmax(hidden64 @ weight64.T, -1).gather(-1, labels[:, None]).squeeze(-1)
    wanted_gradients = torch.autograd.grad(wanted, (hidden64, weight64), upstream.double())

    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-5)
    for got, want in zip(found, wanted_gradients, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


def test_label_log_probs_pass_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_ROWS", 3)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(9, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 9, (7,), generator=generator)
    # the result is float32 whatever its operands are, so the step is wide and the tolerance that of float32
    assert torch.autograd.gradcheck(
        lambda h, w: label_log_probs(h, w, labels).double(), (hidden, weight), eps=1e-2, atol=1e-3, rtol=1e-3
    )


def test_the_chunk_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    causal_lm, examples = tiny_model("llama", seed=7), ragged_examples()
    batch, found = collate(examples), []
    for rows in (3, 10_000):
        monkeypatch.setattr(model_module, "CHUNK_ROWS", rows)
        values = LogProbModel(causal_lm)(batch)
        found.append((values.detach(), gradients(causal_lm, dpo_like_loss(batch.sum_by_response(values)))))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    assert_same_gradients(found[0][1], found[1][1], 1e-5)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(16, 8)
    label_log_probs(hidden, weight, torch.tensor([0, 3, 5, 15])).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_autocast_multiplies_in_bf16_and_sums_in_float32() -> None:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(6, 16, generator=generator, requires_grad=True)
    weight = torch.randn(64, 16, generator=generator, requires_grad=True)
    labels = torch.randint(0, 64, (6,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        result = label_log_probs(hidden, weight, labels)
    product = (hidden.bfloat16() @ weight.bfloat16().T).float()
    assert result.dtype == torch.float32
    assert torch.equal(result, torch.log_softmax(product, -1).gather(-1, labels[:, None]).squeeze(-1))
    result.sum().backward()
    assert hidden.grad is not None and weight.grad is not None
    assert (hidden.grad.dtype, weight.grad.dtype) == (torch.float32, torch.float32)


def test_log_prob_rows_normalise_over_the_vocabulary_given() -> None:
    hidden, weight = torch.randn(3, 8), torch.randn(20, 8)
    torch.testing.assert_close(log_prob_rows(hidden, weight), torch.log_softmax(hidden @ weight.T, -1))
    torch.testing.assert_close(
        log_prob_rows(hidden, weight, 15), torch.log_softmax((hidden @ weight.T)[:, :15], -1), rtol=1e-5, atol=1e-5
    )


# ---- token-level losses


def lopsided_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Both directions of KL, weighted so that swapped arguments would show."""
    difference = student - teacher
    return (2.0 * student.exp() * difference - 0.5 * teacher.exp() * difference).sum(-1)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("student_size", "teacher_size"), [(512, 512), (512, 576), (576, 512)])
def test_token_losses_equal_a_dense_computation(
    student_size: int, teacher_size: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "CHUNK_ROWS", 7)
    student = tiny_model("llama", seed=8, vocabulary=student_size)
    teacher = tiny_model("qwen2", seed=9, hidden=48, vocabulary=teacher_size)
    examples = ragged_examples(k=k, seed=2)
    losses = LogProbModel(student)(collate(examples), lopsided_loss, LogProbModel(teacher))
    found = gradients(student, losses.mean())

    wanted = torch.cat(
        [
            lopsided_loss(
                response_rows(student, example.prompt, response, 512),
                response_rows(teacher, example.prompt, response, 512).detach(),
            )
            for example in examples
            for response in example.responses
        ]
    )
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-4)
    assert_same_gradients(found, gradients(student, wanted.mean()))


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = tiny_model("llama", seed=10), tiny_model("llama", seed=11)
    kd = methods.get("kd")
    losses = LogProbModel(student)(
        collate(ragged_examples(k=1)), lambda s, t: kd.loss(s, t, kd.settings()), LogProbModel(teacher)
    )
    losses.sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_a_student_that_is_its_teacher_has_no_divergence() -> None:
    student, kd = LogProbModel(tiny_model("qwen2", seed=12)), methods.get("kd")
    losses = student(collate(ragged_examples(k=1)), lambda s, t: kd.loss(s, t, kd.settings()), student)
    torch.testing.assert_close(losses, torch.zeros_like(losses), rtol=0, atol=1e-5)


# ---- what the head and the shared prompt are right for

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


def from_config(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_supported_accepts_llama_and_qwen2(family: str) -> None:
    assert supported(tiny_model(family, seed=0))
    assert supported(tiny_model(family, seed=0, tied=False))


def test_supported_accepts_neutral_settings_of_such_a_kind() -> None:
    assert supported(from_config(MistralConfig(**SIZES, sliding_window=None)))
    # the window is stated, as in published Qwen2 checkpoints, and not used
    assert supported(from_config(Qwen2Config(**SIZES, sliding_window=16, use_sliding_window=False)))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(Gemma2Config(**SIZES, head_dim=8, sliding_window=None), id="softcapping"),
        pytest.param(GraniteConfig(**SIZES, logits_scaling=8.0), id="logit-scaling"),
        pytest.param(MistralConfig(**SIZES, sliding_window=16), id="sliding-window"),
        pytest.param(
            Qwen2Config(**SIZES, sliding_window=16, use_sliding_window=True, max_window_layers=0), id="qwen2-window"
        ),
        pytest.param(PhiConfig(**SIZES), id="head-bias"),
    ],
)
def test_supported_refuses(config: Any) -> None:
    assert not supported(from_config(config))


def test_supported_refuses_a_bias_put_on_the_head() -> None:
    causal_lm = from_config(LlamaConfig(**SIZES))
    causal_lm.lm_head = torch.nn.Linear(32, 64, bias=True)
    assert not supported(causal_lm)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
            id="convolution-carries-the-chosen-into-the-rejected",
        ),
        *(
            pytest.param(kind, id=kind.model_type)
            for kind in (
                LlamaConfig(**SIZES),
                MistralConfig(**SIZES, sliding_window=None),
                Qwen2Config(**SIZES),
                Qwen3Config(**SIZES, head_dim=8),
            )
        ),
        pytest.param(
            FalconH1Config(
                **SIZES, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16, lm_head_multiplier=0.5
            ),
            id="recurrent-state-and-head-multiplier",
        ),
        pytest.param(
            Llama4TextConfig(
                **SIZES, head_dim=8, num_local_experts=2, attention_chunk_size=4, intermediate_size_mlp=32
            ),
            id="chunked-attention",
        ),
        pytest.param(
            GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64), id="no-model-attribute"
        ),
    ],
)
def test_what_is_supported_equals_the_models_own_logits(config: Any) -> None:
    causal_lm = from_config(config)
    assert supported(causal_lm) == (config.model_type in FAMILIES)
    if supported(causal_lm):
        draw = random.Random(0)
        prompt = [draw.randrange(3, 64) for _ in range(6)]
        examples = [Example(0, prompt, ([7, 8, 9, 10], [11, 12, 13, 14, 15]))]
        batch = collate(examples)
        with torch.no_grad():
            sums = batch.sum_by_response(LogProbModel(causal_lm)(batch))
            torch.testing.assert_close(sums, oracle_sums(causal_lm, examples), rtol=1e-5, atol=1e-4)
