"""Judge templates: from a question to the messages that ask it, and from what a judge said to a preference.

Three formats are read:

- this project's own: YAML with Jinja texts, of which `benchmarks/judge_templates/default.yaml` is the example
- FastChat's `judge_prompts.jsonl`: its pairwise rows with the output format [[A]]
- AlpacaEval's: a prompt (`.txt`) that asks for m or M, or an annotator's `configs.yaml` that names prompt and parser

Prompts and responses are data. They are never parsed as template code, never stand in a system message, and cannot
imitate what surrounds them. In this project's own format each stands in a fence with a code that occurs in none of
them. The other formats have fixed fences: an imitation of one inside a value is broken up with a zero-width space.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.config import Layer, Section, packaged_yaml, parse_yaml, validated
from harness.errors import UserError
from harness.judging.forms import Form, Letters
from harness.judging.protocol import Question
from harness.records import Message, Prompt, Role, read_jsonl
from harness.registry import Registry, did_you_mean
from harness.store import canonical_hash

VERSION = 1  # part of every digest; raise it when the same file is rendered or read in another way
SPACE = "\u200b"  # zero width: what it breaks up still looks the same to a reader
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"rationale": {"type": "string"}, "verdict": {"type": "string", "enum": ["A", "B", "C"]}},
    "required": ["rationale", "verdict"],
    "additionalProperties": False,
}
_PREFERENCES = {"A": 1.0, "B": 0.0, "C": 0.5}


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
        return SCHEMA

    def messages(self, question: Question, form: Form) -> list[Message]:
        """The messages that ask a question; the same question gives the same messages.

        Raises:
            UserError: a prompt that the template has no place for; see `check`.
            ValueError: a form that is not one of the template's.
        """
        if form not in self.forms:
            raise ValueError(f"judge template {self.name} cannot ask in the form '{form}'")
        return self._messages(question, form)

    def read(self, text: str, form: Form) -> float | None:
        """Preference (1, 0, or 0.5 for a tie) for the response shown first; None where no verdict can be read.

        A leading <think> block is left out. Of several verdicts the last counts: before it, a judge may quote a
        response that holds one.
        """
        said = _after_thinking(text)
        if form == "letter":
            return _read_letter(said, self.letters)
        return _read_structured(said) if form == "structured" else self._read_rationale(said)

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Refuse prompts that cannot be asked about, before anything is.

        Raises:
            UserError: the first such prompt, by its id.
        """
        for prompt in prompts:
            self._variant(prompt)

    @abstractmethod
    def _messages(self, question: Question, form: Form) -> list[Message]: ...

    @abstractmethod
    def _variant(self, prompt: Prompt) -> Any:
        """The text that asks about this prompt, or UserError."""

    def _read_rationale(self, text: str) -> float | None:
        found = re.findall(r"\[\[([ABC])\]\]", text)
        return _PREFERENCES[found[-1]] if found else None

    def _refuse(self, prompt: Prompt, why: str) -> UserError:
        return UserError(f"judge template {self.name}: prompt '{prompt.id}' {why}; use another template or prompt set")


def load_template(name: str) -> Template:
    """A packaged template by its name, or a user's file by its path: `.yaml`, `.jsonl` (FastChat) or `.txt`.

    Raises:
        UserError: no such template, or a file that is not one.
    """
    if name in judge_templates:
        return _own(judge_templates.get(name), name, f"judge template {name}")
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml", ".jsonl", ".txt"):
        if path.is_file():
            raise UserError(f"judge template {path}: expected a file that ends in .yaml, .jsonl or .txt")
        judge_templates.get(name)  # raises, with a suggestion
    if not path.is_file():
        raise UserError(f"judge template {path} does not exist{did_you_mean(path.stem, judge_templates.names())}")
    if path.suffix == ".jsonl":
        return _fastchat(path)
    if path.suffix == ".txt":
        return _alpaca_text(path)
    data = parse_yaml(_text_of(path), str(path))
    # an annotator's configuration is a mapping under a name of its own
    if data and all(isinstance(value, dict) for value in data.values()) and not set(data) & set(_File.model_fields):
        return _alpaca_config(path, data)
    return _own(data, path.name, str(path))


judge_templates: Registry[Layer] = Registry("judge template", lambda: packaged_yaml("judge_templates"))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _digest(where: str, *parts: Any) -> str:
    try:
        return canonical_hash([VERSION, *parts])[:12]
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair (\\ud800…) is not text") from error


# ---- reading


def _after_thinking(text: str) -> str:
    """What follows a <think> block that the text begins with; nothing, where the block never ends."""
    start = text.lstrip()
    return start.partition("</think>")[2] if start.startswith("<think>") else text


def _read_letter(text: str, letters: Letters) -> float | None:
    """The letter alone, by its exact case; a full stop after it is let pass."""
    said = text.strip().removesuffix(".")
    return {letters[0]: 1.0, letters[1]: 0.0}.get(said)


def _read_structured(text: str) -> float | None:
    """A reply that follows SCHEMA to the letter, perhaps in a ```json fence."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text.strip(), re.DOTALL)
    try:
        pairs = json.loads(fenced[1] if fenced else text, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return None
    # as pairs, so that a second verdict in one object is seen
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    if sorted(key for key, _ in pairs) != ["rationale", "verdict"] or not all(isinstance(v, str) for _, v in pairs):
        return None
    return _PREFERENCES.get(dict(pairs)["verdict"])


# ---- this project's own format

Kind = Literal["chat", "multi_turn", "reference", "multi_turn_reference"]
_HOLDS: dict[Kind, frozenset[str]] = {
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


class _File(Section):
    """A template's file. Each variant holds each of its values (_HOLDS) once, unchanged: a value comes with its fence.
    `code` is the fences' code. `ask` says, form by form, how to reply, and is put after the variant."""

    version: Literal[1]
    summary: str = ""
    system: str = ""
    variants: _Variants
    ask: dict[Form, str]


@dataclass(frozen=True)
class _Own(Template):
    """A prompt with an earlier turn or a system message is asked about by a multi-turn variant, one with a known
    answer by a reference-guided one; where a file has none of the latter, without the answer."""

    system: str
    variants: dict[str, str]
    ask: dict[str, str]

    def _variant(self, prompt: Prompt) -> Any:
        several = len(prompt.messages) > 1
        without: Kind = "multi_turn" if several else "chat"
        guided: Kind = "multi_turn_reference" if several else "reference"
        for kind in (guided, without) if prompt.answer else (without,):
            if kind in self.variants:
                return self.variants[kind]
        what = "has earlier turns or a system message" if several else "has one turn and no known answer"
        raise self._refuse(prompt, f"{what}, and the template has no variant {without}")

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        user = _compiled(self._variant(prompt)).render(_fenced(prompt, question.shown))
        asked = [Message(role="user", content=f"{user}\n\n{_compiled(self.ask[form]).render()}")]
        return [Message(role="system", content=_compiled(self.system).render()), *asked] if self.system else asked


@lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    return _environment.from_string(text.strip())


def _fenced(prompt: Prompt, shown: tuple[str, str]) -> dict[str, str]:
    """Every value with its fence, and the code of the fences."""
    *earlier, last = prompt.messages
    first, second = shown
    texts = {"question": last.content, "reference_answer": prompt.answer, "response_a": first, "response_b": second}
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


def _own(data: Layer, name: str, where: str) -> Template:
    try:
        file: _File = validated(_File, data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    variants = {kind: text for kind, text in file.variants.model_dump().items() if text is not None}
    if not variants or not file.ask:
        raise UserError(f"{where}: expected at least one variant and one form to ask in")
    for part, text in (("system", file.system), *((f"ask.{form}", text) for form, text in file.ask.items())):
        _try_rendering(text, {}, f"{where}: {part}")
    for kind in get_args(Kind):
        if kind in variants:
            _try_variant(variants[kind], kind, f"{where}: variants.{kind}")
    forms = tuple(file.ask)
    asked = {str(form): text for form, text in file.ask.items()}
    digest = _digest(where, "own", file.system, variants, asked, forms)
    return _Own(name, digest, forms, ("A", "B"), file.system, variants, asked)


def _try_variant(text: str, kind: Kind, where: str) -> None:
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


# ---- fixed templates: one pass over known placeholders


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Known placeholders replaced in one pass: what is in a value is never looked at again.

    A value's imitations of the text's own fences are broken up.
    """
    if not values:
        return text
    fences = _fences(text, tuple(values))
    return _placeholder(values).sub(lambda found: _broken(values[found[1]], fences), text)


def _placeholder(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"\{(" + "|".join(map(re.escape, names)) + r")\}")


def _broken(text: str, fences: re.Pattern[str] | None) -> str:
    # each match is one character, the rest is looked ahead at: occurrences that overlap are all broken up
    return fences.sub(lambda found: found[0] + SPACE, text) if fences else text


@lru_cache(maxsize=64)
def _fences(text: str, names: tuple[str, ...]) -> re.Pattern[str] | None:
    """The first character of what tells a value from what surrounds it: lines of the template without a value, what
    stands beside a value on its line, and a run of three or more of one sign next to a value."""
    value = _placeholder(names)
    found = set()
    for line in text.split("\n"):
        pieces = [piece.strip() for piece in value.sub("\0", line).split("\0")]
        for piece in pieces:
            # a single word beside a value ("and") is no fence, nor is a line of signs like "..."
            own = len(pieces) == 1 or re.search(r"[^\w\s]", piece)
            if len(piece) >= 3 and own and re.search(r"[^\W\d_]", piece):
                found.add(piece)
    marked = value.sub("\0", text)
    found |= {run[0] for run in re.finditer(r"([^\w\s\0])\1{2,}(?=\s*\0)", marked)}
    found |= {run[1] for run in re.finditer(r"\0\s*(([^\w\s\0])\2{2,})", marked)}
    if not found:
        return None
    return re.compile("|".join(_ahead(fence) for fence in sorted(found)), re.IGNORECASE)


def _ahead(fence: str) -> str:
    first, *rest = re.split(r"\s+", fence)
    tail = r"\s+".join([re.escape(first[1:]), *map(re.escape, rest)])
    return f"{re.escape(first[0])}(?={tail})"


# ---- FastChat

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}")


@dataclass(frozen=True)
class _FastChat(Template):
    """variants: (system prompt, prompt template) by "N" for prompts of N turns, "N+answer" for those with a known
    answer, where a file has such. Earlier turns are the same for both responses, and so are their answers."""

    variants: dict[str, tuple[str, str]]

    def _variant(self, prompt: Prompt) -> Any:
        roles = [message.role for message in prompt.messages]
        turns = (len(roles) + 1) // 2
        if roles != ["user", "assistant"] * (turns - 1) + ["user"]:
            raise self._refuse(prompt, "is more than turns of user and assistant, and the template has no place for it")
        for key in (f"{turns}+answer", str(turns)) if prompt.answer else (str(turns),):
            if key in self.variants:
                return self.variants[key]
        taken = sorted({key.partition("+")[0] for key in self.variants})
        answer = "" if prompt.answer else " without a known answer"
        raise self._refuse(prompt, f"has {turns} turns{answer}, and the template takes {' or '.join(taken)}")

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        system, text = self._variant(prompt)
        user = Message(role="user", content=_fill_fastchat(text, _fastchat_values(prompt, question.shown)))
        return [Message(role="system", content=system), user] if system else [user]


def _fastchat_values(prompt: Prompt, shown: tuple[str, str]) -> dict[str, str]:
    asked = [message.content for message in prompt.messages[::2]]
    said = [message.content for message in prompt.messages[1::2]]
    values = {"question": asked[-1], "answer_a": shown[0], "answer_b": shown[1]}
    for number, text in enumerate(asked, 1):
        last = number == len(asked)
        values[f"question_{number}"] = text
        values[f"answer_a_{number}"] = shown[0] if last else said[number - 1]
        values[f"answer_b_{number}"] = shown[1] if last else said[number - 1]
        # a prompt's answer is the one to its last question
        values[f"ref_answer_{number}"] = prompt.answer if last else "(not given)"
    return values


def _fill_fastchat(text: str, values: Mapping[str, str]) -> str:
    """As _fill, with the doubled braces of str.format."""
    plain = _BRACES.sub(lambda found: found[0] if found[1] is not None else found[0][0], text)
    fences = _fences(plain, tuple(values))

    def one(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else _broken(values[found[1]], fences)

    return _BRACES.sub(one, text)


def _fastchat(path: Path) -> Template:
    variants: dict[str, tuple[str, str]] = {}
    names: dict[str, str] = {}
    for number, row in read_jsonl(path):
        if row.get("type") != "pairwise" or row.get("output_format") != "[[A]]":
            continue
        where = f"{path}:{number}"
        texts = row.get("system_prompt", ""), row.get("prompt_template")
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: expected texts as system_prompt and prompt_template")
        key = _fastchat_key(str(texts[1]), where)
        name = str(row.get("name", f"line {number}"))
        if key in variants:
            raise UserError(f"{where}: '{name}' and '{names[key]}' are for the same prompts; keep one of them")
        variants[key], names[key] = (str(texts[0]), str(texts[1])), name
    if not variants:
        raise UserError(f'{path}: no row with "type": "pairwise" and "output_format": "[[A]]"')
    return _FastChat(path.name, _digest(str(path), "fastchat", variants), ("rationale",), ("A", "B"), variants)


def _fastchat_key(text: str, where: str) -> str:
    """Which prompts a template is for: "N" turns, "N+answer" with a known answer."""
    used = {found[1] for found in _BRACES.finditer(text) if found[1] is not None}
    numbers = [int(name.removeprefix("question_")) for name in used if re.fullmatch(r"question_[1-9]", name)]
    turns = max(numbers, default=1)
    each = {f"{kind}_{n}" for kind in ("question", "answer_a", "answer_b") for n in range(1, turns + 1)}
    needed = each if numbers else {"question", "answer_a", "answer_b"}
    references = {f"ref_answer_{n}" for n in range(1, turns + 1)}
    for name in sorted(used - needed - references):
        raise UserError(f"{where}: unknown placeholder {{{name}}}{did_you_mean(name, needed | references)}")
    for name in sorted(needed - used):
        raise UserError(f"{where}: the placeholder {{{name}}} is missing")
    return f"{turns}+answer" if used & references else str(turns)


# ---- AlpacaEval

_ALPACA = ("instruction", "output_1", "output_2")
_START, _END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class _Alpaca(Template):
    """output_1 is the response shown first.

    parser: what a rationale ends in or holds: `letter` (its last word), `regex` (keys 1, 2, 1.5 or 0 by the user's own
    expressions, of which one is to match, once), `ranking` (a list with the rank of `first`).
    """

    turns: tuple[Message, ...]
    parser: Literal["letter", "regex", "ranking"]
    patterns: dict[str, str]
    first: str

    def _variant(self, prompt: Prompt) -> Any:
        if len(prompt.messages) > 1:
            raise self._refuse(prompt, "has earlier turns or a system message, and the template has no place for them")
        return self.turns

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        texts = prompt.messages[-1].content, *question.shown
        values = dict(zip(_ALPACA, texts, strict=True))
        return [
            turn.model_copy(update={"content": _fill(turn.content, values)}) if turn.role == "user" else turn
            for turn in self._variant(prompt)
        ]

    def _read_rationale(self, text: str) -> float | None:
        if self.parser == "letter":
            return _read_letter((text.split() or [""])[-1], self.letters)
        return _read_patterns(text, self.patterns) if self.parser == "regex" else _read_ranking(text, self.first)


def _read_patterns(text: str, patterns: Mapping[str, str]) -> float | None:
    """The verdict whose expression matches, where there is one match in the whole text, as AlpacaEval has it."""
    keys: list[str] = []
    while len(keys) < 2:
        # the earliest match; of several at one place, the first expression of the file
        matches = [(found.start(), found.end(), key) for key, p in patterns.items() if (found := re.search(p, text))]
        if not matches:
            break
        _, end, key = min(matches, key=lambda match: match[0])
        if not end:  # an empty match at the beginning would be found for ever
            return None
        keys.append(key)
        text = text[end:]
    return _alpaca_preference(float(keys[0])) if len(keys) == 1 else None


def _alpaca_preference(key: float) -> float:
    """AlpacaEval's 1 and 2 say which is better, 1.5 and 0 that neither is."""
    return 0.5 if key == 0 else 2 - key


def _read_ranking(text: str, first: str) -> float | None:
    """`[{"model": …, "rank": 1}, …]`, as JSON or as a Python literal; never more than a literal."""
    if len(text) > 10_000:  # a parser's stack is no place for what a model wrote
        return None
    parsers: tuple[Callable[[str], Any], ...] = json.loads, ast.literal_eval
    for parse in parsers:
        try:
            rows = parse(text.strip())
            break
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    else:
        return None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    ranks = [row.get("rank") for row in rows if row.get("model") == first]
    if len(ranks) != 1 or isinstance(ranks[0], bool) or ranks[0] not in (1, 2):
        return None
    return _alpaca_preference(float(ranks[0]))


def _alpaca_text(path: Path) -> Template:
    """A prompt alone: it is to ask for m or M, as AlpacaEval's default does."""
    turns = _alpaca_turns(path)
    asked = " ".join(turn.content for turn in turns)
    if not all(re.search(rf"(?<![\w']){letter}(?!\w)", asked) for letter in "mM"):
        raise UserError(f"{path}: the prompt does not ask for m or M; name its parser in a configs.yaml beside it")
    return _alpaca(path.name, str(path), turns, ("letter",), ("m", "M"))


def _alpaca(
    name: str,
    where: str,
    turns: tuple[Message, ...],
    forms: tuple[Form, ...],
    letters: Letters = ("1", "2"),
    parser: Literal["letter", "regex", "ranking"] = "letter",
    patterns: Mapping[str, str] | None = None,
    first: str = "",
) -> Template:
    patterns = dict(patterns or {})
    plain = [turn.model_dump() for turn in turns]
    # a list of pairs: of expressions that match at one place the first counts
    digest = _digest(where, "alpaca", plain, forms, letters, parser, list(patterns.items()), first)
    return _Alpaca(name, digest, forms, letters, turns, parser, patterns, first)


def _alpaca_turns(path: Path) -> tuple[Message, ...]:
    """A ChatML-like text as messages; one without any turn is a user's message."""
    text = _text_of(path).strip()
    if _START not in text and _END not in text:
        turns: tuple[Message, ...] = (Message(role="user", content=text),)
    else:
        pieces = [piece.strip() for piece in text.split(_START)]
        if pieces[0] or not all(p.endswith(_END) and p.count(_END) == 1 for p in pieces[1:]):
            raise UserError(f"{path}: expected turns from {_START} to {_END}, and nothing between them")
        turns = tuple(_alpaca_turn(piece.removesuffix(_END), path) for piece in pieces[1:])
    known = _placeholder(_ALPACA)
    for turn in turns:
        if turn.role != "user" and known.search(turn.content):
            raise UserError(f"{path}: placeholders may stand in the user's turns only, not in one of {turn.role}")
        for name in re.findall(r"\{([A-Za-z_]\w*)\}", turn.content):
            if name not in _ALPACA:
                raise UserError(f"{path}: unknown placeholder {{{name}}}{did_you_mean(name, _ALPACA)}")
    used = {found[1] for turn in turns for found in known.finditer(turn.content)}
    for name in _ALPACA:
        if name not in used:
            raise UserError(f"{path}: the placeholder {{{name}}} is missing")
    return turns


def _alpaca_turn(text: str, path: Path) -> Message:
    head, _, content = text.partition("\n")
    # `system name=example_user` is how older prompts gave examples of turns
    role = re.sub(r"^system name=example_(user|assistant)$", r"\1", head.strip())
    if role not in get_args(Role):
        raise UserError(f"{path}: unknown role '{role}'{did_you_mean(role, get_args(Role))}")
    return Message(role=role, content=content.strip())  # type: ignore[arg-type]


def _alpaca_config(path: Path, data: Layer) -> Template:
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
    turns = _alpaca_turns(_beside(path, settings["prompt_template"], where))
    parser = str(settings.get("fn_completion_parser", "regex_parser"))
    kwargs = settings.get("completion_parser_kwargs") or {}
    if parser not in _PARSERS:
        raise UserError(f"{where}: unsupported fn_completion_parser '{parser}'{did_you_mean(parser, _PARSERS)}")
    if not isinstance(kwargs, dict) or not set(kwargs) <= _PARSERS[parser]:
        raise UserError(f"{where}: completion_parser_kwargs of {parser} may hold {', '.join(sorted(_PARSERS[parser]))}")
    if parser == "logprob_parser":
        forms: tuple[Form, ...] = ("rationale",) if _comes_last(kwargs, where) else ("letter",)
        return _alpaca(path.name, where, turns, forms, _letters(kwargs, where))
    if parser == "ranking_parser":
        first = str(kwargs.get("model_1_name", "model_1"))
        return _alpaca(path.name, where, turns, ("rationale",), parser="ranking", first=first)
    patterns = _patterns(kwargs.get("outputs_to_match"), where)
    return _alpaca(path.name, where, turns, ("rationale",), parser="regex", patterns=patterns)


_PARSERS = {
    "logprob_parser": {"numerator_token", "denominator_tokens", "is_binarize", "log_prob_index"},
    "regex_parser": {"outputs_to_match"},
    "ranking_parser": {"model_1_name"},
}


def _beside(config: Path, prompt: str, where: str) -> Path:
    """AlpacaEval names a prompt from the folder of all annotators; here also from the configuration's own."""
    for folder in (config.parent, config.absolute().parent.parent):
        if (folder / prompt).is_file():
            return folder / prompt
    raise UserError(f"{where}: prompt_template {prompt} does not exist beside the file or one folder up")


def _comes_last(kwargs: Layer, where: str) -> bool:
    index = kwargs.get("log_prob_index", "batch")
    if index not in ("batch", 0, -1):
        raise UserError(f"{where}: log_prob_index must be 0, the first token, or -1, the last")
    return bool(index == -1)


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
    return {str(key): pattern for key, pattern in given.items()}


# ---- control tokens

_ANGLED = (
    "s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eom|eoh|eoa|eosys|bot|think|thinking|tool_calls?|tool_response|tools"
    "|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|start_of_role|end_of_role|image|video|audio"
    "|img|ref|box|quad|beginning_of_sentence|end_of_sentence|end_of_text|end_of_document|turn|channel"
    "|(?:bos|eos|pad|unk|cls|sep|mask|eop)_token|fim_(?:prefix|middle|suffix|pad)|file_sep|repo_?name|filename|gh_stars"
    r"|(?:issue|commit|jupyter)_\w+|empty_output|unused_?\d+|reserved_\d+|special_\d+|extra_id_\d+|tokens_unused_\d+"
    r"|ctrl\d+|mask:\d+|seed:[\w:]+|0x[0-9a-f]{2}"
)
_SQUARE = (
    "inst|system_prompt|system_message|tool_calls|available_tools|tool_results|tool_content|call_id|args|think|img"
    "|img_break|img_end|audio|begin_audio|prefix|middle|suffix|model_settings|gmask|smask|mask|cls|sep|pad|unk|bos|eos|eot"
    "|start_header_id|end_header_id"
)
# Each match is one character, and what makes it a control token is looked ahead at: tokens may overlap. Falcon's
# >>TITLE<<, MiniMax's ]~b] and EXAONE's [|user|] have shapes of their own. HTML has <pre>, CodeLlama <PRE>.
_CONTROL = re.compile(
    r"<(?=[|｜][^\n]{0,128}?[|｜]>)|<(?=[|｜][\w\"▁]{1,48}>)|<(?=[\w\"▁]{1,48}[|｜]>)"
    rf"|(?i:<(?=/?(?:{_ANGLED})>)|\[(?=/?(?:{_SQUARE})\])|<(?=</?sys>>))"
    r"|<(?=(?:PRE|SUF|MID|EOT)>)|<(?=\[[^\]\n]{1,48}\]>)|\[(?=\|[\w/]{1,48}\|\])"
    r"|>(?=>[A-Z]{3,32}<<)|\](?=~!?b[\]\[])|\[(?=e~\[)"
)


_STARTS = re.compile(r"[<>\[\]]")


def without_control_tokens(text: str) -> str:
    """The text with every control token of common chat formats broken up, to look the same and stay text.

    For servers that tokenise a message's text with control tokens on. Broken up is what has the shape of a control
    token, whichever model's; other markup (`<div>`) and code (`a < b`) stays as it is. A second time changes nothing.
    """
    if not _STARTS.search(text):  # as most texts are: ten times as fast
        return text
    return _CONTROL.sub(lambda found: found[0] + SPACE, text)
