"""Responses from a model behind an OpenAI-compatible server, as a teacher that lives elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.generation.protocol import Draw, Drawn, Request
from harness.models import chat
from harness.models.control_tokens import without_control_tokens
from harness.models.settings import TEACHER_SERVER
from harness.serving.pool import ask_all
from harness.serving.settings import ModelServer


@dataclass(frozen=True)
class ServerGenerator:
    """The server formats the conversation; ids are the text's, as `tokenizer` splits it."""

    server: ModelServer
    tokenizer: Any
    batches: int = 4

    @property
    def versions(self) -> dict[str, str]:
        return {"server": f"{self.server.model} at {self.server.public_url}"}

    def draw(self, rows: Sequence[Request], how: Draw) -> list[Drawn]:
        bodies = [self._body(row, how) for row in rows]
        lengths = [len(row.prompt) + how.sampling.max_new_tokens for row in rows]
        replies = ask_all(self.server, TEACHER_SERVER, "/chat/completions", bodies, lengths, _lacks_text)
        return [self._drawn(reply) for reply in replies]

    def _body(self, row: Request, how: Draw) -> dict[str, Any]:
        return {
            "model": self.server.model,
            # what stands inside a message stays text for any server's tokenizer
            "messages": [{"role": m.role, "content": without_control_tokens(m.content)} for m in row.messages],
            "temperature": how.sampling.temperature,
            "top_p": how.sampling.top_p,
            "max_tokens": how.sampling.max_new_tokens,
            "seed": how.row_seed(row),
        }

    def _drawn(self, reply: dict[str, Any]) -> Drawn:
        choice = reply["choices"][0]
        ended, text = choice["finish_reason"] == "stop", str(choice["message"]["content"])
        ids = chat.encode_response(self.tokenizer, text, ended)
        return Drawn(token_ids=tuple(ids), text=text, finish="stop" if ended else "length")


def _lacks_text(reply: dict[str, Any]) -> str | None:
    try:
        choice = reply["choices"][0]
        content, finish = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError):
        return "a reply without a choice"
    if not isinstance(content, str):
        return "a reply without a text"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return "a reply with half a surrogate pair, which is not text"
    return None if finish in ("stop", "length") else f"a reply that ended by {finish!r}"
