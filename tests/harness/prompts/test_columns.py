from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import Config, resolve, to_yaml
from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.prompts.columns import LostPartError, chosen, message_fields, not_taken, prompt_of, require_whole
from harness.prompts.settings import Columns, PromptSource
from harness.prompts.sources import SourceTable

HUMAN, GPT = {"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}
USER, ASSISTANT = {"role": "user", "content": "Hello", "weight": 1}, {"role": "assistant", "content": "Hi!"}


def table(*columns: str) -> SourceTable:
    return SourceTable("T", columns, lambda _: iter(()))


def read(row: dict[str, Any], **said: str) -> Prompt:
    return prompt_of(row, chosen(Columns(**said), table(*row)), "T:1")


def said_in(prompt: Prompt) -> list[str]:
    return [message.content for message in prompt.messages]


# ---- which column


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["prompt"], {"prompt": "prompt"}),
        (["instruction", "input", "output"], {"prompt": "instruction", "input": "input"}),
        (
            ["instruction", "context", "response", "category"],
            {"prompt": "instruction", "input": "context", "category": "category"},
        ),
        (["id", "instruction", "instances"], {"prompt": "instruction", "input": "instances", "id": "id"}),
        (["question", "context", "answer"], {"prompt": "question"}),
        (["prompt", "answer", "input"], {"prompt": "prompt", "answer": "answer"}),
        (["prompt_id", "messages"], {"messages": "messages", "id": "prompt_id"}),
        (["id", "conversations"], {"messages": "conversations", "id": "id"}),
        (
            ["question_id", "turns", "category", "reference"],
            {"turns": "turns", "id": "question_id", "category": "category", "answer": "reference"},
        ),
    ],
)
def test_columns_are_guessed_by_their_names(columns: list[str], expected: dict[str, str]) -> None:
    assert chosen(Columns(), table(*columns)).named == expected


def test_what_is_said_goes_before_what_is_guessed() -> None:
    found = chosen(
        Columns(prompt="instruction", id="n", input="more"), table("instruction", "id", "n", "input", "more")
    )
    assert (found.prompt, found.id, found.input) == ("instruction", "n", "more")
    assert chosen(Columns(messages="messages"), table("prompt", "messages")).messages == "messages"


@pytest.mark.parametrize(
    ("columns", "said", "message"),
    [
        (["a", "b"], {"prompt": "c"}, r"^T: there is no column 'c'; its columns are a, b$"),
        (["a", "b"], {}, r"^T: no prompts found; its columns are a, b: name the set and its columns"),
        (
            ["prompt", "messages"],
            {},
            r"^T: the prompts may be in prompt or messages; its columns are prompt, messages:",
        ),
        (["prompt", "a"], {"category": "kind"}, r"there is no column 'kind'; its columns are prompt, a"),
    ],
)
def test_a_wrong_or_doubtful_column_ends_in_one_line_with_those_there_are(
    columns: list[str], said: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        chosen(Columns(**said), table(*columns))


# ---- rows


def test_an_input_is_appended_where_there_is_one() -> None:
    assert said_in(read({"instruction": "Sum up.", "context": "A text."})) == ["Sum up.\n\nA text."]
    for nothing in ("", " \n", None):
        assert said_in(read({"instruction": "Sum up.", "context": nothing})) == ["Sum up."]


@pytest.mark.parametrize(
    "instances", [[{"input": "A text.", "output": "x"}], {"input": ["A text."], "output": ["x"]}, "A text."]
)
def test_self_instruct_keeps_the_input_in_its_instances(instances: Any) -> None:
    assert said_in(read({"instruction": "Sum up.", "instances": instances})) == ["Sum up.\n\nA text."]


@pytest.mark.parametrize("conversation", [[HUMAN, GPT, HUMAN], [HUMAN, GPT, HUMAN, GPT], [USER, ASSISTANT, USER]])
def test_a_conversation_goes_up_to_the_user_s_last_turn(conversation: list[dict[str, Any]]) -> None:
    prompt = read({"conversations": conversation})
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    assert said_in(prompt) == ["Hello", "Hi!", "Hello"]


def test_fastchat_s_row_is_a_prompt_with_further_turns() -> None:
    row = {"question_id": 81, "category": "math", "turns": ["one", "two"], "reference": ["1", "2"]}
    prompt = read(row)
    assert (prompt.id, prompt.category, said_in(prompt)) == ("81", "math", ["one"])
    assert (prompt.turns, prompt.answer, prompt.turn_answers) == (("two",), "1", ("2",))
    for none in ([], None, ""):
        assert read({**row, "reference": none}).answer == ""


def test_a_turn_may_be_an_object_with_a_content() -> None:
    assert said_in(read({"uid": "a", "turns": [{"content": "one"}]})) == ["one"]


def test_a_row_without_an_id_gets_one_from_its_content() -> None:
    made = {read({"prompt": "one", **more}).id for more in ({}, {"id": None}, {"id": ""})}
    assert len(made) == 1 and len(made.pop()) == 16


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None}, "'prompt' must be a text"),
        ({"prompt": " "}, "an empty prompt"),
        ({"turns": []}, "'turns' must be a list of the user's turns"),
        ({"turns": "one"}, "'turns' must be a list of the user's turns"),
        ({"turns": ["one", None]}, "'turns' must be a list of texts"),
        ({"messages": [ASSISTANT]}, "the last message must be the user's"),
        ({"messages": "Hello"}, "messages need a role"),
        ({"messages": [{"from": "tool", "value": "x"}]}, "messages need a role"),
        ({"prompt": "one", "id": 1.5}, "'id' must be a string or a whole number"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^T:1: {message}"):
        read(row)


# ---- the configuration


def test_the_configuration_names_sets_of_one_s_own(tmp_path: Path) -> None:
    mine = {"path": str(tmp_path / "a.csv"), "columns": {"prompt": "text"}, "part": "train"}
    config = resolve([{"student": "embedded", "prompts": {"mine": mine}}])
    assert config.prompts["mine"] == PromptSource.model_validate(mine)
    assert "a.csv" in to_yaml(config)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "needs either path or hub"),
        ({"path": "a", "hub": "a/b"}, "needs either path or hub"),
        ({"path": "a", "revision": "main"}, "belong to a dataset on the hub"),
        ({"hub": "a/b", "file": "a.json", "split": "train"}, "a single file has no config and no split"),
        ({"path": "a", "colums": {}}, r"unknown configuration key 'prompts\.mine\.colums'; did you mean 'columns'"),
        ({"path": "a", "columns": {"promt": "x"}}, r"'prompts\.mine\.columns\.promt'; did you mean 'prompt'"),
        ({"path": "a", "columns": {"prompt": "x", "turns": "y"}}, "only one of prompt, messages and turns"),
        ({"path": "a", "columns": {"turns": "x", "input": "y"}}, "it needs `prompt`"),
        ({"path": "a", "part": "dev"}, r"prompts\.mine\.part"),
    ],
)
def test_a_wrong_source_is_named_by_its_key(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve([{"student": "embedded", "prompts": {"mine": source}}])


@pytest.mark.parametrize("name", ["a b", "", "../a", "a@train"])
def test_a_set_s_name_is_a_word(name: str) -> None:
    with pytest.raises(UserError, match="is no name"):
        resolve([{"student": "embedded", "prompts": {name: {"path": "a"}}}])


def test_the_share_of_test_is_a_share() -> None:
    assert Config.model_fields["test_share"].default == 0.1
    with pytest.raises(UserError, match="test_share"):
        resolve([{"student": "embedded", "test_share": 1.5}])


# ---- what belongs to a prompt


def roles(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


SYSTEM = ("system", "Answer in rhyme.")
RHYME = {"from": "system", "value": SYSTEM[1]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"system": SYSTEM[1], "conversations": [HUMAN, GPT]}, [SYSTEM, ("user", "Hello")]),
        ({"system_prompt": SYSTEM[1], "question": "Where?"}, [SYSTEM, ("user", "Where?")]),
        ({"system": SYSTEM[1], "turns": ["Where?"]}, [SYSTEM, ("user", "Where?")]),
        ({"system": SYSTEM[1], "conversations": [RHYME, HUMAN]}, [SYSTEM, ("user", "Hello")]),
        ({"conversations": [RHYME, HUMAN, GPT]}, [SYSTEM, ("user", "Hello")]),
        (
            {"instruction": "Go on.", "input": "Now.", "system": SYSTEM[1], "history": [["One?", "1."]]},
            [SYSTEM, ("user", "One?"), ("assistant", "1."), ("user", "Go on.\n\nNow.")],
        ),
        (
            {"instruction": "Go on.", "history": [HUMAN, GPT]},
            [("user", "Hello"), ("assistant", "Hi!"), ("user", "Go on.")],
        ),
        ({"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": []}, [("user", "Hello")]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]}]},
            [("user", "a\nb")],
        ),
    ],
)  # fmt: skip
def test_what_stands_before_a_prompt_is_put_there(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert roles(read(row)) == expected


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}, "[]", "{}", float("nan")])
@pytest.mark.parametrize("column", ["system", "history", "tools", "context"])
def test_an_empty_cell_is_no_part_of_a_prompt(column: str, nothing: Any) -> None:
    row = {"prompt": "Hello", column: nothing}
    columns = chosen(Columns(), table(*row))
    require_whole(row, not_taken(row, columns)[0], columns, "T:1")
    assert roles(prompt_of(row, columns, "T:1")) == [("user", "Hello")]


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ({"question": "Where?", "context": "A map."}, "prompts.NAME.columns.input=context takes it in"),
        ({"prompt": "Where?", "input": "A map."}, "prompts.NAME.columns.input=input takes it in"),
        ({"prompt": "Where?", "chat_history": [["a", "b"]]}, "prompts.NAME.columns.history=chat_history takes it in"),
        ({"system": "a", "system_prompt": "b", "prompt": "Where?"}, "prompts.NAME.columns.ignore=[system_prompt]"),
        ({"messages": [USER], "context": "A map."}, "prompts.NAME.columns.ignore=[context]"),
        ({"messages": [USER], "history": [["a", "b"]]}, "prompts.NAME.columns.ignore=[history]"),
        ({"conversations": [HUMAN], "tools": '[{"name": "look"}]'}, "prompts.NAME.columns.ignore=[tools]"),
        ({"question": "Which?", "Choices": ["a", "b"], "answer": 1}, "prompts.NAME.columns.ignore=[Choices]"),
        ({"prompt": "What?", "images": ["a.png"]}, "prompts.NAME.columns.ignore=[images]"),
    ],
)  # fmt: skip
def test_a_part_of_a_prompt_that_is_not_taken_is_refused_with_the_setting_that_decides(
    row: dict[str, Any], setting: str
) -> None:
    columns = chosen(Columns(), table(*row))
    (name,) = not_taken(row, columns)[0]
    with pytest.raises(LostPartError, match=f"^T:1: '{name}' is a part of the prompt") as caught:
        require_whole(row, [name], columns, "T:1")
    assert setting in str(caught.value) and "\n" not in str(caught.value)
    assert not not_taken(row, chosen(Columns(ignore=(name,)), table(*row)))[0]


def test_a_column_that_is_ignored_is_guessed_for_nothing() -> None:
    found = chosen(Columns(ignore=("messages", "system")), table("prompt", "messages", "system"))
    assert found.named == {"prompt": "prompt"}
    with pytest.raises(UserError, match="there is no column 'tools'"):
        chosen(Columns(ignore=("tools",)), table("prompt"))


def test_other_columns_that_are_not_taken_are_known() -> None:
    row = {"prompt": "a", "language": "en", "split": "train", "label": 1}
    assert not_taken(row, chosen(Columns(), table(*row))) == ([], ["language", "split", "label"])
    message = {"role": "user", "content": "a", "weight": 1, "name": "Ann", "id": None}
    assert list(message_fields({"messages": [message]}, Columns(messages="messages"))) == [
        "messages.weight",
        "messages.name",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": 3, "prompt": "a"}, "'system' must be a text"),
        ({"system": "a", "messages": [{"role": "system", "content": "b"}, USER]}, "'system' is not the system message"),
        ({"history": [["a", "b", "c"]], "prompt": "d"}, "'history' must be a list of"),
        ({"history": "User: a", "prompt": "d"}, "'history' must be a list of"),
        ({"history": [USER], "prompt": "d"}, "'history' must be a list of"),
        ({"instruction": "a", "input": ["b", "c"]}, "'input' is appended to the prompt, and is not one text"),
        ({"instruction": "a", "instances": [{"input": "b"}, {"input": "c"}]}, "'instances' is appended"),
        ({"messages": [{**ASSISTANT, "tool_calls": [{"id": 1}]}, USER]}, "a message has 'tool_calls', and only texts"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}]},
            "a message has a part of type 'image_url', and only texts",
        ),
        ({"messages": [{"role": "tool", "content": "x"}, USER]}, "messages need a role .*'tool' is none"),
        ({"messages": [{"role": "developer", "content": "x"}, USER]}, "messages need a role .*'developer' is none"),
    ],
)  # fmt: skip
def test_a_part_of_a_prompt_that_cannot_be_put_in_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^T:1: {message}"):
        read(row)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"prompt": "a", "system": 3}, "system"),
        ({"question": "a", "system_prompt": 3}, "system_prompt"),
        ({"instruction": "a", "history": "User: a"}, "history"),
        ({"instruction": "a", "context": ["b", "c"]}, "context"),
    ],
)
def test_the_setting_that_leaves_such_a_column_out_is_named(row: dict[str, Any], column: str) -> None:
    with pytest.raises(UserError, match=rf"columns\.ignore=\[{column}\] leaves it out"):
        read(row)


def test_a_column_without_a_name_is_nothing_that_is_asked_for() -> None:
    prompt = read({"": 7, "prompt": "a"})
    assert (roles(prompt), prompt.category, prompt.answer) == ([("user", "a")], "", "") and prompt.id != "7"


# ---- known answers


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(42, "42"), (0, "0"), (3.5, "3.5"), (True, "true"), ("x", "x"), (["x"], "x"), ([42], "42")]
    + [(nothing, "") for nothing in (None, "", [], float("nan"))],
)
def test_a_known_answer_is_a_text_whatever_it_was(answer: Any, expected: str) -> None:
    for row in ({"prompt": "a", "answer": answer}, {"prompt": "a", "reference_answer": answer}):
        assert read(row).answer == expected


@pytest.mark.parametrize(
    ("answers", "expected", "shown"),
    [
        (["one", 2], ("one", "2"), "one\n\n### User:\nb\n\n### Assistant:\n2"),
        (["one"], ("one", ""), "one\n\n### User:\nb\n\n### Assistant:\n(not given)"),
        (["", "two"], ("", "two"), "(not given)\n\n### User:\nb\n\n### Assistant:\ntwo"),
        (["", None], ("", ""), ""),
    ],
)
def test_answers_to_several_turns_are_kept_turn_by_turn(
    answers: list[Any], expected: tuple[str, str], shown: str
) -> None:
    prompt = read({"turns": ["a", "b"], "reference": answers})
    assert (prompt.references, prompt.reference) == (expected, shown)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"value": "x"}, "no dict"),
        (["x", "y"], "a list of 2 known answers, and the prompt has 1 turn"),
        ([{}], "no list"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_names_its_column_and_the_setting(answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^T:1: 'answer': .*{message}.*prompts.NAME.columns.ignore=\[answer\]"):
        read({"prompt": "a", "answer": answer})
