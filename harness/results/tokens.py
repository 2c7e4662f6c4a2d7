"""tokens.json: what a run keeps token by token, for its page."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.core.records import Record

RUN_TOKENS = "tokens.json"


class TokenView(Record):
    """One response in tokens, with what each student's distribution is off by at each of them."""

    prompt_set: str = Field(description="the prompts")
    prompt_id: str = Field(description="the prompt")
    sample: int = Field(description="which of the writer's responses to it")
    writer: str = Field(description="the teacher, or a row")
    pieces: tuple[str, ...] = Field(description="the text of each token")
    kl: dict[str, tuple[float, ...]] = Field(description="by row, nats at each token: forward on the teacher's text")


class Positions(Record):
    """KL by the place in a response."""

    prompt_set: str = Field(description="the prompts")
    method: str = Field(description="a row")
    writer: str = Field(description="the teacher, or the row")
    kl: tuple[float, ...] = Field(description="mean nats at each place")
    n: tuple[int, ...] = Field(description="responses that reach it")


class Departure(Record):
    """A token where a student departs far from its teacher."""

    prompt_set: str = Field(description="the prompts")
    method: str = Field(description="a row")
    writer: str = Field(description="the teacher, or the row")
    prompt_id: str = Field(description="the prompt")
    sample: int = Field(description="which of the writer's responses to it")
    position: int = Field(description="of the token in the response, from 0")
    kl: float = Field(description="nats")
    before: str = Field(description="the end of the text before it")
    token: str = Field(description="its text")
    teacher_top: str = Field(description="the teacher's likeliest")
    student_top: str = Field(description="the student's likeliest")


class TokenData(Record):
    """What tokens.json holds."""

    views: tuple[TokenView, ...] = ()
    positions: tuple[Positions, ...] = ()
    departures: tuple[Departure, ...] = ()


def read_tokens(folder: Path) -> TokenData | None:
    """A run folder's; None where it has none."""
    path = folder / RUN_TOKENS
    return TokenData.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None
