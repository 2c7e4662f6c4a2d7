"""Responses drawn, batch by batch; a kill loses at most one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.progress import Tick
from harness.core.records import Facts, Message, Prompt, Response, read_records, transcript, write_jsonl
from harness.core.units import first_named
from harness.generation.backends import open_generator
from harness.generation.protocol import Draw, Drawn, Generator, Request, UnfinishedError
from harness.generation.sampler import form_batches
from harness.models import chat
from harness.models.locate import model_folder
from harness.models.settings import TEACHER_SERVER
from harness.run.jobs import LEFT_OUT, NAMED_AT_MOST, RESPONSES, WITHOUT, RespondJob
from harness.run.stages.inputs import fingerprint_of, load_prompts, tokenizer_of
from harness.store import Store

SOME = ".some.jsonl"  # what of a batch arrived before a call of it failed
UNDONE = "server.json"  # what a server would not take or answer, beside the responses that it gave
MOST_LEFT_OUT = 0.5  # share of prompts: beyond it, what is left is another set
TOLD_BY = 32  # prompts that were asked, before so large a share of them says anything of the rest


def respond_stage(job: RespondJob, store: Store, work: Path, tick: Tick) -> Facts:
    folder = model_folder(job.model, store)
    tokenizer = tokenizer_of(job.model, folder)
    if (work / RESPONSES).is_file():  # a kill after the last batch, before the artifact was committed
        undone = json.loads((work / UNDONE).read_text()) if (work / UNDONE).is_file() else {}
        return _sampled(job, read_records(work / RESPONSES, Response), tokenizer, work, undone)
    prompts = load_prompts(job.prompts, store)
    generator = open_generator(job.generator, job.model, folder, tokenizer, job.vllm)
    answers: dict[tuple[int, int], list[Drawn]] = {
        (index, sample): [] for index in range(len(prompts)) for sample in range(job.samples)
    }
    names = {key: prompts[key[0]].id for key in answers}
    total, done = sum(1 + len(prompts[index].turns) for index, _ in answers), 0
    left_out: dict[str, str] = {}  # by prompt, why no sample of it is kept
    asked: set[str] = set()
    for turn in range(1 + max(len(prompt.turns) for prompt in prompts)):
        rows = {
            key: _row(prompts[key[0]], key[1], said, tokenizer)
            for key, said in answers.items()
            if turn <= len(prompts[key[0]].turns) and names[key] not in left_out
        }
        keys = list(rows)
        batches = form_batches([len(row.prompt) for row in rows.values()], job.batch_size * generator.batches)
        for number, batch in enumerate(batches):
            tick(done, total)
            part = work / f"batch-{turn}-{number:05d}.jsonl"
            here = [keys[place] for place in batch]
            if not part.is_file():
                how = Draw(job.sampling, job.seed, job.purpose)
                found = _draw(generator, [rows[key] for key in here], how, part.with_suffix(SOME))
                now = left_out | {
                    names[key]: row.left_out for key, row in zip(here, found, strict=True) if row.left_out
                }
                _require_most(job, _in_order(now, prompts), len(asked | {names[key] for key in here}), len(prompts))
                write_jsonl(part, found)
                part.with_suffix(SOME).unlink(missing_ok=True)
            for key, drawn in zip(here, read_records(part, Drawn), strict=True):
                answers[key].append(drawn)
                asked.add(names[key])
                if drawn.left_out:
                    left_out[names[key]] = drawn.left_out
            done += len(here)
    kept = {key: said for key, said in answers.items() if names[key] not in left_out}
    without = sorted({name for said in kept.values() for drawn in said for name in drawn.without})
    undone = {name: value for name, value in ((LEFT_OUT, _in_order(left_out, prompts)), (WITHOUT, without)) if value}
    if undone:
        write_atomically(work / UNDONE, json.dumps(undone, ensure_ascii=False) + "\n")
    responses = [_answered(prompts[index], sample, said) for (index, sample), said in kept.items()]
    write_jsonl(work / RESPONSES, responses)
    return _sampled(job, responses, tokenizer, work, {**generator.versions, **undone})


class _Arrived(Drawn):
    """place: among the rows of its batch."""

    place: int


def _draw(generator: Generator, rows: Sequence[Request], how: Draw, some: Path) -> list[Drawn]:
    """The responses to a batch. What arrived of it before a call failed is kept in `some`, and not asked for again, but
    for prompts without an answer."""
    kept = read_records(some, _Arrived) if some.is_file() else []
    there = {row.place: Drawn.model_validate(row.model_dump(exclude={"place"})) for row in kept}
    left = [place for place in range(len(rows)) if place not in there]
    try:
        there |= dict(zip(left, generator.draw([rows[place] for place in left], how), strict=True))
    except UnfinishedError as error:
        there |= {left[place]: drawn for place, drawn in error.drawn.items() if not drawn.left_out}
        write_jsonl(some, [_Arrived(**dict(drawn), place=place) for place, drawn in sorted(there.items())])
        raise
    return [there[place] for place in range(len(rows))]


def _in_order(left_out: Mapping[str, str], prompts: Sequence[Prompt]) -> dict[str, str]:
    return {prompt.id: left_out[prompt.id] for prompt in prompts if prompt.id in left_out}


def _require_most(job: RespondJob, left_out: Mapping[str, str], asked: int, prompts: int) -> None:
    """Refuse to go on where most prompts have no answer: nothing of it is kept, so that it can be mended.

    asked: how many of the prompts were asked by now.
    """
    if len(left_out) <= MOST_LEFT_OUT * (asked if asked >= TOLD_BY else prompts):
        return
    assert job.model.served is not None
    (why, *_) = left_out.values()
    raise UserError(
        f"{TEACHER_SERVER} {job.model.served.public_url} gives no answer to {len(left_out)} of {asked} prompts "
        f"({first_named(left_out, NAMED_AT_MOST)}), and a run leaves out half of them at most; the first: {why}"
    )


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
    job: RespondJob, responses: Sequence[Response], tokenizer: Any, work: Path, said: Mapping[str, Any]
) -> Facts:
    """Facts of a complete sampling, whose batches are no longer needed. said: of what drew it."""
    for part in work.glob("batch-*.jsonl"):
        part.unlink()
    return {
        "responses": len(responses),
        "tokens": sum(len(response.token_ids) for response in responses),
        "cut": sum(response.finish == "length" for response in responses),
        "tokenizer": fingerprint_of(tokenizer),
        **({"chat_template": job.model.chat_template.name} if job.model.chat_template else {}),
        **said,
    }
