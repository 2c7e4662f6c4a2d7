"""What a chat completion says, in whatever words and parts a server says it; and which replies are none.

A reply whose model failed, was aborted, called a tool or said nothing at all is a failed call, to be made again: it is
no answer that is empty. One that a moderator let not pass is no failure: asked again it would be refused again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

# unsaid: the server does not say how it ended. filtered: a moderator cut it off, or let nothing pass
Finish = Literal["stop", "length", "filtered", "unsaid"]
_STOP = (
    "stop eos eos_token end_turn end stop_sequence stop_token stopped complete completed finished finish done normal"
)
_LENGTH = (
    "length max_tokens max_completion_tokens max_output_tokens max_new_tokens max_length model_length token_limit"
    " model_context_window_exceeded"
)
_FILTERED = (
    "content_filter content_filtered safety recitation blocklist prohibited_content spii guardrail_intervened sensitive"
    " moderation refusal error_toxic"
)
_ENDS: dict[str, Finish] = {
    **dict.fromkeys(_STOP.split(), "stop"),
    **dict.fromkeys(_LENGTH.split(), "length"),
    **dict.fromkeys(_FILTERED.split(), "filtered"),
}
_THOUGHT = re.compile("think|thought|reason")  # in the types of parts that are no answer: reasoning_text, thinking


@dataclass(frozen=True)
class Said:
    """text: the answer, without thoughts. refusal: a refusal in words, where it stands apart from the text.

    thought: whether thoughts came beside it. word: how it ended, by one of the known words; empty where unsaid.
    """

    text: str
    refusal: str
    thought: bool
    finish: Finish
    word: str


def choice_of(reply: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice of a completion; None where there is none."""
    choices = reply.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def said_in(reply: dict[str, Any]) -> Said:
    """What a reply says that lacks nothing."""
    choice = choice_of(reply)
    if choice is None:
        return Said("", "", False, "filtered", "blocked")
    message = _as_dict(choice.get("message"))
    parts = list(_parts(message.get("content")))
    text = "".join(value for kind, value in parts if kind == "text")
    refusal = "".join(value for kind, value in parts if kind == "refusal") or _plain(message.get("refusal"))
    thought = any(message.get(name) for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"))
    thought = thought or any(kind == "thought" for kind, _ in parts) or _reasoning_tokens(reply) > 0
    word = _word(choice)
    return Said(text, refusal, thought, _ENDS.get(word, "unsaid"), word)


def lacks(reply: dict[str, Any]) -> str | None:
    """What a reply lacks to be one, in a few words; None where it says something, be it nothing that is of use."""
    choice = choice_of(reply)
    if choice is None:
        return None if _blocked(reply) else "a reply without a choice"
    if failed := failure(choice):
        return failed
    said = said_in(reply)
    if said.text or said.refusal or said.thought or said.finish in ("length", "filtered") or _positions(choice):
        return None
    if said.finish == "unsaid":
        return "a reply without a text, which does not say how it ended"
    return None if _tokens(reply) else "a reply without a text and without tokens"


def failure(choice: dict[str, Any]) -> str | None:
    """How a choice ended that is no answer, in the server's own words; None where it ended as one does."""
    word = _word(choice)
    return f"a reply that ended by '{choice['finish_reason']}'" if word and word not in _ENDS else None


def _word(choice: dict[str, Any]) -> str:
    """How a choice ended, such as `stop`, of `STOP`, `FinishReason.STOP` or `stop: …`; empty where nothing says it."""
    said = choice.get("finish_reason")
    said = said.get("type") if isinstance(said, dict) else said
    first = "" if said in (None, "null", "None") else re.split(r"[:\s]", str(said).strip().lower())[0]
    return first.rpartition(".")[2].replace("-", "_")


def _blocked(reply: dict[str, Any]) -> bool:
    """Whether a reply says in place of a choice that a moderator let the prompt not pass."""
    told = [_as_dict(reply.get(name)) for name in ("prompt_feedback", "promptFeedback")]
    return any(one.get("block_reason") or one.get("blockReason") for one in told)


def _parts(content: Any) -> Iterator[tuple[Literal["text", "thought", "refusal"], str]]:
    """The parts of a message's content, be it one text or a list of thoughts, texts and refusals."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, dict):
        kind = str(content.get("type", "text"))
        if _THOUGHT.search(kind) or content.get("thought") is True:
            yield "thought", ""
        elif kind == "refusal":
            yield "refusal", _plain(content.get("refusal"))
        elif isinstance(content.get("text"), dict):
            yield "text", _plain(content["text"].get("value"))
        else:
            yield "text", _plain(content.get("text"))


def _positions(choice: dict[str, Any]) -> bool:
    """Whether log-probs of some token came with it: then there was one, though no text of it is shown."""
    return bool(_as_dict(choice.get("logprobs")).get("content"))


def _tokens(reply: dict[str, Any]) -> int:
    """How many were generated, as far as the server says."""
    count = _as_dict(reply.get("usage")).get("completion_tokens")
    return count if isinstance(count, int) else 0


def _reasoning_tokens(reply: dict[str, Any]) -> int:
    usage = _as_dict(reply.get("usage"))
    found = [_as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"), usage.get("reasoning_tokens")]
    return max((count for count in found if isinstance(count, int)), default=0)


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else ""
