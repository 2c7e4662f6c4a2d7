"""Our own format: a JSONL file of prompts, one object a line; and the values of a row that any format has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from typing import Any

from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Message, Prompt

FIELDS = frozenset(
    {"id", "prompt", "messages", "category", "turns", "answer", "turn_answers", "system", "history"}
)  # of our own format


class PartError(UserError):
    """A row's `system` or `history` is not what it is to be. field: which of them."""

    def __init__(self, field: str, said: str) -> None:
        super().__init__(said)
        self.field = field


def parse(row: dict[str, Any], where: str) -> Prompt:
    """One row as a prompt.

    It has `prompt` (a text, or a conversation) or `messages` (a conversation that ends with the user), and may have
    `id`, `category`, `system` and `history` (see `begun`), `turns` (the user's further turns) and `answer` (a known
    right one, see `known_answers`); a row without an id gets one from its content.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: expected either a 'prompt' or a 'messages' field, found {json.dumps(list(row))}")
    data = row.get("prompt", row.get("messages"))
    if "prompt" in row and not isinstance(data, str | list):
        raise UserError(f"{where}: 'prompt' must be a text")
    one = "prompt" in row and isinstance(data, str)
    said = messages_of([{"role": "user", "content": data}] if one else data, where)
    messages = begun(said, row.get("system"), row.get("history"), where)
    if not messages or messages[-1].role != "user":
        raise UserError(f"{where}: the last message must be the user's")
    if not all(message.content.strip() for message in messages if message.role != "system"):
        raise UserError(f"{where}: an empty prompt")
    content = canonical_hash([message.model_dump() for message in messages])
    identifier = row.get("id", content[:16])
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise UserError(f"{where}: 'id' must be a string or a whole number")
    turns = further_turns(row.get("turns"), where)
    answer, *others = answers_of(row, turns, where, to_ignore("answer"))
    return Prompt(
        id=str(identifier),
        messages=messages,
        category=str(row.get("category") or ""),
        answer=answer,
        turns=turns,
        turn_answers=tuple(others),
    )


def to_ignore(column: str) -> str:
    """What an error advises about a column that the prompts can do without."""
    return f"; prompts.NAME.columns.ignore=[{column}] leaves it out, of a set that the configuration names"


def messages_of(data: Any, where: str) -> tuple[Message, ...]:
    """Messages of a role and a text each, and nothing else."""
    try:
        return tuple(Message.model_validate(message) for message in data)
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        wrong = f", and '{first['input']}' is none" if first and first["loc"] == ("role",) else ""
        problem = f"messages need a role (system, user, assistant{wrong}) and a text as content"
        raise UserError(f"{where}: {problem}") from error


def begun(messages: tuple[Message, ...], system: Any, history: Any, where: str) -> tuple[Message, ...]:
    """A conversation with what a row has before it.

    system: a text, which is its system message. history: earlier turns, as [user, assistant] pairs or as messages,
    before a prompt that is one message.
    """
    if not empty(history):
        if len(messages) > 1:
            said = f"{where}: 'history' stands before a prompt of one message, and this one has its own"
            raise PartError("history", said)
        messages = (*_earlier(history, where), *messages)
    if empty(system):
        return messages
    if not isinstance(system, str):
        raise PartError("system", f"{where}: 'system' must be a text")
    own = [message.content for message in messages if message.role == "system"]
    if any(text != system for text in own):
        raise PartError("system", f"{where}: 'system' is not the system message that the conversation has")
    return messages if own else (Message(role="system", content=system), *messages)


def _earlier(history: Any, where: str) -> tuple[Message, ...]:
    problem = f"{where}: 'history' must be a list of [user, assistant] pairs, or of messages up to an assistant's"
    if not isinstance(history, list):
        raise PartError("history", problem)
    if all(isinstance(turn, dict) for turn in history):
        messages = messages_of(history, f"{where}: 'history'")
    elif all(isinstance(turn, list) and [type(text) for text in turn] == [str, str] for turn in history):
        said = [pair for turn in history for pair in zip(("user", "assistant"), turn, strict=True)]
        messages = messages_of([{"role": role, "content": text} for role, text in said], where)
    else:
        raise PartError("history", problem)
    if messages[-1].role != "assistant":
        raise PartError("history", problem)
    return messages


def further_turns(turns: Any, where: str) -> tuple[str, ...]:
    turns = turns or []
    if not isinstance(turns, list) or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise UserError(f"{where}: 'turns' must be a list of texts, the user's turns after the first")
    return tuple(turns)


def answers_of(row: dict[str, Any], turns: Sequence[str], where: str, advice: str = "") -> tuple[str, ...]:
    """The known right answers of a row of our own format: see `known_answers`."""
    answers, more = row.get("answer"), row.get("turn_answers") or []
    if not isinstance(more, list):
        raise UserError(f"{where}: 'turn_answers' must be a list, of the known answers to 'turns'")
    return known_answers([answers, *more] if more else answers, turns, f"{where}: 'answer'", advice)


def known_answers(value: Any, turns: Sequence[str], where: str, advice: str = "") -> tuple[str, ...]:
    """The known right answer, and those to the further turns, without the last ones that are not known.

    value: a text, a number, true or false (as JSON writes them), null for none; or a list of these, turn by turn.
    where, advice: what an error begins and ends with.
    """
    given = (value or [""]) if isinstance(value, list) else [value]
    if len(given) > 1 + len(turns):
        several = f"{1 + len(turns)} turns" if turns else "1 turn"
        raise UserError(
            f"{where}: a list of {len(given)} known answers, and the prompt has {several} to answer{advice}"
        )
    if not all(one is None or isinstance(one, str | int | float) for one in given):
        kind = type(value).__name__
        raise UserError(f"{where}: a known answer is a text or a number, or a list of them by turn, no {kind}{advice}")
    answers = [_as_text(one) for one in given]
    while len(answers) > 1 and not answers[-1]:
        answers.pop()
    return tuple(answers)


def _as_text(answer: str | float | None) -> str:
    if answer is None or (isinstance(answer, float) and isnan(answer)):  # the latter is how tables say that none is
        return ""
    return answer if isinstance(answer, str) else json.dumps(answer)


def empty(value: Any) -> bool:
    """Whether a cell holds nothing, however a table writes that."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}")
    return value is None or value in ([], {}) or (isinstance(value, float) and isnan(value))
