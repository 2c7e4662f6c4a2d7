"""FastChat's `judge_prompts.jsonl`: its pairwise rows with the output format [[A]]."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, read_jsonl
from harness.core.registry import did_you_mean
from harness.judging.protocol import Question
from harness.judging.reply_forms import Form
from harness.judging.templates.base import Template, digest_of
from harness.judging.templates.fencing import fill

_SLOTS = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}")


@dataclass(frozen=True)
class FastChat(Template):
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
        user = Message(role="user", content=fill(text, _values(prompt, question.texts_in_order), _SLOTS))
        return [Message(role="system", content=system), user] if system else [user]


def _values(prompt: Prompt, shown: tuple[str, str]) -> dict[str, str]:
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


def fastchat_template(path: Path) -> Template:
    variants: dict[str, tuple[str, str]] = {}
    names: dict[str, str] = {}
    for number, row in read_jsonl(path):
        if row.get("type") != "pairwise" or row.get("output_format") != "[[A]]":
            continue
        where = f"{path}:{number}"
        texts = row.get("system_prompt", ""), row.get("prompt_template")
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: expected texts as system_prompt and prompt_template")
        key = _key(str(texts[1]), where)
        name = str(row.get("name", f"line {number}"))
        if key in variants:
            raise UserError(f"{where}: '{name}' and '{names[key]}' are for the same prompts; keep one of them")
        variants[key], names[key] = (str(texts[0]), str(texts[1])), name
    if not variants:
        raise UserError(f'{path}: no row with "type": "pairwise" and "output_format": "[[A]]"')
    return FastChat(path.name, digest_of(str(path), "fastchat", variants), ("rationale",), ("A", "B"), variants)


def _key(text: str, where: str) -> str:
    """Which prompts a template is for: "N" turns, "N+answer" with a known answer."""
    used = {found[1] for found in _SLOTS.finditer(text) if found[1] is not None}
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
