"""Jobs of frozen models that read responses, and what of their artifacts a measure is read from. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import Config
from harness.core.records import Ref, read_jsonl
from harness.measures import PairLogProbs, Tokens
from harness.models.reference import Model
from harness.run.jobs import (
    EMBEDDINGS,
    SCORES,
    TOKENS,
    CompareJob,
    DistributionsJob,
    EmbedJob,
    Job,
    ScoreJob,
    StatesJob,
)

ResponseKey = tuple[str, int]  # prompt id, sample


def score_job(config: Config, model: Model, prompts: Ref, responses: tuple[Ref, ...], label: str) -> ScoreJob:
    return ScoreJob(label=label, model=model, prompts=prompts, responses=responses, **_reading(config))


def distributions_job(
    config: Config, teacher: Model, prompts: Ref, responses: Ref, top_k: int, whose: str = ""
) -> DistributionsJob:
    label = f"top {top_k} log-probs: teacher{f', {whose}' if whose else ''}"
    return DistributionsJob(
        label=label, model=teacher, prompts=prompts, responses=responses, top_k=top_k, **_reading(config)
    )


def states_job(config: Config, teacher: Model, prompts: Ref, responses: Ref, where: str) -> StatesJob:
    label = f"hidden states: teacher, {where}"
    return StatesJob(label=label, model=teacher, prompts=prompts, responses=responses, **_reading(config))


def compare_job(
    config: Config, student: Model, teacher: Model, prompts: Ref, responses: Ref, read: Ref | None, label: str
) -> CompareJob:
    """read: the teacher's states or distributions on these responses, where they are kept."""
    return CompareJob(
        label=label,
        model=student,
        teacher=None if teacher.served else teacher,
        prompts=prompts,
        responses=responses,
        temperature=config.eval_sampling.temperature,
        states=None if teacher.served else read,
        distributions=read if teacher.served else None,
        **_reading(config),
    )


def _reading(config: Config) -> dict[str, Any]:
    """How any frozen model reads responses."""
    return {
        "precision": config.scoring_precision,
        "batch_tokens": config.scoring_batch_tokens,
        "max_prompt_tokens": config.max_prompt_tokens,
    }


def load_scores(folder: Path) -> dict[ResponseKey, dict[str, Any]]:
    """Log-probs and lengths by (prompt id, sample), from the artifact of a job that scores."""
    return {(row["prompt_id"], row["sample"]): row for _, row in read_jsonl(folder / SCORES)}


def load_embeddings(folder: Path, keys: Sequence[ResponseKey]) -> dict[ResponseKey, Any]:
    """Vectors by (prompt id, sample), from an EmbedJob's artifact; keys: of its responses, in their order."""
    return dict(zip(keys, np.load(folder / EMBEDDINGS), strict=True))


def load_tokens(folder: Path) -> dict[ResponseKey, Tokens]:
    """What student and teacher say of each response by (prompt id, sample), from a CompareJob's artifact."""
    with np.load(folder / TOKENS) as stored:
        table = dict(stored)
    columns = [field.name for field in fields(Tokens) if field.name != "ended"]
    ends = np.cumsum(table["lengths"])
    return {
        (str(name), int(sample)): Tokens(**{column: table[column][start:end] for column in columns}, ended=bool(ended))
        for name, sample, start, end, ended in zip(
            table["prompt_ids"], table["samples"], ends - table["lengths"], ends, table["ended"], strict=True
        )
    }


def load_pairs(policy: Path, reference: Path) -> dict[ResponseKey, PairLogProbs]:
    """Sums of log-probs of each pair of responses, from the artifacts of two ScoreJobs on the same two."""
    one, other = load_scores(policy), load_scores(reference)
    return {key: PairLogProbs(*(np.array(rows[key]["log_probs"]) for rows in (one, other))) for key in one}


def _log_probs(config: Config, model: Model, prompts: Ref, responses: Ref, whose: str) -> Job:
    return score_job(config, model, prompts, (responses,), f"teacher's log-probs: {whose}")


def _embeddings(config: Config, model: Model, prompts: Ref, responses: Ref, whose: str) -> Job:
    return EmbedJob(label=f"embeddings: {whose}", model=model, responses=responses)


Keys = Sequence[ResponseKey]
# What reads any responses by themselves, for measures of that kind (Measure.reads): the job, with the measure's model,
# of the responses to prompts, and whose they are for its label. Proxy judges read no others.
ALONE: dict[str, Callable[[Config, Model, Ref, Ref, str], Job]] = {
    "log_probs": _log_probs,
    "embedding": _embeddings,
}
# What a measure of a kind is given of each response, from the folders of the artifacts that it is read from and the
# keys of the responses, in their order.
LOADERS: dict[str, Callable[[Sequence[Path], Keys], Mapping[ResponseKey, Any]]] = {
    "log_probs": lambda folders, keys: load_scores(*folders),
    "embedding": lambda folders, keys: load_embeddings(folders[0], keys),
    "teacher_tokens": lambda folders, keys: load_tokens(*folders),
    "own_tokens": lambda folders, keys: load_tokens(*folders),
    "pairs": lambda folders, keys: load_pairs(*folders),
}
