from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import Config, resolve, to_yaml
from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.prompts.columns import chosen, prompt_of
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
    assert chosen(Columns(), table(*columns)).model_dump(exclude_none=True) == expected


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
    assert (prompt.turns, prompt.answer) == (("two",), "1")
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
