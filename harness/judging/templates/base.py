"""What a template is, whatever its format: a question put in words, and a preference read from a reply."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Message, Prompt
from harness.judging.protocol import Question
from harness.judging.reply_forms import PREFERENCES, UNREAD, Form, Letters, Reading, read_brackets

VERSION = 1  # part of every digest; raise it when the same file is rendered or read in another way
REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"rationale": {"type": "string"}, "verdict": {"type": "string", "enum": ["A", "B", "C"]}},
    "required": ["rationale", "verdict"],
    "additionalProperties": False,
}
_OBJECT = re.compile(r"""\A\s*\{|["'](rationale|verdict)["']\s*:""")


@dataclass(frozen=True)
class Template(ABC):
    """How a question is put to a judge that reads, and how its reply is read.

    name: a packaged template's name, or the name of the user's file.
    digest: of everything that shapes a question or its reading; where the file lies is no part of it.
    forms: what it can ask for, the preferred form first. letters: for the letter form, what stands for the response
    shown first and for the one shown second.
    """

    name: str
    digest: str
    forms: tuple[Form, ...]
    letters: Letters

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a structured reply."""
        return REPLY_SCHEMA

    def messages(self, question: Question, form: Form) -> list[Message]:
        """The messages that ask a question; the same question gives the same messages.

        Raises:
            UserError: a prompt that the template has no place for; see `check`.
            ValueError: a form that is not one of the template's.
        """
        if form not in self.forms:
            raise ValueError(f"judge template {self.name} cannot ask in the form '{form}'")
        return self._messages(question, form)

    def read(self, text: str, form: Form) -> Reading:
        """The preference for the response shown first, or why there is none. A leading <think> block is left out."""
        said = _after_thinking(text)
        if form == "letter":
            return read_letter(said, self.letters)
        if form == "rationale":
            return self._read_rationale(said)
        # a server that ignores the schema answers in words; those of an object that breaks it may quote a response
        return _read_structured(said) if _OBJECT.search(said) else self._read_rationale(said)

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Refuse prompts that cannot be asked about, before anything is.

        Raises:
            UserError: the first such prompt, by its id.
        """
        for prompt in prompts:
            self._variant(prompt)

    def notes(self, prompts: Iterable[Prompt]) -> list[str]:
        """What people are told of prompts that can be asked about, but in part."""
        lacking = sum(bool(prompt.reference) and not self._shows_answer(prompt) for prompt in prompts)
        place = f"judge template {self.name} has no place for a known answer"
        return [f"{place}: {lacking} prompts that have one are judged without it"] if lacking else []

    def _shows_answer(self, prompt: Prompt) -> bool:
        """Whether the text that asks about this prompt holds its known answers."""
        return False

    @abstractmethod
    def _messages(self, question: Question, form: Form) -> list[Message]: ...

    @abstractmethod
    def _variant(self, prompt: Prompt) -> Any:
        """The text that asks about this prompt, or UserError."""

    def _read_rationale(self, text: str) -> Reading:
        return read_brackets(text)

    def _refuse(self, prompt: Prompt, why: str) -> UserError:
        return UserError(f"judge template {self.name}: prompt '{prompt.id}' {why}; use another template or prompt set")


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def digest_of(where: str, *parts: Any) -> str:
    try:
        return canonical_hash([VERSION, *parts])[:12]
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair (\\ud800…) is not text") from error


def _after_thinking(text: str) -> str:
    """What follows a <think> block that the text begins with; nothing, where the block never ends."""
    start = text.lstrip()
    return start.partition("</think>")[2] if start.startswith("<think>") else text


def read_letter(text: str, letters: Letters) -> Reading:
    """The letter alone, by its exact case; a full stop after it is let pass."""
    said = text.strip().removesuffix(".")
    return {letters[0]: Reading(1.0), letters[1]: Reading(0.0)}.get(said, UNREAD)


def _read_structured(text: str) -> Reading:
    """A reply that follows REPLY_SCHEMA to the letter, perhaps in a ```json fence."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text.strip(), re.DOTALL)
    try:
        pairs = json.loads(fenced[1] if fenced else text, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return UNREAD
    # as pairs, so that a second verdict in one object is seen
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return UNREAD
    if sorted(key for key, _ in pairs) != ["rationale", "verdict"] or not all(isinstance(v, str) for _, v in pairs):
        return UNREAD
    verdict = dict(pairs)["verdict"]
    return Reading(PREFERENCES[verdict]) if verdict in PREFERENCES else UNREAD
