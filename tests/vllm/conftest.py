"""A real vLLM server under an interpreter of its own, which `make test-vllm` makes and names in VLLM_PYTHON."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.models.convert import dequantise_gguf
from harness.models.specs import models

VARIABLE = "VLLM_PYTHON"
HERE = Path(__file__).parent
START_SECONDS = 240
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; else a share of all memory
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


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
def vllm_server(vllm_python: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """vLLM's OpenAI-compatible server with that model, on a free port of this machine."""
    yield from _served(vllm_python, model_folder, "bfloat16", tmp_path_factory.mktemp("log") / "server.log")


@pytest.fixture(scope="session")
def vllm_server_fp32(
    vllm_python: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Another, in float32: for what rounding must not blur."""
    yield from _served(vllm_python, model_folder, "float32", tmp_path_factory.mktemp("log") / "server.log")


def _served(python: str, folder: Path, dtype: str, log: Path) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the `vllm` command wants metadata that its CPU build lacks
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--dtype", dtype, "--max-model-len", "1024", "--enforce-eager", "--generation-config", "vllm"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield Served(f"http://127.0.0.1:{port}/v1", str(folder))
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
