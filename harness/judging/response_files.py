"""Response files of any origin: what `judge` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Response, read_jsonl
from harness.core.units import first_named
from harness.judging.protocol import Comparison
from harness.prompts.columns import OF_THE_PROMPT
from harness.prompts.rows import FIELDS, answers_of, begun, empty, further_turns

NAMED_AT_MOST = 5  # ids in an error


@dataclass(frozen=True)
class ResponseRow:
    prompt: Prompt | None  # None where the row leaves it to the other file
    response: Response


def read_comparisons(candidate: Path, reference: Path) -> list[Comparison]:
    """The candidate's responses with the reference's, joined on `prompt_id` and `sample`, in the candidate's order.

    Rows have `prompt_id`, `response`, and `prompt` (a text) or `messages` (a conversation that ends with the user),
    which one of the two files may leave out; of several responses to a prompt `sample`, from 0; `system`, `history`,
    `turns` and `answer` are as in a file of prompts. A field that belongs to a prompt by its name and is not taken is
    refused; others do no harm.

    Raises:
        UserError: a row that is none, by file and line; ids that are missing, twice, or of two different prompts.
    """
    ours, theirs = _rows(candidate), _rows(reference)
    for file, lacking in ((reference, ours.keys() - theirs.keys()), (candidate, theirs.keys() - ours.keys())):
        if lacking:
            names = _some(_named(*key) for key in sorted(lacking))
            raise UserError(f"{file} has no response to {names}; both files need the same prompts and samples")
    known: dict[str, list[Prompt]] = {}
    for (prompt_id, _), row in [*ours.items(), *theirs.items()]:
        known.setdefault(prompt_id, []).extend([row.prompt] if row.prompt else [])
    different = [name for name, prompts in known.items() if any(_differ(*two) for two in combinations(prompts, 2))]
    if different:
        names = _some(_named(name) for name in sorted(different))
        raise UserError(f"{candidate} and {reference} have different prompts under the same id: {names}")
    comparisons = []
    for key, row in ours.items():
        prompt = row.prompt or theirs[key].prompt or next(iter(known[key[0]]), None)
        if prompt is None:
            raise UserError(f"neither {candidate} nor {reference} says what the prompt '{key[0]}' is")
        other = theirs[key].prompt
        if other is not None and other.reference and not prompt.reference:
            prompt = prompt.model_copy(update={"answer": other.answer, "turn_answers": other.turn_answers})
        comparisons.append(Comparison(prompt, row.response, theirs[key].response))
    return comparisons


def _differ(one: Prompt, other: Prompt) -> bool:
    if (one.messages, one.turns) != (other.messages, other.turns):
        return True
    return bool(one.reference and other.reference and one.references != other.references)


Key = tuple[str, int]  # prompt id, sample


def _some(names: Iterable[str]) -> str:
    return first_named(names, NAMED_AT_MOST)


def _named(prompt_id: str, sample: int = 0) -> str:
    return f"'{prompt_id}' (sample {sample})" if sample else f"'{prompt_id}'"


def _rows(path: Path) -> dict[Key, ResponseRow]:
    rows: dict[Key, ResponseRow] = {}
    for number, data in read_jsonl(path):
        row = _row(data, f"{path}:{number}")
        key = row.response.prompt_id, row.response.sample
        if key in rows:
            raise UserError(f"{path}:{number}: a second response to {_named(*key)}; 'sample' numbers several from 0")
        rows[key] = row
    if not rows:
        raise UserError(f"{path} holds no responses")
    return rows


def _row(data: dict[str, Any], where: str) -> ResponseRow:
    key, text = data.get("prompt_id"), data.get("response")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key:
        raise UserError(f"{where}: 'prompt_id' is missing or no text")
    if not isinstance(text, str):
        raise UserError(f"{where}: 'response' is missing or no text")
    sample = data.get("sample", 0)
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise UserError(f"{where}: 'sample' is no whole number from 0")
    response = Response(prompt_id=key, sample=sample, token_ids=(), text=text, finish="stop")
    return ResponseRow(read_prompt(key, data, where), response)


def _in(messages: Sequence[Message], value: Any) -> bool:
    """Whether a text stands in a conversation already, on lines of its own: as where a prompt was put together of
    several columns."""
    return isinstance(value, str) and any(f"\n{value.strip()}\n" in f"\n{message.content}\n" for message in messages)


def read_prompt(key: str, data: dict[str, Any], where: str) -> Prompt | None:
    """The prompt that a row holds in `prompt` or `messages`, with what belongs to it, as in a file of prompts; None
    where it holds neither."""
    if "prompt" in data and "messages" in data:
        raise UserError(f"{where}: both 'prompt' and 'messages'; leave one out")
    said = data.get("messages", [{"role": "user", "content": data["prompt"]}] if "prompt" in data else None)
    try:
        messages = tuple(Message.model_validate(message) for message in said) if said is not None else ()
    except (ValidationError, TypeError) as error:
        raise UserError(f"{where}: the prompt is no text or no conversation of roles and contents") from error
    for name, value in data.items():
        if name.casefold() in OF_THE_PROMPT and name not in FIELDS and not empty(value) and not _in(messages, value):
            raise UserError(f"{where}: '{name}' is a part of the prompt, and no judge would see it: put it there")
    if said is None:
        return None
    messages = begun(messages, data.get("system"), data.get("history"), where)
    if not messages or messages[-1].role != "user":
        raise UserError(f"{where}: the conversation does not end with the user's turn")
    turns = further_turns(data.get("turns"), where)
    answer, *others = answers_of(data, turns, where)
    return Prompt(id=key, messages=messages, answer=answer, turns=turns, turn_answers=tuple(others))
