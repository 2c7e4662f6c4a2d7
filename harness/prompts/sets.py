"""Prompt sets by name (benchmarks/prompts/NAME.jsonl with its card NAME.md) or by path."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import parse_yaml
from harness.errors import UserError
from harness.records import Message, Prompt, read_jsonl
from harness.registry import Registry
from harness.store import canonical_hash


@dataclass(frozen=True)
class PromptSet:
    """A prompt set. `in_domain_of` names the training set whose distribution it shares, if any."""

    name: str
    path: Path
    summary: str = ""
    license: str = ""
    in_domain_of: str | None = None


def _load_sets() -> dict[str, PromptSet]:
    folder = resources.files("benchmarks") / "prompts"
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".md"):
            name = entry.name.removesuffix(".md")
            head = entry.read_text(encoding="utf-8").split("---")[1]
            card = parse_yaml(head, f"card {entry.name}")
            found[name] = PromptSet(
                name,
                Path(str(folder / f"{name}.jsonl")),
                card["summary"],
                card["license"],
                card.get("in_domain_of"),
            )
    return found


prompt_sets: Registry[PromptSet] = Registry("prompt set", _load_sets)


def _from_path(text: str) -> PromptSet | None:
    path = Path(text)
    if path.suffix == ".jsonl" or (text not in prompt_sets and path.exists()):
        if not path.is_file():
            raise UserError(f"prompt file {path} does not exist")
        return PromptSet(path.stem, path, f"file {path}")
    return None


def training_set(text: str) -> PromptSet:
    """A set by its name or by the path of a JSONL file."""
    return _from_path(text) or prompt_sets.get(text)


def evaluation_set(text: str, train: PromptSet) -> tuple[PromptSet, bool]:
    """A set and whether it is in-domain: a named set by its card, a file only when written `in:PATH`."""
    if text.startswith("in:"):
        found = _from_path(text[3:])
        if found is None:
            raise UserError(f"prompt file {text[3:]} does not exist")
        return found, True
    found = _from_path(text)
    if found:
        return found, False
    named = prompt_sets.get(text)
    return named, named.in_domain_of is not None and prompt_sets.get(named.in_domain_of) == train


def read_prompts(path: Path, limit: int | None = None) -> list[Prompt]:
    """The first `limit` prompts of a JSONL file; the whole file is checked.

    A row has `prompt` (a string) or `messages` (a conversation that ends with the user), and may have `id` and
    `category`; a row without an id gets one from its content.

    Raises:
        UserError: by file and line: malformed JSON, a row of another shape, an empty prompt, a repeated id;
            or an empty file.
    """
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        prompt = _prompt(row, f"{path}:{number}")
        if prompt.id in seen:
            raise UserError(f"{path}:{number}: prompt id '{prompt.id}' was used on line {seen[prompt.id]} already")
        seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise UserError(f"{path}: no prompts in the file")
    return prompts[:limit]


def _prompt(row: dict[str, Any], where: str) -> Prompt:
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: expected either a 'prompt' or a 'messages' field, found {json.dumps(list(row))}")
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
    return Prompt(id=str(identifier), messages=messages, category=str(row.get("category") or ""))
