"""Responses drawn, batch by batch; a kill loses at most one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.progress import Tick
from harness.core.records import Facts, Message, Prompt, Response, read_records, transcript, write_jsonl
from harness.generation.backends import open_generator
from harness.generation.protocol import Draw, Drawn, Request
from harness.generation.sampler import form_batches
from harness.models import chat, tokenizers
from harness.models.locate import model_folder
from harness.run.jobs import RESPONSES, RespondJob
from harness.run.stages.inputs import load_prompts, tokenizer_of
from harness.store import Store


def respond_stage(job: RespondJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = tokenizer_of(job.model, folder)
    if (work / RESPONSES).is_file():  # a kill after the last batch, before the artifact was committed
        return _sampled(job, read_records(work / RESPONSES, Response), tokenizer, work, {})
    prompts = load_prompts(job.prompts, store)
    generator = open_generator(job.generator, job.model, folder, tokenizer, job.vllm)
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


def _row(prompt: Prompt, sample: int, said: Sequence[Drawn], tokenizer: Any) -> Request:
    """The next answer to a prompt: to its next turn, after what the model itself said to those before."""
    messages = list(prompt.messages)
    for drawn, turn in zip(said, prompt.turns, strict=False):
        messages += [Message(role="assistant", content=drawn.text), Message(role="user", content=turn)]
    name = f"{prompt.id}/{sample}" + (f"/turn {len(said)}" if said else "")
    return Request(name, tuple(messages), chat.encode_chat(tokenizer, messages))


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
        "tokenizer": tokenizers.tokenizer_fingerprint(tokenizer),
        **({"chat_template": job.model.chat_template.name} if job.model.chat_template else {}),
        **versions,
    }
