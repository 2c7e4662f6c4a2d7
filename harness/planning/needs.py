"""What one job needs: memory of its device, disk, and time by this machine's rates. Loads and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.records import Ref
from harness.models.locate import folder_of
from harness.models.reference import Model
from harness.models.shapes import Shape, shape_of, weight_type
from harness.planning import memory
from harness.planning.calibration import Speed
from harness.run.jobs import (
    AnyJob,
    ConvertJob,
    DistributionsJob,
    EmbedJob,
    JudgeJob,
    PruneJob,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.run.road import Road
from harness.store import Store

if TYPE_CHECKING:
    from harness.planning.sizes import Sizes


JUDGE_TOKENS = 8192  # of a local judge's micro-batch (judging/local.py, which imports torch)


# A response's token in a file: about five characters of text and seven of its id. A stored log-prob with its id.
TOKEN_BYTES, TOP_K_BYTES = 12, 8


# Of a training's checkpoint, two of which are there while one is written: weights and moments of what is trained.
CHECKPOINT_BYTES = 2 * (memory.FP32 + memory.ADAM)


@dataclass(frozen=True)
class Needs:
    """memory: bytes of its device at the peak; None where nothing is known of it, or it needs none of its own.
    disk: bytes that stay in the store. scratch: more, while it is made. seconds: None where unknown."""

    memory: int | None = None
    disk: int = 0
    scratch: int = 0
    seconds: float | None = None


class Needed:
    """Of the jobs of one road. rates: None gives no times."""

    def __init__(self, road: Road, store: Store, sizes: Sizes, rates: Speed | None) -> None:
        self._road, self._store, self._sizes, self._rates = road, store, sizes, rates
        self._shapes: dict[str, Shape | None] = {}

    def by(self, job: AnyJob) -> Needs:
        if isinstance(job, RespondJob):
            return self._respond(job)
        if isinstance(job, ScoreJob | DistributionsJob):
            return self._read(job)
        if isinstance(job, TrainJob):
            return self._train(job)
        if isinstance(job, PruneJob):
            shape = self.shape(job.model)
            if shape is None:
                return Needs()
            took = self._rates.training(shape, self._sizes.tokens(job), False, False, None) if self._rates else None
            return Needs(sum(memory.pruning(shape).values()), shape.pruned(job.ratio).parameters * 4, 0, took)
        if isinstance(job, ConvertJob):
            shape = self._made(job.ref)
            return Needs(disk=shape.parameters * memory.FP32 if shape else 0)
        if isinstance(job, EmbedJob):
            shape = self.shape(job.model)
            return Needs(shape.parameters * memory.FP32 if shape else None)
        if isinstance(job, JudgeJob) and job.checkpoint and not job.judge.startswith("vllm"):
            return self._judge(job, job.checkpoint)
        return Needs()

    def _judge(self, job: JudgeJob, checkpoint: Model) -> Needs:
        shape = self.shape(checkpoint)
        if shape is None:
            return Needs()
        size = memory.BF16 if job.judge.startswith("transformers") else memory.FP32
        return Needs(sum(memory.reading(shape, JUDGE_TOKENS, size).values()))

    def _respond(self, job: RespondJob) -> Needs:
        disk = self._sizes.tokens(job) * TOKEN_BYTES
        shape = self.shape(job.model)
        # what is drawn elsewhere, or by an engine that takes all the memory there is, has no figure here
        if shape is None or getattr(job, "generator", "transformers") != "transformers":
            return Needs(disk=disk)
        rows, new = self._sizes.prompts(job.prompts) * job.samples, job.sampling.max_new_tokens
        longest = self._sizes.longest_prompt(job.prompts)
        parts = memory.generation(shape, min(rows, job.batch_size), longest, new)
        read = self._sizes.read(job.prompts, ()) * job.samples
        took = self._rates.generation(shape, rows, job.batch_size, read, new) if self._rates else None
        return Needs(sum(parts.values()), disk, 0, took)

    def _read(self, job: ScoreJob | DistributionsJob) -> Needs:
        disk = 0
        if isinstance(job, DistributionsJob):
            disk = self._sizes.responses(job.responses) * job.top_k * TOP_K_BYTES
        shape = self.shape(job.model)
        if shape is None:
            return Needs(disk=disk)
        took = self._rates.reading(shape, self._sizes.tokens(job)) if self._rates else None
        parts = memory.reading(shape, job.batch_tokens, self._weight_bytes(job.model))
        return Needs(sum(parts.values()), disk, 0, took)

    def _train(self, job: TrainJob) -> Needs:
        shape, teacher = self.shape(job.start), self.shape(job.teacher) if job.teacher else None
        if shape is None or (job.teacher and teacher is None):
            return Needs()
        settings = job.settings
        rank, again = int(settings["lora_rank"]), bool(settings["gradient_checkpointing"])
        parts = memory.training(
            shape,
            int(settings["micro_batch_tokens"]),
            settings["precision"] == "bf16",
            again,
            rank,
            teacher,
            self._weight_bytes(job.teacher) if job.teacher else memory.FP32,
        )
        trained = memory.adapter_parameters(shape, rank) if rank else shape.parameters
        tokens = self._sizes.tokens(job)
        took = self._rates.training(shape, tokens, again, rank > 0, teacher) if self._rates else None
        disk = shape.parameters * memory.FP32
        return Needs(sum(parts.values()), disk, trained * CHECKPOINT_BYTES, took)

    def shape(self, model: Model) -> Shape | None:
        """Of a model of the road, made already or not; None where nothing says it."""
        if model.artifact:
            return self._made(model.artifact)
        return self._known(str(model.digest), model.path)

    def _weight_bytes(self, model: Model) -> int:
        """Of each weight of a frozen model that is read (loading.reading_model)."""
        if model.remote_code:
            return memory.FP32
        if model.artifact and not self._store.has(model.artifact):
            # what a stage makes is float32, but for pickled weights, which are taken as they are
            job = self._road.jobs.get(model.artifact)
            return memory.BF16 if isinstance(job, ConvertJob) and job.format == "pickled" else memory.FP32
        # one that is not here yet is taken to be in bf16, as published
        return memory.FP32 if weight_type(folder_of(model, self._store)) == "float32" else memory.BF16

    def _made(self, ref: Ref) -> Shape | None:
        job = self._road.jobs.get(ref)
        if self._store.has(ref):
            return self._known(ref, str(self._store.path(ref)))
        if isinstance(job, PruneJob):
            base = self.shape(job.model)
            return base.pruned(job.ratio) if base else None
        if isinstance(job, TrainJob):
            return self.shape(job.start)
        return self._known(job.digest, None) if isinstance(job, ConvertJob) else None

    def _known(self, key: str, path: str | None) -> Shape | None:
        """As an entry says, else as the files do."""
        if key not in self._shapes:
            there = shape_of(Path(path)) if path else None
            self._shapes[key] = self._road.shapes.get(key) or there
        return self._shapes[key]


def to_download(road: Road) -> int:
    """Bytes of the hub's models that are not here yet and whose size is known: in bf16, as published."""
    return sum(memory.BF16 * shape.parameters for digest, shape in road.shapes.items() if digest.startswith("hub:"))
