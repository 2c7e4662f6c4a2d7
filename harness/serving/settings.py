"""Where a model is served, and how it is asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from harness.core.secrets import KEY_VARIABLE, without_credentials
from harness.core.section import OfTheMachine, Section

Api = Literal["vllm", "sglang"]
SERVED_TOP_K = 20  # log-probs a token of a served teacher: as many as vLLM's server gives where nothing else is said


class ModelServer(Section):
    """A teacher that lives elsewhere: behind an OpenAI-compatible server.

    tokenizer: a model whose tokenizer is the teacher's; without it the student's."""

    base_url: str
    model: str
    tokenizer: str | None = None
    api: Api = Field(default="vllm", description="whose way of giving log-probs of prompts it has")
    key_variable: str = Field(default=KEY_VARIABLE, description="the environment variable that holds the key")
    concurrency: int = Field(default=64, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=600.0, gt=0, description="seconds a call")
    tries: int = Field(default=6, ge=1, description="a call that fails is made again so often")

    @field_validator("base_url")
    @classmethod
    def _a_server(cls, value: str) -> str:
        without_credentials(value)
        return value

    @field_serializer("base_url")
    def _in_public(self, value: str) -> str:
        return without_credentials(value)

    @property
    def public_url(self) -> str:
        return without_credentials(self.base_url)


class VLLM(Section):
    """python: the interpreter that has vLLM, which pins other versions of torch than this one.

    max_model_len: less than the model takes, to save memory. engine: further arguments of vllm.LLM."""

    python: OfTheMachine[str | None] = None
    max_model_len: int | None = Field(default=None, ge=1)
    engine: dict[str, Any] = Field(default={})
