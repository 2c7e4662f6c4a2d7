"""Frozen, typed configuration. YAML in, fully resolved YAML out; an unknown key is an error with a suggestion.

Layers, weakest first: defaults, preset, configuration file, `--set`, command-line options. `training.KEY` sets
KEY for every method; `settings.METHOD.KEY` sets it for one. A later layer's `training.KEY` also replaces what
an earlier layer said for single methods, so that `--set training.learning_rate=1e-5` means what it says.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from harness.endpoint import KEY_VARIABLE, without_credentials
from harness.errors import UserError, hide
from harness.registry import Registry, did_you_mean

Layer = dict[str, Any]
# How and where a run is made, and so no part of what it is: of its keys, its results and its resolved configuration.
MACHINE = frozenset({"store", "launcher", "processes", "accelerate_config", "vllm.python"})
# Settings of a training that say only how it is computed: no part of its key, of the settings that are pooled, or of a
# board. What was asked for is in the resolved configuration (a prompt may need a larger micro-batch than the default),
# and what a training was made with in its manifest.
COMPUTING = frozenset({"micro_batch_tokens", "gradient_checkpointing", "compile", "checkpoint_steps"})


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` and `true` are not the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected a number or a text, not true or false")
        return value


class Sampling(Section):
    """How responses are drawn. Temperature 0 is greedy."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=256, ge=1)


class Limits(Section):
    """Prompts per set; the first ones of the file. None is all."""

    train: int | None = Field(default=None, ge=1)
    eval: int | None = Field(default=None, ge=1)


class Columns(Section):
    """Which column of a table holds what; what is not said is guessed from the names of the columns.

    One of prompt (a text), messages (a conversation) and turns (the user's turns, each a text) holds the prompts.
    input: a text that is appended to the prompt. answer: a known right answer, for reference-guided judging."""

    prompt: str | None = None
    messages: str | None = None
    turns: str | None = None
    input: str | None = None
    id: str | None = None
    category: str | None = None
    answer: str | None = None

    @model_validator(mode="after")
    def _one_holds_the_prompts(self) -> Columns:
        if sum(name is not None for name in (self.prompt, self.messages, self.turns)) > 1:
            raise ValueError("only one of prompt, messages and turns can hold the prompts")
        if self.input and (self.messages or self.turns):
            raise ValueError("input is appended to a prompt's text; it needs `prompt`")
        return self


class PromptSource(Section):
    """Where a prompt set comes from, a file or folder or the hub, and which part of it is taken.

    config, split, revision, file: of a dataset on the hub (a saved `datasets` folder has splits too); file: one data
    file of it. part, test_share: the prompts whose hash puts them into training or into test."""

    path: Path | None = None
    hub: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    file: str | None = None
    columns: Columns = Columns()
    part: Literal["train", "test"] | None = None
    test_share: float | None = Field(default=None, gt=0, lt=1)
    in_domain: bool = Field(default=False, description="as an evaluation set: of the training set's distribution")
    license: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> PromptSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("a prompt set needs either path or hub")
        if self.hub is None and (self.config or self.revision or self.file):
            raise ValueError("config, revision and file belong to a dataset on the hub")
        if self.file and (self.config or self.split):
            raise ValueError("a single file has no config and no split")
        return self


class MethodSettings(Section):
    """What every method's training has. A method's own file sets its defaults and adds its own settings.

    start: the checkpoint training starts from: the untrained student, or the student after SFT, which also is
    the reference π_ref of every method. Those in COMPUTING only move the computing; all others shape the training."""

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
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpoint_steps: int = 25

    # as a validator and not in the fields: it holds for a method's own defaults too
    @field_validator("learning_rate", "epochs", "batch_size", "micro_batch_tokens", "max_grad_norm", "checkpoint_steps")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("must be above 0")
        return value


class TokenSettings(MethodSettings):
    """What token-level methods have beside: where the teacher's distributions come from.

    teacher_signal: `online` keeps the teacher in memory and runs it at every step; `top_k` reads its `top_k` largest
    log-probs of each response token, computed once and stored. tail: everything else as one outcome more; without
    it both distributions are renormalised over the k."""

    teacher_signal: Literal["online", "top_k"] = "online"
    top_k: int = Field(default=64, ge=1)
    tail: bool = True


class Prune(Section):
    """Structured pruning of a student's MLPs before training."""

    ratio: float = Field(gt=0, lt=1, description="share of all parameters to remove")
    calibration: int = Field(
        default=16, ge=1, description="responses of the unpruned model that importance is measured on"
    )


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
    own: dict[str, dict[str, Any]] = {}

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


class ModelServer(Section):
    """A teacher that lives elsewhere: behind an OpenAI-compatible server.

    tokenizer: a model whose tokenizer is the teacher's; without it the student's."""

    base_url: str
    model: str
    tokenizer: str | None = None
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

    python: str | None = Field(default=None, exclude=True)
    max_model_len: int | None = Field(default=None, ge=1)
    engine: dict[str, Any] = {}


class JudgeConfig(Section):
    """What `judge` and `judge-check` take: the part of a run's configuration that is about judging."""

    judge: Judging = Judging()
    vllm: VLLM = VLLM()
    trust_remote_code: bool = False
    store: str | None = None


class Config(Section):
    student: str
    prune: Prune | None = Field(default=None, description="prune the student, or prune it otherwise than its entry")
    teacher: str | None = None
    trust_remote_code: bool = Field(
        default=False, description="run the Python code that a model comes with; any model of the run"
    )
    teacher_server: ModelServer | None = Field(default=None, description="the teacher is behind this server, not here")
    methods: tuple[str, ...] = ("sft", "kd", "ddpo", "dadpo")
    controls: Literal["none", "basic", "full"] = "basic"
    contrasts: tuple[tuple[str, str], ...] | None = Field(
        default=None, description="rows to be tested against each other; each method's own where this is not set"
    )
    judge: Judging = Judging()
    vllm: VLLM = VLLM()
    train_prompts: str = "everyday-train"
    eval: tuple[str, ...] = ("everyday-test", "followups", "longer-tasks")
    prompts: dict[str, PromptSource] = Field(default={}, description="prompt sets of your own, by name")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="of a set that is cut into @train and @test")
    limits: Limits = Limits()
    train_sampling: Sampling = Sampling()
    eval_sampling: Sampling = Sampling(temperature=0.8)
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="longer prompts lose their beginning, in training and scoring"
    )
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = None
    generator: Literal["auto", "transformers", "vllm"] = Field(
        default="auto", description="what draws responses; auto is the fastest that is installed"
    )
    generation_batch_size: int = Field(default=64, ge=1)
    scoring_batch_tokens: int = Field(default=4096, ge=1)
    scoring_precision: Literal["bf16", "fp32"] = "bf16"
    training: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    launcher: Literal["inline", "process", "accelerate"] = "inline"
    processes: int = Field(default=1, ge=1, description="ranks of a training")
    accelerate_config: str | None = Field(
        default=None, description="your own configuration file of accelerate, for FSDP2"
    )

    @field_validator("processes", "accelerate_config")
    @classmethod
    def _of_accelerate(cls, value: int | str | None, info: ValidationInfo) -> int | str | None:
        if value not in (1, None) and info.data.get("launcher") != "accelerate":
            raise ValueError("only accelerate starts several ranks; add --set launcher=accelerate")
        return value

    @field_validator("accelerate_config")
    @classmethod
    def _a_file(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).expanduser().is_file():
            raise ValueError("there is no such file")
        return value

    @field_validator("prompts")
    @classmethod
    def _names(cls, value: dict[str, PromptSource]) -> dict[str, PromptSource]:
        for name in value:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"'{name}' is no name: letters, digits, '.', '-' and '_' only")
        return value

    @field_validator("methods", "eval")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one is needed")
        if len(set(value)) < len(value):
            raise ValueError("one is named twice")
        return value


def packaged_yaml(folder: str) -> dict[str, Layer]:
    """The YAML files of a folder in benchmarks/, by name without the ending."""
    return {
        entry.name.removesuffix(".yaml"): parse_yaml(entry.read_text(encoding="utf-8"), f"{folder}/{entry.name}")
        for entry in (resources.files("benchmarks") / folder).iterdir()
        if entry.name.endswith(".yaml")
    }


def preset_layer(name: str) -> Layer:
    """A preset's settings, without what it says of itself."""
    return {key: value for key, value in presets.get(name).items() if key not in ("summary", "ours")}


def preset_words(name: str) -> list[str]:
    """What a preset says of itself: its summary, and what in it the paper does not say and this project chose."""
    layer = presets.get(name)
    return [str(layer.get("summary", "")), *(f"ours: {text}" for text in layer.get("ours", ()))]


presets: Registry[Layer] = Registry("preset", lambda: packaged_yaml("presets"))


def parse_yaml(text: str, where: str) -> Layer:
    """A YAML mapping.

    Raises:
        UserError: malformed YAML (with its line) or not a mapping.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{where}{line}: malformed YAML ({problem})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(data).__name__}")
    return data


def read_config_file(path: Path) -> Layer:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: cannot be read ({error})") from error


def parse_assignment(text: str) -> Layer:
    """`training.learning_rate=1e-5` as a nested mapping; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {text}: expected key=value, for example training.learning_rate=1e-5")
    try:
        parsed: Any = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {text}: the value is not valid YAML") from error
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    layer: Layer = in_full(parsed)
    return layer


def parse_assignments(texts: Iterable[str]) -> Layer:
    """All of `--set` as one layer; of two values for one key the later wins."""
    layer: Layer = {}
    for text in texts:
        layer = _merge(layer, parse_assignment(text))
    return layer


def in_full(layer: Layer) -> Layer:
    """A layer with `judge: NAME` written out as `judge: {name: NAME}`."""
    return {**layer, "judge": {"name": layer["judge"]}} if isinstance(layer.get("judge"), str) else layer


def merge(base: Layer, over: Layer) -> Layer:
    """`over` on `base`, mapping by mapping; see the module's text for `training`."""
    result = _merge(base, over)
    common = over.get("training")
    if isinstance(common, dict) and isinstance(base.get("settings"), dict) and isinstance(result["settings"], dict):
        own = over.get("settings") or {}
        for method, values in result["settings"].items():
            if isinstance(values, dict):
                said = own.get(method) or {} if isinstance(own, dict) else {}
                result["settings"][method] = {k: v for k, v in values.items() if k not in common or k in said}
    return result


def _merge(base: Layer, over: Layer) -> Layer:
    result = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def validated(kind: type[Section], data: Layer, prefix: str = "") -> Any:
    """`data` as a typed section.

    Raises:
        UserError: the first thing wrong, by its full key; an unknown key comes with a suggestion.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(_explain(kind, error, prefix)) from error


def _explain(kind: type[BaseModel], error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = (prefix + ".".join(location)).rstrip(".")
    if first["type"] == "extra_forbidden":
        owner = kind
        for part in (part for part in location[:-1] if part in owner.model_fields):  # others are names of a mapping
            owner = _section_of(owner.model_fields[part].annotation)
        return f"unknown configuration key '{key}'{did_you_mean(location[-1], owner.model_fields)}"
    if first["type"] == "missing":
        return f"configuration key '{key}' is not set"
    return hide(f"configuration key '{key}': {first['msg']} (given: {first['input']!r})")


def _section_of(annotation: Any) -> type[BaseModel]:
    """The model in `Model` or `Model | None`."""
    options = (annotation, *get_args(annotation))
    return next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))


def resolve(layers: list[Layer]) -> Config:
    """One configuration from its layers, weakest first, with every setting of every method written out."""
    from harness.methods import methods

    data: Layer = {}
    for layer in layers:
        data = merge(data, in_full(layer))
    config: Config = validated(Config, data)
    for name in [*config.methods, *config.settings]:
        methods.get(name)
    for name in config.judge.names:
        config.judge.of(name)
    common_keys = {key for name in methods.names() for key in methods.get(name).settings.model_fields}
    for key in config.training:
        if key not in MethodSettings.model_fields:
            known = MethodSettings.model_fields if key not in common_keys else ()
            hint = did_you_mean(key, known) if known else f"; it is one method's own: settings.METHOD.{key}"
            raise UserError(f"unknown configuration key 'training.{key}'{hint}")
    used = methods.closure(config.methods, config.controls)
    checked = {
        name: validated(
            methods.get(name).settings,
            {**config.training, **config.settings.get(name, {})},
            f"settings.{name}.",
        ).model_dump(mode="json")
        for name in dict.fromkeys([*used, *config.settings])  # a mistake in one that does not run is one too
    }
    settings = {name: checked[name] for name in used}
    return config.model_copy(update={"training": {}, "settings": settings})


def resolve_judging(layers: list[Layer]) -> JudgeConfig:
    """The configuration of `judge` and `judge-check`, from its layers, weakest first."""
    data: Layer = {}
    for layer in layers:
        data = _merge(data, in_full(layer))
    config: JudgeConfig = validated(JudgeConfig, data)
    for name in config.judge.names:
        config.judge.of(name)
    return config


def shaping(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A training's settings without those that say only how it is computed: what it is."""
    return {name: value for name, value in settings.items() if name not in COMPUTING}


def to_yaml(config: Config) -> str:
    data = config.model_dump(mode="json", exclude={*MACHINE, "training"})  # `training` is resolved into `settings`
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
