"""Text to token ids: chat templates with text from outside kept as text, and response ids.

A `<|im_end|>` that a person or a model wrote is text, not the end of a turn. Around such a text, and everywhere else,
the ids are those of `apply_chat_template(tokenize=True)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.models.quoting import quoted, restored
from harness.models.turns import FAILURES, Turn, end_of_turn, rendered, turn_of

PARTIAL = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are no whole character
# what two templates are compared on beside a run's own conversations
_USER = Message(role="user", content="Hello!")
MADE_UP = {
    "a conversation with a system turn": (Message(role="system", content="Be brief."), _USER),
    "a conversation of two turns": (_USER, Message(role="assistant", content="Hello, how are you?"), _USER),
}


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of text from outside behind a control token, with nothing added and no control token in it."""
    return turn_of(tokenizer).speller.spelled(text)


def encode_chat(tokenizer: Any, messages: Iterable[Message]) -> list[int]:
    """Ids of a conversation up to where the assistant's turn begins.

    Raises:
        UserError: the tokenizer has no chat template, or one that fails.
    """
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no chat template")
    turn, said = turn_of(tokenizer), list(messages)
    contents, stands_for = quoted([message.content for message in said], turn.control)
    conversation = [(message.role, content) for message, content in zip(said, contents, strict=True)]
    try:
        text = rendered(tokenizer, conversation, True)
    except FAILURES as error:
        raise UserError(f"the chat template of {tokenizer.name_or_path} fails: {error}") from error
    return _ids(tokenizer, turn, text, stands_for)


def _ids(tokenizer: Any, turn: Turn, text: str, stands_for: dict[str, str]) -> list[int]:
    if stands_for:
        return turn.speller.ids(text, stands_for)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
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

    It is the text as this tokenizer splits it where the assistant's turn begins, with the white space that the chat
    template writes there: what this tokenizer's model would have said. A response without any text is the end of the
    turn alone.

    Raises:
        UserError: nothing ends a turn of this tokenizer's.
    """
    turn = turn_of(tokenizer)
    ids = _as_answer(tokenizer, turn, text) if text else []
    if ids and not ended:
        return ids
    if turn.end is None:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} has no token that ends a turn: neither does its chat template "
            "write one, nor has it an eos_token"
        )
    return [*ids, turn.end]


def _as_answer(tokenizer: Any, turn: Turn, text: str) -> list[int]:
    (said,), stands_for = quoted([text if text.startswith(turn.opening) else turn.opening + text], turn.control)
    before, whole = (_ids(tokenizer, turn, turn.prompt + more, stands_for) for more in ("", said))
    # a token that swallows the white space behind it swallows none of a response, which is not there yet
    swallowed = said[0].isspace() and _ids(tokenizer, turn, turn.prompt + said[0], {}) == before
    if whole[: len(before)] == before and not swallowed:
        return whole[len(before) :]
    # prompt and response would be one token in part, and the prompt is there first
    return turn.speller.spelled(restored(said, stands_for))


def decode_response(tokenizer: Any, ids: Sequence[int], stops: Iterable[int]) -> tuple[str, Literal["stop", "length"]]:
    """The text of what a model drew, without the token that ended it, and how it ended. To the tokenizer that token may
    be an ordinary one."""
    ended = len(ids) > 0 and ids[-1] in stops
    text: str = tokenizer.decode(list(ids[:-1] if ended else ids), skip_special_tokens=True)
    return text, "stop" if ended else "length"


def pieces(tokenizer: Any, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The place behind each token with the text that it adds; tokens that make one character together are one piece."""
    before = start = 0  # a token's text depends on the one before it: a space, a part of a character
    for end in range(1, len(ids) + 1):
        known, text = (decoded(tokenizer, ids[before:place]) for place in (start, end))
        if text.endswith(PARTIAL) and end < len(ids) and PARTIAL in decoded(tokenizer, ids[end : end + 1]):
            continue  # the next token goes on with the same character
        yield end, text[len(known) :]
        before, start = start, end


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """All of their text, that of control tokens too."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def vocabulary_size(tokenizer: Any) -> int:
    """How many ids there are, with those that are left out in between; what an embedding has beyond them is padding."""
    return 1 + int(max(tokenizer.get_vocab().values()))


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that a model stops at: the end of the assistant's turn, those of its generation config, and the
    tokenizer's end of text."""
    return stop_tokens(model.generation_config.eos_token_id, tokenizer)


def stop_tokens(known: int | list[int] | None, tokenizer: Any) -> list[int]:
    """The same, from what a generation config says."""
    listed = known if isinstance(known, list) else [known]
    every = [*listed, tokenizer.eos_token_id, end_of_turn(tokenizer)]
    return sorted({int(token) for token in every if token is not None})
