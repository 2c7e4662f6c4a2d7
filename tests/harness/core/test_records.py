from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import (
    Message,
    Prompt,
    Response,
    Verdict,
    answers_in,
    read_jsonl,
    read_records,
    transcript,
    write_jsonl,
)

PROMPT = Prompt(id="a", messages=(Message(role="user", content="Hi"),), category="greeting")
RESPONSE = Response(prompt_id="a", sample=1, token_ids=(5, 6, 2), text="Hello", finish="stop")
VERDICT = Verdict(
    prompt_set="set",
    prompt_id="a",
    candidate="sft",
    reference="teacher",
    order="candidate_first",
    status="ok",
    preference=0.25,
    judge="proxy",
    candidate_tokens=3,
    reference_tokens=4,
)
# line separators that are legal inside a JSON string, other scripts, an emoji outside the basic plane
TEXTS = [
    "a\u2028b\u2029c\x85d\x0be",
    "naïve ½ Ünïcode",
    "日本語 עברית",
    "🙂",
    'quotes " and \\ and \n\r\t',
    "<|im_end|>",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("record", [PROMPT, RESPONSE, VERDICT], ids=lambda record: type(record).__name__)
def test_records_come_back_as_they_were_written(path: Path, record: Prompt | Response | Verdict) -> None:
    write_jsonl(path, [record, record])
    assert read_records(path, type(record)) == [record, record]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_as_it_was_written(path: Path, text: str) -> None:
    row = RESPONSE.model_copy(update={"text": text})
    write_jsonl(path, [row, RESPONSE])
    assert read_records(path, Response) == [row, RESPONSE]


def test_text_is_written_readably_and_one_row_a_line(path: Path) -> None:
    write_jsonl(path, [{"text": "日本\n🙂"}, {"text": "b"}])
    assert path.read_bytes().decode("utf-8") == '{"text": "日本\\n🙂"}\n{"text": "b"}\n'


def test_a_line_separator_inside_a_string_does_not_end_a_row(path: Path) -> None:
    path.write_text('{"text": "one\u2028two\x85three"}\n{"text": 2}\n', encoding="utf-8")
    assert list(read_jsonl(path)) == [(1, {"text": "one\u2028two\x85three"}), (2, {"text": 2})]


def test_blank_lines_are_passed_over_and_still_counted(path: Path) -> None:
    path.write_text('\n{"a": 1}\n  \n{"a": 2}', encoding="utf-8")
    assert list(read_jsonl(path)) == [(2, {"a": 1}), (4, {"a": 2})]


def test_lines_may_end_as_on_windows(path: Path) -> None:
    path.write_bytes(b'{"a": 1}\r\n{"a": 2}\r\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1} {"a": 2}', "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        ("null", "expected a JSON object, found NoneType"),
        ('"text"', "expected a JSON object, found str"),
    ],
)
def test_a_row_that_is_no_object_is_named_by_file_and_line(path: Path, line: str, message: str) -> None:
    path.write_text(f'{{"a": 1}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        list(read_jsonl(path))
    assert str(caught.value).startswith(f"{path}:3: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "b"}',
        '{"id": "b", "messages": [{"role": "tool", "content": "x"}]}',
        '{"id": "b", "messages": [], "colour": "red"}',
        '{"id": 3, "messages": []}',
    ],
)
def test_a_row_that_does_not_fit_the_record_is_named_by_file_and_line(path: Path, line: str) -> None:
    path.write_text(f"{PROMPT.model_dump_json()}\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.jsonl:2: not a Prompt \("):
        read_records(path, Prompt)


def test_text_that_is_not_utf8_is_refused_by_file(path: Path) -> None:
    path.write_bytes(b'{"a": "\xe9"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: cannot be read as UTF-8 text"):
        list(read_jsonl(path))


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(UserError, match=r"rows\.jsonl: cannot be read"):
        list(read_jsonl(path))


@pytest.mark.parametrize("preference", [-0.1, 1.1])
def test_a_preference_is_a_share(preference: float) -> None:
    with pytest.raises(ValueError, match="preference"):
        Verdict.model_validate({**VERDICT.model_dump(), "preference": preference})


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PROMPT.id = "b"  # type: ignore[misc]


# ---- prompts of several turns


def asked(*texts: str, **more: Any) -> Prompt:
    return Prompt(id="p", messages=tuple(Message(role="user", content=text) for text in texts), **more)


@pytest.mark.parametrize("answers", [["a", "b", "c"], ["", "", ""], ["a\n\n### User:\nx", "b", "### Assistant:\n"]])
def test_the_answers_of_a_transcript_are_found_again(answers: list[str]) -> None:
    assert answers_in(transcript(answers, ["one", "two"]), ["one", "two"]) == answers


def test_a_text_that_is_no_transcript_is_the_last_answer() -> None:
    assert answers_in("text", ["one"]) == ["(not given)", "text"]
    half = transcript(["a", "b"], ["one"])
    assert answers_in(half, ["one", "two"]) == ["(not given)", "(not given)", half]
    assert answers_in("text", []) == ["text"]


def test_a_prompt_s_digest_is_of_what_a_model_reads() -> None:
    same = [asked("a"), asked("a", answer="x", category="c"), asked("a").model_copy(update={"id": "q"})]
    assert len({prompt.digest for prompt in same}) == 1
    system = Prompt(id="p", messages=(Message(role="system", content="a"),))
    others = [asked("a"), asked("b"), asked("a", "b"), asked("a", turns=("b",)), system]
    assert len({prompt.digest for prompt in others}) == len(others)
