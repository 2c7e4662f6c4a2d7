"""What an error answer is about: a parameter, a limit that is too small, a moderator's rules, or the prompt itself.

Servers say the same in many ways: as an object, as a list, under `detail`, in words alone, or as what a gateway was
told by another server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from typing import Any

PARAMETERS = (
    "temperature",
    "top_p",
    "max_completion_tokens",
    "max_tokens",
    "prompt_logprobs",
    "top_logprobs",
    "logprobs",
    "response_format",
    "seed",
    "stop_token_ids",
)
PROMPT = ("messages", "prompt", "input")  # what an error says that it is about, where it is about a prompt
# of errors about a prompt that is too long, whose text may well name max_tokens
TOO_LONG = ("context length", "context_length", "context window", "too large", "too long", "maximum model length")
# of errors about a limit that leaves a model that thinks first no room for its answer
_TOO_SMALL = re.compile(
    r"could not (be )?finish.*limit|(max_\w*tokens|output limit|token limit).*"
    r"(was reached|too (small|low|short)|(a|with|set) higher|increase|at least|>=|must be greater|below (the )?min)",
    re.IGNORECASE | re.DOTALL,
)
# of errors that a moderator makes: in their codes and types, and in their words
_MODERATED = re.compile(
    r"content[ _-]?(filter|polic|management)|moderat(ion|or|ed)|data_?inspection|inappropriate content|guardrail"
    r"|responsible ?ai|usage polic|safety (system|filter|polic|reason)|prohibited[ _]content|content exists risk"
    r"|flagged|sensitive (content|words?|information)|(prompt|input|request|response|completion) was (filtered|blocked)"
    r"|\u654f\u611f|\u4e0d\u5b89\u5168",  # "sensitive" and "unsafe" in Chinese
    re.IGNORECASE,
)
_OF_WHO_ASKS = re.compile(r"\b(account|organi[sz]ation|api key|billing)\b", re.IGNORECASE)
# words without one of which an error that holds the word "seed" may well quote a prompt
_OF_PARAMETERS = re.compile(
    r"['\"`]seed['\"`]|param|argument|field|propert|input|option|name|support|unknown|recogni|expected|extra|permitted"
    r"|allowed|invalid|body",
    re.IGNORECASE,
)
# what pydantic quotes of what it was sent, where an error is passed on as Python writes it: whole prompts, at worst
_QUOTED = re.compile(r",? ?['\"]input['\"]: .*", re.DOTALL)
_DEEPEST = 6  # levels at which an error's words are looked for: gateways wrap what they were told


def moderated(parts: Sequence[dict[str, Any]], words: str) -> bool:
    """Whether it is a moderator that refuses this prompt, and not whoever asks."""
    if _OF_WHO_ASKS.search(words):
        return False
    return bool(_MODERATED.search(words)) or any(_MODERATED.search(code) for code in codes(parts))


def codes(parts: Sequence[dict[str, Any]]) -> list[str]:
    return [str(part[name]) for part in parts for name in ("code", "type") if part.get(name)]


def status_of(error: dict[str, Any]) -> int:
    """The status that an error in a reply would have had; one that says nothing of it may pass."""
    for name in ("code", "status", "status_code"):
        code = str(error.get(name))
        if code.isdecimal() and 400 <= int(code) < 600:
            return int(code)
    return 400 if moderated([error], "") else 500


def parts_of(error: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """All objects of an error, whatever it is wrapped in, the outer ones first."""
    if isinstance(error, dict) and depth < _DEEPEST:
        yield error
        for name in ("error", "errors", "message", "detail", "metadata", "raw"):
            yield from parts_of(_unpacked(error.get(name)), depth + 1)
    elif isinstance(error, list) and depth < _DEEPEST:
        for part in error:
            yield from parts_of(part, depth + 1)


def _unpacked(value: Any) -> Any:
    """What a gateway was told, which it passes on as the JSON that it was told it in."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def words_of(error: Any) -> str:
    """What an error says: the words of each object that has some, the outer ones first; without what it quotes."""
    if isinstance(error, str):
        return _QUOTED.sub("", error)
    found = []
    for part in parts_of(error):
        place = part.get("loc")
        where = ".".join(map(str, place)) + ": " if isinstance(place, list) else ""
        said = [part.get(name) for name in ("message", "detail", "error", "msg", "raw")]
        texts = [text for text in said if isinstance(text, str) and not isinstance(_unpacked(text), dict)]
        found += [where + _QUOTED.sub("", text) for text in texts]
    return "; ".join(dict.fromkeys(filter(None, found))) or (str(error) if error else "")


def refused_parameter(parts: list[dict[str, Any]], message: str, asked: Container[str]) -> tuple[str | None, bool]:
    """The parameter of ours that an error is about, if it is about one rather than about the prompt; and whether it is
    that a limit is too small.

    It is among those that were sent: an error may name what to use in place of it.
    """
    named = [str(part.get("param") or "") for part in parts]
    if any(name.startswith(PROMPT) for name in named):
        return None, False
    sent = [name for name in PARAMETERS if name in asked]
    placed = {str(key) for part in parts if isinstance(part.get("loc"), list) for key in part["loc"]}
    told = {name.partition(".")[0] for name in named} | placed
    said = message.lower()
    places = {name: said.index(name) for name in sent if name in said}
    if not (re.search(r"\bseed\b", said) and _OF_PARAMETERS.search(said)):
        places.pop("seed", None)
    # the one that stands first, and of two in one place the longer: top_logprobs holds logprobs
    found = next((name for name in sent if name in told), min(places, key=places.__getitem__, default=None))
    if found in ("max_completion_tokens", "max_tokens") or found is None:
        if any(words in said for words in TOO_LONG):
            return None, False
        if _TOO_SMALL.search(message):
            return None, True
    return found, False
