"""A real vLLM under an interpreter of its own, which `make test-vllm` makes and names in VLLM_PYTHON.

A start takes far longer than what is asked then: two servers, two engines and a student's are all that there are.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from harness.judging.local import Precision, TransformersJudge
from harness.judging.templates import load_template
from harness.models.convert import dequantise_gguf
from harness.models.specs import models
from harness.serving.resident import let_go_of_all, only
from tests.vllm.asking import Answers, answers

VARIABLE = "VLLM_PYTHON"
HERE = Path(__file__).parent
START_SECONDS = 240
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; else a share of all memory
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # a server's model in its second process, not in a third


class Served(NamedTuple):
    """base_url: as OpenAI's clients take it, with /v1. model: the name that the server knows, its folder."""

    base_url: str
    model: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get(VARIABLE):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"needs {VARIABLE}: make test-vllm"))


@pytest.fixture(scope="session")
def vllm_python() -> str:
    return os.environ[VARIABLE]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a plain folder, as a run makes it."""
    spec = models.get("smollm2-135m")
    found = importlib.util.find_spec(str(spec.module))
    assert found and found.origin and spec.gguf
    folder = tmp_path_factory.mktemp("vllm") / "smollm2-135m"
    dequantise_gguf(Path(found.origin).parent / spec.gguf, folder)
    return folder


@pytest.fixture(scope="session")
def engine_folder(model_folder: Path) -> Path:
    """The same by another name, for vLLM in a process of its own: what is held under a name is held one way."""
    link = model_folder.with_name("in-vllm")
    link.symlink_to(model_folder)
    return link


@pytest.fixture(autouse=True, scope="session")
def both_stay(model_folder: Path, engine_folder: Path) -> Iterator[None]:
    """The model here and vLLM's process, from test to test."""
    with only([model_folder, engine_folder]):
        yield
    let_go_of_all()


@pytest.fixture(scope="session")
def judged_here(model_folder: Path) -> dict[Precision, Answers]:
    """What the model says as a judge in transformers."""
    template = load_template("default")
    precisions: tuple[Precision, ...] = get_args(Precision)
    return {name: answers(TransformersJudge("judge", "", template, model_folder, "d", name)) for name in precisions}


@pytest.fixture(scope="session")
def engine_fp32(judged_here: dict[Precision, Answers]) -> dict[str, Any]:
    """Settings of the float32 engine that tests share; with others it would be another process. Its positions are one
    too few for a judge's longest question, and it reads no more tokens than that at once."""
    positions = max(answer.input_tokens for answer in judged_here["fp32"].values())
    return {
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": positions,
        "max_num_batched_tokens": positions,
    }


@pytest.fixture(scope="session")
def servers(
    vllm_python: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Served]]:
    """vLLM's OpenAI-compatible server with that model in both precisions, each on a free port of this machine. They
    start side by side."""
    logs = tmp_path_factory.mktemp("log")
    with ExitStack() as stack:
        starting = {
            dtype: stack.enter_context(_server(vllm_python, model_folder, dtype, logs / f"{dtype}.log"))
            for dtype in ("bfloat16", "float32")
        }
        yield {dtype: wait() for dtype, wait in starting.items()}


@pytest.fixture(scope="session")
def vllm_server(servers: dict[str, Served]) -> Served:
    return servers["bfloat16"]


@pytest.fixture(scope="session")
def vllm_server_fp32(servers: dict[str, Served]) -> Served:
    """For what rounding must not blur."""
    return servers["float32"]


@contextmanager
def _server(python: str, folder: Path, dtype: str, log: Path) -> Iterator[Callable[[], Served]]:
    """A server that starts; what waits until it is there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the `vllm` command wants metadata that its CPU build lacks
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--dtype", dtype, "--max-model-len", "1024", "--enforce-eager", "--generation-config", "vllm"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    def wait() -> Served:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        return Served(f"http://127.0.0.1:{port}/v1", str(folder))

    try:
        yield wait
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = log.read_text(errors="replace").splitlines()[-40:]
    raise RuntimeError("vLLM's server did not start:\n" + "\n".join(tail))
