"""Jobs of frozen models that read responses, and what of their artifacts a measure is read from. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import Config
from harness.core.records import Ref, read_jsonl
from harness.models.reference import Model
from harness.run.jobs import EMBEDDINGS, SCORES, DistributionsJob, EmbedJob, Job, ScoreJob

ResponseKey = tuple[str, int]  # prompt id, sample


def score_job(config: Config, model: Model, prompts: Ref, responses: tuple[Ref, ...], label: str) -> ScoreJob:
    return ScoreJob(label=label, model=model, prompts=prompts, responses=responses, **_reading(config))


def distributions_job(config: Config, teacher: Model, prompts: Ref, responses: Ref, top_k: int) -> DistributionsJob:
    label = f"top {top_k} log-probs: teacher"
    return DistributionsJob(
        label=label, model=teacher, prompts=prompts, responses=responses, top_k=top_k, **_reading(config)
    )


def _reading(config: Config) -> dict[str, Any]:
    """How any frozen model reads responses."""
    return {
        "precision": config.scoring_precision,
        "batch_tokens": config.scoring_batch_tokens,
        "max_prompt_tokens": config.max_prompt_tokens,
    }


def load_scores(folder: Path) -> dict[ResponseKey, dict[str, Any]]:
    """Log-probs and lengths by (prompt id, sample), from a ScoreJob's artifact."""
    return {(row["prompt_id"], row["sample"]): row for _, row in read_jsonl(folder / SCORES)}


@dataclass(frozen=True)
class Measuring:
    """How a row of each response is made, for the measures that read it (Measure.reads).

    job: with the measure's model, of the responses to prompts, and whose they are for its label.
    rows: from the folder of its artifact and the keys of the responses, in their order.
    """

    job: Callable[[Config, Model, Ref, Ref, str], Job]
    rows: Callable[[Path, Sequence[ResponseKey]], Mapping[ResponseKey, Any]]


def _log_probs(config: Config, model: Model, prompts: Ref, responses: Ref, whose: str) -> Job:
    return score_job(config, model, prompts, (responses,), f"teacher's log-probs: {whose}")


def _embeddings(config: Config, model: Model, prompts: Ref, responses: Ref, whose: str) -> Job:
    return EmbedJob(label=f"embeddings: {whose}", model=model, responses=responses)


MEASURING: dict[str, Measuring] = {
    "log_probs": Measuring(_log_probs, lambda folder, keys: load_scores(folder)),
    "embedding": Measuring(
        _embeddings, lambda folder, keys: dict(zip(keys, np.load(folder / EMBEDDINGS), strict=True))
    ),
}
