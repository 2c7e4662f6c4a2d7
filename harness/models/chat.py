"""Text to token ids: chat templates with text from outside kept as text, and response ids.

A `<|im_end|>` that a person or a model wrote is text, not the end of a turn. Where a content holds a control token's
text, the template is rendered with place-holders for the contents, so that its own control tokens are known from
those inside contents; only the former become control tokens. Everywhere else the ids are those of
`apply_chat_template(tokenize=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from harness.core.errors import UserError
from harness.core.records import Message, Prompt

# private-use characters: no template changes or trims them
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
# Some templates write today's date. They are told one day, whenever it is: a prompt's ids depend on the prompt alone.
# It is the one that LLaMA 3's template falls back to.
TODAY = datetime(2024, 7, 26)
HOW = {"tokenize": False, "add_generation_prompt": True, "strftime_now": TODAY.strftime}
# what two templates are compared on beside a run's own conversations
_USER = Message(role="user", content="Hello!")
MADE_UP = {
    "a conversation with a system turn": (Message(role="system", content="Be brief."), _USER),
    "a conversation of two turns": (_USER, Message(role="assistant", content="Hello, how are you?"), _USER),
}


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of text from outside, with nothing added and no control token in it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def encode_chat(tokenizer: Any, messages: Iterable[Message]) -> list[int]:
    """Ids of a conversation up to where the assistant's turn begins.

    Raises:
        UserError: the tokenizer has no chat template, or one that fails.
    """
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no chat template")
    try:
        return _encoded(tokenizer, list(messages))
    except TemplateError as error:  # as written, or what it raises of a role that it does not take
        raise UserError(f"the chat template of {tokenizer.name_or_path} fails: {error}") from error


def _encoded(tokenizer: Any, messages: list[Message]) -> list[int]:
    control = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    if not any(token in message.content for message in messages for token in control):
        plain = [message.model_dump() for message in messages]
        rendered = tokenizer.apply_chat_template(plain, **HOW)
        whole: list[int] = tokenizer(rendered, add_special_tokens=False).input_ids
        return whole
    holders = [f"{_OPEN}{index}{_CLOSE}" for index in range(len(messages))]
    rendered = tokenizer.apply_chat_template(
        [{"role": m.role, "content": holder} for m, holder in zip(messages, holders, strict=True)],
        **HOW,
    )
    marks = "|".join(re.escape(token) for token in sorted(control, key=len, reverse=True))
    ids: list[int] = []
    pieces = re.split(f"({marks})", rendered) if marks else [rendered]
    for piece in pieces:
        if piece in control:
            ids.append(control[piece])
        elif piece:
            text = re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda match: messages[int(match[1])].content, piece)
            ids += encode_text(tokenizer, text)
    return ids


def templates_differ_on(one: Any, other: Any, prompts: Iterable[Prompt]) -> str | None:
    """The first conversation of which two tokenizers' chat templates make other ids, by its name; None where they make
    the same of all. The tokenizers are otherwise one.

    A prompt that one template refuses is one on which they differ. That it refuses a conversation which is made up here
    says nothing of the run.
    """
    if one.chat_template == other.chat_template and one.special_tokens_map == other.special_tokens_map:
        return None
    for prompt in prompts:
        if _ids_if_taken(one, prompt.messages) != _ids_if_taken(other, prompt.messages):
            return f"prompt '{prompt.id}'"
    for name, messages in MADE_UP.items():
        ids = [_ids_if_taken(tokenizer, messages) for tokenizer in (one, other)]
        if None not in ids and ids[0] != ids[1]:
            return name
    return None


def _ids_if_taken(tokenizer: Any, messages: Iterable[Message]) -> list[int] | None:
    """Ids of a conversation; None where the chat template refuses it, or there is none."""
    try:
        return encode_chat(tokenizer, messages)
    except UserError:
        return None


def encode_response(tokenizer: Any, text: str, ended: bool) -> list[int]:
    """Ids of a response that another tokenizer's model wrote; with the end of the turn where it had `ended`.

    It is the text as this tokenizer splits it. A response without any text is the end of the turn alone.
    """
    ids = encode_text(tokenizer, text)
    return [*ids, int(tokenizer.eos_token_id)] if ended or not ids else ids


def vocabulary_size(tokenizer: Any) -> int:
    """How many ids there are, with those that are left out in between; what an embedding has beyond them is padding."""
    return 1 + int(max(tokenizer.get_vocab().values()))


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end the assistant's turn: those of the generation config, and the tokenizer's own."""
    return stop_tokens(model.generation_config.eos_token_id, tokenizer)


def stop_tokens(known: int | list[int] | None, tokenizer: Any) -> list[int]:
    """The same, from what a generation config says."""
    listed = known if isinstance(known, list) else [known]
    return sorted({int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None})
