"""Responses from vLLM in a process of its own, under an interpreter that has it: ids in, ids out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from harness.core.errors import UserError
from harness.generation.protocol import Draw, Drawn, Request
from harness.models import chat, weights
from harness.serving.settings import VLLM
from harness.serving.vllm_process import SamplingRequest, VLLMProcess, vllm_process


@dataclass(frozen=True)
class VLLMGenerator:
    """Batches are large: vLLM fills its own from them as it has room, so their order does not matter."""

    folder: Path
    tokenizer: Any
    settings: VLLM
    remote_code: bool = False
    batches: int = 16

    @property
    def versions(self) -> dict[str, str]:
        return {"vllm": self._process().version}

    def _process(self) -> VLLMProcess:
        engine = {"dtype": "bfloat16", **self.settings.engine}
        if self.remote_code:
            engine["trust_remote_code"] = True
        if self.settings.max_model_len:
            engine["max_model_len"] = self.settings.max_model_len
        return vllm_process(self.settings.python or sys.executable, self.folder, engine)

    def draw(self, rows: Sequence[Request], how: Draw) -> list[Drawn]:
        stops = self._stops()
        common = {
            "temperature": how.sampling.temperature,
            "top_p": how.sampling.top_p,
            "max_tokens": how.sampling.max_new_tokens,
            "stop_token_ids": stops,
            "skip_special_tokens": True,
        }
        requests = [SamplingRequest(row.prompt, {**common, "seed": how.row_seed(row)}) for row in rows]
        drawn = []
        for row, found in zip(rows, self._process().generate(requests), strict=True):
            count, limit = len(found.token_ids), how.sampling.max_new_tokens
            text, finish = chat.decode_response(self.tokenizer, found.token_ids, stops)
            # what a setting of this machine cuts short would be another text under the same key
            if count == 0 or (self.settings.max_model_len and finish == "length" and count < limit):
                raise UserError(
                    f"vLLM gave {count} of {limit} tokens for {row.name}: its prompt of {len(row.prompt)} tokens "
                    "leaves no room; raise vllm.max_model_len, or shorten the prompt"
                )
            drawn.append(Drawn(token_ids=found.token_ids, text=text, finish=finish))
        return drawn

    def _stops(self) -> list[int]:
        """As for a model in this process: from its generation config, which vLLM's own defaults may not follow."""
        if (self.folder / "generation_config.json").is_file():
            config = GenerationConfig.from_pretrained(self.folder)
        else:
            config = GenerationConfig.from_model_config(weights.load_config(self.folder, self.remote_code))
        return chat.stop_tokens(config.eos_token_id, self.tokenizer)
