"""vLLM in a process of its own: JSON lines in, JSON lines out. Imports the standard library and vllm, nothing else.

    python vllm_worker.py SETTINGS

It is run by its path, so that the interpreter that has vLLM needs no harness. SETTINGS is a JSON object of keyword
arguments of `vllm.LLM`: model, dtype, max_model_len, and what else the engine takes; on a CPU prompts are read whole
unless it says otherwise. Once the model is loaded it prints {"ready": true, "version"}, or {"missing": why} where there
is no vLLM. Then it reads requests, one a line, up to an empty line; these are a batch:

    {"id", "prompt_token_ids", …}  the rest are fields of vllm.SamplingParams: max_tokens, temperature, logprobs, …

and prints for each one, in their order,

    {"id", "token_ids", "text", "finish_reason", "log_probs"}  log_probs: [[id, nats], …] a token, where asked for

It ends with its standard input, whatever it is doing.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUIET = {
    # the engine in this process: one process less to outlive its parent
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def main() -> None:
    # what vLLM and its libraries print is not for the reader of this process's output
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    try:
        _serve(json.loads(sys.argv[1]), lines, out)
    except BaseException as error:
        traceback.print_exc()
        message = str(error).strip() or "no message"
        print(f"{type(error).__name__}: {message.splitlines()[0]}", file=sys.stderr, flush=True)
    os._exit(1)  # what libraries do at exit would add lines after that one, or wait


def _read(lines: queue.SimpleQueue[str]) -> None:
    """Put lines of standard input into the queue; at its end the parent is gone, or wants no more."""
    with open(0, encoding="utf-8", closefd=False) as source:
        for line in source:
            lines.put(line)
    if os.getpgrp() == os.getpid():  # with the processes that vLLM started
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _serve(settings: dict[str, Any], lines: queue.SimpleQueue[str], out: Any) -> None:
    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    # a script's folder comes first where modules are looked for: its neighbours would hide the standard library's
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        vllm = importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        say({"missing": str(error)})
        out.flush()
        return
    # after a part of a prompt, vLLM sets a request's random numbers back, which those of a CPU cannot be
    if importlib.import_module("vllm.platforms").current_platform.is_cpu():
        settings.setdefault("enable_chunked_prefill", False)
    engine = vllm.LLM(**settings)
    say({"ready": True, "version": getattr(vllm, "__version__", "unknown")})
    out.flush()
    while True:
        batch = [json.loads(line) for line in iter(lines.get, "\n")]
        for answer in _answers(vllm, engine, batch):
            say(answer)
        out.flush()


def _answers(vllm: Any, engine: Any, batch: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    names = [request.pop("id") for request in batch]
    prompts = [{"prompt_token_ids": request.pop("prompt_token_ids")} for request in batch]
    sampling = [vllm.SamplingParams(**request) for request in batch]
    for name, output in zip(names, engine.generate(prompts, sampling, use_tqdm=False), strict=True):
        first = output.outputs[0]
        yield {
            "id": name,
            "token_ids": list(first.token_ids),
            "text": first.text,
            "finish_reason": first.finish_reason,
            "log_probs": [[[token, said.logprob] for token, said in row.items()] for row in first.logprobs or []],
        }


if __name__ == "__main__":
    main()
