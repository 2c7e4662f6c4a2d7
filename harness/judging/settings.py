"""Who judges, and how it is asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializationInfo, ValidationInfo, field_serializer, field_validator

from harness.core.registry import did_you_mean
from harness.core.secrets import KEY_VARIABLE, without_credentials
from harness.core.section import Section


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


class _Who(Section):
    """Apart, so that a configuration file begins with it."""

    name: str = "proxy"
    samples: int = Field(default=2, ge=1, le=8, description="teacher samples a prompt, drawn for proxy judges alone")


class JudgeSettings(Section):
    """How a judge is asked; each of several can have any of it for itself."""

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


class JudgeEntry(JudgeSettings):
    """One judge, and all of how it is asked."""

    name: str


class Judging(JudgeSettings, _Who):
    """Who judges, and how it is asked. `name` is one judge of `list judges`, or several with commas between them.

    own: what is said of one judge of several, by its name; what it leaves out is as for all. `judges` has them in full.
    """

    max_cost: float | None = Field(default=None, gt=0, description="stop asking before this run has cost more")
    least_ok: float = Field(default=0.99, ge=0, le=1, description="share of ok verdicts that `judge` ends well with")
    own: dict[str, JudgeSettings] = Field(default={})

    @property
    def names(self) -> tuple[str, ...]:
        return _split(self.name)

    @property
    def judges(self) -> tuple[JudgeEntry, ...]:
        """Each judge with its settings, in the order of their names."""
        return tuple(map(self.of, self.names))

    def of(self, name: str) -> JudgeEntry:
        """One judge with its settings: those of its own in the place of those for all."""
        of_all = {key: getattr(self, key) for key in JudgeSettings.model_fields}
        own = self.own.get(name, JudgeSettings())
        return JudgeEntry(name=name, **{**of_all, **{key: getattr(own, key) for key in own.model_fields_set}})

    @field_validator("name")
    @classmethod
    def _one_or_several(cls, value: str) -> str:
        names = [part.strip() for part in value.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("expected the name of a judge, or of several, each once, with commas between them")
        return value

    @field_validator("own", mode="before")
    @classmethod
    def _of_these(cls, value: Any, info: ValidationInfo) -> Any:
        names = _split(str(info.data.get("name")))
        for name, own in value.items() if isinstance(value, dict) else ():
            if name not in names:
                raise ValueError(f"'{name}' is none of the judges{did_you_mean(str(name), names)}")
            for key in own if isinstance(own, dict) else ():
                if key in cls.model_fields and key not in JudgeSettings.model_fields:
                    known = did_you_mean(key, JudgeSettings.model_fields)
                    raise ValueError(f"'{key}' cannot be set for one judge{known}")
        return value

    @field_serializer("own")
    def _as_said(self, value: dict[str, JudgeSettings], info: SerializationInfo) -> dict[str, Any]:
        return {name: own.model_dump(mode=info.mode, exclude_unset=True) for name, own in value.items()}


def _split(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in name.split(",") if part.strip())
