"""Responses from a model behind an OpenAI-compatible server, as a teacher that lives elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.generation.protocol import Draw, Drawn, Request, UnfinishedError
from harness.models import chat
from harness.models.control_tokens import without_control_tokens
from harness.models.settings import TEACHER_SERVER
from harness.serving import replies
from harness.serving.endpoint import FilteredError, LimitError
from harness.serving.learning import LIMIT, Body, Learnt
from harness.serving.pool import Asked, Manner, Reply, UnansweredError, ask_all
from harness.serving.settings import ModelServer

STOPS = "stop_token_ids"  # of vLLM's and SGLang's servers; one that does not know it stops where it stops
# What shapes a response and may still be left unsaid: it is then what servers take it for.
_USUAL = {"temperature": 1.0, "top_p": 1.0}


@dataclass(frozen=True)
class ServerGenerator:
    """The server formats the conversation; ids are the text's, as `tokenizer` splits it.

    known: what the server was found not to take."""

    server: ModelServer
    tokenizer: Any
    batches: int = 4
    known: Learnt = field(default_factory=Learnt)

    @property
    def versions(self) -> dict[str, str]:
        return {"server": f"{self.server.model} at {self.server.public_url}"}

    def draw(self, rows: Sequence[Request], how: Draw) -> list[Drawn]:
        calls = [
            Asked(row.prompt_id, self._body(row, how), len(row.prompt) + how.sampling.max_new_tokens) for row in rows
        ]
        manner = Manner(TEACHER_SERVER, "/chat/completions", _lacks_text, _must)
        try:
            found = ask_all(self.server, manner, calls, self.known)
        except UnansweredError as error:
            drawn = {place: self._drawn(reply, calls[place].body) for place, reply in error.replies.items()}
            raise UnfinishedError(str(error), drawn) from error
        return [self._drawn(reply, call.body) for reply, call in zip(found, calls, strict=True)]

    def _body(self, row: Request, how: Draw) -> Body:
        return {
            "model": self.server.model,
            # what stands inside a message stays text for any server's tokenizer
            "messages": [{"role": m.role, "content": without_control_tokens(m.content)} for m in row.messages],
            "temperature": how.sampling.temperature,
            "top_p": how.sampling.top_p,
            LIMIT: how.sampling.max_new_tokens,
            "seed": how.row_seed(row),
            # a base model's server may know of no end but that of a text; ids are the server's where it was said so
            **({STOPS: chat.stop_tokens(None, self.tokenizer)} if self.server.tokenizer else {}),
        }

    def _drawn(self, reply: Reply, asked: Body) -> Drawn:
        why = _why_none(reply, asked[LIMIT])
        if why:
            return Drawn(token_ids=(), text="", finish="stop", left_out=why)
        assert isinstance(reply, dict)
        said = replies.said_in(reply)
        ended, text = said.finish == "stop", said.text or said.refusal
        ids = chat.encode_response(self.tokenizer, text, ended)
        without = tuple(sorted(self.known.lost(asked)))
        return Drawn(token_ids=tuple(ids), text=text, finish="stop" if ended else "length", without=without)


def _must(body: Body) -> dict[str, str]:
    """What shapes a response: a teacher that is asked otherwise than the run says is another one."""
    advice = "set train_sampling and eval_sampling to what it takes, or serve the teacher elsewhere"
    return {LIMIT: advice} | {name: advice for name, usual in _USUAL.items() if body[name] != usual}


def _why_none(reply: Reply, limit: int) -> str:
    """Why a prompt has no answer, however often it is asked; empty where it has one."""
    if isinstance(reply, FilteredError):
        return f"refused by its moderator ({reply})"
    room = f"its thoughts took the whole limit of {limit} tokens: raise the sampling's max_new_tokens"
    if isinstance(reply, LimitError):
        return f"{room} ({reply})"
    said = replies.said_in(reply)
    if said.finish == "filtered":
        return f"refused by its moderator ({said.word})"
    if said.text or said.refusal:
        return ""
    if said.finish == "length":  # thoughts that some servers neither show nor count
        return room
    return "thoughts alone, and no answer after them" if said.thought else ""


def _lacks_text(reply: Body) -> str | None:
    lack = replies.lacks(reply)
    if lack:
        return lack
    said = replies.said_in(reply)
    if said.finish == "filtered" or (said.finish == "length" and not (said.text or said.refusal)):
        return None  # said of the prompt, not of this call
    if said.finish == "unsaid":
        return "a reply that does not say how it ended"
    if any("\ud800" <= character <= "\udfff" for character in said.text + said.refusal):
        return "a reply with half a surrogate pair, which is not text"
    message = (replies.choice_of(reply) or {}).get("message")
    silent = not isinstance(message, dict) or message.get("content") is None
    return "a reply without a text" if silent and not (said.text or said.refusal or said.thought) else None
