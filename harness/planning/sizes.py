"""How many tokens the prompts and responses of a road hold: measured where they are there, else estimated."""

from __future__ import annotations

from typing import Any

from harness.core.records import Ref
from harness.run.jobs import (
    AnyJob,
    ConvertJob,
    DistributionsJob,
    EmbedJob,
    JudgeJob,
    PromptsJob,
    PruneJob,
    RespondJob,
    TrainJob,
)
from harness.run.road import Road
from harness.store import Store

# A chat template's own tokens, and how many characters make a token of English text.
TEMPLATE_TOKENS, CHARACTERS_PER_TOKEN = 30, 4.5


class Sizes:
    """Token counts of prompts (estimated from characters) and of responses (known, or at their limit)."""

    def __init__(self, road: Road, store: Store) -> None:
        self._road, self._store = road, store
        self._prompts = {ref: found.prompts for ref, found in road.prompts.items()}

    def tokens(self, job: AnyJob) -> int:
        if isinstance(job, RespondJob):
            return self._generated(job)
        if isinstance(job, EmbedJob):
            return self.responses(job.responses)
        if isinstance(job, PruneJob | DistributionsJob):
            return self.read(job.prompts, (job.responses,))
        if isinstance(job, TrainJob):
            epochs, refs = job.token_match or (job.settings["epochs"], job.responses)
            return int(epochs) * self.read(job.prompts, refs)
        if isinstance(job, PromptsJob | ConvertJob | JudgeJob):
            return 0
        return self.read(job.prompts, job.responses)

    def prompts(self, ref: Ref) -> int:
        return len(self._prompts[ref])

    def longest_prompt(self, ref: Ref) -> int:
        """Tokens of the longest of these prompts."""
        longest = max(sum(len(message.content) for message in prompt.messages) for prompt in self._prompts[ref])
        return round(longest / CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS

    def read(self, prompts: Ref, responses: tuple[Ref, ...]) -> int:
        return self._prompt_tokens(prompts) + sum(self.responses(ref) for ref in responses)

    def _prompt_tokens(self, ref: Ref) -> int:
        found: list[Any] = [message.content for prompt in self._prompts[ref] for message in prompt.messages]
        return round(sum(map(len, found)) / CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS * len(self._prompts[ref])

    def responses(self, ref: Ref) -> int:
        job = self._road.jobs[ref]
        if self._store.intact(ref):
            return int(self._store.read(ref).facts["tokens"])
        return self._generated(job) if isinstance(job, RespondJob) else 0

    def _generated(self, job: RespondJob) -> int:
        answers = sum(1 + len(prompt.turns) for prompt in self._prompts[job.prompts])
        return answers * job.samples * job.sampling.max_new_tokens
