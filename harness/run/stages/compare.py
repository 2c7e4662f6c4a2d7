"""What a student and its teacher say at each token of responses, and the teacher's hidden states that this takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.core.records import Facts, write_jsonl
from harness.logprobs import comparing
from harness.logprobs.comparing import SCORE, Columns, LiveTeacher, StoredStates, Teacher, TopKTeacher
from harness.logprobs.model import LogProbModel, why_padded
from harness.logprobs.scoring import hidden_states, response_starts, sequence_log_probs
from harness.logprobs.targets import StoredTopK, Support
from harness.models import chat, loading
from harness.models.locate import model_folder
from harness.models.reference import Model
from harness.run.jobs import DEPARTURES, PIECES, STATES, TOKENS, TOP_K, CompareJob, StatesJob
from harness.run.stages.inputs import (
    ReadExamples,
    load_prompts,
    require_made_of,
    responses_by_key,
    tokenizer_of,
    why_two,
)
from harness.run.stages.score import reader, require_finite, write_scores
from harness.store import Store

SHOWN = 20  # tokens on which the two differ most
BEFORE = 60  # characters that are shown before such a token


def states_stage(job: StatesJob, store: Store, work: Path, tick: Tick) -> Facts:
    """SCORES and STATES: `states` [T, H], T counting the response tokens of all responses in their order. Of a
    padded teacher there are no states, as the artifact's facts say."""
    folder, _, data, model = reader(job, [job.responses], store)
    padded = why_padded(model.causal_lm)
    if padded is None:
        states, sums = hidden_states(model, data.examples, job.precision, job.batch_tokens, tick)
        save_file({"states": states}, work / STATES)
    else:
        sums = sequence_log_probs(model, data.examples, job.precision, job.batch_tokens, tick)
    require_finite(sums, data, folder)
    write_scores(work, data, sums)
    return {**data.facts, "responses": sums.size, "padded": padded, "states": padded is None}


def compare_stage(job: CompareJob, store: Store, work: Path, tick: Tick) -> Facts:
    """TOKENS, PIECES and DEPARTURES; SCORES too where the teacher was read."""
    folder, tokenizer, data, student = reader(job, [job.responses], store)
    _require_one_tokenizer(job, tokenizer, data, store)
    teacher, known, facts = _teacher(job, data, store)
    vocabulary = min(chat.vocabulary_size(tokenizer), len(student.head), *known)
    columns = comparing.compare(
        student, teacher, data.examples, vocabulary, job.temperature, job.precision, job.batch_tokens, tick
    )
    starts = response_starts(data.examples)
    lengths = np.diff(starts)
    _require_sound(columns, data, starts, folder)
    if SCORE in columns:
        sums = np.add.reduceat(columns.pop(SCORE).astype(np.float64), starts[:-1])
        write_scores(work, data, sums[:, None])
    written = responses_by_key(job.responses, store)
    arrays: dict[str, Any] = dict(
        columns,
        prompt_ids=np.array([prompt_id for prompt_id, _ in data.keys]),
        samples=np.array([sample for _, sample in data.keys], np.int32),
        lengths=lengths.astype(np.int32),
        ended=np.array([written[key].finish == "stop" for key in data.keys]),
    )
    np.savez(work / TOKENS, **arrays)
    pieces = _write_pieces(work, data, tokenizer)
    kl = columns["reverse_kl" if _wrote(job, store) else "forward_kl"]
    write_jsonl(work / DEPARTURES, _departures(kl, columns, data, pieces, tokenizer))
    return {
        **data.facts,
        "temperature": job.temperature,
        "vocabulary": vocabulary,
        "response_tokens": int(starts[-1]),
        "padded": why_padded(student.causal_lm),
        **facts,
    }


# ---- the teacher's side


def _teacher(job: CompareJob, data: ReadExamples, store: Store) -> tuple[Teacher, list[int], Facts]:
    """With how many ids it knows, if it says so, and what is to be said of it."""
    if job.distributions is not None:
        require_made_of(job.distributions, [job.responses], store)
        stored = np.load(store.read(job.distributions).path / TOP_K)
        if "labels" not in stored:
            raise UserError(f"{job.distributions} has no log-probs of the responses' own tokens")
        if job.temperature != 1:
            raise UserError(f"a stored top k is the teacher's at temperature 1, and not at {job.temperature:g}")
        top = StoredTopK(stored["ids"], stored["log_probs"], response_starts(data.examples), Support("tail"))
        return TopKTeacher(top, stored["labels"]), [], {"top_k": stored["ids"].shape[1]}
    assert job.teacher is not None
    folder = model_folder(job.teacher, store)
    model = LogProbModel(loading.reading_model(folder, job.teacher.remote_code))
    known = [len(model.head)]
    if job.states is not None and store.read(job.states).facts["states"]:
        require_made_of(job.states, [job.responses], store)
        states = load_file(store.read(job.states).path / STATES)["states"]
        return StoredStates(model, states, response_starts(data.examples)), known, {}
    return LiveTeacher(model), known, {}


def _require_one_tokenizer(job: CompareJob, tokenizer: Any, data: ReadExamples, store: Store) -> None:
    """Both must have read the same ids.

    Raises:
        UserError: saying what differs.
    """
    teacher = job.teacher
    if job.distributions is not None:
        teacher = Model.model_validate(store.read(job.distributions).manifest["job"]["model"])
    assert teacher is not None
    theirs = tokenizer_of(teacher, model_folder(teacher, store))
    if difference := why_two(tokenizer, theirs, tuple(load_prompts(job.prompts, store))):
        raise UserError(
            f"{tokenizer.name_or_path} and {theirs.name_or_path} cannot be compared token by token, as their "
            f"tokenizers differ: {difference}"
        )
    if data.retokenised:
        raise UserError(
            f"{job.responses} has ids of another tokenizer than {tokenizer.name_or_path}, and cannot be compared"
        )


def _wrote(job: CompareJob, store: Store) -> bool:
    """Whether the student wrote the responses, and not the teacher, which may be the same model."""
    author = store.read(job.responses).manifest["job"].get("model")
    if author is None:
        return False
    known = Model.model_validate(author).in_key
    return known == job.model.in_key and (job.teacher is None or known != job.teacher.in_key)


# ---- what is written


def _require_sound(columns: Columns, data: ReadExamples, starts: NDArray[np.int64], student: Path) -> None:
    """No figure of a broken model is kept.

    Raises:
        UserError: naming the first prompt.
    """
    for name, values in columns.items():
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            response = int(np.searchsorted(starts, odd[0], "right")) - 1
            prompt_id, value = data.keys[response][0], float(values[odd[0]])
            why = (
                "one of the two gives no probability to a token that the other may say"
                if np.isinf(value) and np.isfinite(columns["student_log_prob"]).all()
                else "the weights of one of the two are broken"
            )
            raise UserError(f"{name} of {student} and its teacher is {value} on prompt {prompt_id}: {why}")


def _write_pieces(work: Path, data: ReadExamples, tokenizer: Any) -> list[list[str]]:
    """The text of each token of each response; of tokens that make one character together the last one has it."""
    pieces = [_texts(tokenizer, example.responses[0]) for example in data.examples]
    rows = ({"prompt_id": i, "sample": s, "pieces": texts} for (i, s), texts in zip(data.keys, pieces, strict=True))
    write_jsonl(work / PIECES, rows)
    return pieces


def _texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    texts = [""] * len(ids)
    for end, text in chat.pieces(tokenizer, ids):
        texts[end - 1] = text
    return texts


def _departures(
    kl: NDArray[np.float32], columns: Columns, data: ReadExamples, pieces: Sequence[Sequence[str]], tokenizer: Any
) -> list[Facts]:
    """The tokens with the largest KL, the largest first."""
    starts = response_starts(data.examples)
    rows = []
    for place in np.argsort(-kl, kind="stable")[:SHOWN].tolist():
        response = int(np.searchsorted(starts, place, "right")) - 1
        position = place - int(starts[response])
        (prompt_id, sample), texts = data.keys[response], pieces[response]
        rows.append(
            {
                "prompt_id": prompt_id,
                "sample": sample,
                "position": position,
                "kl": float(kl[place]),
                "before": "".join(texts[:position])[-BEFORE:],
                "token": chat.decoded(tokenizer, data.examples[response].responses[0][position : position + 1]),
                "teacher_top": chat.decoded(tokenizer, [int(columns["teacher_top"][place])]),
                "student_top": chat.decoded(tokenizer, [int(columns["student_top"][place])]),
            }
        )
    return rows
