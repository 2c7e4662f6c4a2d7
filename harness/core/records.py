"""The typed rows that travel between stages, and how they are read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.core.errors import UserError
from harness.core.files import canonical_hash, write_atomically
from harness.core.parsing import parse_json

Ref = str  # "stage/key" of an artifact
Facts = dict[str, Any]  # what a stage says of its work, kept in the artifact's manifest
METRICS = "metrics.jsonl"  # a training's figures, step by step
Role = Literal["system", "user", "assistant"]
# none: the judge sees no order; unknown: it was shown one, and which is not known (imported judgments)
Order = Literal["candidate_first", "reference_first", "none", "unknown"]
Status = Literal["ok", "unparsable", "failed", "skipped"]
NOT_GIVEN = "(not given)"  # in the place of a right answer that is not known, beside one that is
SHORT = 16  # hex digits of a digest in a verdict
IDENTICAL = "identical responses"  # the detail of a verdict that nobody was asked for


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Partial(Record):
    """A record some of whose fields may not be there: those that were not given are not written."""

    @model_serializer(mode="wrap")
    def _as_given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if name in self.model_fields_set}


def plain(record: BaseModel) -> dict[str, Any]:
    """A record as the data that JSON holds."""
    return record.model_dump(mode="json", by_alias=True)


class Message(Record):
    role: Role
    content: str


class Prompt(Record):
    """A conversation that ends with the user's turn, which the model is to answer.

    answer: a known right answer, for reference-guided judging; empty where none is known.
    turns: the user's further turns, each sent after the model's own answer to the one before.
    turn_answers: the known right answers to those, one each, without the last ones that are not known."""

    id: str
    messages: tuple[Message, ...]
    category: str = ""
    answer: str = ""
    turns: tuple[str, ...] = ()
    turn_answers: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of all that a model reads of it, whatever it is called and wherever it stands."""
        return canonical_hash([[[m.role, m.content] for m in self.messages], list(self.turns)])[:SHORT]

    @property
    def references(self) -> tuple[str, ...]:
        """A known right answer for each turn that is answered; empty where it is not known."""
        return (self.answer, *self.turn_answers, *[""] * (len(self.turns) - len(self.turn_answers)))

    @property
    def reference(self) -> str:
        """What is known of the right answer as one text, as the responses are; empty where nothing is."""
        return transcript([text or NOT_GIVEN for text in self.references], self.turns) if any(self.references) else ""


def prompts_digest(prompts: Iterable[Prompt]) -> str:
    """A digest of prompts in their order; a field that a later version adds changes none that does not use it."""
    return canonical_hash([prompt.model_dump(exclude_defaults=True) for prompt in prompts])


class Response(Record):
    """One sampled response. `token_ids` are as generated, with the end-of-turn token only where the model
    ended its turn; `finish` is `length` where it was cut at the limit.

    Of several turns: the ids of all answers, one after the other; a text with the user's turns in between
    (`transcript`); and `length` where any answer was cut."""

    prompt_id: str
    sample: int = 0
    token_ids: tuple[int, ...]
    text: str
    finish: Literal["stop", "length"]


class Verdict(Record):
    """One judge's answer on one comparison in one order. `preference` is 0..1 for the candidate.

    judge_digest: of all that the judge's answers depend on; two judges of one name are two. prompt_digest: of what was
    asked; two prompts of one id are two. Both are empty where they are not known. turn: of a judgment of one turn its
    number, from 1, else 0. repeat: of a question that was asked several times in one run, which time, from 0. sample:
    which of a system's responses to the prompt was judged, from 0.
    Lengths of the responses are None where they are not known. The rest is as in `judging.Answer`.
    """

    prompt_set: str
    prompt_id: str
    candidate: str
    reference: str
    order: Order
    status: Status
    preference: float | None = Field(default=None, ge=0, le=1)
    judge: str
    candidate_tokens: int | None = None
    reference_tokens: int | None = None
    candidate_characters: int | None = None
    reference_characters: int | None = None
    detail: str = ""
    raw: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    form: str = ""
    truncated: bool = False
    judge_digest: str = ""
    prompt_digest: str = ""
    turn: int = Field(default=0, ge=0)
    repeat: int = Field(default=0, ge=0)
    sample: int = Field(default=0, ge=0)

    @property
    def unanswered(self) -> bool:
        """Whether the judge is to be asked again: it never answered. An answer that cannot be read is an answer."""
        return self.status in ("failed", "skipped")

    @model_validator(mode="after")
    def _preference_where_ok(self) -> Self:
        if (self.status == "ok") != (self.preference is not None):
            raise ValueError("a verdict has a preference if, and only if, its status is ok")
        return self


def transcript(answers: Sequence[str], turns: Sequence[str]) -> str:
    """A model's answers with the user's turns between them, as judges read a conversation of several turns."""
    parts = [answers[0]]
    for turn, answer in zip(turns, answers[1:], strict=True):
        parts += [f"### User:\n{turn}", f"### Assistant:\n{answer}"]
    return "\n\n".join(parts)


def answers_in(text: str, turns: Sequence[str]) -> list[str]:
    """The answers of a `transcript`, one more than there are turns; a text that is none is all of it the last one."""
    answers, rest = [], text
    for turn in turns:
        answer, found, rest = rest.partition(f"\n\n### User:\n{turn}\n\n### Assistant:\n")
        if not found:
            return [*[NOT_GIVEN] * len(turns), text]
        answers.append(answer)
    return [*answers, rest]


class RunPrompt(Prompt):
    """A prompt in a run's folder."""

    prompt_set: str


class RunResponse(Record):
    """What one system (the teacher, a method, …) answered to one prompt, in a run's folder."""

    prompt_set: str
    prompt_id: str
    system: str
    text: str
    tokens: int
    finish: str
    sample: int = 0


class Measured(Record):
    """What was measured of one system's responses to one prompt.

    values: by measure, the sum of its values and how many they are: tokens or responses."""

    prompt_id: str
    values: dict[str, tuple[float, int]]


class RunMeasured(Measured):
    """The same in a run's folder."""

    prompt_set: str
    system: str


R = TypeVar("R", bound=Record)


def write_jsonl(path: Path, rows: Iterable[BaseModel | dict[str, Any]]) -> None:
    """Write rows as JSONL; the file is whole or as before."""
    plain = (row.model_dump(mode="json") if isinstance(row, BaseModel) else row for row in rows)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain))


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for each line that is not blank.

    Raises:
        UserError: a line that is not a JSON object, by file and line.
    """
    try:
        # split on line feeds only: U+2028 and its like are legal inside a JSON string
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = parse_json(line)
        except UnicodeEncodeError as error:
            raise UserError(f"{path}:{number}: half a surrogate pair (\\ud800…) is not text") from error
        except ValueError as error:
            raise UserError(f"{path}:{number}: not valid JSON ({error})") from error
        if not isinstance(data, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, found {type(data).__name__}")
        yield number, data


def read_records(path: Path, kind: type[R]) -> list[R]:
    """All rows of a file as records of one kind.

    Raises:
        UserError: a row that does not fit, by file and line.
    """
    rows = []
    for number, data in read_jsonl(path):
        try:
            rows.append(kind.model_validate(data))
        except ValidationError as error:
            raise UserError(f"{path}:{number}: not a {kind.__name__} ({error.errors()[0]['msg']})") from error
    return rows
