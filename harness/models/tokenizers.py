"""Tokenizers: loading them, and whether two are one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.models.chat import templates_differ_on
from harness.models.reference import ChatTemplate
from harness.models.turns import end_of_turn


def load_tokenizer(folder: Path, chat_template: ChatTemplate | None = None, remote_code: bool = False) -> Any:
    """A checkpoint's tokenizer, with this chat template where it has none: saved with it, it is the tokenizer's own.

    Raises:
        UserError: it cannot be loaded, or is none that the harness can work with.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=remote_code)
    except Exception as error:  # a damaged tokenizer.json raises KeyError, RecursionError, or plainly Exception
        said = str(error).strip() or type(error).__name__
        raise UserError(f"the tokenizer of {folder} cannot be loaded: {said.splitlines()[0]}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {folder} is no fast one (of the tokenizers library), and no other will do")
    if chat_template is not None and not tokenizer.chat_template:
        tokenizer.chat_template = chat_template.text
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A digest of what a tokenizer makes of a response: its vocabulary, merges, normaliser and added tokens, and the
    token that ends the turn, whatever is called the end of text. No more of the chat template: it shapes prompts alone,
    and each model reads them by its own. Nor what is put around a text that stands alone, which no response does."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("padding", "truncation", "post_processor"):
        content.pop(name, None)
    content["end_of_turn"] = end_of_turn(tokenizer)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def tokenizer_difference(one: Any, other: Any) -> str:
    """In a few words, what makes two tokenizers' fingerprints differ."""
    mine, theirs = one.get_vocab(), other.get_vocab()
    if len(mine) != len(theirs):
        return f"{len(mine):,} tokens against {len(theirs):,}"
    odd = next((token for token, index in mine.items() if theirs.get(token) != index), None)
    if odd is not None:
        return f"token {odd!r} has id {mine[odd]} in one and {theirs.get(odd, 'none')} in the other"
    if end_of_turn(one) != end_of_turn(other):
        ends = f"{_end_of_turn(one)} in one and {_end_of_turn(other)} in the other"
        return f"the vocabularies agree, but a turn ends with {ends}"
    return "the vocabularies agree, but text is split otherwise (merges or normaliser)"


def _end_of_turn(tokenizer: Any) -> str:
    end = end_of_turn(tokenizer)
    return "no token" if end is None else repr(tokenizer.convert_ids_to_tokens(end))


def why_two(student: Any, teacher: Any, prompts: Iterable[Prompt]) -> str:
    """Why a teacher's distributions are over other tokens than the student's, or after other ones: its chat template
    makes other ids of any of a run's prompts. Empty where the two are one."""
    if tokenizer_fingerprint(student) != tokenizer_fingerprint(teacher):
        return tokenizer_difference(student, teacher)
    if odd := templates_differ_on(student, teacher, prompts):
        return f"the vocabularies agree, but the chat templates differ on {odd}"
    return ""


def require_one_tokenizer(student: Any, teacher: Any, prompts: Iterable[Prompt]) -> None:
    """Refuse a teacher that no method which reads it token by token can work with.

    Raises:
        UserError: saying what differs.
    """
    if difference := why_two(student, teacher, prompts):
        raise UserError(
            "methods that read the teacher token by token need one tokenizer for both, but "
            f"{student.name_or_path} and {teacher.name_or_path} differ: {difference}; those of the level sequence "
            "(list methods) work with any"
        )
