"""What frozen models say of responses: sums of log-probs, and the largest log-probs a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.core.records import Facts, write_jsonl
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel, why_padded
from harness.logprobs.scoring import response_starts, sequence_log_probs, top_log_probs
from harness.logprobs.served import served_log_probs, served_top
from harness.models import chat, loading
from harness.models.locate import model_folder
from harness.run.jobs import SCORES, TOP_K, DistributionsJob, ReadingJob, ScoreJob
from harness.run.stages.inputs import ReadExamples, data_of, tokenizer_of
from harness.serving.settings import ModelServer
from harness.store import Store


def reader(
    job: ReadingJob, responses: Sequence[str], store: Store, samples: Sequence[int] = ()
) -> tuple[Path, Any, ReadExamples, LogProbModel]:
    """A frozen model with its folder and tokenizer, and what it is to read; see `data_of`."""
    folder = model_folder(job.model, store)
    tokenizer = tokenizer_of(job.model, folder)
    data = data_of(job.prompts, responses, tokenizer, store, job.max_prompt_tokens, samples)
    # computes as with float32 weights, and autocast where a setting says bf16, as in training: what is measured is what
    # is trained
    return folder, tokenizer, data, LogProbModel(loading.reading_model(folder, job.model.remote_code))


def score_stage(job: ScoreJob, store: Store, work: Path, tick: Tick) -> Facts:
    if job.model.served is not None:
        return _score_served(job, job.model.served, store, work, tick)
    folder, _, data, model = reader(job, job.responses, store, job.samples)
    sums = sequence_log_probs(model, data.examples, job.precision, job.batch_tokens, tick)
    require_finite(sums, data, folder)
    write_scores(work, data, sums)
    return {**data.facts, "responses": sums.size, "padded": why_padded(model.causal_lm)}


def require_finite(sums: NDArray[np.float64], data: ReadExamples, folder: Path) -> None:
    """Refuse what broken weights say.

    Raises:
        UserError: naming the first prompt.
    """
    for key, row in zip(data.keys, sums, strict=True):
        if not np.isfinite(row).all():
            raise UserError(
                f"the log-probs of prompt {key[0]} under {folder} are {row.tolist()}; its weights are broken"
            )


def write_scores(work: Path, data: ReadExamples, sums: NDArray[np.float64]) -> None:
    write_jsonl(
        work / SCORES,
        (
            {
                "prompt_id": key[0],
                "sample": key[1],
                "log_probs": row.tolist(),
                "tokens": list(map(len, example.responses)),
            }
            for key, example, row in zip(data.keys, data.examples, sums, strict=True)
        ),
    )


# examples whose log-probs are kept together as they arrive: a kill loses no more
SERVED_AT_ONCE = 256
SERVED_TOP_AT_ONCE = 64  # of those with the likeliest ids: a reply has kilobytes a token


def _score_served(job: ScoreJob, server: ModelServer, store: Store, work: Path, tick: Tick) -> Facts:
    """The same by a teacher that lives elsewhere."""
    data, _ = _served_data(job, job.responses, store, job.samples)
    parts = _in_parts(data, SERVED_AT_ONCE, work, tick, lambda examples: {"sums": served_log_probs(server, examples)})
    write_scores(work, data, parts["sums"])
    _without_parts(work)
    return {**data.facts, "responses": parts["sums"].size, "server": server.public_url}


def _served_data(
    job: ReadingJob,
    responses: Sequence[str],
    store: Store,
    samples: Sequence[int] = (),
    beside: Sequence[str] = (),
) -> tuple[ReadExamples, Any]:
    """What a server is to read, with the teacher's tokenizer."""
    tokenizer = tokenizer_of(job.model, model_folder(job.model, store))
    return data_of(job.prompts, responses, tokenizer, store, job.max_prompt_tokens, samples, beside), tokenizer


Arrays = dict[str, NDArray[Any]]


def _in_parts(
    data: ReadExamples, at_once: int, work: Path, tick: Tick, ask: Callable[[Sequence[Example]], Arrays]
) -> Arrays:
    """What is asked of all examples, so many at once; what arrived before a kill is not asked for again."""
    parts: list[Arrays] = []
    for start in range(0, len(data.examples), at_once):
        tick(start, len(data.examples))
        part = work / f"part-{start:07d}.npz"
        if not part.is_file():
            found: Any = ask(data.examples[start : start + at_once])
            with (work / "part.tmp").open("wb") as file:
                np.savez(file, **found)
            (work / "part.tmp").replace(part)
        with np.load(part) as stored:
            parts.append(dict(stored))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _without_parts(work: Path) -> None:
    for part in work.glob("part-*.npz"):
        part.unlink()


def distributions_stage(job: DistributionsJob, store: Store, work: Path, tick: Tick) -> Facts:
    if job.model.served is not None:
        return _distributions_served(job, job.model.served, store, work, tick)
    folder, tokenizer, data, model = reader(job, [job.responses], store)
    vocabulary = _vocabulary(job, tokenizer)
    ids, log_probs = top_log_probs(model, data.examples, job.top_k, vocabulary, job.precision, job.batch_tokens, tick)
    if not np.isfinite(log_probs).all():
        raise UserError(f"some log-probs under {folder} are not finite; its weights are broken")
    np.savez(work / TOP_K, ids=ids, log_probs=log_probs)
    return {**data.facts, **_facts(ids, log_probs), "padded": why_padded(model.causal_lm)}


def _distributions_served(job: DistributionsJob, server: ModelServer, store: Store, work: Path, tick: Tick) -> Facts:
    """The same by a teacher that lives elsewhere, with those of the responses' own tokens, `labels`, and SCORES."""
    data, tokenizer = _served_data(job, [job.responses], store, beside=[job.answered] if job.answered else ())
    vocabulary = _vocabulary(job, tokenizer)
    found = _in_parts(
        data,
        SERVED_TOP_AT_ONCE,
        work,
        tick,
        lambda examples: dict(vars(served_top(server, examples, job.top_k, vocabulary))),
    )
    arrays: dict[str, Any] = found
    np.savez(work / TOP_K, **arrays)
    starts = response_starts(data.examples)
    write_scores(work, data, np.add.reduceat(found["labels"].astype(np.float64), starts[:-1])[:, None])
    _without_parts(work)
    return {**data.facts, **_facts(found["ids"], found["log_probs"]), "server": server.public_url}


def _vocabulary(job: DistributionsJob, tokenizer: Any) -> int:
    """How many tokens there are to be among the likeliest."""
    vocabulary = chat.vocabulary_size(tokenizer)
    if job.top_k > vocabulary:
        raise UserError(f"top_k = {job.top_k} is more than the vocabulary's {vocabulary} tokens")
    return vocabulary


def _facts(ids: NDArray[np.int32], log_probs: NDArray[np.float32]) -> Facts:
    return {"response_tokens": len(ids), "mass": float(np.exp(log_probs).sum(1).mean())}
