"""The jobs of the road: plain data that says what a stage is to make. No torch here.

A job's key is the hash of everything that shapes its artifact: its own fields, the refs of the artifacts
it reads (themselves such hashes), the content of outside files (`digest`, never their path), and `version`,
which is raised by hand when a stage's code changes what it makes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from harness.core.files import canonical_hash
from harness.core.records import Facts, Ref
from harness.generation.protocol import Sampling
from harness.judging.settings import Judging
from harness.methods import shaping
from harness.models.reference import Model
from harness.prompts.settings import PromptSource
from harness.serving.settings import VLLM

# `judging` is in the key by `judge_source`, as far as it shapes an answer; `batch_tokens` only moves the computing
NO_PART_OF_A_KEY = {"label", "path", "tracker", "judging", "vllm", "refresh", "batch_tokens"}


class Job(BaseModel):
    """`label` and `tracker` are for people; they, paths, what is said of how to ask a judge, and what only moves the
    computing are no part of the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: ClassVar[int]
    # fields that older keys did not have: no part of a key while they say what was so before
    added_later: ClassVar[frozenset[str]] = frozenset()
    stage: str
    label: str = ""

    @property
    def in_key(self) -> Facts:
        """What of it is part of its key."""
        data = self.model_dump(mode="json", exclude=NO_PART_OF_A_KEY)
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Model):
                data[name] = value.in_key
            elif name in self.added_later and value == field.default:
                del data[name]
        return data

    @property
    def holds(self) -> tuple[Model, ...]:
        """The frozen models that it loads here, or in a process of this one's: they stay in memory from one job to the
        next that holds them too (serving/resident.py). What it trains or prunes is not among them."""
        return ()

    @property
    def ref(self) -> Ref:
        return f"{self.stage}/{canonical_hash({'version': self.version, **self.in_key})[:32]}"


class PromptsJob(Job):
    """The first `limit` prompts of a source. digest: of these prompts; it alone is in the key, so that equal prompts
    are one artifact wherever they come from."""

    version: ClassVar[int] = 2
    stage: Literal["prompts"] = "prompts"
    digest: str
    source: PromptSource
    limit: int | None

    @property
    def in_key(self) -> Facts:
        return {"digest": self.digest}


class ConvertJob(Job):
    """A GGUF file, dequantised, or a folder of pickled weights, as a plain safetensors folder."""

    version: ClassVar[int] = 2
    added_later: ClassVar[frozenset[str]] = frozenset({"format"})
    stage: Literal["convert"] = "convert"
    path: str
    digest: str
    format: Literal["gguf", "pickled"] = "gguf"


class PruneJob(Job):
    """A model with narrower MLPs: `ratio` of all parameters removed, by Taylor importance on these responses."""

    version: ClassVar[int] = 2
    stage: Literal["prune"] = "prune"
    model: Model
    prompts: Ref
    responses: Ref
    ratio: float


class RespondJob(Job):
    """`samples` responses to each prompt. `purpose` and `seed` set the random numbers. generator: what draws them.
    engine: what vLLM is told that may change its text; vllm: how it is started."""

    version: ClassVar[int] = 3
    added_later: ClassVar[frozenset[str]] = frozenset({"generator", "engine"})
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

    @property
    def holds(self) -> tuple[Model, ...]:
        return _unless_served(self.model)


class ReadingJob(Job):
    """How a frozen model reads prompts with their responses. batch_tokens: at once; no part of the key."""

    model: Model
    prompts: Ref
    precision: str
    batch_tokens: int
    max_prompt_tokens: int | None

    @property
    def holds(self) -> tuple[Model, ...]:
        return _unless_served(self.model)


class ScoreJob(ReadingJob):
    """Sequence log-probs of each prompt's responses, one column a response file, under a frozen model."""

    version: ClassVar[int] = 3
    stage: Literal["score"] = "score"
    responses: tuple[Ref, ...]


class DistributionsJob(ReadingJob):
    """A frozen model's `top_k` largest log-probs at each response token: what token-level losses read in its stead."""

    version: ClassVar[int] = 2
    stage: Literal["distributions"] = "distributions"
    responses: Ref
    top_k: int


class EmbedJob(Job):
    """A sentence embedding of each response."""

    version: ClassVar[int] = 1
    stage: Literal["embed"] = "embed"
    model: Model
    responses: Ref

    @property
    def holds(self) -> tuple[Model, ...]:
        return (self.model,)


class TrainJob(Job):
    """One method's training: where it starts, what it reads, its settings (COMPUTING ones are no part of the key) and
    the sources that define it."""

    version: ClassVar[int] = 3
    stage: Literal["train"] = "train"
    method: str
    method_source: str
    settings: dict[str, Any]
    start: Model
    teacher: Model | None
    prompts: Ref
    responses: tuple[Ref, ...]
    signals: dict[str, Ref]
    distributions: Ref | None
    max_prompt_tokens: int | None
    tracker: str | None
    token_match: tuple[int, tuple[Ref, ...]] | None
    seed: int

    @property
    def in_key(self) -> Facts:
        return {**super().in_key, "settings": shaping(self.settings)}

    @property
    def holds(self) -> tuple[Model, ...]:
        return () if self.teacher is None else (self.teacher,)


class JudgeJob(Job):
    """One judge's verdicts on one candidate's responses against the reference's.

    judge_source: a digest of what the judge is. judging, vllm: how it is asked. checkpoint: of a local judge.
    refresh: ask anew what was asked before."""

    version: ClassVar[int] = 2
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
    def holds(self) -> tuple[Model, ...]:
        return () if self.checkpoint is None else (self.checkpoint,)


def _unless_served(model: Model) -> tuple[Model, ...]:
    return () if model.served else (model,)


AnyJob = Annotated[
    PromptsJob | ConvertJob | PruneJob | RespondJob | ScoreJob | DistributionsJob | EmbedJob | TrainJob | JudgeJob,
    Field(discriminator="stage"),
]


# the files that stages write and others read
PROMPTS, RESPONSES, SCORES, TOP_K, VERDICTS, EMBEDDINGS = (
    "prompts.jsonl",
    "responses.jsonl",
    "scores.jsonl",
    "top_k.npz",
    "verdicts.jsonl",
    "embeddings.npy",
)


# the fact that keeps an artifact from being made: verdicts that failed, to be asked for again by the next run
UNANSWERED = "unanswered"


job_from_json: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)
