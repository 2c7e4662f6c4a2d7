"""From a foreign table's row to a row of our own: which column holds what, said or guessed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.prompts.rows import PartError, empty, known_answers, parse, to_ignore
from harness.prompts.settings import Columns
from harness.prompts.sources import RawRow, SourceTable

# Names that columns of public sets and of people's own files have, by what they hold.
TEXTS = {
    "prompt": ("prompt", "instruction", "question"),
    "messages": ("messages", "conversations", "conversation"),
    "turns": ("turns",),
}
IDS, CATEGORIES = ("id", "question_id", "prompt_id", "uid"), ("category",)
SYSTEMS, HISTORIES = ("system", "system_prompt", "system_message"), ("history",)
# The same, where the prompts' column has this name: how a `context` belongs to an `instruction` alone is known.
INPUTS = {"instruction": ("input", "context", "instances")}
ANSWERS = {"prompt": ("answer",), "messages": ("answer",), "turns": ("reference", "answer")}
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
# Names of columns without which a prompt is not what it was, by the setting that may say how they belong to it.
OF_THE_PROMPT = {
    **dict.fromkeys((*SYSTEMS, "system_instruction", "developer"), "system"),
    **dict.fromkeys((*HISTORIES, "chat_history", "conversation_history"), "history"),
    **dict.fromkeys(("input", "inputs", "context", "passage", "document", "article", "background", "query"), "input"),
    **dict.fromkeys(("instruction", "instructions", "instances"), "input"),
    **dict.fromkeys(("tools", "functions", "contexts", "documents", "passages", "choices", "options", "examples"), ""),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos", "files", "attachments"), ""),
}
# The same of a message's fields; content in another form than text is refused by its type.
OF_A_MESSAGE = ("tool_calls", "tool_call_id", "function_call", "images", "audio", "videos")


class LostPartError(UserError):
    """A row has more of a prompt than would be taken of it: the row is not at fault, and is not to be left out."""


def chosen(said: Columns, table: SourceTable) -> Columns:
    """The column of each thing: as said, or guessed by its name.

    Raises:
        UserError: a column that is not there, or none or several that may hold the prompts; it lists the columns.
    """
    if not table.columns:
        raise UserError(f"{table.where}: no prompts in it, and no columns")
    there = f"its columns are {', '.join(table.columns)}"
    given = said.named
    require_columns(said, table)
    there_are = [name for name in table.columns if name not in said.ignore]
    kind = next((kind for kind in TEXTS if kind in given), None)
    if kind is None:
        fits = [(kind, name) for kind, names in TEXTS.items() for name in names if name in there_are]
        if len(fits) != 1:
            problem = f"the prompts may be in {' or '.join(name for _, name in fits)}" if fits else "no prompts found"
            raise UserError(
                f"{table.where}: {problem}; {there}: name the set and its columns in the configuration, for example "
                "prompts.NAME.columns.prompt=COLUMN (or .messages, or .turns)"
            )
        kind, given[fits[0][0]] = fits[0]
    text = given[kind]
    inputs = INPUTS.get(text, ()) if kind == "prompt" else ()
    guesses = {
        "id": IDS,
        "category": CATEGORIES,
        "system": SYSTEMS,
        "history": () if kind == "messages" else HISTORIES,
        "input": inputs,
        "answer": (*ANSWERS.get(text, ()), "reference_answer"),
    }
    for what, names in guesses.items():
        found = next((name for name in names if name in there_are and name not in given.values()), None)
        if found:
            given.setdefault(what, found)
    return Columns(**given, ignore=said.ignore)


def require_columns(said: Columns, table: SourceTable) -> None:
    for name in (*said.named.values(), *said.ignore):
        if name not in table.columns:
            raise UserError(f"{table.where}: there is no column '{name}'; its columns are {', '.join(table.columns)}")


def not_taken(names: Iterable[str], columns: Columns) -> tuple[list[str], list[str]]:
    """The columns that nothing is taken of: those that belong to a prompt by their names, and the others."""
    rest = [name for name in names if name not in (*columns.named.values(), *columns.ignore)]
    shaping = [name for name in rest if name.casefold() in OF_THE_PROMPT]
    return shaping, [name for name in rest if name not in shaping]


def require_whole(row: RawRow, shaping: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a row that has something in a column that belongs to the prompt, and that nothing is taken of.

    Raises:
        LostPartError: it names the column, and the settings that decide.
    """
    possible = {"system", *([] if columns.messages else ["history"]), *(["input"] if columns.prompt else [])}
    for name in shaping:
        if not empty(row.get(name)):
            setting = OF_THE_PROMPT.get(name.casefold())
            free = setting in possible - columns.named.keys()
            how = f"; prompts.NAME.columns.{setting}={name} takes it in" if free else ""
            raise LostPartError(
                f"{where}: '{name}' is a part of the prompt, and it is not clear how{how}{to_ignore(name)}"
            )


def prompt_of(row: RawRow, columns: Columns, where: str) -> Prompt:
    """A foreign row as a prompt.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    cells = {what: row.get(name) for what, name in columns.named.items()}  # a column may well have no name
    made: RawRow = {name: cells.get(name) for name in ("category", "system", "history")}
    if columns.prompt:
        text, more = cells["prompt"], _input(cells.get("input"), where, columns.input)
        if isinstance(text, str):
            made["prompt"] = f"{text}\n\n{more}" if more.strip() else text
        elif more.strip():
            raise UserError(f"{where}: '{columns.input}' is appended to a text, and '{columns.prompt}' is none")
        else:
            made["prompt"] = _conversation(text, where)
    elif columns.messages:
        made["messages"] = _conversation(cells["messages"], where)
    else:
        turns = cells["turns"]
        if not isinstance(turns, list) or not turns:
            raise UserError(f"{where}: '{columns.turns}' must be a list of the user's turns")
        made["prompt"], *made["turns"] = map(_text, turns)
    if isinstance(made["history"], list) and all(isinstance(turn, dict) for turn in made["history"]):
        made["history"] = _messages(made["history"], where)
    if columns.answer:
        named, advice = f"{where}: '{columns.answer}'", to_ignore(columns.answer)
        made["answer"] = list(known_answers(cells["answer"], made.get("turns", ()), named, advice))
    if cells.get("id") not in (None, ""):
        made["id"] = cells["id"]
    return parsed(made, where, columns.named)


def parsed(made: RawRow, where: str, names: Mapping[str, str]) -> Prompt:
    """`parse` of a row whose fields are in columns of other names.

    Raises:
        UserError: it holds none; of a system message or a history that is none, with the setting that decides.
    """
    try:
        return parse(made, where)
    except PartError as error:
        raise UserError(f"{error}{to_ignore(names.get(error.field, error.field))}") from error


def _input(value: Any, where: str, name: str | None) -> str:
    """The text that belongs to an instruction; Self-Instruct keeps it with an output in `instances`, as a list of one
    object, or as an object of lists once it went through Parquet."""
    if isinstance(value, dict):
        value = value.get("input")
    elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value = [one.get("input") for one in value]
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if empty(value):
        return ""
    if not isinstance(value, str | int | float):
        raise UserError(f"{where}: '{name}' is appended to the prompt, and is not one text{to_ignore(str(name))}")
    return value if isinstance(value, str) else json.dumps(value)


def _text(turn: Any) -> Any:
    """Arena-Hard has an object around each turn."""
    return turn.get("content") if isinstance(turn, dict) else turn


def _conversation(data: Any, where: str) -> Any:
    """Messages with a role and a content, up to the last of the user's; anything else is left for `parse` to refuse."""
    if not isinstance(data, list) or not all(isinstance(message, dict) for message in data):
        return data
    messages = _messages(data, where)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return messages


def _messages(data: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Any tool's messages as ours; a role that we do not know stays, for `parse` to refuse."""
    messages = []
    for message in data:
        lost = next((name for name in OF_A_MESSAGE if not empty(message.get(name))), None)
        if lost:
            raise UserError(f"{where}: a message has '{lost}', and only texts are taken")
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        messages.append({"role": SHAREGPT_ROLES.get(str(role), role), "content": _content(content, where)})
    return messages


def _content(content: Any, where: str) -> Any:
    """Of content in parts, the texts, a line each."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UserError(f"{where}: a message has a part of type '{part.get('type')}', and only texts are taken")
    return "\n".join(part["text"] for part in content)


def message_fields(row: RawRow, columns: Columns) -> Iterator[str]:
    """What nothing is taken of inside a row's conversation, as COLUMN.FIELD."""
    column = columns.messages or ""
    data = row.get(column)
    for message in data if isinstance(data, list) else ():
        for name in message if isinstance(message, dict) else ():
            if name not in ("role", "from", "content", "value", *OF_A_MESSAGE) and not empty(message[name]):
                yield f"{column}.{name}"
