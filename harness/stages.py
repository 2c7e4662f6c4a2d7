"""One function a stage: a job (plain data) in, files in a workspace out, and facts about the work.

The models' code is imported here and below, and so only where something is computed. A stage finds in its workspace
what an interrupted attempt left, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig

from harness.errors import UserError
from harness.generation import sampler
from harness.jobs import (
    EMBEDDINGS,
    PROMPTS,
    RESPONSES,
    SCORES,
    UNANSWERED,
    VERDICTS,
    ConvertJob,
    EmbedJob,
    Job,
    JudgeJob,
    Model,
    PromptsJob,
    PruneJob,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.judging import Comparison, Measurement, collect_verdicts, judges
from harness.judging.embedding import embed
from harness.methods import methods
from harness.models import chat, loading, pruning
from harness.models.catalog import FAMILIES, folder_digest
from harness.prompts import read_prompts
from harness.records import Prompt, Response, Verdict, read_jsonl, read_records, write_jsonl
from harness.scoring import sequence_log_probs
from harness.store import Store, file_sha256
from harness.training import loop
from harness.training.batching import Example
from harness.training.model import LogProbModel, supported

Tick = Callable[[int, int], None]
Facts = dict[str, Any]


def perform(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    """Do a job in its workspace; the caller commits it."""
    stage = _STAGES[type(job)]
    return stage(job, store, work, tick)


# ---- reading what other stages made


def model_folder(model: Model, store: Store) -> Path:
    """Where a model's files are.

    Raises:
        UserError: a folder outside the store no longer holds what the job's key says.
    """
    if model.artifact:
        return store.read(model.artifact).path
    folder = Path(str(model.path))
    _unchanged(folder, folder_digest(folder, store), model.digest)
    return folder


def _unchanged(path: Path, digest: str, expected: str | None) -> None:
    if digest != expected:
        raise UserError(f"{path} has changed since this job was made; run the command again")


def load_prompts(ref: str, store: Store) -> list[Prompt]:
    return read_records(store.read(ref).path / PROMPTS, Prompt)


def load_responses(ref: str, store: Store) -> list[Response]:
    return read_records(store.read(ref).path / RESPONSES, Response)


Key = tuple[str, int]  # prompt id, sample


def responses_by_key(ref: str, store: Store) -> dict[Key, Response]:
    return {(row.prompt_id, row.sample): row for row in load_responses(ref, store)}


def _same_tokenizer(tokenizer: Any, responses: Sequence[str], store: Store) -> None:
    """Response ids are used as they were generated; that needs the tokenizer they were generated with."""
    own = loading.tokenizer_fingerprint(tokenizer)
    for ref in responses:
        if store.read(ref).facts["tokenizer"] != own:
            raise UserError(
                f"{tokenizer.name_or_path} has another tokenizer or chat template than the model whose responses it is "
                "to read; student and teacher must share both"
            )


def _log_prob_model(causal_lm: Any) -> LogProbModel:
    if not supported(causal_lm):
        raise UserError(
            f"{causal_lm.name_or_path}: models of type {causal_lm.config.model_type} with a transformed head or "
            "windowed attention are not supported yet"
        )
    return LogProbModel(causal_lm)


def _examples(prompts: str, responses: Sequence[str], tokenizer: Any, store: Store) -> tuple[list[Key], list[Example]]:
    """Prompts with one response from each artifact, joined on (prompt id, sample), in the first one's order."""
    _same_tokenizer(tokenizer, responses, store)
    encoded = {prompt.id: chat.encode_chat(tokenizer, prompt.messages) for prompt in load_prompts(prompts, store)}
    tables = [responses_by_key(ref, store) for ref in responses]
    keys = list(tables[0])
    for ref, table in zip(responses, tables, strict=True):
        _same_keys(ref, table, responses[0], keys)
    return keys, [
        Example(index, encoded[key[0]], tuple(table[key].token_ids for table in tables))
        for index, key in enumerate(keys)
    ]


def _same_keys(name: str, keys: Iterable[Key], other: str, wanted: Iterable[Key]) -> None:
    odd = sorted(set(keys) ^ set(wanted))
    if odd:
        raise UserError(f"{name} and {other} do not hold the same prompts and samples; first difference: {odd[0]}")


def load_scores(ref: str, store: Store) -> dict[Key, dict[str, Any]]:
    """Log-probs and lengths by (prompt id, sample)."""
    return {(row["prompt_id"], row["sample"]): row for _, row in read_jsonl(store.read(ref).path / SCORES)}


def _made_of(ref: str, responses: Sequence[str], store: Store) -> None:
    known = store.read(ref).manifest["job"]["responses"]
    if list(responses) != ([known] if isinstance(known, str) else known):
        raise UserError(f"{ref} was computed on other responses than {', '.join(responses)}")


def _signal(ref: str, keys: Sequence[Key], responses: Sequence[str], store: Store) -> NDArray[np.float32]:
    """One signal's log-probs, [N, k], in the order of `keys`; it must have been computed on the same responses."""
    scores = load_scores(ref, store)
    _made_of(ref, responses, store)
    _same_keys(ref, scores, "the training data", keys)
    return np.array([scores[key]["log_probs"] for key in keys], dtype=np.float32)


# ---- the stages


def _prompts(job: PromptsJob, store: Store, work: Path, tick: Tick) -> Facts:
    _unchanged(Path(job.path), file_sha256(Path(job.path)), job.digest)
    prompts = read_prompts(Path(job.path), job.limit)
    write_jsonl(work / PROMPTS, prompts)
    return {"prompts": len(prompts)}


def _convert(job: ConvertJob, store: Store, work: Path, tick: Tick) -> Facts:
    _unchanged(Path(job.path), file_sha256(Path(job.path)), job.digest)
    return loading.dequantise_gguf(Path(job.path), work)


def _prune(job: PruneJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    model, tokenizer = loading.load_model(folder, torch.float32), loading.load_tokenizer(folder)
    _, examples = _examples(job.prompts, [job.responses], tokenizer, store)
    pruned = pruning.prune_mlps(model, [(e.prompt, e.responses[0]) for e in examples], job.ratio, tick)
    loading.save_checkpoint(pruned, tokenizer, work)
    return {
        "parameters_before": model.num_parameters(),
        "parameters": pruned.num_parameters(),
        "mlp_width_before": model.config.intermediate_size,
        "mlp_width": pruned.config.intermediate_size,
        "tokens": sum(e.tokens for e in examples),
    }


def _respond(job: RespondJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = loading.load_tokenizer(folder)
    if (work / RESPONSES).is_file():  # a kill after the last batch, before the artifact was committed
        return _sampled(read_records(work / RESPONSES, Response), tokenizer, work)
    prompts = load_prompts(job.prompts, store)
    encoded = [chat.encode_chat(tokenizer, prompt.messages) for prompt in prompts]
    rows = [(index, sample) for index in range(len(prompts)) for sample in range(job.samples)]
    batches = sampler.form_batches([len(encoded[index]) for index, _ in rows], job.batch_size)
    model: Any = None
    made: dict[tuple[int, int], Response] = {}
    for number, batch in enumerate(batches):
        tick(len(made), len(rows))
        part = work / f"batch-{number:05d}.jsonl"
        here = [rows[row] for row in batch]
        if not part.is_file():
            if model is None:
                model = _sampling_model(folder)
            responses = _decode(job, model, tokenizer, [prompts[i].id for i, _ in here], encoded, here)
            write_jsonl(part, responses)
        made |= dict(zip(here, read_records(part, Response), strict=True))
    responses = [made[row] for row in rows]
    write_jsonl(work / RESPONSES, responses)
    return _sampled(responses, tokenizer, work)


def _sampled(responses: Sequence[Response], tokenizer: Any, work: Path) -> Facts:
    """Facts of a complete sampling, whose batches are no longer needed."""
    for part in work.glob("batch-*.jsonl"):
        part.unlink()
    return {
        "responses": len(responses),
        "tokens": sum(len(response.token_ids) for response in responses),
        "cut": sum(response.finish == "length" for response in responses),
        "tokenizer": loading.tokenizer_fingerprint(tokenizer),
    }


def _sampling_model(folder: Path) -> Any:
    """A model to sample from: with grouped attention where that is known to be the model's own, else as it comes."""
    plain = AutoConfig.from_pretrained(folder).model_type in FAMILIES
    return loading.frozen_model(folder, torch.bfloat16, sampler.GROUPED_ATTENTION if plain else None)


def _decode(
    job: RespondJob,
    model: Any,
    tokenizer: Any,
    ids: list[str],
    encoded: list[list[int]],
    rows: list[tuple[int, int]],
) -> list[Response]:
    stops = chat.stop_ids(model, tokenizer)
    uniforms = torch.stack(
        [
            sampler.row_uniforms(job.seed, job.purpose, f"{prompt_id}/{sample}", job.sampling.max_new_tokens)
            for prompt_id, (_, sample) in zip(ids, rows, strict=True)
        ]
    )
    decoded = sampler.decode_batch(model, [encoded[i] for i, _ in rows], uniforms, job.sampling, stops)
    return [
        Response(
            prompt_id=prompt_id,
            sample=sample,
            token_ids=tuple(tokens),
            text=tokenizer.decode(tokens, skip_special_tokens=True),
            finish="stop" if tokens[-1] in stops else "length",
        )
        for prompt_id, (_, sample), tokens in zip(ids, rows, decoded, strict=True)
    ]


def _score(job: ScoreJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    keys, examples = _examples(job.prompts, job.responses, loading.load_tokenizer(folder), store)
    # float32 weights, and autocast where a setting says bf16, as in training: what is measured is what is trained
    model = _log_prob_model(loading.frozen_model(folder, torch.float32))
    sums = sequence_log_probs(model, examples, job.precision, job.batch_tokens, tick)
    for key, row in zip(keys, sums, strict=True):
        if not np.isfinite(row).all():
            raise UserError(
                f"the log-probs of prompt {key[0]} under {folder} are {row.tolist()}; its weights are broken"
            )
    write_jsonl(
        work / SCORES,
        (
            {
                "prompt_id": key[0],
                "sample": key[1],
                "log_probs": row.tolist(),
                "tokens": list(map(len, example.responses)),
            }
            for key, example, row in zip(keys, examples, sums, strict=True)
        ),
    )
    return {"tokens": sum(example.tokens for example in examples), "responses": sums.size}


def _embed(job: EmbedJob, store: Store, work: Path, tick: Tick) -> Facts:
    responses = load_responses(job.responses, store)
    vectors = embed(model_folder(job.model, store), [response.text for response in responses], tick)
    np.save(work / EMBEDDINGS, vectors)
    return {"responses": len(responses), "tokens": sum(len(response.token_ids) for response in responses)}


def _train(job: TrainJob, store: Store, work: Path, tick: Tick) -> Facts:
    method = methods.get(job.method)
    settings = method.settings.model_validate(job.settings)
    folder = model_folder(job.start, store)
    tokenizer = loading.load_tokenizer(folder)
    keys, examples = _examples(job.prompts, job.responses, tokenizer, store)
    signals = {name: _signal(ref, keys, job.responses, store) for name, ref in job.signals.items()}
    tokens = None
    if job.token_match is not None:
        epochs, refs = job.token_match
        tokens = epochs * sum(example.tokens for example in _examples(job.prompts, refs, tokenizer, store)[1])
    teacher = None
    if job.teacher is not None:
        teacher_folder = model_folder(job.teacher, store)
        _same_tokenizer(loading.load_tokenizer(teacher_folder), job.responses, store)
        teacher = _log_prob_model(loading.frozen_model(teacher_folder, torch.float32))
    else:
        loading.release_frozen_model()
    model = _log_prob_model(loading.load_model(folder, torch.float32))
    facts = loop.train(model, examples, signals, method, settings, job.seed, work, tick, teacher, tokens)
    loading.save_checkpoint(model.causal_lm, tokenizer, work)
    (work / loop.CHECKPOINT).unlink(missing_ok=True)
    equal = sum(example.responses[0] == example.responses[-1] for example in examples) if method.data == "pairs" else 0
    return {**facts, "equal_pairs": equal, "parameters": model.causal_lm.num_parameters()}


def _judge(job: JudgeJob, store: Store, work: Path, tick: Tick) -> Facts:
    judge = judges.get(job.judge)
    prompts = {prompt.id: prompt for prompt in load_prompts(job.prompts, store)}
    candidates, references = responses_by_key(job.candidate, store), responses_by_key(job.reference, store)
    _same_keys(job.candidate, candidates, job.reference, references)
    measured = {name: _measurements(job, name, store) for name in judge.measures}
    comparisons = [
        Comparison(prompts[key[0]], row, references[key], {name: table[key[0]] for name, table in measured.items()})
        for key, row in candidates.items()
    ]
    # an earlier attempt may have left failures: prompts that it got whole answers to are not asked again
    kept: dict[str, list[Verdict]] = {}
    for verdict in read_records(work / VERDICTS, Verdict) if (work / VERDICTS).is_file() else []:
        kept.setdefault(verdict.prompt_id, []).append(verdict)
    kept = {prompt_id: rows for prompt_id, rows in kept.items() if not any(row.unanswered for row in rows)}
    asked = [comparison for comparison in comparisons if comparison.prompt.id not in kept]
    new = collect_verdicts(judge, asked, job.prompt_set, job.candidate_name, job.reference_name, tick)
    verdicts = [row for rows in kept.values() for row in rows] + new
    order = {key[0]: place for place, key in enumerate(candidates)}
    verdicts.sort(key=lambda row: order[row.prompt_id])
    write_jsonl(work / VERDICTS, verdicts)
    return {"verdicts": len(verdicts), UNANSWERED: sum(row.unanswered for row in verdicts)}


def _measurements(job: JudgeJob, name: str, store: Store) -> dict[str, Measurement]:
    """By prompt id: one measure of the candidate, the reference and the teacher's samples."""
    tables = {}
    for role, ref in (("candidate", job.candidate), ("reference", job.reference), ("samples", job.samples)):
        rows = _measure_rows(job.measures[f"{name}/{role}"], str(ref), store)
        table: dict[str, list[NDArray[Any]]] = {}
        for prompt_id, value in rows:
            table.setdefault(prompt_id, []).append(value)
        tables[role] = table
    return {
        prompt_id: Measurement(values[0], tables["reference"][prompt_id][0], np.stack(tables["samples"][prompt_id]))
        for prompt_id, values in tables["candidate"].items()
    }


def _measure_rows(measure: str, responses: str, store: Store) -> list[tuple[str, NDArray[Any]]]:
    """(prompt id, values) of each response: mean negative log-prob a token, or the embedding."""
    keys = list(responses_by_key(responses, store))
    _made_of(measure, [responses], store)
    if measure.startswith("score/"):
        scores = load_scores(measure, store)
        _same_keys(measure, scores, responses, keys)
        return [(key[0], np.array([-scores[key]["log_probs"][0] / scores[key]["tokens"][0]])) for key in keys]
    return [(key[0], vector) for key, vector in zip(keys, np.load(store.read(measure).path / EMBEDDINGS), strict=True)]


_STAGES: dict[type[Job], Callable[..., Facts]] = {
    PromptsJob: _prompts,
    ConvertJob: _convert,
    PruneJob: _prune,
    RespondJob: _respond,
    ScoreJob: _score,
    EmbedJob: _embed,
    TrainJob: _train,
    JudgeJob: _judge,
}
