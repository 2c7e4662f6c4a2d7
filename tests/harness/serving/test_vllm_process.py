"""vLLM's client against a made-up worker, and the real worker against a made-up vllm: order, death, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.serving import vllm_process as client
from harness.serving.resident import let_go_of_all
from harness.serving.vllm_process import Completion, SamplingRequest, VLLMProcess, vllm_process
from tests.waiting import LIMIT, running, until

ROOT = Path(__file__).parents[3]
# of the interface of vllm, what the worker uses; tokens are the prompt backwards
VLLM = """
import os, signal, statistics, subprocess, sys, time
from types import SimpleNamespace
sys.modules["vllm.platforms"] = SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: "CPU" in os.environ))
class SamplingParams:
    def __init__(self, max_tokens=16, logprobs=None, seed=None):
        self.max_tokens, self.logprobs, self.seed = max_tokens, logprobs, seed
class LLM:
    def __init__(self, model, dtype="auto", starts=None, enable_chunked_prefill=None):
        self.chunked = enable_chunked_prefill
        print("a line of logging on standard output")
        assert statistics.mean([1, 3]) == 2  # the standard library's, not the harness's
        if starts:
            with open(starts, "a") as file:
                file.write(f"{os.getpid()}\\n")
        if model == "broken":
            raise ValueError("no such model\\nsecond line")
    def generate(self, prompts, sampling, use_tqdm):
        assert not use_tqdm
        print("more of it", flush=True)
        outputs = []
        for prompt, params in zip(prompts, sampling, strict=True):
            ids = prompt["prompt_token_ids"]
            if ids == [13]:
                raise RuntimeError("KV cache is full")
            if ids == [9]:
                os.kill(os.getpid(), signal.SIGKILL)
            if ids == [60]:
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
                print("children", os.getpid(), child.pid, file=open(os.environ["PIDS"], "w"), flush=True)
                time.sleep(3600)
            new = ids[::-1][:params.max_tokens]
            rows = [{t: SimpleNamespace(logprob=-t / 4)} for t in new] if params.logprobs else None
            finish = "length" if params.max_tokens < len(ids) else "stop"
            text = f"{params.seed}{' ' + str(self.chunked) if self.chunked is not None else ''}\\u2028é"
            first = SimpleNamespace(token_ids=new, text=text, finish_reason=finish, logprobs=rows)
            outputs.append(SimpleNamespace(outputs=[first]))
        return outputs
"""
PARENT = """
import sys
from pathlib import Path
from harness.serving.vllm_process import SamplingRequest, vllm_process
vllm_process(sys.executable, Path("tiny"), {}).generate([SamplingRequest([60])])
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `vllm` for children of this process."""
    (tmp_path / "vllm.py").write_text(VLLM, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    yield
    let_go_of_all()


def opened(model: str = "tiny", **settings: Any) -> VLLMProcess:
    return vllm_process(sys.executable, Path(model), settings)


def test_completions_come_in_the_order_of_requests_batch_after_batch() -> None:
    process = opened(dtype="bfloat16")
    first = SamplingRequest([1, 2, 3], {"max_tokens": 2, "logprobs": 1, "seed": 5})
    assert process.generate([first, SamplingRequest([4]), SamplingRequest((5, 6))]) == [
        Completion((3, 2), "5\u2028é", "length", ({3: -0.75}, {2: -0.5})),
        Completion((4,), "None\u2028é", "stop", ()),
        Completion((6, 5), "None\u2028é", "stop", ()),
    ]
    assert process.generate([]) == []
    many = process.generate(
        [SamplingRequest([number] * 50) for number in range(100, 2100)]
    )  # far more than a pipe holds
    assert [answer.token_ids[0] for answer in many] == list(range(100, 2100))


@pytest.mark.parametrize(
    ("on_cpu", "said", "chunked"),
    [(False, {}, "None"), (True, {}, "None False"), (True, {"enable_chunked_prefill": True}, "None True")],
)
def test_on_a_cpu_prompts_are_read_whole_unless_settings_say_otherwise(
    on_cpu: bool, said: dict[str, bool], chunked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts, vLLM's CPU build ends at a request that has a seed."""
    if on_cpu:
        monkeypatch.setenv("CPU", "1")
    assert opened(**said).generate([SamplingRequest([1])])[0].text == f"{chunked}\u2028é"


def test_one_process_is_kept_until_another_is_asked_for(tmp_path: Path) -> None:
    starts = str(tmp_path / "starts")
    first = opened(starts=starts, dtype="a")
    assert opened(dtype="a", starts=starts) is first and first.alive
    second = opened(starts=starts, dtype="b")
    assert second is not first and second.alive and not first.alive
    second.close()
    assert opened(starts=starts, dtype="b").alive  # one that is gone is started again
    assert len((tmp_path / "starts").read_text().split()) == 3


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (13, r"ended with status 1: RuntimeError: KV cache is full$"),
        (9, r"ended with signal 9 \(Killed\)"),
    ],
)
def test_a_process_that_dies_is_one_line_and_the_next_one_is_new(prompt: int, message: str) -> None:
    process = opened()
    with pytest.raises(UserError, match=message) as caught:
        process.generate([SamplingRequest([1]), SamplingRequest([prompt])])
    assert "\n" not in str(caught.value)
    if prompt == 13:
        assert "Traceback" in str(caught.value.__cause__)
    with pytest.raises(UserError, match="ended with"):  # dead, and says so
        process.generate([SamplingRequest([1])])
    assert opened().generate([SamplingRequest([1])])[0].token_ids == (1,)


def test_a_model_that_cannot_be_loaded_is_one_line() -> None:
    with pytest.raises(UserError, match=r"ended with status 1: ValueError: no such model$"):
        opened("broken")


def test_an_interpreter_without_vllm_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    how = r"install the extra \(dadpo-harness\[vllm\]\) or name an interpreter .* with --set vllm.python=PATH$"
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    with pytest.raises(UserError, match=rf"vLLM cannot be imported by .*bare.* \(No module named 'vllm'\); {how}"):
        vllm_process(str(bare / "bin" / "python"), Path("tiny"), {})
    for missing in (str(tmp_path / "nowhere" / "python"), str(tmp_path)):
        with pytest.raises(UserError, match=rf"{missing} cannot be started \(.+\); {how}"):
            vllm_process(missing, Path("tiny"), {})


def test_an_import_that_fails_inside_vllm_is_not_a_missing_vllm(tmp_path: Path) -> None:
    (tmp_path / "vllm.py").write_text("import no_such_module_of_vllm")
    with pytest.raises(UserError, match="ended with status 1: ModuleNotFoundError: No module named 'no_such_module"):
        opened()


def test_a_batch_that_was_interrupted_leaves_no_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    process = opened()

    def interrupted(*arguments: Any) -> Completion:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(client, "_completion", interrupted)
        process.generate([SamplingRequest([1]), SamplingRequest([2])])
    assert not process.alive
    assert opened().generate([SamplingRequest([3])])[0].token_ids == (3,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_parent_and_so_does_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stderr=subprocess.DEVNULL)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), "what it started", by=parent)
    parent.send_signal(number)
    assert parent.wait(timeout=LIMIT) != 0
    _, worker, child = pids.read_text().split()
    until(lambda: not running(int(worker)) and not running(int(child)), "their end")
