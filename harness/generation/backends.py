"""Which generator draws a stage's responses, by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.generation.protocol import Generator
from harness.serving.settings import VLLM

if TYPE_CHECKING:
    from harness.run.jobs import RespondJob


Backend = Literal["transformers", "vllm"]


def fastest_backend(vllm: VLLM) -> Backend:
    """vLLM where a GPU is and vLLM is installed (or an interpreter that has it is named), else the sampler: on a CPU
    vLLM draws faster, but starts anew for each model, which the stages that a CPU is fit for do not make up for."""
    import torch

    there = vllm.python is not None or importlib.util.find_spec("vllm") is not None
    return "vllm" if there and torch.cuda.is_available() else "transformers"


def open_generator(job: RespondJob, folder: Path, tokenizer: Any) -> Generator:
    """Nothing is loaded or asked before the first batch."""
    if job.model.served is not None:
        from harness.generation.server import ServerGenerator

        return ServerGenerator(job.model.served, tokenizer)
    if job.generator == "vllm":
        from harness.generation.vllm import VLLMGenerator

        return VLLMGenerator(folder, tokenizer, job.vllm, job.model.remote_code)
    from harness.generation.local import LocalGenerator

    return LocalGenerator(folder, tokenizer, job.model.remote_code)
