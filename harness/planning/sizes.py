"""How large what a road's jobs read is: tokens of prompts and responses, and the shapes of models; measured where they
are there, else estimated. Loads and computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.records import Ref
from harness.judging import Judge
from harness.models import memory
from harness.models.locate import folder_of
from harness.models.reference import Model
from harness.models.shapes import Shape, shape_of, weight_type
from harness.models.speed import Speed
from harness.planning.whole import Planned
from harness.run.jobs import RespondJob, TrainJob
from harness.store import Store

# A chat template's own tokens, and how many characters make a token of English text.
TEMPLATE_TOKENS, ENGLISH_CHARACTERS_PER_TOKEN = 30, 4.5


class RoadSizes:
    """run.needs.Sizes of a road, or of several as one: tokens of prompts (estimated from characters) and of responses
    (known, or at their limit); models by their entries, else by their files. speed: None gives no times."""

    def __init__(self, road: Planned, store: Store, speed: Speed | None = None) -> None:
        self._road, self._store, self.speed = road, store, speed
        self._judges = {judge.digest: judge for judge, _ in road.judges}
        self._shapes: dict[str, Shape | None] = {}
        self._prompts = {ref: found.prompts for ref, found in road.prompts.items()}

    # ---- texts
    def prompts(self, ref: Ref) -> int:
        return len(self._prompts[ref])

    def answers(self, prompts: Ref) -> int:
        return sum(1 + len(prompt.turns) for prompt in self._prompts[prompts])

    def longest_prompt(self, ref: Ref) -> int:
        longest = max(sum(len(message.content) for message in prompt.messages) for prompt in self._prompts[ref])
        return round(longest / ENGLISH_CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS

    def read(self, prompts: Ref, responses: tuple[Ref, ...], one_each: bool = False) -> int:
        if one_each:
            return self._prompt_tokens(prompts) + sum(self.responses(ref) // self.samples(ref) for ref in responses)
        times = max(map(self.samples, responses), default=1)
        return times * self._prompt_tokens(prompts) + sum(self.responses(ref) for ref in responses)

    def _prompt_tokens(self, ref: Ref) -> int:
        found: list[Any] = [message.content for prompt in self._prompts[ref] for message in prompt.messages]
        return round(sum(map(len, found)) / ENGLISH_CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS * len(self._prompts[ref])

    def responses(self, ref: Ref) -> int:
        return self.trained(ref)

    def samples(self, responses: Ref) -> int:
        job = self._road.jobs[responses]
        return job.samples if isinstance(job, RespondJob) else 1

    def trained(self, ref: Ref) -> int:
        if self._store.intact(ref):
            return int(self._store.read(ref).facts["tokens"])
        return self._road.jobs[ref].tokens(self)

    def trained_in_all(self, ref: Ref) -> int:
        job = self._road.jobs[ref]
        if not isinstance(job, TrainJob):
            return 0
        return self.trained(ref) + (self.trained_in_all(job.start.artifact) if job.start.artifact else 0)

    # ---- models and judges
    def shape(self, model: Model) -> Shape | None:
        if model.served:
            return None
        if model.artifact is None:
            return self._known(str(model.digest), model.path)
        if self._store.has(model.artifact):
            return self._known(model.artifact, str(self._store.path(model.artifact)))
        return self._road.jobs[model.artifact].shape_made(self)

    def _known(self, key: str, path: str | None) -> Shape | None:
        """As an entry says, else as the files do."""
        if key not in self._shapes:
            there = shape_of(Path(path)) if path else None
            self._shapes[key] = self._road.shapes.get(key) or there
        return self._shapes[key]

    def weight_bytes(self, model: Model) -> int:
        if model.remote_code:
            return memory.FP32
        if model.artifact and not self._store.has(model.artifact):
            return self._road.jobs[model.artifact].bytes_made
        # one that is not here yet is taken to be in bf16, as published
        return memory.FP32 if weight_type(folder_of(model, self._store)) == "float32" else memory.BF16

    def judge(self, digest: str) -> Judge:
        return self._judges[digest]
