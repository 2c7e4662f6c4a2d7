"""One function a stage: a job (plain data) in, files in a workspace out, and facts about the work.

The models' code is imported here and below, and so only where something is computed. A stage finds in its workspace
what an interrupted attempt left, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.allocator import give_back, keep_freed_memory
from harness.config import MethodSettings, ModelServer, TokenSettings
from harness.errors import UserError
from harness.generation.opening import open_generator
from harness.generation.protocol import Draw, Drawn, Row
from harness.generation.sampler import form_batches
from harness.jobs import (
    EMBEDDINGS,
    PROMPTS,
    RESPONSES,
    SCORES,
    TOP_K,
    UNANSWERED,
    VERDICTS,
    ConvertJob,
    DistributionsJob,
    EmbedJob,
    Facts,
    Job,
    JudgeJob,
    Model,
    PromptsJob,
    PruneJob,
    ReadingJob,
    RespondJob,
    ScoreJob,
    TrainJob,
)
from harness.judging import Comparison, Measurement, open_judge
from harness.judging.asking import Names, ask_for_verdicts
from harness.judging.cache import CACHE, VerdictCache
from harness.judging.embedding import embed
from harness.judging.opening import checkpoint_in, prices_of
from harness.methods import methods
from harness.models import chat, loading, pickled, pruning
from harness.models.catalog import folder_digest, model_folder, unchanged
from harness.progress import Tick
from harness.prompts import read_prompts
from harness.records import (
    Message,
    Prompt,
    Response,
    Verdict,
    read_jsonl,
    read_records,
    transcript,
    write_jsonl,
)
from harness.remote_scoring import served_log_probs
from harness.scoring import sequence_log_probs, top_log_probs
from harness.store import Store, file_sha256
from harness.training import adapters, loop
from harness.training.batching import Example, collate
from harness.training.model import LogProbModel, why_padded
from harness.training.targets import StoredTopK, Target


def perform(job: Job, store: Store, work: Path, tick: Tick) -> Facts:
    """Do a job in its workspace; the caller commits it."""
    keep_freed_memory()
    try:
        return _STAGES[type(job)](job, store, work, tick)
    finally:
        give_back()


# ---- reading what other stages made


def load_prompts(ref: str, store: Store) -> list[Prompt]:
    return read_records(store.read(ref).path / PROMPTS, Prompt)


def load_responses(ref: str, store: Store) -> list[Response]:
    return read_records(store.read(ref).path / RESPONSES, Response)


Key = tuple[str, int]  # prompt id, sample


def responses_by_key(ref: str, store: Store) -> dict[Key, Response]:
    return {(row.prompt_id, row.sample): row for row in load_responses(ref, store)}


@dataclass(frozen=True)
class Data:
    """Examples with their keys. cut: prompts that lost their beginning. retokenised: whether any response was split
    anew, because the model that wrote it has another tokenizer."""

    keys: list[Key]
    examples: list[Example]
    cut: int
    retokenised: bool

    @property
    def tokens(self) -> int:
        return sum(example.tokens for example in self.examples)

    @property
    def facts(self) -> Facts:
        return {"tokens": self.tokens, "prompts_cut": self.cut, "retokenised": self.retokenised}


def _data(
    prompts: str, responses: Sequence[str], tokenizer: Any, store: Store, max_prompt_tokens: int | None = None
) -> Data:
    """Prompts with one response from each artifact, joined on (prompt id, sample), in the first one's order.

    Ids that this tokenizer's model could have generated are taken as they are; other responses are split anew.
    """
    encoded = {prompt.id: chat.encode_chat(tokenizer, prompt.messages) for prompt in load_prompts(prompts, store)}
    own = loading.tokenizer_fingerprint(tokenizer)
    foreign = [store.read(ref).facts["tokenizer"] != own for ref in responses]
    tables = [
        {key: response_ids(tokenizer, row, other) for key, row in responses_by_key(ref, store).items()}
        for ref, other in zip(responses, foreign, strict=True)
    ]
    keys = list(tables[0])
    for ref, table in zip(responses, tables, strict=True):
        _same_keys(ref, table, responses[0], keys)
    examples = [
        Example(
            index=index,
            prompt=encoded[key[0]][-max_prompt_tokens:] if max_prompt_tokens else encoded[key[0]],
            responses=tuple(table[key] for table in tables),
            name=key[0],
        )
        for index, key in enumerate(keys)
    ]
    cut = sum(len(example.prompt) < len(encoded[key[0]]) for key, example in zip(keys, examples, strict=True))
    return Data(keys, examples, cut, any(foreign))


def response_ids(tokenizer: Any, response: Response, foreign: bool) -> Sequence[int]:
    if not foreign:
        return response.token_ids
    return chat.encode_response(tokenizer, response.text, response.finish == "stop")


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


def _tokenizer(model: Model, folder: Path) -> Any:
    return loading.load_tokenizer(folder, model.chat_template, model.remote_code)


# ---- the stages


def _prompts(job: PromptsJob, store: Store, work: Path, tick: Tick) -> Facts:
    unchanged(Path(job.path), file_sha256(Path(job.path)), job.digest)
    prompts = read_prompts(Path(job.path), job.limit)
    write_jsonl(work / PROMPTS, prompts)
    return {"prompts": len(prompts)}


def _convert(job: ConvertJob, store: Store, work: Path, tick: Tick) -> Facts:
    if job.format == "pickled":
        unchanged(Path(job.path), folder_digest(Path(job.path), store, pickled=True), job.digest)
        return pickled.to_safetensors(Path(job.path), work, tick)
    unchanged(Path(job.path), file_sha256(Path(job.path)), job.digest)
    return loading.dequantise_gguf(Path(job.path), work)


def _prune(job: PruneJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = _tokenizer(job.model, folder)
    model = loading.load_model(folder, torch.float32, remote_code=job.model.remote_code)
    data = _data(job.prompts, [job.responses], tokenizer, store)
    pruned = pruning.prune_mlps(model, [(e.prompt, e.responses[0]) for e in data.examples], job.ratio, tick)
    loading.save_checkpoint(pruned, tokenizer, work)
    return {
        "parameters_before": model.num_parameters(),
        "parameters": pruned.num_parameters(),
        "mlp_width_before": model.config.intermediate_size,
        "mlp_width": pruned.config.intermediate_size,
        "tokens": data.tokens,
    }


def _respond(job: RespondJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = _tokenizer(job.model, folder)
    if (work / RESPONSES).is_file():  # a kill after the last batch, before the artifact was committed
        return _sampled(job, read_records(work / RESPONSES, Response), tokenizer, work, {})
    prompts = load_prompts(job.prompts, store)
    generator = open_generator(job, folder, tokenizer)
    answers: dict[tuple[int, int], list[Drawn]] = {
        (index, sample): [] for index in range(len(prompts)) for sample in range(job.samples)
    }
    total, done = sum(1 + len(prompts[index].turns) for index, _ in answers), 0
    for turn in range(1 + max(len(prompt.turns) for prompt in prompts)):
        rows = {
            key: _row(prompts[key[0]], key[1], said, tokenizer)
            for key, said in answers.items()
            if turn <= len(prompts[key[0]].turns)
        }
        keys = list(rows)
        batches = form_batches([len(row.prompt) for row in rows.values()], job.batch_size * generator.batches)
        for number, batch in enumerate(batches):
            tick(done, total)
            part = work / f"batch-{turn}-{number:05d}.jsonl"
            here = [keys[place] for place in batch]
            if not part.is_file():
                how = Draw(job.sampling, job.seed, job.purpose)
                write_jsonl(part, generator.draw([rows[key] for key in here], how))
            for key, drawn in zip(here, read_records(part, Drawn), strict=True):
                answers[key].append(drawn)
            done += len(here)
    responses = [_answered(prompts[index], sample, said) for (index, sample), said in answers.items()]
    write_jsonl(work / RESPONSES, responses)
    return _sampled(job, responses, tokenizer, work, generator.versions)


def _row(prompt: Prompt, sample: int, said: Sequence[Drawn], tokenizer: Any) -> Row:
    """The next answer to a prompt: to its next turn, after what the model itself said to those before."""
    messages = list(prompt.messages)
    for drawn, turn in zip(said, prompt.turns, strict=False):
        messages += [Message(role="assistant", content=drawn.text), Message(role="user", content=turn)]
    name = f"{prompt.id}/{sample}" + (f"/turn {len(said)}" if said else "")
    return Row(name, tuple(messages), chat.encode_chat(tokenizer, messages))


def _answered(prompt: Prompt, sample: int, said: Sequence[Drawn]) -> Response:
    return Response(
        prompt_id=prompt.id,
        sample=sample,
        token_ids=tuple(token for drawn in said for token in drawn.token_ids),
        text=transcript([drawn.text for drawn in said], prompt.turns),
        finish="length" if any(drawn.finish == "length" for drawn in said) else "stop",
    )


def _sampled(
    job: RespondJob, responses: Sequence[Response], tokenizer: Any, work: Path, versions: dict[str, str]
) -> Facts:
    """Facts of a complete sampling, whose batches are no longer needed."""
    for part in work.glob("batch-*.jsonl"):
        part.unlink()
    return {
        "responses": len(responses),
        "tokens": sum(len(response.token_ids) for response in responses),
        "cut": sum(response.finish == "length" for response in responses),
        "tokenizer": loading.tokenizer_fingerprint(tokenizer),
        **({"chat_template": job.model.chat_template.name} if job.model.chat_template else {}),
        **versions,
    }


def _reader(job: ReadingJob, responses: Sequence[str], store: Store) -> tuple[Path, Any, Data, LogProbModel]:
    """A frozen model with its folder and tokenizer, and what it is to read."""
    folder = model_folder(job.model, store)
    tokenizer = _tokenizer(job.model, folder)
    data = _data(job.prompts, responses, tokenizer, store, job.max_prompt_tokens)
    # computes as with float32 weights, and autocast where a setting says bf16, as in training: what is measured is what
    # is trained
    return folder, tokenizer, data, LogProbModel(loading.reading_model(folder, job.model.remote_code))


def _score(job: ScoreJob, store: Store, work: Path, tick: Tick) -> Facts:
    if job.model.served is not None:
        return _score_served(job, job.model.served, store, work, tick)
    folder, _, data, model = _reader(job, job.responses, store)
    sums = sequence_log_probs(model, data.examples, job.precision, job.batch_tokens, tick)
    for key, row in zip(data.keys, sums, strict=True):
        if not np.isfinite(row).all():
            raise UserError(
                f"the log-probs of prompt {key[0]} under {folder} are {row.tolist()}; its weights are broken"
            )
    _write_scores(work, data, sums)
    return {**data.facts, "responses": sums.size, "padded": why_padded(model.causal_lm)}


def _write_scores(work: Path, data: Data, sums: NDArray[np.float64]) -> None:
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


SERVED_AT_ONCE = 256  # examples whose log-probs are kept together as they arrive: a kill loses no more


def _score_served(job: ScoreJob, server: ModelServer, store: Store, work: Path, tick: Tick) -> Facts:
    """The same by a teacher that lives elsewhere; what arrived before a kill is not asked for again."""
    tokenizer = _tokenizer(job.model, model_folder(job.model, store))
    data = _data(job.prompts, job.responses, tokenizer, store, job.max_prompt_tokens)
    parts = []
    for start in range(0, len(data.examples), SERVED_AT_ONCE):
        tick(start, len(data.examples))
        part = work / f"part-{start:07d}.npy"
        if not part.is_file():
            sums = served_log_probs(server, data.examples[start : start + SERVED_AT_ONCE])
            with (work / "part.tmp").open("wb") as file:
                np.save(file, sums)
            (work / "part.tmp").replace(part)
        parts.append(np.load(part))
    _write_scores(work, data, np.concatenate(parts))
    for part in work.glob("part-*.npy"):
        part.unlink()
    return {**data.facts, "responses": sum(part.size for part in parts), "server": server.public_url}


def _distributions(job: DistributionsJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder, tokenizer, data, model = _reader(job, [job.responses], store)
    vocabulary = chat.vocabulary_size(tokenizer)
    if job.top_k > vocabulary:
        raise UserError(f"top_k = {job.top_k} is more than the vocabulary's {vocabulary} tokens")
    ids, log_probs = top_log_probs(model, data.examples, job.top_k, vocabulary, job.precision, job.batch_tokens, tick)
    if not np.isfinite(log_probs).all():
        raise UserError(f"some log-probs under {folder} are not finite; its weights are broken")
    np.savez(work / TOP_K, ids=ids, log_probs=log_probs)
    return {
        **data.facts,
        "response_tokens": len(ids),
        "mass": float(np.exp(log_probs).sum(1).mean()),
        "padded": why_padded(model.causal_lm),
    }


def _embed(job: EmbedJob, store: Store, work: Path, tick: Tick) -> Facts:
    responses = load_responses(job.responses, store)
    vectors = embed(model_folder(job.model, store), [response.text for response in responses], tick)
    np.save(work / EMBEDDINGS, vectors)
    return {"responses": len(responses), "tokens": sum(len(response.token_ids) for response in responses)}


def _train(job: TrainJob, store: Store, work: Path, tick: Tick) -> Facts:
    method = methods.get(job.method)
    settings = method.settings.model_validate(job.settings)
    loop.check_tracker(job.tracker)
    folder, own_code = model_folder(job.start, store), job.start.remote_code
    tokenizer = _tokenizer(job.start, folder)
    data = _data(job.prompts, job.responses, tokenizer, store, job.max_prompt_tokens)
    signals = {name: _signal(ref, data.keys, job.responses, store) for name, ref in job.signals.items()}
    tokens = None
    if job.token_match is not None:
        epochs, refs = job.token_match
        tokens = epochs * _data(job.prompts, refs, tokenizer, store, job.max_prompt_tokens).tokens
    target = _target(job, data, tokenizer, settings, store)
    start = loading.load_model(folder, torch.float32, remote_code=own_code)
    model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
    del start
    steps = loop.plan_steps(data.examples, settings.batch_size, settings.epochs, job.seed, tokens)
    plan = loop.Work(data.examples, steps, signals, target)
    whole = loop.train(model, plan, method, settings, job.seed, work, tick, job.tracker)
    if loop.is_main_process():
        if whole is not None:  # the ranks hold shares of the model: make it whole from the files it started from
            # in main memory: the shares are still on their devices
            start = loading.load_model(folder, torch.float32, on=torch.device("cpu"), remote_code=own_code)
            model = LogProbModel(adapters.with_adapter(start, settings, job.seed))
            _, unknown = model.load_state_dict(whole, strict=False)
            assert not unknown, f"trained weights without a place: {unknown}"
        trained = adapters.without_adapter(model.causal_lm)
        loading.save_checkpoint(trained, tokenizer, work)
        (work / loop.CHECKPOINT).unlink(missing_ok=True)
    pairs = method.data == "pairs"
    return {
        **data.facts,
        "steps": len(steps),
        "examples": len(data.examples),
        "tokens": sum(data.examples[row].tokens for rows in steps for row in rows),
        "equal_pairs": sum(e.responses[0] == e.responses[-1] for e in data.examples) if pairs else 0,
        "parameters": model.causal_lm.num_parameters(),
        "ranks": loop.ranks(),
        "padded": why_padded(model.causal_lm),
    }


def _target(
    job: TrainJob, data: Data, tokenizer: Any, settings: MethodSettings, store: Store
) -> Callable[[Sequence[Example]], Target] | None:
    """Where a token-level method gets the teacher's distributions: the teacher itself, or its stored top k."""
    vocabulary = chat.vocabulary_size(tokenizer)
    if job.teacher is not None:
        folder = model_folder(job.teacher, store)
        loading.require_one_tokenizer(tokenizer, _tokenizer(job.teacher, folder), load_prompts(job.prompts, store))
        teacher = LogProbModel(loading.reading_model(folder, job.teacher.remote_code))
        device = next(teacher.parameters()).device
        return lambda part: teacher.target(collate(part, teacher.layout).to(device), vocabulary)
    if job.distributions is not None:
        artifact = store.read(job.distributions)
        read = Model.model_validate(artifact.manifest["job"]["model"])
        theirs = _tokenizer(read, model_folder(read, store))
        loading.require_one_tokenizer(tokenizer, theirs, load_prompts(job.prompts, store))
        _made_of(job.distributions, job.responses, store)
        stored = np.load(artifact.path / TOP_K)
        lengths = [len(example.responses[0]) for example in data.examples]
        assert isinstance(settings, TokenSettings)
        top_k = StoredTopK(
            stored["ids"], stored["log_probs"], np.concatenate([[0], np.cumsum(lengths)]), settings.tail, vocabulary
        )
        return lambda part: top_k.of(part, loading.device())
    return None


def _judge(job: JudgeJob, store: Store, work: Path, tick: Tick) -> Facts:
    judge = open_judge(job.judge, job.judging, checkpoint_in(store, job.checkpoint), job.vllm)
    prompts = {prompt.id: prompt for prompt in load_prompts(job.prompts, store)}
    candidates, references = responses_by_key(job.candidate, store), responses_by_key(job.reference, store)
    _same_keys(job.candidate, candidates, job.reference, references)
    measured = {name: _measurements(job, name, store) for name in judge.measures}
    comparisons = [
        Comparison(prompts[key[0]], row, references[key], {name: table[key[0]] for name, table in measured.items()})
        for key, row in candidates.items()
    ]
    names, prices = Names(job.prompt_set, job.candidate_name, job.reference_name), prices_of(judge, job.judging)
    verdicts: list[Verdict] = []
    with VerdictCache(store.root / CACHE) as cache:
        tally = ask_for_verdicts(judge, comparisons, names, cache, prices, verdicts.append, tick, job.refresh)
    place = {key[0]: number for number, key in enumerate(candidates)}
    verdicts.sort(key=lambda row: (place[row.prompt_id], row.order))
    write_jsonl(work / VERDICTS, verdicts)
    counts = asdict(tally)
    del counts["prices"]
    return {**counts, "spent": tally.spent, UNANSWERED: tally.unanswered}


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
    DistributionsJob: _distributions,
    EmbedJob: _embed,
    TrainJob: _train,
    JudgeJob: _judge,
}
