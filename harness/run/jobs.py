"""The jobs of the road: plain data that says what a stage is to make, and all that is to be known of it. No torch here.

A job's key is the hash of everything that shapes its artifact: its own fields but for those in `not_in_key`, the refs
of the artifacts it reads (themselves such hashes), the content of outside files (`digest`, never their path), and
`version`, which is raised by hand when a stage's code changes what it makes. docs/keys.md shows all of it as a table.

A new stage is a class here and a function in stages/; nothing else knows of either.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Facts, Ref
from harness.core.units import first_named
from harness.generation.protocol import Sampling
from harness.judging import Judging
from harness.methods import COMPUTING, idle, methods
from harness.models import memory
from harness.models.reference import Model
from harness.models.shapes import Shape
from harness.prompts.settings import PromptSource
from harness.run.needs import Needs, Sizes
from harness.serving.settings import VLLM

# why a field is no part of a key
FOR_PEOPLE, BY_DIGEST, COMPUTING_ONLY = "for people", "known by its digest", "only moves the computing"
# A response's token in a file: about five characters of text and seven of its id. A stored log-prob with its id.
TOKEN_BYTES, TOP_K_BYTES = 12, 8
COMPARED_BYTES = 40  # of a token that was compared: eight columns of four bytes, and its text
# Of a training's checkpoint, two of which are there while one is written: weights and moments of what is trained.
CHECKPOINT_BYTES = 2 * (memory.FP32 + memory.ADAM)
OF_SAMPLING = {"max_new_tokens", "sampling_temperature"}  # settings of a training that its `sampling` is made of
NAMED_AT_MOST = 5  # prompts without an answer, in a line
QUESTION_TOKENS = 400  # about what a judge's template adds to a question
SMALLER_MODEL = "name a smaller model"
stages: dict[str, type[Job]] = {}  # every stage that is known by now


class Job(BaseModel):
    """One artifact to be made.

    Of its class:
        version: raised when the stage's code changes what it makes.
        work: the function that does it, as MODULE:FUNCTION; it is imported when the first such job is done.
        not_in_key: the fields (or FIELD.PART) that are no part of the key, with the reason.
        added_later: fields that older keys did not have: no part of a key while they say what was so before.
        order: its place among the jobs of an evaluation. Stages that read responses share one.
        pace: the fields (or FIELD.PART) that decide its speed: by them, an earlier one of the kind is a measurement.
        on_ranks: whether several ranks can do it together.
        less_memory: what makes it need less of its device's, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: ClassVar[int]
    work: ClassVar[str]
    not_in_key: ClassVar[Mapping[str, str]] = {"label": FOR_PEOPLE}
    added_later: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[int] = 2
    pace: ClassVar[tuple[str, ...]] = ("model",)
    on_ranks: ClassVar[bool] = False
    less_memory: ClassVar[str] = SMALLER_MODEL
    stage: str
    label: str = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Have `job_from` know a class that has a stage."""
        stage = cls.model_fields["stage"].default
        if not isinstance(stage, str):  # what several stages have in common
            return
        for name in ("version", "work"):
            if not hasattr(cls, name):
                raise TypeError(f"the stage '{stage}' has no {name}")
        if stages.setdefault(stage, cls) is not cls:
            raise TypeError(f"the stage '{stage}' is there twice")

    # ---- its key
    @property
    def in_key(self) -> Facts:
        """What of it is part of its key."""
        data = self.model_dump(mode="json")
        for name in self.not_in_key:
            field, _, part = name.partition(".")
            where = data[field] if part else data
            where.pop(part or field, None)
        for name, known in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Model) and name in data:
                data[name] = value.in_key
            elif name in self.added_later and value == known.default:
                del data[name]
        return data

    @property
    def ref(self) -> Ref:
        return f"{self.stage}/{canonical_hash({'version': self.version, **self.in_key})[:32]}"

    # ---- where it is done
    def prepare(self) -> None:
        """Have a process that planned nothing know what it takes for granted.

        Raises:
            UserError: that is not what it was.
        """

    # ---- its models
    @property
    def models(self) -> tuple[Model, ...]:
        """All that it reads or trains."""
        return tuple(value for value in dict(self).values() if isinstance(value, Model))

    @property
    def holds(self) -> tuple[Model, ...]:
        """The frozen models that it loads here, or in a process of this one's: they stay in memory from one job to the
        next that holds them too (serving/resident.py). What it trains or prunes is not among them."""
        return tuple(model for model in self.models if not model.served)

    @property
    def loads(self) -> object:
        """What jobs that follow one another load once, if it is the same."""
        return next(iter(self.models), None)

    @property
    def apart(self) -> bool:
        """Whether a process of its own gives memory back. No file, and so no such process, knows a server's credentials
        or vLLM's interpreter."""
        return not any(model.served for model in self.models)

    # ---- what is said of it
    def note(self, facts: Facts | None) -> str:
        """What is said of it beside that it is done. facts: None where verdicts failed, and so no artifact is there."""
        facts = facts or {}
        notes = [
            f"{facts['prompts_cut']} prompts lost their beginning" if facts.get("prompts_cut") else "",
            "responses split anew by another tokenizer" if facts.get("retokenised") else "",
            f"its batches are padded, which is slower: {facts['padded']}" if facts.get("padded") else "",
            f"its checkpoint's dropout is {'on' if facts['dropout_on'] else 'off'}" if facts.get("dropout") else "",
        ]
        return "; ".join(filter(None, notes))

    def recorded(self, manifest: Mapping[str, Any]) -> Facts:
        """What a run says of it, beside what it says of all stages. manifest: its artifact's, with the job that made
        it, which may have said otherwise what is no part of the key."""
        return {}

    # ---- what it takes
    def tokens(self, sizes: Sizes) -> int:
        """That it reads or writes."""
        return 0

    def needs(self, sizes: Sizes) -> Needs:
        """Of the machine. Its time is by the machine's speed, not by what stages of its kind took."""
        return Needs(self.tokens(sizes))

    def shape_made(self, sizes: Sizes) -> Shape | None:
        """Of the model that it makes; None where it makes none, or nothing says it."""
        return None

    @property
    def bytes_made(self) -> int:
        """Of each weight of the model that it makes."""
        return memory.FP32


class PromptsJob(Job):
    """The first `limit` prompts of a source; of these, where a share is `held_out`, those that are not, or they alone
    (`validation`). digest: of these prompts; it alone is in the key, so that equal prompts are one artifact wherever
    they come from."""

    version: ClassVar[int] = 2
    work: ClassVar[str] = "harness.run.stages.prepare:prompts_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {
        **Job.not_in_key,
        **dict.fromkeys(("source", "limit", "held_out", "validation"), BY_DIGEST),
    }
    order: ClassVar[int] = 0
    stage: Literal["prompts"] = "prompts"
    digest: str
    source: PromptSource
    limit: int | None
    held_out: float = 0.0
    validation: bool = False

    @property
    def apart(self) -> bool:
        return False  # it loads no model

    def needs(self, sizes: Sizes) -> Needs:
        return Needs(seconds=0.0)  # none that counts


class ConvertJob(Job):
    """A GGUF file, dequantised, a folder of pickled weights, or an adapter merged into its `base`, as a plain
    safetensors folder."""

    version: ClassVar[int] = 2
    work: ClassVar[str] = "harness.run.stages.prepare:convert_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {**Job.not_in_key, "path": BY_DIGEST}
    added_later: ClassVar[frozenset[str]] = frozenset({"format", "base"})
    stage: Literal["convert"] = "convert"
    path: str
    digest: str
    format: Literal["gguf", "pickled", "adapter"] = "gguf"
    base: Model | None = None

    @property
    def models(self) -> tuple[Model, ...]:
        return (Model(path=self.path, digest=self.digest), *([self.base] if self.base else []))

    @property
    def holds(self) -> tuple[Model, ...]:
        return ()

    def needs(self, sizes: Sizes) -> Needs:
        shape = self.shape_made(sizes)
        return Needs(disk=shape.parameters * memory.FP32 if shape else 0)

    def shape_made(self, sizes: Sizes) -> Shape | None:
        return sizes.shape(self.models[-1])

    @property
    def bytes_made(self) -> int:
        """Pickled weights are taken as they are: in bf16, as published."""
        return memory.BF16 if self.format == "pickled" else memory.FP32


class PruneJob(Job):
    """A model with narrower MLPs: `ratio` of all parameters removed, by Taylor importance on these responses."""

    version: ClassVar[int] = 2
    work: ClassVar[str] = "harness.run.stages.prepare:prune_stage"
    stage: Literal["prune"] = "prune"
    model: Model
    prompts: Ref
    responses: Ref
    ratio: float

    @property
    def holds(self) -> tuple[Model, ...]:
        return ()

    def note(self, facts: Facts | None) -> str:
        if not facts:
            return ""
        before, after = facts["parameters_before"], facts["parameters"]
        return (
            f"{before:,} → {after:,} parameters ({after / before - 1:+.1%}), "
            f"MLP width {facts['mlp_width_before']} → {facts['mlp_width']}"
        )

    def tokens(self, sizes: Sizes) -> int:
        return sizes.read(self.prompts, (self.responses,))

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shape = self.tokens(sizes), sizes.shape(self.model)
        if shape is None:
            return Needs(tokens)
        return Needs(
            tokens,
            sizes.speed.training(shape, tokens, False, False) if sizes.speed else None,
            sum(memory.pruning(shape).values()),
            shape.pruned(self.ratio).parameters * memory.FP32,
        )

    def shape_made(self, sizes: Sizes) -> Shape | None:
        base = sizes.shape(self.model)
        return base.pruned(self.ratio) if base else None


class RespondJob(Job):
    """`samples` responses to each prompt. `purpose` and `seed` set the random numbers. generator: what draws them.
    engine: what vLLM is told that may change its text; vllm: how it is started."""

    version: ClassVar[int] = 5
    work: ClassVar[str] = "harness.run.stages.respond:respond_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {**Job.not_in_key, "vllm": "what of it shapes a text is in `engine`"}
    added_later: ClassVar[frozenset[str]] = frozenset({"generator", "engine"})
    order: ClassVar[int] = 1
    less_memory: ClassVar[str] = f"lower generation_batch_size or the sampling's max_new_tokens, or {SMALLER_MODEL}"
    stage: Literal["respond"] = "respond"
    generator: Literal["transformers", "vllm", "server"] = "transformers"
    engine: dict[str, Any] = {}
    vllm: VLLM = VLLM()
    model: Model
    prompts: Ref
    sampling: Sampling
    samples: int = 1
    batch_size: int
    purpose: str
    seed: int

    @model_validator(mode="before")
    @classmethod
    def _without_further(cls, data: Any) -> Any:
        """Artifacts of before say that no further responses, which judges did not read, were drawn beside `samples`."""
        if isinstance(data, dict) and data.get("further") == 0:
            return {name: value for name, value in data.items() if name != "further"}
        return data

    @property
    def apart(self) -> bool:
        return super().apart and self.generator != "vllm"

    def note(self, facts: Facts | None) -> str:
        if not facts:
            return ""
        notes = [f"{facts['responses']} responses, {facts['tokens']} tokens, {facts['cut']} cut at the limit"]
        if without := facts.get(WITHOUT):
            again = ": asked anew, it would say something else" if "seed" in without else ""
            notes.append(f"without {', '.join(without)}, which the server does not take{again}")
        if left_out := facts.get(LEFT_OUT):
            (why, *_) = left_out.values()
            ids = first_named(left_out, NAMED_AT_MOST)
            notes.append(f"the server gives no answer to {len(left_out)} prompts ({ids}), left out: {why}")
        return "; ".join(notes)

    def tokens(self, sizes: Sizes) -> int:
        return sizes.answers(self.prompts) * self.samples * self.sampling.max_new_tokens

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shape = self.tokens(sizes), sizes.shape(self.model)
        disk = tokens * TOKEN_BYTES
        # what is drawn elsewhere, or by an engine that takes all the memory there is, has no figure here
        if shape is None or self.generator != "transformers":
            return Needs(tokens, disk=disk)
        rows, new = sizes.prompts(self.prompts) * self.samples, self.sampling.max_new_tokens
        parts = memory.generation(shape, min(rows, self.batch_size), sizes.longest_prompt(self.prompts), new)
        read = sizes.read(self.prompts, ()) * self.samples
        took = sizes.speed.generation(shape, rows, self.batch_size, read, new) if sizes.speed else None
        return Needs(tokens, took, sum(parts.values()), disk)


class ReadingJob(Job):
    """How a frozen model reads prompts with their responses, so many tokens at once."""

    not_in_key: ClassVar[Mapping[str, str]] = {**Job.not_in_key, "batch_tokens": COMPUTING_ONLY}
    less_memory: ClassVar[str] = f"lower scoring_batch_tokens, or {SMALLER_MODEL}"
    model: Model
    prompts: Ref
    precision: str
    batch_tokens: int
    max_prompt_tokens: int | None

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shape = self.tokens(sizes), sizes.shape(self.model)
        if shape is None:
            return Needs(tokens)
        parts = memory.reading(shape, self.batch_tokens, sizes.weight_bytes(self.model))
        return Needs(tokens, sizes.speed.reading(shape, tokens) if sizes.speed else None, sum(parts.values()))


class ReadingOneJob(ReadingJob):
    """The same of one response a prompt."""

    responses: Ref

    def tokens(self, sizes: Sizes) -> int:
        return sizes.read(self.prompts, (self.responses,))


class ScoreJob(ReadingJob):
    """Sequence log-probs of each prompt's responses, one column a response file, under a frozen model. samples: which
    of each file's responses to a prompt a column is of; the first, where nothing is said."""

    version: ClassVar[int] = 4
    work: ClassVar[str] = "harness.run.stages.score:score_stage"
    added_later: ClassVar[frozenset[str]] = frozenset({"samples"})
    stage: Literal["score"] = "score"
    responses: tuple[Ref, ...]
    samples: tuple[int, ...] = ()

    def tokens(self, sizes: Sizes) -> int:
        return sizes.read(self.prompts, self.responses, one_each=bool(self.samples))


class DistributionsJob(ReadingOneJob):
    """A frozen model's `top_k` largest log-probs at each response token: what token-level losses read in its stead.
    answered: as a TrainJob's."""

    version: ClassVar[int] = 3
    work: ClassVar[str] = "harness.run.stages.score:distributions_stage"
    added_later: ClassVar[frozenset[str]] = frozenset({"answered"})
    stage: Literal["distributions"] = "distributions"
    top_k: int
    answered: Ref | None = None

    def needs(self, sizes: Sizes) -> Needs:
        return replace(super().needs(sizes), disk=sizes.responses(self.responses) * self.top_k * TOP_K_BYTES)


class StatesJob(ReadingOneJob):
    """The teacher's last hidden states at each token of its own responses, from which its distributions follow for
    every student that is compared with it: no student adds a forward pass of the teacher's body. Of a teacher whose
    head is more than a product there are none, and comparisons read it anew. Its log-probs of the responses are there
    too."""

    version: ClassVar[int] = 2
    work: ClassVar[str] = "harness.run.stages.compare:states_stage"
    stage: Literal["states"] = "states"

    def needs(self, sizes: Sizes) -> Needs:
        shape = sizes.shape(self.model)
        wide = shape.hidden * memory.FP32 if shape else 0
        return replace(super().needs(sizes), disk=sizes.responses(self.responses) * wide)


class CompareJob(ReadingOneJob):
    """What a student (`model`) and its teacher say at each token of responses, which either of them wrote: both
    distributions at `temperature`, over the ids that both have. The teacher's are from its `states`, from the top k of
    its `distributions`, or, without either, from a forward pass; then its log-probs of the responses are there too."""

    version: ClassVar[int] = 2
    work: ClassVar[str] = "harness.run.stages.compare:compare_stage"
    stage: Literal["compare"] = "compare"
    teacher: Model | None
    states: Ref | None = None
    distributions: Ref | None = None
    temperature: float

    def needs(self, sizes: Sizes) -> Needs:
        alone = super().needs(sizes)
        alone = replace(alone, disk=sizes.responses(self.responses) * COMPARED_BYTES)
        shape = sizes.shape(self.teacher) if self.teacher else None
        if self.teacher is None or shape is None or alone.memory is None:
            return alone
        parts = memory.reading(shape, self.batch_tokens, sizes.weight_bytes(self.teacher))
        seconds = alone.seconds
        if seconds is not None and sizes.speed and self.states is None:
            seconds += sizes.speed.reading(shape, self.tokens(sizes))
        return replace(alone, seconds=seconds, memory=alone.memory + sum(parts.values()))


class MeasureJob(Job):
    """Measures of one system's responses, prompt by prompt.

    readings: what they are read from, by Measure.reads. measures: by name, a digest of what each is. of_teacher:
    whether the system is the teacher, which some measures have a value of their own for."""

    version: ClassVar[int] = 1
    work: ClassVar[str] = "harness.run.stages.measure:measure_stage"
    order: ClassVar[int] = 4
    stage: Literal["measure"] = "measure"
    prompts: Ref
    responses: Ref
    readings: dict[str, tuple[Ref, ...]]
    measures: dict[str, str]
    of_teacher: bool = False

    @property
    def apart(self) -> bool:
        return False  # it loads no model

    def needs(self, sizes: Sizes) -> Needs:
        return Needs(seconds=0.0)  # none that counts


class EmbedJob(Job):
    """A sentence embedding of each response."""

    version: ClassVar[int] = 1
    work: ClassVar[str] = "harness.run.stages.judge:embed_stage"
    stage: Literal["embed"] = "embed"
    model: Model
    responses: Ref

    def tokens(self, sizes: Sizes) -> int:
        return sizes.responses(self.responses)

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shape = self.tokens(sizes), sizes.shape(self.model)
        if shape is None:
            return Needs(tokens)
        took = sizes.speed.reading(shape, tokens) if sizes.speed else None
        return Needs(tokens, took, shape.parameters * memory.FP32)


class RetentionJob(Job):
    """What a model reaches in tasks of lm-evaluation-harness: at most `limit` documents of each.

    tasks: by name, a digest of what each is. files: of those that are in files of the user's."""

    version: ClassVar[int] = 1
    work: ClassVar[str] = "harness.run.stages.retention:retention_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {**Job.not_in_key, "files": BY_DIGEST}
    order: ClassVar[int] = 5
    less_memory: ClassVar[str] = f"lower generation_batch_size, or {SMALLER_MODEL}"
    stage: Literal["retention"] = "retention"
    model: Model
    tasks: dict[str, str]
    files: dict[str, Path] = {}
    limit: int | None
    batch_size: int
    precision: str


class LearningJob(Job):
    """What a method's loss is of: the prompts with their responses, what frozen models say of these, and the settings
    and sources that define it.

    start: the policy before any step. teacher, reference: frozen models that are read as it goes; signals,
    distributions: what they said before. responses, samples: of each role, whose stored responses and which of these
    to a prompt; None where the policy writes all of them. demonstrations: what the teacher is shown with a prompt.
    answered: the responses of a server that is read, where none of these are: what it gives no answer to is left out.
    sampling, batch_size: how the policy writes. plugin: the file that its method is in, where a run named one."""

    not_in_key: ClassVar[Mapping[str, str]] = {
        **Job.not_in_key,
        "plugin": "what of it shapes a training is in `method_source`",
        **{f"settings.{name}": COMPUTING_ONLY for name in sorted(COMPUTING)},
    }
    method: str
    method_source: str
    plugin: str | None = None
    settings: dict[str, Any]
    start: Model
    teacher: Model | None = None
    reference: Model | None = None
    prompts: Ref
    responses: tuple[Ref | None, ...]
    samples: tuple[int, ...] = ()
    signals: dict[str, Ref] = {}
    distributions: Ref | None = None
    demonstrations: Ref | None = None
    answered: Ref | None = None
    sampling: Sampling | None = None
    batch_size: int | None = None
    max_prompt_tokens: int | None
    seed: int

    @property
    def in_key(self) -> Facts:
        """Without settings that nothing reads, and those of sampling, which `sampling` has in full."""
        data = super().in_key
        unread = idle(self.settings) | (OF_SAMPLING if self.sampling is not None else set())
        data["settings"] = {name: value for name, value in data["settings"].items() if name not in unread}
        return data

    @property
    def stored(self) -> tuple[Ref, ...]:
        return tuple(ref for ref in self.responses if ref is not None)

    @property
    def beside(self) -> tuple[Ref, ...]:
        """Responses that it is not of, to the prompts that it is of."""
        return tuple(ref for ref in (self.demonstrations, self.answered) if ref is not None)

    def prepare(self) -> None:
        if self.plugin is not None:
            methods.also(self.plugin)
        method = methods.get(self.method)
        if method.source_digest != self.method_source:
            raise UserError(
                f"{self.label or self.ref}: the code of the method '{self.method}' ({method.file}) is not what it was "
                "when this was planned; run it again"
            )

    def tokens_an_epoch(self, sizes: Sizes) -> int:
        """That go through the policy, once over the prompts."""
        one_each = bool(self.samples)
        stored = sizes.read(self.prompts, self.stored, one_each)
        if self.sampling is None:
            return stored
        # of a prompt's samples those that are fresh, at their limit, and one stored example unless all are
        samples, share = int(self.settings["samples"]), float(self.settings["fresh_share"])
        own = [who for _, who, _ in methods.get(self.method).responses].index("policy")
        beside = tuple(ref for place, ref in enumerate(self.responses) if ref is not None and place != own)
        fresh = sizes.read(self.prompts, beside, one_each) + sizes.prompts(self.prompts) * self.sampling.max_new_tokens
        return round(samples * share * fresh + (1 - share**samples) * stored)


class TrainJob(LearningJob):
    """One method's training. match: the training that it takes as many tokens as, both with where they start."""

    version: ClassVar[int] = 6
    work: ClassVar[str] = "harness.run.stages.train:train_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {**LearningJob.not_in_key, "tracker": FOR_PEOPLE}
    added_later: ClassVar[frozenset[str]] = frozenset({"answered"})
    pace: ClassVar[tuple[str, ...]] = (
        *("start", "method", "teacher", "reference", "sampling"),
        *("settings.fresh_share", "settings.samples"),
    )
    on_ranks: ClassVar[bool] = True
    less_memory: ClassVar[str] = (
        "lower training.micro_batch_tokens, set training.gradient_checkpointing=true or training.lora_rank=16, or "
        "name a smaller student"
    )
    stage: Literal["train"] = "train"
    tracker: str | None
    match: Ref | None = None

    @property
    def holds(self) -> tuple[Model, ...]:
        return tuple(model for model in (self.teacher, self.reference) if model and not model.served)

    def recorded(self, manifest: Mapping[str, Any]) -> Facts:
        """How it was computed."""
        made_with = manifest["job"]["settings"]
        return {"computing": {name: value for name, value in made_with.items() if name in COMPUTING}}

    def tokens(self, sizes: Sizes) -> int:
        if self.match is not None:
            before = sizes.trained_in_all(self.start.artifact) if self.start.artifact else 0
            return max(0, sizes.trained_in_all(self.match) - before)
        return int(self.settings["epochs"]) * self.tokens_an_epoch(sizes)

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shape = self.tokens(sizes), sizes.shape(self.start)
        held = {model: sizes.shape(model) for model in self.holds}
        if shape is None or None in held.values():
            return Needs(tokens)
        settings = self.settings
        rank, again = int(settings["lora_rank"]), bool(settings["gradient_checkpointing"])
        micro = int(settings["micro_batch_tokens"])
        parts = memory.training(shape, micro, settings["precision"] == "bf16", again, rank)
        needed, took = sum(parts.values()), None
        if sizes.speed:
            took = sizes.speed.training(shape, tokens, again, rank > 0)
        for model, frozen in held.items():
            assert frozen is not None
            needed += sum(memory.reading(frozen, micro, sizes.weight_bytes(model)).values())
            if took is not None and sizes.speed:
                took += sizes.speed.reading(frozen, tokens)
        if self.sampling is not None and self.batch_size:
            # a step has what it keeps for the backward pass, or the caches and the rounded weights of what is sampled
            each = int(settings["samples"]) * float(settings["fresh_share"])
            at_once = min(self.batch_size, max(1, round(int(settings["batch_size"]) * each * settings["fresh_every"])))
            new = self.sampling.max_new_tokens
            drawn = memory.generation(shape, at_once, sizes.longest_prompt(self.prompts), new)
            needed += max(0, sum(drawn.values()) - parts["activations"] - parts["logits"])
            if took is not None and sizes.speed:
                rows, read = round(sizes.prompts(self.prompts) * each), round(sizes.read(self.prompts, ()) * each)
                epochs = tokens / self.tokens_an_epoch(sizes)
                took += epochs * sizes.speed.generation(shape, rows, at_once, read, new)
        trained = memory.adapter_parameters(shape, rank) if rank else shape.parameters
        disk = shape.parameters * memory.FP32
        return Needs(tokens, took, needed, disk, trained * CHECKPOINT_BYTES)

    def shape_made(self, sizes: Sizes) -> Shape | None:
        return sizes.shape(self.start)


class LossJob(LearningJob):
    """A method's own loss of prompts that it was not trained on, under the model that its training made, with what it
    carries as that ended, and prompt by prompt. No weight is moved.

    start: that model."""

    version: ClassVar[int] = 1
    work: ClassVar[str] = "harness.run.stages.loss:loss_stage"
    order: ClassVar[int] = 3
    pace: ClassVar[tuple[str, ...]] = ("start", "method", "teacher", "reference", "sampling")
    less_memory: ClassVar[str] = f"lower training.micro_batch_tokens, or {SMALLER_MODEL}"
    stage: Literal["loss"] = "loss"

    def tokens(self, sizes: Sizes) -> int:
        return self.tokens_an_epoch(sizes)

    def needs(self, sizes: Sizes) -> Needs:
        tokens, shapes = self.tokens(sizes), {model: sizes.shape(model) for model in self.holds}
        if None in shapes.values():
            return Needs(tokens)
        micro, needed, took = int(self.settings["micro_batch_tokens"]), 0, 0.0
        for model, shape in shapes.items():
            assert shape is not None
            needed += sum(memory.reading(shape, micro, sizes.weight_bytes(model)).values())
            took += sizes.speed.reading(shape, tokens) if sizes.speed else 0.0
        return Needs(tokens, took if sizes.speed else None, needed)


class JudgeJob(Job):
    """One judge's verdicts on one candidate's responses against the reference's, sample by sample.

    judge_source: a digest of what the judge is. judging, vllm: how it is asked. checkpoint: of a local judge.
    refresh: ask anew what was asked before."""

    version: ClassVar[int] = 4
    work: ClassVar[str] = "harness.run.stages.judge:judge_stage"
    not_in_key: ClassVar[Mapping[str, str]] = {
        **Job.not_in_key,
        "judging": "what of it shapes an answer is in `judge_source`",
        "vllm": "what of it shapes an answer is in `judge_source`",
        "refresh": "asks the same anew",
    }
    order: ClassVar[int] = 4
    stage: Literal["judge"] = "judge"
    judge: str
    judge_source: str
    judging: Judging = Judging()
    vllm: VLLM = VLLM()
    checkpoint: Model | None = None
    refresh: bool = False
    prompt_set: str
    candidate_name: str
    reference_name: str
    prompts: Ref
    candidate: Ref
    reference: Ref
    samples: Ref | None
    measures: dict[str, Ref]

    @property
    def loads(self) -> object:
        return self.judge

    @property
    def apart(self) -> bool:
        return False  # a key is in no file, and most judges load nothing

    def note(self, facts: Facts | None) -> str:
        if facts is None:
            return "some verdicts failed: run the same command again to ask for them"
        return str(facts["spent"])

    def recorded(self, manifest: Mapping[str, Any]) -> Facts:
        """What a judging that is paid by tokens took, by this run's prices."""
        facts, prices = manifest["facts"], self.judging.of(self.judge).prices
        return {"cost": prices.cost(facts["input_tokens"], facts["output_tokens"])} if facts["input_tokens"] else {}

    def tokens(self, sizes: Sizes) -> int:
        """A judge that reads sees each prompt with both responses, in each of its orders."""
        judge = sizes.judge(self.judge_source)
        if judge.measures:
            return 0
        read = sizes.read(self.prompts, (self.candidate, self.reference))
        return len(judge.orders) * (read + self._pairs(sizes) * QUESTION_TOKENS)

    def _pairs(self, sizes: Sizes) -> int:
        """How many pairs of responses it is asked about."""
        return sizes.prompts(self.prompts) * sizes.samples(self.candidate)

    def needs(self, sizes: Sizes) -> Needs:
        judge, tokens = sizes.judge(self.judge_source), self.tokens(sizes)
        if judge.measures:
            return Needs(seconds=0.0)  # none that counts
        if judge.reply_tokens is not None:
            calls, (usual, longest) = self._pairs(sizes) * len(judge.orders), judge.reply_tokens
            return Needs(tokens, calls=calls, reply_tokens=calls * usual, longest_reply_tokens=calls * longest)
        shape = sizes.shape(self.checkpoint) if self.checkpoint else None
        return Needs(tokens, memory=judge.memory(shape) if shape else None)


def by_model(jobs: Iterable[Job]) -> list[Job]:
    """Jobs of an evaluation in the order of their stages, and in each stage by what they load, which is loaded once.
    The teacher, which the first of them loads, reads before a student is compared with what it said."""
    jobs, loaded = list(jobs), []
    for job in jobs:
        if job.loads not in loaded:
            loaded.append(job.loads)
    return sorted(jobs, key=lambda job: (job.order, loaded.index(job.loads)))


def job_from_json(text: str | bytes) -> Job:
    """A job of any stage.

    Raises:
        ValidationError: it is none.
    """
    return _any_job(tuple(stages.values())).validate_json(text)


def job_from(data: object) -> Job:
    """The same of plain data."""
    return _any_job(tuple(stages.values())).validate_python(data)


@functools.cache
def _any_job(known: tuple[type[Job], ...]) -> TypeAdapter[Job]:
    kind: Any = Annotated[Union[known], Field(discriminator="stage")]  # noqa: UP007  (of a tuple)
    return TypeAdapter(kind)


# the files that stages write and others read
PROMPTS, RESPONSES, SCORES, TOP_K, VERDICTS, EMBEDDINGS = (
    "prompts.jsonl",
    "responses.jsonl",
    "scores.jsonl",
    "top_k.npz",
    "verdicts.jsonl",
    "embeddings.npy",
)
# of comparisons: columns by token, the text of each token, and the tokens on which the two differ most; of a teacher
# its hidden states; and what follows of them, as of a method's own loss
TOKENS, PIECES, DEPARTURES, STATES, MEASURED = (
    "tokens.npz",
    "pieces.jsonl",
    "departures.jsonl",
    "states.safetensors",
    "measured.jsonl",
)
OWN_LOSS = "loss"  # a method's own loss among what is measured
NOT_FINITE = "not_finite"  # the fact of a loss: prompts of which it is no number
RETENTION = "retention.json"  # TaskScore records
# facts of responses from a server: prompts that it gives no answer to, by id with the reason, and which every stage
# leaves out; and what of the sampling it was not told, as it does not take it
LEFT_OUT, WITHOUT = "left_out", "without"
# the fact that keeps an artifact from being made: verdicts that failed, to be asked for again by the next run
UNANSWERED = "unanswered"
# what is said beside a stage's facts, and stands in the artifact's manifest beside its seconds
PEAK_MEMORY = "peak_memory"
