"""From a foreign table's row to a row of our own: which column holds what, said or guessed."""

from __future__ import annotations

from typing import Any

from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.prompts.rows import parse
from harness.prompts.settings import Columns
from harness.prompts.sources import RawRow, SourceTable

# Names that columns of public sets and of people's own files have, by what they hold.
TEXTS = {
    "prompt": ("prompt", "instruction", "question"),
    "messages": ("messages", "conversations", "conversation"),
    "turns": ("turns",),
}
IDS, CATEGORIES = ("id", "question_id", "prompt_id", "uid"), ("category",)
# The same, where the prompts' column has this name: a `context` belongs to an `instruction` and to nothing else.
INPUTS = {"instruction": ("input", "context", "instances")}
ANSWERS = {"prompt": ("answer",), "messages": ("answer",), "turns": ("reference",)}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


def chosen(said: Columns, table: SourceTable) -> Columns:
    """The column of each thing: as said, or guessed by its name.

    Raises:
        UserError: a column that is not there, or none or several that may hold the prompts; it lists the columns.
    """
    if not table.columns:
        raise UserError(f"{table.where}: no prompts in it, and no columns")
    there = f"its columns are {', '.join(table.columns)}"
    given = said.model_dump(exclude_none=True)
    for name in given.values():
        if name not in table.columns:
            raise UserError(f"{table.where}: there is no column '{name}'; {there}")
    kind = next((kind for kind in TEXTS if kind in given), None)
    if kind is None:
        fits = [(kind, name) for kind, names in TEXTS.items() for name in names if name in table.columns]
        if len(fits) != 1:
            problem = f"the prompts may be in {' or '.join(name for _, name in fits)}" if fits else "no prompts found"
            raise UserError(
                f"{table.where}: {problem}; {there}: name the set and its columns in the configuration, for example "
                "prompts.NAME.columns.prompt=COLUMN (or .messages, or .turns)"
            )
        kind, given[fits[0][0]] = fits[0]
    text = given[kind]
    inputs = INPUTS.get(text, ()) if kind == "prompt" else ()
    guesses = {"id": IDS, "category": CATEGORIES, "input": inputs, "answer": ANSWERS.get(text, ())}
    for what, names in guesses.items():
        found = next((name for name in names if name in table.columns), None)
        if found:
            given.setdefault(what, found)
    return Columns(**given)


def prompt_of(row: RawRow, columns: Columns, where: str) -> Prompt:
    """A foreign row as a prompt.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    made: RawRow = {"category": row.get(columns.category or ""), "answer": _first(row.get(columns.answer or ""))}
    if columns.prompt:
        text, more = row.get(columns.prompt), _input(row.get(columns.input or ""))
        made["prompt"] = f"{text}\n\n{more}" if more.strip() and isinstance(text, str) else text
    elif columns.messages:
        made["messages"] = _conversation(row.get(columns.messages))
    else:
        turns = row.get(str(columns.turns))
        if not isinstance(turns, list) or not turns:
            raise UserError(f"{where}: '{columns.turns}' must be a list of the user's turns")
        made["prompt"], *made["turns"] = map(_text, turns)
    identifier = row.get(columns.id or "")
    if identifier not in (None, ""):
        made["id"] = identifier
    return parse(made, where)


def _first(answer: Any) -> Any:
    """FastChat has a reference answer for each turn."""
    return answer[0] if isinstance(answer, list) and answer else answer


def _input(value: Any) -> str:
    """The text that belongs to an instruction; Self-Instruct keeps it with an output in `instances`, as a list of
    objects, or as an object of lists once it went through Parquet."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0].get("input")
    elif isinstance(value, dict):
        value = _first(value.get("input"))
    return value if isinstance(value, str) else ""


def _text(turn: Any) -> Any:
    """Arena-Hard has an object around each turn."""
    return turn.get("content") if isinstance(turn, dict) else turn


def _conversation(data: Any) -> Any:
    """Messages with a role and a content, up to the last of the user's; anything else is left for `parse` to refuse."""
    if not isinstance(data, list) or not all(isinstance(message, dict) for message in data):
        return data
    messages = []
    for message in data:
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        messages.append({"role": SHAREGPT_ROLES.get(str(role), role), "content": content})
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return messages
