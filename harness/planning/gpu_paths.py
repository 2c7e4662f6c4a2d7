"""What only a GPU computes in a way of its own, with tiny models that are made on the spot: each path as a run takes it
on a device, and what a CPU says of the same.

Nothing here knows which device it is given: on a CPU either side takes the CPU's way, and the comparisons themselves
are tested so.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig
from transformers.utils import logging as transformers_logging

from harness.core.records import METRICS, read_jsonl
from harness.generation import sampler
from harness.generation.protocol import Sampling
from harness.logprobs.attention import BLOCK, PACKED_ATTENTION, packed_attention, visibility
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import LogProbModel, label_log_probs
from harness.logprobs.scoring import autocast
from harness.methods import POLICY, Definition, DistributionInputs, DistributionSettings, Method
from harness.planning.doctor import has_extra
from harness.serving.resident import let_go_of_all
from harness.serving.vllm_process import SamplingRequest, vllm_process
from harness.training import loop
from harness.training.data import Fresh, plan_steps
from harness.training.frozen import Frozen, Local
from harness.training.sampling import Writer

CPU = torch.device("cpu")
VOCABULARY, HEADS, GROUPS, WIDTH = 512, 4, 2, 32
# prompts with their responses, in tokens: within one of FlexAttention's blocks, over its edges, and over several
LENGTHS = ((5, (3, 9)), (127, (2, 130)), (260, (128, 1)), (1, (70, 300)))
NEW_TOKENS = 12
VLLM_PYTHON = "VLLM_PYTHON"  # an interpreter that has vLLM, where this one has not
Found = Sequence[Tensor]


class NotThereError(Exception):
    """What a path needs is not installed; the message says what."""


def furthest(found: Found, wanted: Found) -> float:
    """The largest difference."""
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(found, wanted, strict=True))


def relative(found: Found, wanted: Found) -> float:
    """The largest difference, of each tensor as a share of its largest number."""
    pairs = list(zip(found, wanted, strict=True))
    return max(furthest([a], [b]) / max(float(b.double().abs().max()), 1e-30) for a, b in pairs)


def unequal(found: Found, wanted: Found) -> float:
    """The share of the entries that are others."""
    differ = sum(int((a != b).sum()) for a, b in zip(found, wanted, strict=True))
    return differ / sum(tensor.numel() for tensor in wanted)


@dataclass(frozen=True)
class GpuPath:
    """name, compared: for people. here: what a CPU says. there: what the device says, brought back to the CPU. apart:
    how far these are from each other, and limit: as far as rounding takes them; a path that is wrong is much further.
    """

    name: str
    compared: str
    limit: float
    apart: Callable[[Found, Found], float]
    here: Callable[[], Found]
    there: Callable[[torch.device], Found]


# ---- what they are computed on
def _examples(lengths: Sequence[tuple[int, tuple[int, ...]]] = LENGTHS) -> list[Example]:
    draw = random.Random(0)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(count)]

    return [
        Example(number, ids(p), tuple(map(ids, responses)), str(number))
        for number, (p, responses) in enumerate(lengths)
    ]


def _model(seed: int) -> Any:
    """A model of two layers with random float32 weights, whose distributions are far from uniform."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HEADS * WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- attention
def _operands(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Query, key and value of a packed row, and the gradient of what comes of them."""
    length = sum(example.tokens for example in _examples())
    shapes = (
        (1, HEADS, length, WIDTH),
        (1, GROUPS, length, WIDTH),
        (1, GROUPS, length, WIDTH),
        (1, length, HEADS, WIDTH),
    )
    return tuple(_normal(*shape, seed=seed).to(device, dtype) for seed, shape in enumerate(shapes))


def _with_gradients(dtype: torch.dtype, device: torch.device, attend: Callable[..., Tensor]) -> Found:
    *inputs, grad = _operands(dtype, device)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    out = attend(*inputs, collate(_examples()).spans.to(device))  # type: ignore[union-attr]
    grads = torch.autograd.grad(out, inputs, grad)
    return [tensor.detach().float().cpu() for tensor in (out, *grads)]


def _attention_here(dtype: torch.dtype) -> Found:
    return _with_gradients(dtype, CPU, lambda *inputs: packed_attention(*inputs, WIDTH**-0.5))


def _attention_there(dtype: torch.dtype, device: torch.device) -> Found:
    def attend(query: Tensor, key: Tensor, value: Tensor, spans: Tensor) -> Tensor:
        length = query.shape[2]
        # a model fills rows up to whole blocks on a GPU
        added = 0 if device.type == "cpu" else -length % BLOCK
        row = [F.pad(x, (0, 0, 0, added)) for x in (query, key, value)]
        shown = visibility(spans, length + added)
        out: Tensor = AttentionInterface()[PACKED_ATTENTION](None, *row, None, visibility=shown)[0]
        return out[:, :length]

    return _with_gradients(dtype, device, attend)


# ---- logits
def _head() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weights of a head and labels. All numbers are bf16's, so that their products are known exactly."""
    hidden, weight = _normal(64, 256), _normal(4096, 256, seed=1)
    labels = torch.randint(4096, (64,), generator=torch.Generator().manual_seed(2))
    return hidden.bfloat16().float(), weight.bfloat16().float(), labels


def _logits_here() -> Found:
    hidden, weight, labels = _head()
    return [torch.log_softmax(hidden.double() @ weight.double().T, -1).gather(-1, labels[:, None]).squeeze(-1)]


def _logits_there(device: torch.device) -> Found:
    hidden, weight, labels = (tensor.to(device) for tensor in _head())
    with torch.autocast(device.type, dtype=torch.bfloat16):
        return [label_log_probs(hidden, weight, labels).cpu()]


# ---- a model
def _log_probs(precision: str, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Log-probs of response tokens, and the gradients of their mean."""
    model = LogProbModel(_model(0).to(device))
    batch = collate(_examples(), model.layout).to(device)
    with autocast(batch, precision):
        log_probs: Tensor = model(batch)
    grads = torch.autograd.grad(log_probs.mean(), list(model.parameters()))
    return log_probs.detach().cpu(), [grad.cpu() for grad in grads]


def _values(precision: str, device: torch.device) -> Found:
    return [_log_probs(precision, device)[0]]


def _gradients(device: torch.device) -> Found:
    return _log_probs("fp32", device)[1]


# ---- copies
COPIES = 64


def _batches() -> list[Any]:
    whole = _examples()
    return [collate(whole[number % len(whole) :]) for number in range(COPIES)]


def _tensors(batches: Sequence[Any]) -> Found:
    return [value.cpu() for batch in batches for value in vars(batch).values() if isinstance(value, Tensor)]


def _copied(device: torch.device) -> Found:
    """Batches that come to a device while it is busy, one right after another."""
    busy, moved = torch.ones(2048, 2048, device=device) / 2048, []
    for batch in _batches():
        busy = busy @ busy if device.type != "cpu" else busy
        moved.append(batch.to(device))
    return _tensors(moved)


# ---- sampling
def _prompts() -> list[Sequence[int]]:
    return [example.prompt for example in _examples()]


def _as_rows(responses: Sequence[Sequence[int]]) -> Found:
    return [torch.tensor([[*row, *[-1] * (NEW_TOKENS - len(row))] for row in responses])]


def _sampled(temperature: float, device: torch.device) -> Found:
    model = _model(0).to(device)
    model.set_attn_implementation(sampler.GROUPED_ATTENTION)
    uniforms = torch.stack([sampler.row_uniforms(0, "gpu-check", str(row), NEW_TOKENS) for row in range(len(LENGTHS))])
    sampling = Sampling(temperature=temperature, max_new_tokens=NEW_TOKENS)
    return _as_rows(sampler.decode_batch(model, _prompts(), uniforms, sampling, [2], VOCABULARY))


def vllm_interpreter() -> str:
    """Raises: NotThereError."""
    named = os.environ.get(VLLM_PYTHON)
    if not named and not has_extra("vllm"):
        raise NotThereError(f"vLLM is not installed here, and {VLLM_PYTHON} names no interpreter that has it")
    return named or sys.executable


def _by_vllm(device: torch.device) -> Found:
    """How far, in nats, the log-probs of what vLLM draws in bf16 without a temperature are from a CPU's in float32, and
    how far these are below those of the likeliest tokens: the most of either."""
    python = vllm_interpreter()
    greedy = {"temperature": 0, "max_tokens": NEW_TOKENS, "logprobs": 0, "detokenize": False}
    engine = {"dtype": "bfloat16", "enforce_eager": True, "skip_tokenizer_init": True, "max_model_len": 512}
    if device.type != "cpu":
        engine["gpu_memory_utilization"] = 0.3  # the model is tiny, and this process holds some itself
    transformers_logging.disable_progress_bar()
    model = _model(0)
    with tempfile.TemporaryDirectory(prefix="dadpo-harness-") as folder:
        model.save_pretrained(folder)
        try:
            asked = [SamplingRequest(prompt, greedy) for prompt in _prompts()]
            drawn = vllm_process(python, Path(folder), engine).generate(asked)
        finally:
            let_go_of_all()
    apart, below = [0.0], [0.0]
    for prompt, completion in zip(_prompts(), drawn, strict=True):
        tokens = torch.tensor(completion.token_ids)
        said = torch.tensor([row[token] for token, row in zip(tokens.tolist(), completion.log_probs, strict=True)])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *tokens.tolist()]])).logits[0, len(prompt) - 1 : -1]
        rows = torch.log_softmax(logits, -1)
        own = rows.gather(-1, tokens[:, None]).squeeze(-1)
        apart.append(float((said - own).abs().max()))
        below.append(float((rows.max(-1).values - own).max()))
    return [torch.tensor([max(apart), max(below)])]


# ---- a training
def _reverse_kl(inputs: DistributionInputs, settings: DistributionSettings) -> Tensor:
    return (inputs.policy.exp() * (inputs.policy - inputs.teacher)).sum(-1)


def _on_policy() -> Method:
    """Reverse KL on what the policy writes as it trains, and on what is stored."""
    return Method(
        name="gpu-check",
        summary="reverse KL on fresh and stored responses",
        source="none",
        level="distribution",
        loss=_reverse_kl,
        per="token",
        responses=POLICY,
        defines=Definition("KL(policy ‖ teacher)", "none", "the vocabulary", "response tokens"),
        reads=("teacher",),
        settings=DistributionSettings,
    )


def _trained(device: torch.device) -> Found:
    """Loss and gradient norm of each step, and the weights after the last."""
    examples = _examples([(p, (n,)) for p, n in ((5, 9), (40, 12), (130, 7), (17, 20))])
    settings = DistributionSettings(precision="fp32", batch_size=2, learning_rate=1e-3, fresh_share=0.5, epochs=2)
    model, teacher = LogProbModel(_model(0).to(device)), LogProbModel(_model(1).to(device).requires_grad_(False))
    sampling = Sampling(temperature=1.0, max_new_tokens=NEW_TOKENS)
    writer = Writer(model, sampling, [2], VOCABULARY, 4, settings, 0)
    data = Fresh(examples, plan_steps(examples, 2, 2, 0), 0, settings.fresh_share, 1, 1, 0, writer)
    frozen = Frozen(readers={"teacher": Local(teacher, VOCABULARY)})
    with tempfile.TemporaryDirectory(prefix="dadpo-harness-") as folder:
        loop.train(model, data, frozen, _on_policy(), settings, 0, Path(folder), lambda *_: None)
        rows = [row for _, row in read_jsonl(Path(folder) / METRICS)]
    figures = torch.tensor([[row["loss"], row["grad_norm"]] for row in rows])
    return [figures, *(parameter.detach().cpu() for parameter in model.parameters())]


FP32, BF16 = torch.float32, torch.bfloat16
# Limits lie between what rounding does and what a wrong path would: a mask, a position or a label that is another moves
# these numbers by their own size.
PATHS: tuple[GpuPath, ...] = (
    GpuPath(
        "FlexAttention's mask, float32",
        "attention of packed pairs and its gradients, as a share of the largest",
        1e-3,
        relative,
        functools.partial(_attention_here, FP32),
        functools.partial(_attention_there, FP32),
    ),
    GpuPath(
        "FlexAttention's mask, bf16",
        "the same in bf16",
        0.05,
        relative,
        functools.partial(_attention_here, BF16),
        functools.partial(_attention_there, BF16),
    ),
    GpuPath(
        "float32 products of bf16 operands",
        "log-probs against those of exact products, nats",
        1e-3,
        furthest,
        _logits_here,
        _logits_there,
    ),
    GpuPath(
        "a packed model, float32",
        "log-probs of response tokens, nats",
        1e-3,
        furthest,
        functools.partial(_values, "fp32", CPU),
        functools.partial(_values, "fp32"),
    ),
    GpuPath(
        "a packed model, bf16",
        "the same with autocast",
        0.2,
        furthest,
        functools.partial(_values, "bf16", CPU),
        functools.partial(_values, "bf16"),
    ),
    GpuPath(
        "its gradients, float32",
        "gradients of all weights, as a share of the largest",
        1e-2,
        relative,
        functools.partial(_gradients, CPU),
        _gradients,
    ),
    GpuPath(
        "pinned copies", "share of the numbers that are others", 0.0, unequal, lambda: _tensors(_batches()), _copied
    ),
    GpuPath(
        "the sampler, greedy",
        "share of the tokens that are others",
        0.1,
        unequal,
        functools.partial(_sampled, 0.0, CPU),
        functools.partial(_sampled, 0.0),
    ),
    GpuPath(
        "the sampler, temperature 1",
        "the same",
        0.1,
        unequal,
        functools.partial(_sampled, 1.0, CPU),
        functools.partial(_sampled, 1.0),
    ),
    GpuPath(
        "on-policy training steps",
        "losses, gradient norms and weights, as a share of the largest",
        1e-2,
        relative,
        functools.partial(_trained, CPU),
        _trained,
    ),
    GpuPath(
        "vLLM, greedy",
        "log-probs of what it draws in bf16, and how far below the likeliest's these are, nats",
        0.5,
        furthest,
        lambda: [torch.zeros(2)],
        _by_vllm,
    ),
)
