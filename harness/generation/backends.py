"""Which generator draws a stage's responses, by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

from harness.generation.protocol import Generator
from harness.models.reference import Model
from harness.serving.settings import VLLM

Backend = Literal["transformers", "vllm"]


def fastest_backend(vllm: VLLM) -> Backend:
    """vLLM where a GPU is and vLLM is installed (or an interpreter that has it is named), else the sampler: on a CPU
    vLLM draws faster, but starts anew for each model, which the stages that a CPU is fit for do not make up for."""
    if vllm.python is None and importlib.util.find_spec("vllm") is None:
        return "transformers"
    import torch  # takes a second: a run whose artifacts are all there needs it for nothing else

    return "vllm" if torch.cuda.is_available() else "transformers"


def open_generator(backend: str, model: Model, folder: Path, tokenizer: Any, vllm: VLLM) -> Generator:
    """The generator of a model whose files are in `folder`; one behind a server is asked there, whatever `backend` is.
    Nothing is loaded or asked before the first batch."""
    if model.served is not None:
        from harness.generation.server import ServerGenerator

        return ServerGenerator(model.served, tokenizer)
    if backend == "vllm":
        from harness.generation.vllm import VLLMGenerator

        return VLLMGenerator(folder, tokenizer, vllm, model.remote_code)
    from harness.generation.local import LocalGenerator

    return LocalGenerator(folder, tokenizer, model.remote_code)
