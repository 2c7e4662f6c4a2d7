"""vLLM under an interpreter of its own, because it pins torch and transformers: token ids in, tokens and log-probs out.

The process (vllm_worker.py) is resident: it is there as long as jobs ask for the same model, interpreter and settings.
Its standard input is a pipe that closes when this process is gone, however it went, and the worker ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.core.errors import UserError
from harness.serving.resident import hold

WORKER = Path(__file__).with_name("vllm_worker.py")
KEPT_LINES, STOP_SECONDS = 40, 10.0
ADVICE = "install the extra (dadpo-harness[vllm]) or name an interpreter that has it with --set vllm.python=PATH"


@dataclass(frozen=True)
class SamplingRequest:
    """A prompt in token ids, and how to sample from it: fields of vllm.SamplingParams, in plain data."""

    prompt: Sequence[int]
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """What was sampled. log_probs: where they were asked for, id → log-prob in nats for each token, among them the
    token's own."""

    token_ids: tuple[int, ...]
    text: str
    finish: str
    log_probs: tuple[dict[int, float], ...]


class VLLMProcess:
    """One model in one process; `settings` are keyword arguments of vllm.LLM, in plain data.

    Raises:
        UserError: there is no vLLM under `python`, or the process died, with its last line.
    """

    def __init__(self, python: str, folder: Path, settings: Mapping[str, Any], worker: Path = WORKER) -> None:
        self._python = str(Path(python).expanduser())
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        arguments = json.dumps({"model": str(folder), **settings})
        try:
            self._child = subprocess.Popen(
                [self._python, str(worker), arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a group of its own: its end is the end of all that it started
            )
        except OSError as error:
            raise UserError(f"{python} cannot be started ({error.strerror}); {ADVICE}") from error
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            first = self._receive()
            if "missing" in first:
                raise UserError(f"vLLM cannot be imported by {python} ({first['missing']}); {ADVICE}")
            self.version = str(first.get("version", "unknown"))
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def generate(self, requests: Sequence[SamplingRequest]) -> list[Completion]:
        """One completion for each request, in their order; vLLM batches them as it has room."""
        if not requests:
            return []
        lines = [
            json.dumps({**request.sampling, "id": number, "prompt_token_ids": list(request.prompt)})
            for number, request in enumerate(requests)
        ]
        try:
            self._send("".join(f"{line}\n" for line in [*lines, ""]))
            return [_completion(self._receive(), number) for number in range(len(requests))]
        except BaseException:  # what it may still say to this batch would be taken for an answer to the next one
            self.close()
            raise

    def close(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._listener.join(STOP_SECONDS)

    @property
    def _stdin(self) -> Any:
        return self._child.stdin

    def _send(self, text: str) -> None:
        try:
            self._stdin.write(text)
            self._stdin.flush()
        except (OSError, ValueError):  # broken, or closed by this process
            self._died()

    def _receive(self) -> dict[str, Any]:
        assert self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            self._died()
        message: dict[str, Any] = json.loads(line)
        return message

    def _listen(self) -> None:
        assert self._child.stderr
        for line in self._child.stderr:
            if line.strip():
                self._kept.append(line.rstrip())

    def _died(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its own status, before its input is closed
            self._child.wait(STOP_SECONDS)
        self.close()
        status, lines = self._child.returncode, list(self._kept)
        how = f"status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"
        last = f": {lines[-1].strip()}" if lines else ""
        raise UserError(f"vLLM under {self._python} ended with {how}{last}") from RuntimeError("\n" + "\n".join(lines))


def _completion(answer: Mapping[str, Any], number: int) -> Completion:
    if answer["id"] != number:
        raise RuntimeError(f"vLLM's worker answered request {answer['id']} where {number} was next")
    return Completion(
        token_ids=tuple(answer["token_ids"]),
        text=answer["text"],
        finish=answer["finish_reason"],
        log_probs=tuple({int(token): float(value) for token, value in row} for row in answer["log_probs"]),
    )


def vllm_process(python: str, folder: Path, settings: Mapping[str, Any]) -> VLLMProcess:
    """The resident process of a model under these settings."""
    return hold(
        folder,
        (python, json.dumps(settings, sort_keys=True)),
        lambda: VLLMProcess(python, folder, settings),
        close=VLLMProcess.close,
        usable=lambda process: process.alive,
    )
