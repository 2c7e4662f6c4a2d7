"""This project's own format: YAML with Jinja texts, of which `benchmarks/judge_templates/default.yaml` is the example.

Each value stands in a fence with a code that occurs in none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.core.registry import did_you_mean
from harness.core.section import Layer, Section, validated
from harness.judging.protocol import Question
from harness.judging.reply_forms import Form
from harness.judging.templates.base import Template, digest_of

SectionName = Literal["chat", "multi_turn", "reference", "multi_turn_reference"]
_HOLDS: dict[SectionName, frozenset[str]] = {
    "chat": frozenset({"question", "response_a", "response_b"}),
    "multi_turn": frozenset({"conversation", "question", "response_a", "response_b"}),
    "reference": frozenset({"question", "reference_answer", "response_a", "response_b"}),
    "multi_turn_reference": frozenset({"conversation", "question", "reference_answer", "response_a", "response_b"}),
}
_TITLES = {
    "question": "USER MESSAGE",
    "reference_answer": "RIGHT ANSWER",
    "response_a": "RESPONSE A",
    "response_b": "RESPONSE B",
}
_environment = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


class _Variants(Section):
    chat: str | None = None
    multi_turn: str | None = None
    reference: str | None = None
    multi_turn_reference: str | None = None


class File(Section):
    """A template's file. Each variant holds each of its values (_HOLDS) once, unchanged: a value comes with its fence.
    `code` is the fences' code. `ask` says, form by form, how to reply, and is put after the variant."""

    version: Literal[1]
    summary: str = ""
    system: str = ""
    variants: _Variants
    ask: dict[Form, str]


@dataclass(frozen=True)
class Own(Template):
    """A prompt with an earlier turn or a system message is asked about by a multi-turn variant, one with a known
    answer by a reference-guided one; where a file has none of the latter, without the answer. Where a response answers
    several turns, it and the known answers stand turn by turn."""

    system: str
    variants: dict[str, str]
    ask: dict[str, str]

    def _variant(self, prompt: Prompt) -> Any:
        return self.variants[self._kind(prompt)]

    def _kind(self, prompt: Prompt) -> SectionName:
        several = len(prompt.messages) > 1
        without: SectionName = "multi_turn" if several else "chat"
        guided: SectionName = "multi_turn_reference" if several else "reference"
        for kind in (guided, without) if prompt.reference else (without,):
            if kind in self.variants:
                return kind
        what = "has earlier turns or a system message" if several else "has one turn and no known answer"
        raise self._refuse(prompt, f"{what}, and the template has no variant {without}")

    def _shows_answer(self, prompt: Prompt) -> bool:
        return self._kind(prompt).endswith("reference")

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        user = _compiled(self._variant(prompt)).render(_fenced(prompt, question.texts_in_order))
        asked = [Message(role="user", content=f"{user}\n\n{_compiled(self.ask[form]).render()}")]
        return [Message(role="system", content=_compiled(self.system).render()), *asked] if self.system else asked


@lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    return _environment.from_string(text.strip())


def _fenced(prompt: Prompt, shown: tuple[str, str]) -> dict[str, str]:
    """Every value with its fence, and the code of the fences."""
    *earlier, last = prompt.messages
    first, second = shown
    texts = {"question": last.content, "reference_answer": prompt.reference, "response_a": first, "response_b": second}
    code = _code([*(message.content for message in earlier), *texts.values()])
    turns = [
        _fence(f"TURN {number}, {message.role.upper()}", message.content, code)
        for number, message in enumerate(earlier, 1)
    ]
    fenced = {name: _fence(_TITLES[name], text, code) for name, text in texts.items()}
    return {"code": code, "conversation": "\n\n".join(turns), **fenced}


def _fence(title: str, text: str, code: str) -> str:
    return f"===== BEGIN {title} ({code}) =====\n{text}\n===== END {title} ({code}) ====="


def _code(texts: list[str]) -> str:
    """16 hex digits that occur in none of the texts, and follow from all of them: no author knows them beforehand."""
    attempt = 0
    while True:
        code = hashlib.sha256(json.dumps([attempt, texts]).encode()).hexdigest()[:16]
        if not any(code in text.lower() for text in texts):
            return code
        attempt += 1


def own_template(data: Layer, name: str, where: str) -> Template:
    try:
        file: File = validated(File, data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    variants = {kind: text for kind, text in file.variants.model_dump().items() if text is not None}
    if not variants or not file.ask:
        raise UserError(f"{where}: expected at least one variant and one form to ask in")
    for part, text in (("system", file.system), *((f"ask.{form}", text) for form, text in file.ask.items())):
        _try_rendering(text, {}, f"{where}: {part}")
    for kind in get_args(SectionName):
        if kind in variants:
            _try_variant(variants[kind], kind, f"{where}: variants.{kind}")
    forms = tuple(file.ask)
    asked = {str(form): text for form, text in file.ask.items()}
    digest = digest_of(where, "own", file.system, variants, asked, forms)
    return Own(name, digest, forms, ("A", "B"), file.system, variants, asked)


def _try_variant(text: str, kind: SectionName, where: str) -> None:
    """Render once, and see that each value stands there once with its fence."""
    turns = ("user", "u1"), ("assistant", "u2"), ("user", "u3")
    prompt = Prompt(id="", messages=tuple(Message(role=r, content=c) for r, c in turns), answer="u4")  # type: ignore[arg-type]
    values = _fenced(prompt, ("u5", "u6"))
    rendered = _try_rendering(text, {name: values[name] for name in {*_HOLDS[kind], "code"}}, where)
    for name in sorted(_HOLDS[kind]):
        if rendered.count(values[name]) != 1:
            raise UserError(f"{where}: expected {{{{ {name} }}}} in it once, unchanged")


def _try_rendering(text: str, values: Mapping[str, str], where: str) -> str:
    try:
        for name in sorted(meta.find_undeclared_variables(_environment.parse(text)) - set(_environment.globals)):
            if name not in values:
                raise UserError(f"{where}: there is no value '{name}' here{did_you_mean(name, values)}")
        return _compiled(text).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{where}: malformed template, line {error.lineno} ({error.message})") from error
    except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{where}: cannot be rendered ({' '.join(str(error).split())})") from error
