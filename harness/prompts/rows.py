"""Our own format: a JSONL file of prompts, one object a line."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Message, Prompt


def parse(row: dict[str, Any], where: str) -> Prompt:
    """One row as a prompt.

    It has `prompt` (a string) or `messages` (a conversation that ends with the user), and may have `id`, `category`,
    `turns` (the user's further turns) and `answer` (a known right one, a text); a row without an id gets one from its
    content.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: expected either a 'prompt' or a 'messages' field, found {json.dumps(list(row))}")
    if not isinstance(row.get("prompt", ""), str):
        raise UserError(f"{where}: 'prompt' must be a text")
    data = row.get("messages", [{"role": "user", "content": row.get("prompt")}])
    try:
        messages = tuple(Message.model_validate(message) for message in data)
    except (ValidationError, TypeError) as error:
        raise UserError(f"{where}: messages need a role (system, user, assistant) and a text as content") from error
    if not messages or messages[-1].role != "user":
        raise UserError(f"{where}: the last message must be the user's")
    if not all(message.content.strip() for message in messages if message.role != "system"):
        raise UserError(f"{where}: an empty prompt")
    content = canonical_hash([message.model_dump() for message in messages])
    identifier = row.get("id", content[:16])
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise UserError(f"{where}: 'id' must be a string or a whole number")
    turns = row.get("turns") or []
    if not isinstance(turns, list) or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise UserError(f"{where}: 'turns' must be a list of texts, the user's turns after the first")
    answer = row.get("answer")
    return Prompt(
        id=str(identifier),
        messages=messages,
        category=str(row.get("category") or ""),
        answer=answer if isinstance(answer, str) else "",
        turns=tuple(turns),
    )
