"""Which methods a run compares, and what every method's training has for settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from harness.core.files import absolute
from harness.core.section import Names, Section, first_error

# Settings of a training that say only how it is computed: no part of its key, of the settings that are pooled, or of a
# board. What was asked for is in the resolved configuration (a prompt may need a larger micro-batch than the default),
# and what a training was made with in its manifest.
COMPUTING = frozenset({"micro_batch_tokens", "gradient_checkpointing", "compile", "checkpoint_steps"})

# Settings by whose values others are read by nothing: these, as they are named, then shape no training either.
IDLE: tuple[tuple[Mapping[str, object], frozenset[str]], ...] = (
    ({"fresh_share": 0}, frozenset({"fresh_every", "samples", "max_new_tokens", "sampling_temperature"})),
    ({"fresh_share": 1}, frozenset({"stored"})),
    ({"teacher_signal": "online", "support": "full"}, frozenset({"top_k", "top_k_of"})),
)

MOST_POINTS = 100  # of a margin
ALL = "all"  # in the place of methods' names: every one that there is


class MethodSettings(Section):
    """What every method's training has. A method's own file sets its defaults and adds its own settings.

    start: the checkpoint training starts from: the untrained student, or the student after SFT, which also is
    the reference π_ref of every method. Those in COMPUTING only move the computing; all others shape the training."""

    # of adapters, where no rate is given: they begin as nothing, and take larger steps than trained weights
    adapter_learning_rate: ClassVar[float | None] = None
    start: Literal["student", "sft"] = "student"
    learning_rate: float = 1e-5
    epochs: int = 1
    batch_size: int = Field(default=8, description="examples (pairs or responses) a step")
    micro_batch_tokens: int = Field(default=2048, description="tokens a forward pass, padding included")
    gradient_checkpointing: bool = Field(default=False, description="less memory for a third more time")
    compile: bool = Field(default=False, description="torch.compile the layers; a CPU needs a C++ compiler for it")
    lora_rank: int = Field(default=0, ge=0, description="train low-rank adapters of this rank; 0 trains all weights")
    lora_alpha: int = Field(default=32, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = 1.0
    dropout: bool | None = Field(
        default=None,
        description="whether the checkpoint's own dropout is on; by default, where the loss reads no reference",
    )
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpoint_steps: int = 25

    @model_validator(mode="before")
    @classmethod
    def _rate_of_adapters(cls, data: Any) -> Any:
        own = cls.adapter_learning_rate
        if own is None or not isinstance(data, dict) or not data.get("lora_rank"):
            return data
        return {"learning_rate": own, **data}

    # as a validator and not in the fields: it holds for a method's own defaults too
    @field_validator("learning_rate", "epochs", "batch_size", "micro_batch_tokens", "max_grad_norm", "checkpoint_steps")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("must be above 0")
        return value

    @model_validator(mode="after")
    def _as_inherited(self) -> Self:
        """A method's class may declare a setting anew, for another default or fewer values: all that its bases hold a
        value to still holds, of defaults too."""
        for base in type(self).__bases__:
            if issubclass(base, MethodSettings):
                try:
                    base.model_validate({name: getattr(self, name) for name in base.model_fields})
                except ValidationError as error:
                    raise ValueError(first_error(error)) from error
        return self


class FreshSettings(MethodSettings):
    """What methods have beside whose responses may be the policy's own.

    fresh_share: of these, how many are sampled from the policy as it trains, example by example (GKD's λ); the others
    are stored ones, written by the teacher or by the SFT student (`stored`)."""

    fresh_share: float = Field(
        default=0.0, ge=0, le=1, description="share of responses that the policy writes as it trains (GKD's lambda)"
    )
    fresh_every: int = Field(default=1, ge=1, description="steps between samplings: older samples serve until then")
    stored: Literal["teacher", "student"] = Field(
        default="teacher", description="who wrote the responses that are not fresh: the teacher, or the SFT student"
    )
    samples: int = Field(
        default=1,
        ge=1,
        description="responses to each prompt of a step; in the place of all that are not fresh is one stored one",
    )
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="of a fresh response; as train_sampling's where nothing is said"
    )
    sampling_temperature: float = Field(default=1.0, gt=0, description="of fresh responses")


class TokenSettings(FreshSettings):
    """What token-level methods have beside. per: see Method.per; the method's own where nothing is said."""

    per: Literal["token", "response", "example"] | None = Field(
        default=None,
        description="what a sum over tokens is divided by: all tokens, each response's and then responses, or examples",
    )


class DistributionSettings(TokenSettings):
    """What distribution-level methods have beside: where the teacher's distributions come from, and over what they run.

    teacher_signal: `online` keeps the teacher in memory and runs it at every step; `stored` reads its `top_k` largest
    log-probs of each stored response token, computed once.
    support: the outcomes. `full`, the vocabulary; else the `top_k` of the teacher (or of the policy, `top_k_of`), with
    everything else as one outcome more (`tail`), `renormalised` to 1, or `truncated`, as they are."""

    teacher_signal: Literal["online", "stored"] = "online"
    support: Literal["full", "tail", "renormalised", "truncated"] = Field(
        default="full",
        description="outcomes: all; or a top k with the rest as one more, renormalised, or as it is",
    )
    top_k: int = Field(default=64, ge=1)
    top_k_of: Literal["teacher", "policy"] = "teacher"
    temperature: float = Field(default=1.0, gt=0, description="of all distributions that the loss compares")
    nll: float = Field(
        default=0.0, ge=0, description="weight of −log π(y_t) of stored responses that the teacher wrote"
    )

    @model_validator(mode="before")
    @classmethod
    def _support_of_stored(cls, data: Any) -> Any:
        """What is stored is a top k: with the rest as one outcome, where nothing else is said."""
        if isinstance(data, dict) and data.get("teacher_signal") == "stored":
            return {"support": "tail", **data}
        return data

    @model_validator(mode="after")
    def _some_top_k(self) -> DistributionSettings:
        if self.teacher_signal == "stored":
            if self.support == "full":
                raise ValueError("teacher_signal=stored keeps a top k: support is tail, renormalised or truncated")
            if self.top_k_of == "policy":
                raise ValueError("teacher_signal=stored keeps the teacher's top k; top_k_of=policy needs it online")
            if self.fresh_share > 0:
                raise ValueError("teacher_signal=stored is of stored responses; fresh ones are read online")
            if self.temperature != 1:
                raise ValueError("teacher_signal=stored keeps log-probs at temperature 1")
        return self


def _each_once(files: tuple[str, ...]) -> tuple[str, ...]:
    """Files, without one that is named again, however it is written."""
    found: dict[str, str] = {}
    for file in files:
        found.setdefault(absolute(file), file)
    return tuple(found.values())


class MethodChoice(Section):
    """Which methods a run compares, and the files that bring some of them."""

    plugins: Annotated[tuple[str, ...], AfterValidator(_each_once)] = Field(
        default=(), description="Python files of methods of yours; docs/adding-a-method.md"
    )
    methods: Names = ("sft", "kd", "ddpo", "dadpo")
    controls: Literal["none", "basic", "full"] = "basic"
    match: str | None = Field(
        default=None,
        description="the method that all take as many tokens of the student as, with what their start took",
    )
    contrasts: tuple[tuple[str, str], ...] | None = Field(
        default=None, description="rows to be tested against each other; each method's own where this is not set"
    )
    primary: tuple[str, str] | None = Field(
        default=None,
        description="the one contrast that is corrected for no other, on the in-domain sets; a method's own by default",
    )
    margin: float | None = Field(
        default=None, gt=0, le=MOST_POINTS, description="points of preference rate that count as no difference"
    )
    versus: tuple[tuple[str, str], ...] = Field(
        default=(), description="rows whose responses the judge is asked about directly, one against the other"
    )


def idle(settings: Mapping[str, Any]) -> set[str]:
    """The names of those of a training's settings that nothing reads, as the others are."""
    held = (names for where, names in IDLE if all(settings.get(name) == value for name, value in where.items()))
    return set[str]().union(*held)


def shaping(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A training's settings without those that say only how it is computed, those that nothing reads, and those that
    leave it to the method: what it is."""
    left_out = COMPUTING | idle(settings)
    return {name: value for name, value in settings.items() if name not in left_out and value is not None}
