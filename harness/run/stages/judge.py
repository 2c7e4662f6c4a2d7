"""A judge's verdicts, and the embeddings that some of them read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.progress import Tick
from harness.core.records import Facts, Prompt, Verdict, write_jsonl
from harness.judging import Comparison, Measurement, open_judge
from harness.judging.cache import CACHE, VerdictCache
from harness.judging.collect import Place, ask_for_verdicts
from harness.judging.registry import checkpoint_in
from harness.measures import Answered, measures
from harness.measures.encoder import embed
from harness.models.locate import model_folder
from harness.run.jobs import EMBEDDINGS, UNANSWERED, VERDICTS, EmbedJob, JudgeJob
from harness.run.reading import LOADERS, ResponseKey
from harness.run.stages.inputs import (
    joined,
    load_prompts,
    load_responses,
    require_made_of,
    require_same_keys,
    responses_by_key,
)
from harness.store import Store


def embed_stage(job: EmbedJob, store: Store, work: Path, tick: Tick) -> Facts:
    responses = load_responses(job.responses, store)
    vectors = embed(model_folder(job.model, store), [response.text for response in responses], tick)
    np.save(work / EMBEDDINGS, vectors)
    return {"responses": len(responses), "tokens": sum(len(response.token_ids) for response in responses)}


def judge_stage(job: JudgeJob, store: Store, work: Path, tick: Tick) -> Facts:
    judge = open_judge(job.judge, job.judging, checkpoint_in(store, job.checkpoint), job.vllm)
    prompts = {prompt.id: prompt for prompt in load_prompts(job.prompts, store)}
    samples = [job.samples] if job.samples else []  # of these, a prompt has several
    candidates, references = joined([job.candidate, job.reference], store, beside=samples)
    measured = {name: _measurements(job, name, prompts, store) for name in judge.measures}
    comparisons = [
        Comparison(prompts[key[0]], row, references[key], {name: table[key] for name, table in measured.items()})
        for key, row in candidates.items()
    ]
    place = Place(job.prompt_set, job.candidate_name, job.reference_name)
    verdicts: list[Verdict] = []
    with VerdictCache(store.root / CACHE) as cache:
        tally = ask_for_verdicts(judge, comparisons, place, cache, verdicts.append, tick, job.refresh)
    number_of = {key: number for number, key in enumerate(candidates)}
    verdicts.sort(key=lambda row: (number_of[row.prompt_id, row.sample], row.order))
    write_jsonl(work / VERDICTS, verdicts)
    counts = asdict(tally)
    del counts["prices"]
    return {**counts, "spent": tally.spent, UNANSWERED: tally.unanswered}


def _measurements(
    job: JudgeJob, name: str, prompts: Mapping[str, Prompt], store: Store
) -> dict[ResponseKey, Measurement]:
    """One measure of each of the candidate's responses, of the reference's, and of all of the teacher's samples."""
    candidates, references, samples = (
        _measured(name, job.measures[f"{name}/{role}"], str(ref), prompts, store)
        for role, ref in (("candidate", job.candidate), ("reference", job.reference), ("samples", job.samples))
    )
    of_teacher: dict[str, list[NDArray[Any]]] = {}
    for (prompt_id, _), values in samples.items():
        of_teacher.setdefault(prompt_id, []).append(values)
    return {
        key: Measurement(values, references[key], _stacked(of_teacher[key[0]]))
        for key, values in candidates.items()
        if key in references and key[0] in of_teacher  # else it is left out
    }


def _stacked(samples: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """[those of which the measure says something, width]."""
    said = [values for values in samples if len(values)]
    return np.stack(said) if said else np.zeros((0, 0))


def _measured(
    name: str, ref: str, responses: str, prompts: Mapping[str, Prompt], store: Store
) -> dict[ResponseKey, NDArray[Any]]:
    """The measure's values of each response; of those that responses alone have, their mean, or none."""
    measure, said = measures.get(name), responses_by_key(responses, store)
    if measure.reads == "responses":
        found = {key: measure.values(Answered(prompts[key[0]], (row,))) for key, row in said.items()}
        return {key: values.mean(keepdims=True) if len(values) else values for key, values in found.items()}
    keys = list(said)
    require_made_of(ref, [responses], store)
    rows = LOADERS[measure.reads]([store.read(ref).path], keys)
    require_same_keys(ref, rows, responses, keys)
    return {key: measure.values(rows[key]) for key in keys}
