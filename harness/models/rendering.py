"""How a tokenizer and a chat template read prompts: so many tokens, or not at all. No weights are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.models import chat, turns
from harness.models.folders import read_json

# what stands for an answer that is yet to come, where the user goes on after it
ANSWER = Message(role="assistant", content="…")
# what configurations call the number of positions, the commonest first
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len")
# kinds of rotary scaling whose factor is in the number of positions already
SCALED_ALREADY = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})


class Rendered(BaseModel):
    """A prompt set as one model reads it, by prompt id.

    tokens: of the conversation up to where the model's answer begins; of a prompt with further turns, to where the last
    answer does, each answer before it counted as a token or two. refused: why the template does not take a prompt.
    left_out: the role of a message whose text the template does not write."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tokens: dict[str, int] = {}
    refused: dict[str, str] = {}
    left_out: dict[str, str] = {}


def rendered(tokenizer: Any, prompts: Iterable[Prompt]) -> Rendered:
    """Every prompt as a model reads it. Nothing is raised: what is wrong is part of what is said."""
    tokens, refused, left_out = {}, {}, {}
    for prompt in prompts:
        messages = conversation(prompt)
        try:
            tokens[prompt.id] = len(chat.encode_chat(tokenizer, messages))
        except UserError as error:
            refused[prompt.id] = str(error.__cause__ or error)
            continue
        if role := _left_out(tokenizer, messages):
            left_out[prompt.id] = role
    return Rendered(tokens=tokens, refused=refused, left_out=left_out)


def conversation(prompt: Prompt) -> list[Message]:
    """All that a model is ever sent of a prompt at once: its messages, and its further turns after answers."""
    further = [Message(role="user", content=turn) for turn in prompt.turns]
    return [*prompt.messages, *(message for turn in further for message in (ANSWER, turn))]


def _left_out(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The role of the first message, of those that a person wrote, whose text is not in what the template writes."""
    text = _squeezed(turns.rendered(tokenizer, [(message.role, message.content) for message in messages], True))
    return next((m.role for m in messages if m.role != "assistant" and _squeezed(m.content) not in text), "")


def _squeezed(text: str) -> str:
    """Templates trim, and some fold white space; all else they pass on."""
    return "".join(text.split())


def positions_of(folder: Path) -> int | None:
    """How many tokens a model takes at once, answer included; None where its configuration does not say. Where its
    rotary embedding is stretched by a factor that the number does not have in it yet, with it."""
    config = read_json(folder / "config.json")
    known: int | None = next((config[name] for name in POSITIONS if isinstance(config.get(name), int)), None)
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor")
    if known is None or kind in SCALED_ALREADY or not isinstance(factor, int | float):
        return known
    return max(known, int(factor * scaling.get("original_max_position_embeddings", known)))
