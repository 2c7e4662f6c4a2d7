"""AlpacaEval's: a prompt (`.txt`) that asks for m or M, or an annotator's `configs.yaml`: its prompt and its parser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Role
from harness.core.registry import did_you_mean
from harness.core.section import Layer
from harness.judging.protocol import Question
from harness.judging.reply_forms import CONTRADICTION, UNREAD, Form, Letters, Reading
from harness.judging.templates.base import Template, digest_of, text_of
from harness.judging.templates.fencing import fill, placeholder

_ALPACA = ("instruction", "output_1", "output_2")
_SLOTS = placeholder(_ALPACA)
_START, _END = "<|im_start|>", "<|im_end|>"
_PARSERS = {
    "logprob_parser": {"numerator_token", "denominator_tokens", "is_binarize"},
    "regex_parser": {"outputs_to_match"},
}


@dataclass(frozen=True)
class Alpaca(Template):
    """output_1 is the response shown first.

    patterns: for the form rationale, the user's own expression by what it says (1, 2, 1.5 or 0).
    """

    turns: tuple[Message, ...]
    patterns: dict[str, str]

    def _variant(self, prompt: Prompt) -> Any:
        if len(prompt.messages) > 1:
            raise self._refuse(prompt, "has earlier turns or a system message, and the template has no place for them")
        return self.turns

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        texts = prompt.messages[-1].content, *question.texts_in_order
        values = dict(zip(_ALPACA, texts, strict=True))
        return [
            turn.model_copy(update={"content": fill(turn.content, values, _SLOTS)}) if turn.role == "user" else turn
            for turn in self._variant(prompt)
        ]

    def _read_rationale(self, text: str) -> Reading:
        return _read_patterns(text, self.patterns)


def _read_patterns(text: str, patterns: Mapping[str, str]) -> Reading:
    """The verdict whose expression matches, where there is one match in the whole text, as AlpacaEval has it."""
    keys: list[str] = []
    while len(keys) < 2:
        # the earliest match; of several at one place, the first expression of the file
        matches = [(found.start(), found.end(), key) for key, p in patterns.items() if (found := re.search(p, text))]
        if not matches:
            break
        _, end, key = min(matches, key=lambda match: match[0])
        if not end:  # an empty match at the beginning would be found for ever
            return UNREAD
        keys.append(key)
        text = text[end:]
    # 1 and 2 say which is better, 1.5 and 0 that neither is
    if len(keys) != 1:
        return Reading(None, CONTRADICTION) if len(set(keys)) > 1 else UNREAD
    return Reading({"1": 1.0, "2": 0.0}.get(keys[0], 0.5))


def alpaca_prompt(path: Path) -> Template:
    """A prompt alone: it is to ask for m or M, as AlpacaEval's default does."""
    turns = _turns(path)
    asked = " ".join(turn.content for turn in turns)
    if not all(re.search(rf"(?<![\w']){letter}(?!\w)", asked) for letter in "mM"):
        raise UserError(f"{path}: the prompt does not ask for m or M; name its parser in a configs.yaml beside it")
    return _template(path, str(path), turns, "letter", ("m", "M"))


def _template(
    path: Path,
    where: str,
    turns: tuple[Message, ...],
    form: Form,
    letters: Letters = ("1", "2"),
    patterns: Mapping[str, str] | None = None,
) -> Template:
    known = dict(patterns or {})
    # a list of pairs: of expressions that match at one place the first counts
    digest = digest_of(where, "alpaca", [turn.model_dump() for turn in turns], form, letters, list(known.items()))
    return Alpaca(path.name, digest, (form,), letters, turns, known)


def _turns(path: Path) -> tuple[Message, ...]:
    """A ChatML-like text as messages; one without any turn is a user's message."""
    text = text_of(path).strip()
    if _START not in text and _END not in text:
        turns: tuple[Message, ...] = (Message(role="user", content=text),)
    else:
        pieces = [piece.strip() for piece in text.split(_START)]
        if pieces[0] or not all(p.endswith(_END) and p.count(_END) == 1 for p in pieces[1:]):
            raise UserError(f"{path}: expected turns from {_START} to {_END}, and nothing between them")
        turns = tuple(_turn(piece.removesuffix(_END), path) for piece in pieces[1:])
    for turn in turns:
        if turn.role != "user" and _SLOTS.search(turn.content):
            raise UserError(f"{path}: placeholders may stand in the user's turns only, not in one of {turn.role}")
        for name in re.findall(r"\{([A-Za-z_]\w*)\}", turn.content):
            if name not in _ALPACA:
                raise UserError(f"{path}: unknown placeholder {{{name}}}{did_you_mean(name, _ALPACA)}")
    used = {found[1] for turn in turns for found in _SLOTS.finditer(turn.content)}
    for name in _ALPACA:
        if name not in used:
            raise UserError(f"{path}: the placeholder {{{name}}} is missing")
    return turns


def _turn(text: str, path: Path) -> Message:
    head, _, content = text.partition("\n")
    role = head.strip()
    if role not in get_args(Role):
        raise UserError(f"{path}: unknown role '{role}'{did_you_mean(role, get_args(Role))}")
    return Message(role=role, content=content.strip())  # type: ignore[arg-type]


def alpaca_annotator(path: Path, data: Layer) -> Template:
    """An annotator: its prompt and its parser. Which model it asks, and how it samples, is the judge's own setting;
    `is_binarize` is not followed: a letter's preference stays its probability."""
    if len(data) > 1:
        raise UserError(f"{path}: holds {len(data)} annotators ({', '.join(map(str, data))}); keep one")
    ((name, settings),) = data.items()
    where = f"{path}: {name}"
    if not isinstance(settings.get("prompt_template"), str):
        raise UserError(f"{where}: expected a prompt_template that is the path of one prompt")
    if settings.get("batch_size", 1) != 1:
        raise UserError(f"{where}: batch_size must be 1, one comparison a question")
    turns = _turns(_beside(path, settings["prompt_template"], where))
    parser = str(settings.get("fn_completion_parser", "regex_parser"))
    kwargs = settings.get("completion_parser_kwargs") or {}
    if parser not in _PARSERS:
        raise UserError(f"{where}: unsupported fn_completion_parser '{parser}'; expected {' or '.join(_PARSERS)}")
    if not isinstance(kwargs, dict) or not set(kwargs) <= _PARSERS[parser]:
        raise UserError(f"{where}: completion_parser_kwargs of {parser} may hold {', '.join(sorted(_PARSERS[parser]))}")
    if parser == "logprob_parser":
        return _template(path, where, turns, "letter", letters=_letters(kwargs, where))
    return _template(path, where, turns, "rationale", patterns=_patterns(kwargs.get("outputs_to_match"), where))


def _beside(config: Path, prompt: str, where: str) -> Path:
    """AlpacaEval names a prompt from the folder of all annotators; here also from the configuration's own."""
    for folder in (config.parent, config.absolute().parent.parent):
        if (folder / prompt).is_file():
            return folder / prompt
    raise UserError(f"{where}: prompt_template {prompt} does not exist beside the file or one folder up")


def _letters(kwargs: Layer, where: str) -> Letters:
    first, tokens = kwargs.get("numerator_token"), kwargs.get("denominator_tokens")
    texts = [str(token).strip() for token in tokens] if isinstance(tokens, list) else []
    if len(set(texts)) != 2 or len(texts) != 2 or str(first).strip() not in texts:
        raise UserError(f"{where}: expected two denominator_tokens, and numerator_token one of them")
    second = next(text for text in texts if text != str(first).strip())
    return str(first).strip(), second


def _patterns(given: Any, where: str) -> dict[str, str]:
    known = isinstance(given, dict) and set(given) <= {0, 1, 1.5, 2} and not any(isinstance(key, bool) for key in given)
    if not known or not {1, 2} <= set(given):
        raise UserError(f"{where}: outputs_to_match needs expressions for 1 and 2, and may have some for 1.5 and 0")
    for pattern in given.values():
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise UserError(f"{where}: outputs_to_match: {pattern!r} is no regular expression ({error})") from error
    return {f"{key:g}": pattern for key, pattern in given.items()}
