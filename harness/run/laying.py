"""A road while it is laid: its jobs, each once, in the order that they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from harness.config import Config
from harness.core.records import Ref
from harness.generation.backends import Backend
from harness.generation.protocol import Sampling
from harness.models.reference import Model
from harness.prompts import PromptSet
from harness.run.jobs import Job, PromptsJob, RespondJob
from harness.run.rows import Entry
from harness.run.sources import FoundModel


@dataclass
class Laid:
    """The jobs of a road that is being laid, and the prompts that they read."""

    config: Config
    entries: tuple[Entry, ...]
    jobs: dict[Ref, Job] = field(default_factory=dict)
    prompts: dict[Ref, PromptSet] = field(default_factory=dict)

    def add(self, job: Job) -> Ref:
        return self.jobs.setdefault(job.ref, job).ref

    def read(self, found: PromptSet) -> Ref:
        """The prompts of a set."""
        label = f"read {found.name}"
        job = PromptsJob(
            label=label,
            source=found.read_from,
            limit=found.limit,
            digest=found.digest,
            held_out=found.held_out,
            validation=found.validation,
        )
        ref = self.add(job)
        self.prompts.setdefault(ref, found)
        return ref

    def checkpoint(self, found: FoundModel) -> Model:
        """A plain checkpoint, converted where it is none."""
        for job in found.conversions:
            self.add(job)
        return found.model


def respond_job(
    config: Config,
    model: Model,
    prompts: Ref,
    sampling: Sampling,
    purpose: str,
    seed: int,
    who: str,
    samples: int = 1,
) -> RespondJob:
    assert config.generator != "auto"
    generator: Literal["server"] | Backend = "server" if model.served else config.generator
    return RespondJob(
        label=f"responses: {who}",
        model=model,
        generator=generator,
        engine=config.vllm.engine if generator == "vllm" else {},
        vllm=config.vllm,
        prompts=prompts,
        sampling=sampling,
        samples=samples,
        batch_size=config.generation_batch_size,
        purpose=purpose,
        seed=seed,
    )
