"""FastChat's `judge_prompts.jsonl`: its pairwise rows with the output format [[A]]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.records import NOT_GIVEN, Message, Prompt, answers_in, read_jsonl
from harness.core.registry import did_you_mean
from harness.judging.protocol import Question
from harness.judging.reply_forms import Form
from harness.judging.templates.base import Template, digest_of
from harness.judging.templates.fencing import fill

_SLOTS = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}")


@dataclass(frozen=True)
class FastChat(Template):
    """variants: (system prompt, prompt template) by "N" for prompts of N turns, "N+answer" for those with a known
    answer, where a file has such. Turns before the one that is answered are the same for both responses, and so are
    their answers; turns after it have an answer of each response. Where a file has no variant for so many turns, the
    responses to them stand as one."""

    variants: dict[str, tuple[str, str]]

    def _variant(self, prompt: Prompt) -> Any:
        return self.variants[self._key(prompt)[0]]

    def _key(self, prompt: Prompt) -> tuple[str, bool]:
        """Which variant asks about the prompt, and whether it has a place for each of the further turns."""
        roles = [message.role for message in prompt.messages]
        first = (len(roles) + 1) // 2
        if roles != ["user", "assistant"] * (first - 1) + ["user"]:
            raise self._refuse(prompt, "is more than turns of user and assistant, and the template has no place for it")
        every = first + len(prompt.turns)
        for guided in ("+answer", "") if prompt.reference else ("",):
            for turns in dict.fromkeys((every, first)):
                if f"{turns}{guided}" in self.variants:
                    return f"{turns}{guided}", turns == every
        taken = sorted({key.partition("+")[0] for key in self.variants})
        answer = "" if prompt.reference else " without a known answer"
        raise self._refuse(prompt, f"has {every} turns{answer}, and the template takes {' or '.join(taken)}")

    def _shows_answer(self, prompt: Prompt) -> bool:
        return self._key(prompt)[0].endswith("+answer")

    def _messages(self, question: Question, form: Form) -> list[Message]:
        prompt = question.comparison.prompt
        key, each = self._key(prompt)
        system, text = self.variants[key]
        values = _values(prompt, question.texts_in_order, prompt.turns if each else ())
        user = Message(role="user", content=fill(text, values, _SLOTS))
        return [Message(role="system", content=system), user] if system else [user]


def _values(prompt: Prompt, shown: tuple[str, str], turns: Sequence[str]) -> dict[str, str]:
    """turns: the further ones that have a place of their own."""
    earlier = [message.content for message in prompt.messages[1::2]]
    asked = [*(message.content for message in prompt.messages[::2]), *turns]
    first, second = ([*earlier, *(answers_in(text, turns) if turns else [text])] for text in shown)
    known = prompt.references if turns else [prompt.reference]
    references = [*[""] * len(earlier), *known]
    values = {"question": asked[-1], "answer_a": first[-1], "answer_b": second[-1]}
    for number, (text, one, other, reference) in enumerate(zip(asked, first, second, references, strict=True), 1):
        values |= {f"question_{number}": text, f"answer_a_{number}": one, f"answer_b_{number}": other}
        values[f"ref_answer_{number}"] = reference or NOT_GIVEN
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
