"""Response files of any origin: joined by their ids, and what is wrong with one is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.judging.response_files import read_comparisons

Row = dict[str, Any] | str
HERE, THERE = "candidate.jsonl", "reference.jsonl"


@pytest.fixture
def join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The comparisons of two files with these rows; a text is a line as it stands."""
    monkeypatch.chdir(tmp_path)

    def read(candidate: list[Row], reference: list[Row]) -> Any:
        for name, rows in ((HERE, candidate), (THERE, reference)):
            lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
            Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return read_comparisons(Path(HERE), Path(THERE))

    return read


def row(key: Any, text: str = "Because.", **more: Any) -> dict[str, Any]:
    return {"prompt_id": key, "prompt": f"Question {key}?", "response": text, **more}


def bare(key: Any, text: str = "So.") -> dict[str, Any]:
    return {"prompt_id": key, "response": text}


def refused(join: Any, candidate: list[Row], reference: list[Row]) -> str:
    with pytest.raises(UserError) as caught:
        join(candidate, reference)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what fits


def test_rows_are_joined_by_id_in_the_candidate_s_order(join: Any) -> None:
    found = join([row("b", "b1"), row("a", "a1")], [row("a", "a2"), row("b", "b2")])
    assert [(c.prompt.id, c.candidate.text, c.reference.text) for c in found] == [("b", "b1", "b2"), ("a", "a1", "a2")]
    assert [c.prompt.messages[0].content for c in found] == ["Question b?", "Question a?"]
    assert all(c.candidate.token_ids == c.reference.token_ids == () and c.measured == {} for c in found)


@pytest.mark.parametrize("candidate_has_it", [True, False])
def test_one_of_the_two_files_may_leave_the_prompts_out(join: Any, candidate_has_it: bool) -> None:
    full, short = [row("a", answer="42")], [bare("a")]
    (found,) = join(full, short) if candidate_has_it else join(short, full)
    assert (found.prompt.messages[0].content, found.prompt.answer) == ("Question a?", "42")


def test_each_file_may_hold_some_of_the_prompts(join: Any) -> None:
    found = join([row("a"), bare("b")], [bare("a"), row("b")])
    assert [c.prompt.messages[0].content for c in found] == ["Question a?", "Question b?"]


def test_a_conversation_stands_in_messages(join: Any) -> None:
    turns = [("system", "Be kind."), ("user", "One?"), ("assistant", "One."), ("user", "Two?")]
    said = [{"role": role, "content": content} for role, content in turns]
    (found,) = join([{**bare("a"), "messages": said}], [bare("a")])
    assert [(m.role, m.content) for m in found.prompt.messages] == turns


def test_a_prompt_and_the_same_as_messages_are_one_prompt(join: Any) -> None:
    said = [{"role": "user", "content": "Question a?"}]
    (found,) = join([row("a")], [{**bare("a"), "messages": said}])
    assert len(found.prompt.messages) == 1


def test_other_fields_blank_lines_and_numbers_as_ids_do_no_harm(join: Any) -> None:
    found = join(["", json.dumps(row(7, model="x", tokens=[1])), "  ", json.dumps(row(8))], [bare("8"), "\t", bare(7)])
    assert [c.prompt.id for c in found] == ["7", "8"]


@pytest.mark.parametrize("answer", [42, "42"])
def test_a_known_answer_is_text(join: Any, answer: Any) -> None:
    (found,) = join([row("a", answer=answer)], [bare("a")])
    assert found.prompt.answer == "42"


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_answer_is_none(join: Any, nothing: Any) -> None:
    (found,) = join([row("a", answer=nothing)], [row("a")])
    assert found.prompt.answer == ""


def test_an_answer_of_zero_is_an_answer(join: Any) -> None:
    (found,) = join([row("a", answer=0)], [bare("a")])
    assert found.prompt.answer == "0"


@pytest.mark.parametrize("text", ["", " \n", "日本 😀", "\u2028\x00", "e\u0301", "{{7*7}}", "[[A]]", "\ufeff"])
def test_any_text_is_a_response_and_a_prompt(join: Any, text: str) -> None:
    (found,) = join([{**bare("é😀", text), "prompt": text}], [bare("é😀", text + "!")])
    assert (found.prompt.id, found.candidate.text, found.reference.text) == ("é😀", text, text + "!")
    assert found.prompt.messages[0].content == text


# ---- what does not


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        ("ab", "a", f"{THERE} has no response to 'b'; both files need the same prompts"),
        ("a", "ab", f"{HERE} has no response to 'b'; both files need the same prompts"),
        ("gfedcba", "a", f"{THERE} has no response to 'b', 'c', 'd', 'e', 'f' and 1 more; both files need the same"),
        ("ab", "ac", f"{THERE} has no response to 'b'"),
    ],
)
def test_prompts_that_one_file_lacks_are_named(join: Any, candidate: str, reference: str, expected: str) -> None:
    assert refused(join, [row(key) for key in candidate], [row(key) for key in reference]).startswith(expected)


def test_a_second_response_to_one_prompt_is_named_by_its_line(join: Any) -> None:
    several = "'sample' numbers several from 0"
    assert refused(join, [row("a"), "", row("a")], [row("a")]) == f"{HERE}:3: a second response to 'a'; {several}"
    assert refused(join, [row("a")], [row("a"), row("a")]) == f"{THERE}:2: a second response to 'a'; {several}"
    assert refused(join, [row(7), row("7")], [row(7)]) == f"{HERE}:2: a second response to '7'; {several}"


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Another?"},
        {"answer": "43"},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Question a?"}]},
    ],
)
def test_different_prompts_under_one_id_are_refused(join: Any, other: dict[str, Any]) -> None:
    turned = {**row("a", answer="42"), **other}
    if "messages" in other:
        del turned["prompt"]
    message = refused(join, [row("a", answer="42"), row("b")], [turned, row("b")])
    assert message == f"{HERE} and {THERE} have different prompts under the same id: 'a'"


def test_a_prompt_that_neither_file_has_is_named(join: Any) -> None:
    assert refused(join, [row("a"), bare("b")], [row("a"), bare("b")]) == (
        f"neither {HERE} nor {THERE} says what the prompt 'b' is"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"response": "x"}, "'prompt_id' is missing or no text"),
        (bare(""), "'prompt_id' is missing or no text"),
        (bare(None), "'prompt_id' is missing or no text"),
        (bare(True), "'prompt_id' is missing or no text"),
        (bare(1.5), "'prompt_id' is missing or no text"),
        ({"prompt_id": "b"}, "'response' is missing or no text"),
        ({"prompt_id": "b", "response": None}, "'response' is missing or no text"),
        ({"prompt_id": "b", "response": ["x"]}, "'response' is missing or no text"),
        (row("b", messages=[]), "both 'prompt' and 'messages'; leave one out"),
        ({**bare("b"), "prompt": 3}, "the prompt is no text or no conversation of roles and contents"),
        ({**bare("b"), "prompt": None}, "the prompt is no text or no conversation of roles and contents"),
        ({**bare("b"), "messages": 3}, "the prompt is no text or no conversation of roles and contents"),
        ({**bare("b"), "messages": "Why?"}, "the prompt is no text or no conversation of roles and contents"),
        ({**bare("b"), "messages": [{"role": "user"}]}, "the prompt is no text or no conversation"),
        ({**bare("b"), "messages": [{"role": "wizard", "content": "x"}]}, "the prompt is no text or no conversation"),
        ({**bare("b"), "messages": []}, "the conversation does not end with the user's turn"),
        ({**bare("b"), "messages": [{"role": "assistant", "content": "x"}]}, "does not end with the user's turn"),
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        ('{"prompt_id": "b", "response": "\\ud800"}', "half a surrogate pair"),
    ],
    ids=str,
)
@pytest.mark.parametrize("in_reference", [False, True])
def test_a_row_that_is_none_is_named_by_file_and_line(join: Any, line: Row, expected: str, in_reference: bool) -> None:
    wrong, right = [row("a"), "", line], [row("a"), row("b")]
    message = refused(join, right, wrong) if in_reference else refused(join, wrong, right)
    assert message.startswith(f"{THERE if in_reference else HERE}:3: ") and expected in message


@pytest.mark.parametrize("rows", [[], ["", "  "]])
def test_an_empty_file_is_refused(join: Any, rows: list[Row]) -> None:
    assert refused(join, rows, [row("a")]) == f"{HERE} holds no responses"
    assert refused(join, [row("a")], rows) == f"{THERE} holds no responses"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt_id": "\xe9"}')
    for path in (tmp_path / "missing.jsonl", tmp_path, tmp_path / "latin.jsonl"):
        with pytest.raises(UserError, match="cannot be read as UTF-8 text") as caught:
            read_comparisons(path, path)
        assert str(caught.value).startswith(f"{path}: ")


def test_what_belongs_to_a_prompt_is_taken_from_a_response_file_too(join: Any) -> None:
    more = {"system": "Rhyme.", "history": [["One?", "1."]], "turns": ["And?"], "answer": [1, 2.5]}
    (found,) = join([row("a", **more)], [bare("a")])
    assert [m.content for m in found.prompt.messages] == ["Rhyme.", "One?", "1.", "Question a?"]
    assert (found.prompt.turns, found.prompt.references) == (("And?",), ("1", "2.5"))
    (again,) = join([row("a", **{**more, "answer": "1", "turn_answers": ["2.5"]})], [bare("a")])
    assert again.prompt == found.prompt  # as a run's own prompts.jsonl has it


@pytest.mark.parametrize("other", [{"system": "Be brief."}, {"turns": ["And?"]}, {"answer": True}])
def test_prompts_that_differ_in_what_belongs_to_them_are_different(join: Any, other: dict[str, Any]) -> None:
    message = refused(join, [row("a", system="Rhyme.", answer="x")], [row("a", **{"system": "Rhyme.", **other})])
    assert message == f"{HERE} and {THERE} have different prompts under the same id: 'a'"


@pytest.mark.parametrize("name", ["context", "tools", "input"])
def test_a_part_of_the_prompt_that_no_judge_would_see_is_refused(join: Any, name: str) -> None:
    assert f"{HERE}:1: '{name}' is a part of the prompt" in refused(join, [row("a", **{name: "x"})], [row("a")])
    assert join([row("a", **{name: "[]"})], [row("a")])


def test_a_column_that_the_prompt_was_put_together_of_stands_there_already(join: Any) -> None:
    made = row("a") | {"prompt": "Add.\n\n1 and 2", "instruction": "Add.", "input": "1 and 2\n", "context": ""}
    (found,) = join([made], [bare("a")])
    assert found.prompt.messages[-1].content == "Add.\n\n1 and 2"
    assert "'input' is a part of the prompt" in refused(join, [made | {"input": "2"}], [bare("a")])


# ---- several responses to a prompt


def test_samples_of_a_prompt_are_joined_one_by_one(join: Any) -> None:
    ours = [row("a", "a0"), {**bare("a", "a1"), "sample": 1}, row("b", "b0", sample=0)]
    theirs = [{**bare("a", "A1"), "sample": 1}, bare("a", "A0"), bare("b", "B0")]
    found = join(ours, theirs)
    said = [(c.prompt.id, c.candidate.sample, c.candidate.text, c.reference.text) for c in found]
    assert said == [("a", 0, "a0", "A0"), ("a", 1, "a1", "A1"), ("b", 0, "b0", "B0")]
    # the prompt of a sample may stand at another one
    assert [c.prompt.messages[0].content for c in found] == ["Question a?", "Question a?", "Question b?"]


def test_samples_that_do_not_fit_are_refused(join: Any) -> None:
    second = {**bare("a"), "sample": 1}
    assert "reference.jsonl has no response to 'a' (sample 1)" in refused(join, [row("a"), second], [bare("a")])
    assert "candidate.jsonl:2: a second response to 'a'; 'sample' numbers" in refused(join, [row("a")] * 2, [bare("a")])
    odd = [row("a"), {**second, "prompt": "Another?"}]
    assert "different prompts under the same id: 'a'" in refused(join, odd, [bare("a"), second])


@pytest.mark.parametrize("sample", [-1, "1", 0.5, True, None])
def test_a_sample_is_a_whole_number(join: Any, sample: Any) -> None:
    assert "'sample' is no whole number from 0" in refused(join, [row("a", sample=sample)], [bare("a")])
