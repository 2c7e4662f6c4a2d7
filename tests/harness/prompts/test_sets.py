from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import resolve
from harness.core.errors import UserError
from harness.core.records import Message, Prompt, prompts_digest
from harness.prompts import Library, evaluation_set, prompt_sets, training_set
from harness.prompts.settings import PromptSource
from harness.run.road import build_road
from harness.store import Store

CHAT = [
    {"role": "system", "content": ""},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "And now?"},
]


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


def write(path: Path, *rows: Any) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[Prompt]:
    return list(training_set(str(path), Library()).prompts)


# ---- rows


def test_a_prompt_is_a_user_s_turn(path: Path) -> None:
    write(path, {"id": "a", "category": "greeting", "prompt": "Hello\u2028there"})
    messages = (Message(role="user", content="Hello\u2028there"),)
    assert read(path) == [Prompt(id="a", messages=messages, category="greeting")]


def test_messages_are_kept_as_they_are(path: Path) -> None:
    write(path, {"id": "a", "messages": CHAT})
    (prompt,) = read(path)
    assert [message.model_dump() for message in prompt.messages] == CHAT


def test_a_row_without_an_id_gets_one_from_its_content(tmp_path: Path) -> None:
    first = read(write(tmp_path / "a.jsonl", {"prompt": "one"}, {"prompt": "two"}))
    second = read(write(tmp_path / "b.jsonl", {"prompt": "two", "category": "c"}, {"prompt": "one"}))
    assert [prompt.id for prompt in first] == [prompt.id for prompt in reversed(second)]
    assert first[0].id != first[1].id


def test_a_whole_number_serves_as_id(path: Path) -> None:
    assert [prompt.id for prompt in read(write(path, {"id": 81, "prompt": "one"}))] == ["81"]


@pytest.mark.parametrize("row", [{"prompt": "one"}, {"prompt": "one", "category": None}])
def test_a_category_may_be_left_out(path: Path, row: dict[str, Any]) -> None:
    assert read(write(path, row))[0].category == ""


def test_further_fields_are_ignored(path: Path) -> None:
    assert len(read(write(path, {"prompt": "one", "source": "me", "answer": 3}))) == 1


def test_our_own_format_has_a_system_message_earlier_turns_and_answers_turn_by_turn(path: Path) -> None:
    more = {"history": [["One?", "1."]], "turns": ["And then?"], "answer": [1, "two"]}
    (prompt,) = read(write(path, {"prompt": "Go on.", "system": "Be brief.", **more}))
    assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "user"]
    assert (prompt.turns, prompt.answer, prompt.turn_answers) == (("And then?",), "1", ("two",))
    again = prompt.model_dump(mode="json")  # as a run's folder and the store have it
    assert read(write(path, again)) == [prompt]


def test_fields_of_our_own_format_may_have_the_names_that_other_tables_give_them(path: Path) -> None:
    write(path, {"prompt": "a", "system_prompt": "Be brief.", "reference_answer": 3}, {"prompt": "a", "system": "Go."})
    first, second = read(path)
    assert ([m.content for m in first.messages], first.answer) == (["Be brief.", "a"], "3")
    assert [m.content for m in second.messages] == ["Go.", "a"]
    write(path, {"prompt": "a", "system_prompt": "Be brief.", "system_message": "Be kind."})
    with pytest.raises(UserError, match=r"mine\.jsonl:1: 'system_message' is a part of the prompt"):
        read(path)


def test_what_leaves_out_a_system_message_that_is_none_is_named(path: Path, library: Library) -> None:
    write(path, {"prompt": "a"}, {"prompt": "b", "system_prompt": 3})
    with pytest.raises(UserError, match=r"mine\.jsonl:2: 'system' must be a text; .*columns\.ignore=\[system_prompt\]"):
        training_set(str(path), library)


@pytest.mark.parametrize("name", ["context", "tools", "images"])
def test_a_part_of_a_prompt_in_our_own_format_is_refused_or_ignored(path: Path, name: str) -> None:
    write(path, {"id": "a", "prompt": "one"}, {"id": "a2", "prompt": "two", name: ["x"]})
    with pytest.raises(UserError, match=rf"mine\.jsonl:2: '{name}' is a part of the prompt.*ignore=\[{name}\]"):
        read(path)
    source = PromptSource.model_validate({"path": path, "columns": {"ignore": [name]}})
    assert len(training_set("set", Library({"set": source})).prompts) == 2
    write(path, {"id": "a", "prompt": "one", name: ["x"]}, {"id": "a", "prompt": "two"})
    with pytest.raises(UserError, match="prompt id 'a' was used on line 1 already"):  # it is our own format still
        training_set("set", Library({"set": source}))


def test_a_digest_of_prompts_without_answers_by_turn_is_what_it_was() -> None:
    prompt = Prompt(id="a", messages=(Message(role="user", content="Hi"),), answer="x", turns=("b",))
    assert prompts_digest([prompt]) == "36c941c9eb42a6645c14e88540358f0020a90777d205e77d907a005155e9fe2d"
    assert prompts_digest([prompt]) != prompts_digest([prompt.model_copy(update={"turn_answers": ("y",)})])


# ---- errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": ', "not valid JSON"),
        ('["a prompt"]', "expected a JSON object, found list"),
        ({"text": "one"}, "expected either a 'prompt' or a 'messages' field, found [\"text\"]"),
        ({"prompt": "one", "messages": CHAT}, "expected either a 'prompt' or a 'messages' field"),
        ({"prompt": 3}, "'prompt' must be a text"),
        ({"prompt": None}, "'prompt' must be a text"),
        ({"messages": None}, "messages need a role"),
        ({"messages": "Hello"}, "messages need a role"),
        ({"messages": [{"role": "human", "content": "Hello"}]}, "messages need a role"),
        ({"messages": [{"role": "user"}]}, "messages need a role"),
        ({"messages": [{"role": "user", "content": ["Hello"]}]}, "messages need a role"),
        ({"messages": []}, "the last message must be the user's"),
        ({"messages": CHAT[:3]}, "the last message must be the user's"),
        ({"prompt": ""}, "an empty prompt"),
        ({"prompt": " \n\t"}, "an empty prompt"),
        ({"messages": [*CHAT[:2], {"role": "assistant", "content": " "}, CHAT[3]]}, "an empty prompt"),
        ({"prompt": "one", "turns": ["two"], "turn_answers": 3}, "'turn_answers' must be a list"),
        ({"id": None, "prompt": "one"}, "'id' must be a string or a whole number"),
        ({"id": 1.5, "prompt": "one"}, "'id' must be a string or a whole number"),
        ({"id": True, "prompt": "one"}, "'id' must be a string or a whole number"),
        ({"id": "first", "prompt": "again"}, "prompt id 'first' was used on line 1 already"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(path: Path, row: Any, message: str) -> None:
    write(path, {"id": "first", "prompt": "Hello"}, "", row, {"prompt": "the end"})
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:3: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [r'{"prompt": "half a \ud83d pair"}', r'{"id": "\ud83d", "prompt": "x"}'])
def test_text_that_cannot_be_written_again_is_named_by_file_and_line(path: Path, row: str) -> None:
    with pytest.raises(UserError, match=r"mine\.jsonl:2: "):
        read(write(path, {"prompt": "Hello"}, row))


def test_two_rows_of_one_text_and_no_id_are_duplicates(path: Path) -> None:
    assert len(read(write(path, {"prompt": "one"}, {"prompt": "one"}))) == 1


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.jsonl: no prompts in it"):
        read(path)


# ---- limits


@pytest.mark.parametrize(("limit", "ids"), [(None, ["0", "1", "2"]), (2, ["0", "1"]), (5, ["0", "1", "2"])])
def test_a_limit_takes_the_first_prompts(path: Path, limit: int | None, ids: list[str]) -> None:
    write(path, *({"id": n, "prompt": f"prompt {n}"} for n in range(3)))
    whole = training_set(str(path), Library())
    assert [prompt.id for prompt in whole.first(limit).prompts] == ids
    assert whole.first(limit).digest == prompts_digest(whole.prompts[:limit])


def test_the_whole_file_is_checked_whatever_the_limit(path: Path) -> None:
    with pytest.raises(UserError, match=r":2: an empty prompt"):
        training_set(str(write(path, {"prompt": "one"}, {"prompt": ""})), Library()).first(1)


# ---- names and paths


def test_a_named_set_is_in_domain_where_its_card_says_so(library: Library) -> None:
    train, other = training_set("everyday-train", library), training_set("longer-tasks", library)
    test = training_set("everyday-test", library)
    assert test.read_from.path == prompt_sets.get("everyday-test").path
    assert evaluation_set("everyday-test", train, library) == (test, True)
    assert evaluation_set("everyday-test", other, library) == (test, False)
    assert evaluation_set("followups", train, library) == (training_set("followups", library), False)


def test_a_file_is_out_of_domain_unless_said_otherwise(path: Path, library: Library) -> None:
    write(path, {"prompt": "one"})
    train = training_set("everyday-train", library)
    found, in_domain = evaluation_set(str(path), train, library)
    assert (found.name, found.read_from.path, in_domain) == ("mine", path, False)
    assert evaluation_set(f"in:{path}", train, library) == (found, True)
    assert training_set(str(path), library) == found


def test_a_training_file_that_is_named_like_a_set_is_not_that_set(
    tmp_path: Path, own_store: Path, checkpoints: dict[str, Path]
) -> None:
    path = write(tmp_path / "everyday-train.jsonl", {"prompt": "one"})
    layer = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "methods": ["sft"],
        "judge": "typicality",
        "train_prompts": str(path),
        "eval": ["everyday-test"],
    }
    road = build_road(resolve([layer]), Store(own_store), download=False)
    assert not road.evaluations[0].in_domain


def test_a_file_of_any_name_serves(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "prompts.txt", {"prompt": "one"})
    assert training_set(str(path), library).read_from.path == path


@pytest.mark.parametrize("text", ["nowhere.jsonl", "in:nowhere.jsonl", "in:nowhere"])
def test_a_missing_file_is_named(text: str, library: Library) -> None:
    with pytest.raises(UserError, match=r"^prompt file nowhere\S* does not exist$"):
        evaluation_set(text, training_set("everyday-train", library), library)


def test_an_unknown_set_gets_a_suggestion(library: Library) -> None:
    train = training_set("everyday-train", library)
    for find in (training_set, lambda text, there: evaluation_set(text, train, there)):
        with pytest.raises(UserError, match="unknown prompt set 'folowups'; did you mean 'followups'"):
            find("folowups", library)


def test_a_folder_that_is_named_like_a_set_does_not_hide_it(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "followups").mkdir()
    monkeypatch.chdir(tmp_path)
    assert training_set("followups", library).read_from.path == prompt_sets.get("followups").path


def test_what_is_held_out_depends_on_each_prompt_alone(path: Path, library: Library) -> None:
    """A prompt that validates in a small set never trains in a larger one."""
    write(path, *({"id": f"p{number}", "prompt": f"Say {number}."} for number in range(400)))
    whole = training_set(str(path), library)
    left, held = whole.first(100).hold_out(0.25)
    more_left, more_held = whole.hold_out(0.25)
    assert {*left.prompts, *held.prompts} == set(whole.prompts[:100])
    assert len(left.prompts) + len(held.prompts) == 100 and 10 <= len(held.prompts) <= 40
    assert set(left.prompts) <= set(more_left.prompts) and set(held.prompts) <= set(more_held.prompts)
    assert left.prompts == tuple(prompt for prompt in whole.prompts[:100] if prompt in left.prompts)
    assert len({whole.digest, left.digest, held.digest}) == 3
    assert (held.name, held.validation, left.validation) == ("mine (validation)", True, False)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_neither_part_of_the_training_prompts_may_be_empty(path: Path, own_store: Path, share: float) -> None:
    write(path, *({"id": f"p{number}", "prompt": f"Say {number}."} for number in range(4)))
    config = resolve(
        [{"student": "smollm2-135m-pruned20", "judge": "typicality", "train_prompts": str(path), "validation": share}]
    )
    with pytest.raises(
        UserError, match=r"^validation=0\.\d+ leaves [04] of the 4 prompts of 'mine' to train on and [04]"
    ):
        build_road(config, Store(own_store), download=False)
