"""Jobs of tiny runs, how tests make them, and what a stock model says of the same tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.core.errors import UserError
from harness.core.records import METRICS, Response, write_jsonl
from harness.generation.protocol import Sampling
from harness.methods import methods
from harness.models.locate import folder_digest
from harness.models.reference import Model
from harness.models.tokenizers import tokenizer_fingerprint
from harness.models.weights import fault
from harness.prompts import read_set
from harness.prompts.settings import PromptSource
from harness.run.jobs import (
    RESPONSES,
    SCORES,
    CompareJob,
    DistributionsJob,
    Job,
    PromptsJob,
    RespondJob,
    ScoreJob,
    StatesJob,
    TrainJob,
)
from harness.run.launch import run_job, run_jobs
from harness.run.road import Road
from harness.store import Store

Rows = dict[str, list[int]]  # token ids of each prompt's response
TEXTS = ["Hi!", "Why is bread good?", "Tell me about the number seven, please.", "Sing!", "What is rain?"]


def quiet(done: int, total: int, note: str = "") -> None:
    pass


def make(store: Store, job: Job) -> str:
    run_job(job, store, quiet)
    return job.ref


def make_road(store: Store, road: Road) -> dict[str, str]:
    """Make all of a road; its artifacts by their jobs' labels."""
    run_jobs(road.jobs.values(), store, Console(file=io.StringIO()))
    return {job.label: ref for ref, job in road.jobs.items()}


def prompt_file(path: Path, texts: Sequence[str]) -> Path:
    rows = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_job(path: Path, limit: int | None = None) -> PromptsJob:
    found = read_set(path.stem, PromptSource(path=path), download=False).first(limit)
    return PromptsJob(label=f"read {path.stem}", source=found.read_from, limit=limit, digest=found.digest)


def model_at(folder: Path, store: Store) -> Model:
    return Model(path=str(folder), digest=folder_digest(folder, store))


def saved(folder: Path, causal_lm: Any, tokenizer: Any) -> Path:
    causal_lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def put(store: Store, name: str, rows: Sequence[Response], tokenizer: Any, **more: Any) -> str:
    """An artifact of given responses, as if a model with this tokenizer had drawn them, with more facts."""
    ref = f"respond/{name}"
    tokens = sum(len(row.token_ids) for row in rows)
    facts = {"responses": len(rows), "tokens": tokens, "tokenizer": tokenizer_fingerprint(tokenizer), **more}
    with store.making(ref) as work:
        write_jsonl(work / RESPONSES, rows)
        store.commit(ref, work, {"stage": "respond"}, facts, 0.0)
    return ref


def respond_job(model: Model, prompts: str, **others: Any) -> RespondJob:
    fields = {"sampling": Sampling(max_new_tokens=6), "batch_size": 2, "purpose": "chosen", "seed": 0, **others}
    return RespondJob(model=model, prompts=prompts, **fields)


def score_job(model: Model, prompts: str, *responses: str, **others: Any) -> ScoreJob:
    fields = {"precision": "fp32", "batch_tokens": 256, "max_prompt_tokens": None, **others}
    return ScoreJob(model=model, prompts=prompts, responses=responses, **fields)


def distributions_job(model: Model, prompts: str, responses: str, **others: Any) -> DistributionsJob:
    fields = {"top_k": 8, "precision": "fp32", "batch_tokens": 256, "max_prompt_tokens": None, **others}
    return DistributionsJob(model=model, prompts=prompts, responses=responses, **fields)


def states_job(model: Model, prompts: str, responses: str, **others: Any) -> StatesJob:
    fields = {"precision": "fp32", "batch_tokens": 256, "max_prompt_tokens": None, **others}
    return StatesJob(model=model, prompts=prompts, responses=responses, **fields)


def compare_job(student: Model, teacher: Model | None, prompts: str, responses: str, **others: Any) -> CompareJob:
    fields: dict[str, Any] = {"precision": "fp32", "batch_tokens": 256, "max_prompt_tokens": None, "temperature": 1.0}
    return CompareJob(model=student, teacher=teacher, prompts=prompts, responses=responses, **{**fields, **others})


def train_job(
    method: str,
    start: Model,
    prompts: str,
    responses: tuple[str, ...],
    settings: Mapping[str, Any] | None = None,
    **others: Any,
) -> TrainJob:
    """A training in float32, of one epoch, two examples a step; `settings` over these."""
    own = {"precision": "fp32", "epochs": 1, "batch_size": 2, **(settings or {})}
    fields: dict[str, Any] = {
        "settings": methods.get(method).settings(**own).model_dump(mode="json"),
        "teacher": None,
        "signals": {},
        "distributions": None,
        "max_prompt_tokens": None,
        "tracker": None,
        "seed": 0,
        **others,
    }
    return TrainJob(method=method, method_source="s", start=start, prompts=prompts, responses=responses, **fields)


# ---- what came out


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scored(store: Store, ref: str) -> dict[str, dict[str, Any]]:
    return {row["prompt_id"]: row for row in jsonl(store.read(ref).path / SCORES)}


def losses(store: Store, ref: str) -> list[float]:
    return [row["loss"] for row in jsonl(store.read(ref).path / METRICS)]


# ---- what is right


def stock(folder: Path) -> Any:
    """A model as transformers loads it, with the attention that leaves nothing out."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    ids: list[int] = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return ids


@torch.no_grad()
def rows_of(causal_lm: Any, prompt: Sequence[int], response: Sequence[int], vocabulary: int | None = None) -> Tensor:
    """Log-probs at a response's tokens over the first `vocabulary` ids, [R, V] float64; one sequence, nothing else."""
    logits = causal_lm(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
    return torch.log_softmax(logits[len(prompt) - 1 : -1, :vocabulary].double(), -1)


def log_prob(causal_lm: Any, prompt: Sequence[int], response: Sequence[int]) -> float:
    return float(rows_of(causal_lm, prompt, response).gather(-1, torch.tensor(response)[:, None]).sum())


def require_sound(folder: Path, remote_code: bool = False) -> None:
    """Raise what is said of a model's folder before it is loaded."""
    if found := fault(folder, remote_code=remote_code):
        raise UserError(f"{folder}: {found}")
