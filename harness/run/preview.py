"""One row of the training data as it will be trained: for people to look at. Nothing is made, no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Ref, Response
from harness.methods import Role, methods
from harness.models.reference import Model
from harness.run.jobs import LEFT_OUT, PruneJob, TrainJob
from harness.run.road import Road
from harness.run.rows import Entry
from harness.store import Store

TeacherSees = Callable[[list[dict[str, str]], str], list[dict[str, str]]]


@dataclass(frozen=True)
class Piece:
    """A token as text, or several that are one character together."""

    text: str
    tokens: int
    control: bool
    in_loss: bool


def pieces(tokenizer: Any, ids: Sequence[int], in_loss: Sequence[bool]) -> tuple[Piece, ...]:
    """Tokens as the text that each adds; those that make one character together are one piece."""
    from harness.models import chat
    from harness.models.turns import turn_of

    control = set(turn_of(tokenizer).control.values())
    found: list[Piece] = []
    start = 0
    for end, text in chat.pieces(tokenizer, ids):
        found.append(Piece(text, end - start, ids[end - 1] in control, in_loss[end - 1]))
        start = end
    return tuple(found)


@dataclass(frozen=True)
class Part:
    """A prompt or a response: its tokens. cut: of a prompt, the tokens that its beginning lost; of a response, whether
    it was cut at the limit, and so has no end of turn."""

    role: str
    pieces: tuple[Piece, ...]
    cut: int = 0

    def count(self, in_loss: bool = False) -> int:
        return sum(piece.tokens for piece in self.pieces if piece.in_loss or not in_loss)


@dataclass(frozen=True)
class Data:
    """What a training reads of each prompt. stored: its responses that are artifacts, each with its ref. fresh: the
    role whose response is sampled while it trains, in `share` of the examples; at 1 nothing stored stands in for it.
    teacher_sees: see Method."""

    stored: tuple[tuple[Role, Ref], ...]
    fresh: str = ""
    share: float = 0.0
    teacher_sees: TeacherSees | None = None


@dataclass(frozen=True)
class Preview:
    """What methods that train on the same data make of one prompt. text: the prompt as the template renders it; None,
    and no parts, where there is no tokenizer yet. teacher_text: the same of what the teacher reads instead; empty where
    that is the prompt, or is not known yet. missing: the roles whose stored responses are not there yet. left_out: why
    the teacher's server gives no answer to it; no method trains on it then."""

    methods: tuple[str, ...]
    data: Data
    prompt: Prompt
    text: str | None
    parts: tuple[Part, ...]
    missing: tuple[str, ...]
    retokenised: bool = False
    equal: bool = False
    left_out: str = ""
    teacher_text: str = ""


def previews_of(road: Road, store: Store, index: int) -> list[Preview]:
    """The row of one training prompt, once for all methods that train on the same data.

    Raises:
        UserError: there is no such row.
    """
    prompts = road.train.prompts
    if not 0 <= index < len(prompts):
        raise UserError(f"--index {index}: the training prompts are 0 to {len(prompts) - 1}")
    found = student_tokenizer(road, store)
    tokenizer = None
    if found is not None:
        from harness.models.tokenizers import load_tokenizer

        folder, model = found
        tokenizer = load_tokenizer(folder, model.chat_template, model.remote_code)
    groups: dict[Data, list[Entry]] = {}
    for entry in road.entries:
        groups.setdefault(_data(road, entry), []).append(entry)
    return [_preview(road, store, prompts[index], data, entries, tokenizer) for data, entries in groups.items()]


def _data(road: Road, entry: Entry) -> Data:
    method, job = methods.get(entry.method), _training(road, road.trainings[entry.name])
    share = method.fresh_share(entry.settings)
    fresh = next((role for role, who, _ in method.responses if who == "policy" and share), "")
    stored = zip(method.stored_roles(entry.settings), job.stored, strict=True)
    return Data(tuple(stored), fresh, share, method.teacher_sees)


def student_tokenizer(road: Road, store: Store) -> tuple[Path, Model] | None:
    """Where the student's tokenizer is, and of which model; None where a stage, or a download, is yet to bring it.
    Pruning changes none."""
    model: Model = road.weights["student"]
    while model.artifact is not None and not store.has(model.artifact):
        job = road.jobs[model.artifact]
        if not isinstance(job, PruneJob):
            return None
        model = job.model
    folder = store.path(model.artifact) if model.artifact is not None else Path(str(model.path))
    known = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return (folder, model) if known else None


def _training(road: Road, ref: Ref) -> TrainJob:
    job = road.jobs[ref]
    assert isinstance(job, TrainJob)
    return job


def _preview(road: Road, store: Store, prompt: Prompt, data: Data, entries: Sequence[Entry], tokenizer: Any) -> Preview:
    names = tuple(entry.name for entry in entries)
    max_prompt_tokens = _training(road, road.trainings[names[0]]).max_prompt_tokens
    made = [(role, ref) for role, ref in data.stored if store.has(ref)]
    left_out = next((why for _, ref in made if (why := store.read(ref).facts.get(LEFT_OUT, {}).get(prompt.id))), "")
    missing = tuple(role for (role, _, _), ref in data.stored if not store.has(ref))
    if data.teacher_sees and not store.has(road.teacher_responses):
        missing += ("the teacher's response, which the teacher is to see",)
    if tokenizer is None:
        return Preview(names, data, prompt, None, (), missing, left_out=left_out)
    from harness.models import chat

    whole = chat.encode_chat(tokenizer, prompt.messages)
    ids = whole[-max_prompt_tokens:] if max_prompt_tokens else whole
    text = chat.decoded(tokenizer, ids)
    there = [] if left_out else made
    found = [_response(store, ref, prompt, sample, tokenizer) for (_, _, sample), ref in there]
    masks = loss_masks(ids, [row for row, _, _ in found])
    parts = [Part("prompt", pieces(tokenizer, ids, [False] * len(ids)), len(whole) - len(ids))]
    parts += [
        Part(role, pieces(tokenizer, row, mask), int(response.finish == "length"))
        for ((role, _, _), _), (row, response, _), mask in zip(there, found, masks, strict=True)
    ]
    equal = len(found) > 1 and all(row == found[0][0] for row, _, _ in found)
    retokenised = any(other for *_, other in found)
    seen = _teacher_text(road, store, prompt, data, tokenizer)
    return Preview(names, data, prompt, text, tuple(parts), missing, retokenised, equal, left_out, seen)


def _response(
    store: Store, ref: Ref, prompt: Prompt, sample: int, tokenizer: Any
) -> tuple[Sequence[int], Response, bool]:
    """One response's ids, as training reads them; whether they are another tokenizer's, split anew."""
    from harness.models.tokenizers import tokenizer_fingerprint
    from harness.run.stages.inputs import response_ids, responses_by_key

    foreign = store.read(ref).facts["tokenizer"] != tokenizer_fingerprint(tokenizer)
    response = responses_by_key(ref, store)[prompt.id, sample]
    return response_ids(tokenizer, response, foreign), response, foreign


def _teacher_text(road: Road, store: Store, prompt: Prompt, data: Data, tokenizer: Any) -> str:
    """What the teacher reads in place of the prompt, as the template renders it: it shows the teacher's response."""
    if data.teacher_sees is None or not store.has(road.teacher_responses):
        return ""
    from harness.models import chat
    from harness.run.stages.inputs import responses_by_key

    response = responses_by_key(road.teacher_responses, store).get((prompt.id, 0))
    if response is None:  # the teacher's server gave none
        return ""
    asked = [message.model_dump() for message in prompt.messages]
    seen = [Message.model_validate(message) for message in data.teacher_sees(asked, response.text)]
    return chat.decoded(tokenizer, chat.encode_chat(tokenizer, seen))


def loss_masks(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[bool]]:
    """Which tokens of each response are in the loss: those that a training batch has as labels."""
    if not responses:
        return []
    from harness.logprobs.batching import Example, collate

    batch = collate([Example(0, prompt, tuple(responses))], "padded")
    width = batch.input_ids.shape[1]
    labelled = {int(place) + 1 for place in batch.predict}  # a position predicts the token after it
    return [
        [row * width + len(prompt) + place in labelled for place in range(len(response))]
        for row, response in enumerate(responses)
    ]
