"""The comparisons of `doctor --gpu-check`, on a CPU: what is the same agrees, and a path that is wrong is reported."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.logprobs import attention, batching, model
from harness.planning import gpu_check, gpu_paths
from harness.planning.gpu_check import check_gpu, compare, public
from harness.planning.gpu_paths import CPU, PATHS, GpuPath
from harness.serving.vllm_process import Completion

Patch = pytest.MonkeyPatch
BY_NAME = {path.name: path for path in PATHS}
VLLM = "vLLM, greedy"


# ---- faults, each of which a device's side alone has


def all_see_all(patch: Patch) -> None:
    """The mask of one example with one response, in place of many."""

    def merged(spans: Tensor, length: int) -> Any:
        return attention.visibility(torch.tensor([[0, int(spans[0, 1]), int(spans[-1, -1])]]), length)

    patch.setattr(gpu_paths, "visibility", merged)
    patch.setattr(model, "visibility", merged)


def responses_see_each_other(patch: Patch) -> None:
    def joined(spans: Tensor, length: int) -> Any:
        return attention.visibility(spans[:, [0, 1, -1]], length)

    patch.setattr(gpu_paths, "visibility", joined)
    patch.setattr(model, "visibility", joined)


def rounded_logits(patch: Patch) -> None:
    patch.setattr(model, "_product", lambda one, other, _: (one.bfloat16() @ other.bfloat16().T).float())


def a_copy_that_has_not_arrived(patch: Patch) -> None:
    def late(batch: batching.Batch, device: torch.device) -> batching.Batch:
        return replace(batch, labels=torch.cat([batch.labels[:-1], batch.labels.new_zeros(1)]))

    patch.setattr(batching.Batch, "to", late)


def the_least_likely_token(patch: Patch) -> None:
    patch.setattr(gpu_paths.sampler, "choose", lambda logits, *_: logits.argmin(-1))


FAULTS: dict[str, tuple[Callable[[Patch], None], ...]] = {
    "FlexAttention's mask, float32": (all_see_all, responses_see_each_other),
    "FlexAttention's mask, bf16": (all_see_all, responses_see_each_other),
    "float32 products of bf16 operands": (rounded_logits,),
    "a packed model, float32": (responses_see_each_other, rounded_logits),
    "a packed model, bf16": (responses_see_each_other,),
    "its gradients, float32": (responses_see_each_other,),
    "pinned copies": (a_copy_that_has_not_arrived,),
    "the sampler, greedy": (the_least_likely_token,),
    "the sampler, temperature 1": (the_least_likely_token,),
    "on-policy training steps": (all_see_all, the_least_likely_token),
}


def test_every_path_has_its_fault() -> None:
    assert {*FAULTS, VLLM} == {*BY_NAME} and len(BY_NAME) == len(PATHS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_cpu_agrees_with_itself(name: str) -> None:
    row = compare(BY_NAME[name], CPU)
    assert row.verdict == "agrees", row
    assert row.apart is not None and row.apart <= row.path.limit / 2


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_a_path_that_is_wrong_is_reported(name: str, fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    path = BY_NAME[name]

    def there(device: torch.device) -> Any:
        with monkeypatch.context() as patch:
            fault(patch)
            return path.there(device)

    row = compare(replace(path, there=there), CPU)
    assert row.verdict == "DISAGREES" and row.wrong, row
    assert row.apart is not None and row.apart > 2 * row.path.limit


def test_the_sampler_is_where_both_sides_of_the_attention_differ() -> None:
    """What a CPU says of attention is by an operation of its own, not by what is compared."""
    inputs = gpu_paths._operands(torch.float32, CPU)
    assert inputs[0].shape[2] % attention.BLOCK  # a row that is filled up on a GPU
    assert (
        max(end - start for example in gpu_paths._examples() for start, end in [(0, example.tokens)]) > attention.BLOCK
    )


# ---- vLLM


@pytest.fixture
def drawn(monkeypatch: Patch) -> list[Completion]:
    """What a vLLM that is installed draws: the sampler's own tokens with a CPU's log-probs, for a test to change."""
    found, own = [], gpu_paths._model(0)
    for prompt, row in zip(gpu_paths._prompts(), BY_NAME["the sampler, greedy"].here()[0].tolist(), strict=True):
        tokens = [token for token in row if token >= 0]
        with torch.no_grad():
            rows = own(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        said = tuple({token: float(row[token])} for token, row in zip(tokens, rows, strict=True))
        found.append(Completion(tuple(tokens), "", "length", said))
    process = SimpleNamespace(generate=lambda asked: found)
    monkeypatch.setenv(gpu_paths.VLLM_PYTHON, "/usr/bin/python-with-vllm")
    monkeypatch.setattr(gpu_paths, "vllm_process", lambda python, folder, engine: process)
    return found


def test_a_vllm_that_draws_as_the_sampler_does_agrees(drawn: list[Completion]) -> None:
    row = compare(BY_NAME[VLLM], CPU)
    assert row.verdict == "agrees" and row.apart is not None and row.apart < 1e-3


@pytest.mark.parametrize("what", ["another token", "another log-prob", "a token that ends it early"])
def test_a_vllm_that_says_something_else_is_reported(drawn: list[Completion], what: str) -> None:
    first = drawn[1]
    if what == "another token":
        (token, value), *_ = first.log_probs[3].items()
        other = (token + 1) % gpu_paths.VOCABULARY
        tokens = (*first.token_ids[:3], other, *first.token_ids[4:])
        said = (*first.log_probs[:3], {other: value}, *first.log_probs[4:])
        drawn[1] = replace(first, token_ids=tokens, log_probs=said)
    elif what == "another log-prob":
        said = tuple({token: value - 1 for token, value in row.items()} for row in first.log_probs)
        drawn[1] = replace(first, log_probs=said)
    else:
        drawn[1] = replace(first, token_ids=(2,), log_probs=({2: -0.1},))
    assert compare(BY_NAME[VLLM], CPU).verdict == "DISAGREES"


def test_a_vllm_that_is_not_there_is_not_checked_and_nothing_is_wrong(monkeypatch: Patch) -> None:
    monkeypatch.delenv(gpu_paths.VLLM_PYTHON, raising=False)
    monkeypatch.setattr(gpu_paths, "has_extra", lambda name: False)
    said: list[str] = []
    assert check_gpu(said.append, CPU, [BY_NAME[VLLM], BY_NAME["pinned copies"]]) == 0
    assert (
        "| not checked: vLLM is not installed here" in said[-4] and said[-1] == "All 1 paths that were checked agree."
    )


# ---- the table


def one(there: Callable[[torch.device], Any], limit: float = 0.5) -> GpuPath:
    return GpuPath("odd", "numbers", limit, gpu_paths.furthest, lambda: [torch.zeros(2)], there)


def raising(error: BaseException) -> Callable[[torch.device], Any]:
    def there(device: torch.device) -> Any:
        raise error

    return there


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (lambda device: [torch.tensor([0.0, 0.25])], "agrees"),
        (lambda device: [torch.tensor([0.0, -0.75])], "DISAGREES"),
        (lambda device: [torch.tensor([0.0, torch.nan])], "DISAGREES"),
        (lambda device: [torch.zeros(3)], "FAILED: what came out has another shape"),
        (lambda device: [], "FAILED: what came out has another shape"),
        (
            raising(RuntimeError("CUDA error | no kernel\nimage")),
            "FAILED: RuntimeError: CUDA error \\| no kernel image",
        ),
    ],
    ids=range(6),
)
def test_each_verdict_is_in_the_table_and_in_the_status(there: Callable[..., Any], verdict: str) -> None:
    said: list[str] = []
    status = check_gpu(said.append, CPU, [one(there), one(lambda device: [torch.zeros(2)])])
    assert status == (0 if verdict == "agrees" else 1)
    first, second = said[-4:-2]
    assert first.startswith("| odd | numbers | ") and first.endswith(f"| {verdict} |") and second.endswith("| agrees |")
    assert said[-1] == ("All 2 paths that were checked agree." if status == 0 else "**odd: not as on a CPU.**")
    header, rule = said[-6:-4]
    assert header.count("|") == rule.count("|") == second.count("|") == 7
    assert f"torch {torch.__version__}" in said[0]


def test_no_host_user_or_path_is_in_what_is_said() -> None:
    names = f"on {platform.node()} by {getpass.getuser()}"
    error = OSError(f"[Errno 2] No such file: '/home/me/.cache/x y/a-b.so' or C:\\Users\\me\\x.dll {names} 1/2 of it")
    said = public(f"{error}")
    assert "home" not in said and "Users" not in said and "a-b.so" not in said and "1/2 of it" in said
    assert platform.node() not in said and f"by {getpass.getuser()}" not in said
    lines: list[str] = []
    check_gpu(lines.append, CPU, [one(raising(error))])
    text = "\n".join(lines)
    assert "home" not in text and platform.node() not in text and len(max(lines, key=len)) < 600


# ---- the command


def test_without_a_gpu_there_is_one_line(cli: Any, monkeypatch: Patch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = cli("doctor", "--gpu-check")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: no GPU is here that torch can use") and ended.err.count("\n") == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_the_command_prints_the_table_and_says_by_its_status_whether_all_agree(
    cli: Any, monkeypatch: Patch, wrong: bool
) -> None:
    paths = (one(lambda device: [torch.full([2], float(wrong))]),)
    monkeypatch.setattr(gpu_check, "a_gpu", lambda: CPU)
    monkeypatch.setattr(gpu_check.check_gpu, "__defaults__", (paths,))
    ended = cli("doctor", "--gpu-check")
    assert (ended.status, ended.err) == (int(wrong), "") and "| odd | numbers |" in ended.out
