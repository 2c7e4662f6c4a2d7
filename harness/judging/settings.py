"""Who judges, and how it is asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from harness.core.registry import did_you_mean
from harness.core.secrets import KEY_VARIABLE, without_credentials
from harness.core.section import Section, validated


class Prices(Section):
    """Money a million tokens, in the currency of your choice; None is unknown."""

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)

    def cost(self, input_tokens: int, output_tokens: int) -> float | None:
        if self.input is None or self.output is None:
            return None
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    def in_words(self, input_tokens: int, output_tokens: int) -> str:
        cost = self.cost(input_tokens, output_tokens)
        return "cost unknown" if cost is None else f"cost {cost:.4g}"


# Settings that each judge of several can have for itself.
OWN_OF_A_JUDGE = frozenset(
    {"template", "form", "temperature", "max_tokens", "base_url", "key_variable", "concurrency", "requests_per_minute"}
    | {"tokens_per_minute", "timeout", "tries", "prices"}
)


class Judging(Section):
    """Who judges, and how it is asked. `name` is one judge of `list judges`, or several with commas between them.

    own: settings of one judge of several, by its name."""

    name: str = "proxy"
    samples: int = Field(default=2, ge=1, le=8, description="teacher samples a prompt, drawn for proxy judges alone")
    template: str = Field(default="default", description="a named template, or a file")
    form: Literal["auto", "letter", "rationale", "structured"] = "auto"
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=1024, ge=1, description="of a reply with a rationale, reasoning included")
    base_url: str | None = Field(default=None, description="an OpenAI-compatible server; else OPENAI_BASE_URL")
    key_variable: str = Field(default=KEY_VARIABLE, description="the environment variable that holds the key")
    concurrency: int = Field(default=64, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=120.0, gt=0, description="seconds a call")
    tries: int = Field(default=6, ge=1, description="a call that fails is made again so often")
    prices: Prices = Prices()
    max_cost: float | None = Field(default=None, gt=0, description="stop asking before this run has cost more")
    least_ok: float = Field(default=0.99, ge=0, le=1, description="share of ok verdicts that `judge` ends well with")
    own: dict[str, dict[str, Any]] = Field(default={})

    @field_validator("base_url")
    @classmethod
    def _a_server(cls, value: str | None) -> str | None:
        if value is not None:
            without_credentials(value)
        return value

    @field_serializer("base_url")
    def _in_public(self, value: str | None) -> str | None:
        """Credentials in a URL stay in this process: no file, key or job holds them."""
        return value and without_credentials(value)

    @field_serializer("own")
    def _own_in_public(self, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The same for the servers of single judges."""
        return {
            name: {
                key: without_credentials(found) if key == "base_url" and found else found for key, found in own.items()
            }
            for name, own in value.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.name.split(",") if part.strip())

    def of(self, name: str) -> Judging:
        """The settings of one judge."""
        settings: Judging = validated(
            Judging, {**dict(self), "name": name, "own": {}, **self.own.get(name, {})}, f"judge.own.{name}."
        )
        return settings

    @field_validator("name")
    @classmethod
    def _one_or_several(cls, value: str) -> str:
        names = [part.strip() for part in value.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("expected the name of a judge, or of several, each once, with commas between them")
        return value

    @field_validator("own")
    @classmethod
    def _of_these(cls, value: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        names = [part.strip() for part in str(info.data.get("name")).split(",")]
        for name, settings in value.items():
            if name not in names:
                raise ValueError(f"'{name}' is none of the judges{did_you_mean(name, names)}")
            for key in settings:
                if key in cls.model_fields and key not in OWN_OF_A_JUDGE:
                    raise ValueError(f"'{key}' cannot be set for one judge{did_you_mean(key, OWN_OF_A_JUDGE)}")
        return value
