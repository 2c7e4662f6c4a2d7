"""What a chat template writes around contents: how the assistant's turn begins and ends, and which tokens are the
template's own.

All of it is read off what the template makes of made-up conversations. `eos_token` does not say it: that ends a text,
and in many families another token ends a turn (Gemma, Phi-3, Qwen's base models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import dropwhile, takewhile
from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from harness.models.quoting import Speller

# Some templates write today's date. They are told one day, whenever it is: a prompt's ids depend on the prompt alone.
# It is the one that LLaMA 3's template falls back to.
TODAY = datetime(2024, 7, 26)
# what a template raises: as written, of a role that it does not take, or of what Python cannot do with its values
FAILURES = (TemplateError, TypeError, ValueError, LookupError)
# contents of private-use characters: no template changes or trims them
_ASKED, _SAID, _MORE = (f"\ue0f0{number}\ue0f1" for number in range(3))


def rendered(tokenizer: Any, messages: Sequence[tuple[str, str]], to_be_answered: bool) -> str:
    """A conversation of (role, content) as the chat template writes it.

    Raises:
        one of FAILURES: the template refuses it.
    """
    text: str = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        add_generation_prompt=to_be_answered,
        strftime_now=TODAY.strftime,
    )
    return text


@dataclass(frozen=True)
class Turn:
    """The assistant's turn, as a tokenizer's chat template writes it.

    prompt: a made-up conversation up to where it begins; empty where the template refuses that, or there is none.
    opening: white space that the template then writes before the content.
    end: the token that ends the turn; None where there is none.
    control: the ids of tokens that no content may hold, by their text.
    backend: the tokenizer's, of the tokenizers library.
    """

    prompt: str
    opening: str
    end: int | None
    control: Mapping[str, int]
    backend: Any

    @cached_property
    def speller(self) -> Speller:
        return Speller(self.backend, self.control)


def turn_of(tokenizer: Any) -> Turn:
    """How a tokenizer's chat template writes the assistant's turn; read once, until it is another."""
    shaped_by = (tokenizer.chat_template, tokenizer.special_tokens_map, len(tokenizer))
    known, turn = _turns.get(tokenizer, (None, None))
    if turn is None or known != shaped_by:
        turn = _read(tokenizer)
        _turns[tokenizer] = (shaped_by, turn)
    return turn


_turns: WeakKeyDictionary[Any, tuple[object, Turn]] = WeakKeyDictionary()


def end_of_turn(tokenizer: Any) -> int | None:
    """The token that ends the assistant's turn: the one that the chat template writes after its content, whatever
    `eos_token` says; `eos_token` where it writes none, or refuses, or there is no template."""
    return turn_of(tokenizer).end


def _read(tokenizer: Any) -> Turn:
    asked, said = ("user", _ASKED), ("assistant", _SAID)
    prompt = _rendered_if_taken(tokenizer, [asked], True)
    whole = _rendered_if_taken(tokenizer, [asked, said], False)
    longer = _rendered_if_taken(tokenizer, [asked, said, ("user", _MORE)], False)
    added = {
        index: token
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip(" \t\r\n▁") and index != tokenizer.unk_token_id  # some have runs of spaces
    }

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return found

    def tokens_after(text: str) -> list[int]:
        """The first tokens after the content that are no text, as far as they stand side by side."""
        after = dropwhile(lambda index: index not in added, ids(text.partition(_SAID)[2]))
        return list(takewhile(lambda index: index in added, after))

    head, _, start = prompt.partition(_ASKED)
    between, _, rest = (longer or whole).partition(_ASKED)[2].partition(_SAID)
    # Not <think>, which some templates write for the turn that is to come alone, or speak of in a system message.
    following = rest.partition(_MORE)[0] if _MORE in rest else head
    begins = takewhile(lambda index: index in added, ids(head))
    around = {*begins, *ids(following), *set(ids(start)) & set(ids(between))} & set(added)
    ends = tokens_after(whole)
    goes_on = tokens_after(longer) if _SAID in longer else ends
    # What ends the turn stands there whether the conversation ends or goes on. After it may come what ends the
    # conversation (Phi-3's <|endoftext|>) or begins the next turn; before it, what closes the content (Cohere's).
    shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(ends, goes_on, strict=False))]
    last = [index for index in ends[:1] if index not in ids(start)]  # where the conversation ends alone
    end = next(iter(shared[-1:] or last), tokenizer.eos_token_id)
    before = whole.removeprefix(prompt).partition(_SAID)[0] if whole.startswith(prompt) else ""
    return Turn(
        prompt=prompt,
        opening=before if before.isspace() else "",
        end=end,
        control={
            token.content: index
            for index, token in tokenizer.added_tokens_decoder.items()
            if token.special or index in around or index == end  # a model's own may be added as ordinary ones
        },
        backend=tokenizer.backend_tokenizer,
    )


def _rendered_if_taken(tokenizer: Any, messages: Sequence[tuple[str, str]], to_be_answered: bool) -> str:
    """Nothing where the chat template refuses the conversation, or there is none."""
    if not tokenizer.chat_template:
        return ""
    try:
        return rendered(tokenizer, messages, to_be_answered)
    except FAILURES:
        return ""
