"""Nothing of a prompt is dropped without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.judging import api
from tests.cases.conftest import EVALUATION, Case, refused, written
from tests.serving import Server, completion

CHAT = [{"from": "human", "value": "Where is the ship?"}, {"from": "gpt", "value": "Gone."}]
ALPACA = {"instruction": "And for four people?", "input": "", "output": "x"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def first_is_better(call: Any) -> Any:
    return completion("A", [("A", -0.05), ("B", -3.0)])


def questions(server: Server, about: str) -> list[str]:
    """What the judge was asked, of the prompt that says this."""
    api._sessions.clear()
    texts = ["\n".join(message["content"] for message in call.body["messages"]) for call in server.calls]
    return [text for text in texts if about in text]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"system": "Answer as a pirate.", "tools": "[]", "conversations": CHAT}, ["pirate", "ship"]),
        ({**ALPACA, "system": "Never use nuts.", "history": [["Plan a dinner.", "Soup."]]}, ["nuts", "dinner", "Soup"]),
        ({**ALPACA, "input": "All are hungry."}, ["four people", "hungry"]),
        ({"prompt": "Go on.", "system": "Be brief."}, ["Be brief", "Go on"]),
        ({"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go on."}]}, ["Be brief"]),
    ],
)
def test_what_stands_before_a_question_is_in_the_prompt(case: Case, row: dict[str, Any], parts: list[str]) -> None:
    written(case.training, [row])
    ended = case.example()
    assert ended.status == 0 and all(part in ended.out for part in parts), ended.err + ended.out


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"question": "Where?", "context": "On the map."}, "context"),
        ({"prompt": "Where?", "tools": [{"name": "look"}]}, "tools"),
        ({"prompt": "Which?", "choices": ["a", "b"]}, "choices"),
        ({"prompt": "What is it?", "documents": ["one"]}, "documents"),
        ({"messages": [{"role": "user", "content": "Hi"}], "functions": [{"name": "look"}]}, "functions"),
    ],
)
def test_a_part_of_the_prompt_that_is_not_taken_ends_in_one_line(case: Case, row: dict[str, Any], name: str) -> None:
    written(case.training, [row])
    assert f"'{name}' is a part of the prompt" in refused(case.example())
    decided = ["--set", f"prompts.mine.path={case.training}", "--set", f"prompts.mine.columns.ignore=[{name}]"]
    assert case.example("--train-prompts", "mine", *decided).status == 0


def test_rows_with_different_system_messages_are_different_prompts(case: Case) -> None:
    written(case.training, [{"system": text, "conversations": CHAT} for text in ("Be brief.", "Be kind.", "Be brief.")])
    assert case.example("--index", "1").status == 0
    assert "the training prompts are 0 to 1" in refused(case.example("--index", "2"))


def test_columns_that_are_not_used_are_named_once(case: Case) -> None:
    written(case.training, [{"prompt": f"Say {n}.", "language": "en", "weight": n} for n in range(4)])
    out = " ".join(case.plan().out.split())
    assert out.count("note: prompt set 'train': columns that are not used: language, weight") == 1
    assert out.count("columns that are not used") == 1


def test_the_judge_is_shown_every_known_answer(case: Case) -> None:
    turns = {"question_id": 1, "turns": ["How many jars?", "And five less?"], "reference": ["36 jars.", "31 jars."]}
    other = written(case.root / "question.jsonl", [turns])
    written(case.evaluation, [{**EVALUATION[0], "answer": 42}, {**EVALUATION[1], "answer": "two"}])
    case.judge = "openai:m"
    with Server(first_is_better) as server:
        case.settings["judge.base_url"] = server.base_url
        ended = case.run("--eval", f"in:{case.evaluation},in:{other}")
        assert ended.status == 0, ended.err
        for about, answers in {"step 0": ["42"], "step 1": ["two"], "How many jars?": ["36 jars.", "31 jars."]}.items():
            asked = questions(server, about)
            assert asked and all("RIGHT ANSWER" in text for text in asked)
            assert all(answer in text for text in asked for answer in answers)
    rows = [json.loads(line) for line in (case.out / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["id"]: (row["answer"], row["turn_answers"]) for row in rows}["1"] == ("36 jars.", ["31 jars."])


def test_the_judge_of_two_files_is_shown_what_belongs_to_the_prompt(case: Case) -> None:
    row = {"prompt_id": 1, "prompt": "And now?", "system": "Be brief.", "history": [["A?", "B."]], "answer": True}
    ours = written(case.root / "ours.jsonl", [{**row, "response": "Ours."}])
    theirs = written(case.root / "theirs.jsonl", [{"prompt_id": 1, "response": "Theirs."}])
    files: list[str | Path] = ["--candidate", ours, "--reference", theirs, "--out", case.root / "verdicts.jsonl"]
    with Server(first_is_better) as server:
        judge = ["--judge", "openai:m", "--set", f"judge.base_url={server.base_url}"]
        assert case.cli("judge", *files, *judge).status == 0
        asked = questions(server, "And now?")
        assert len(asked) == 2 and all(part in text for text in asked for part in ("Be brief.", "B.", "true"))
        written(ours, [{**row, "response": "Ours.", "context": "A map."}])
        assert "'context' is a part of the prompt" in refused(case.cli("judge", *files, *judge))
