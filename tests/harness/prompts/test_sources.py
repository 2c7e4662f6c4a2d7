from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow.parquet
import pytest

from harness.core.errors import UserError
from harness.core.records import Prompt, prompts_digest
from harness.prompts import Library, PromptSet, evaluation_set, read_set, training_set
from harness.prompts.settings import PromptSource

ROOT = Path(__file__).parents[3]
FASTCHAT = ROOT.parent / "shared" / "data" / "fastchat"
ROWS = [{"instruction": "Sing!", "uid": 7, "category": "music"}, {"instruction": "Dance!", "uid": 8, "category": None}]


@pytest.fixture
def library() -> Library:
    return Library()


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    datasets.Dataset.from_list(rows).to_parquet(path)
    return path


def saved(path: Path, rows: list[dict[str, Any]]) -> Path:
    datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def as_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def as_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    return jsonl(path, *rows)


FORMATS = {"a.csv": csv, "a.parquet": parquet, "a": saved, "a.json": as_json, "a.jsonl": as_jsonl}
every_format = pytest.mark.parametrize(("name", "make"), FORMATS.items(), ids=list(FORMATS))


def texts(found: PromptSet) -> list[str]:
    return [prompt.messages[-1].content for prompt in found.prompts]


# ---- formats


@every_format
def test_every_format_gives_the_same_prompts(tmp_path: Path, library: Library, name: str, make: Any) -> None:
    found = training_set(str(make(tmp_path / name, ROWS)), library)
    assert (found.name, found.source, found.duplicates, found.skipped) == ("a", name, 0, 0)
    assert [(p.id, p.category, p.messages[0].content) for p in found.prompts] == [
        ("7", "music", "Sing!"),
        ("8", "", "Dance!"),
    ]


@every_format
def test_a_set_is_read_again_from_where_it_was_read(
    tmp_path: Path, library: Library, name: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / name, MANY)
    monkeypatch.chdir(tmp_path)
    found = training_set(f"{name}@train", replace(library, test_share=0.5))
    monkeypatch.chdir("/")
    assert type(found.read_from) is PromptSource and found.read_from.path == tmp_path / name
    again = PromptSource.model_validate_json(found.read_from.model_dump_json())
    assert read_set(found.name, again, download=False) == found


def test_equal_prompts_have_one_digest_wherever_they_come_from(tmp_path: Path, library: Library) -> None:
    found = [training_set(str(make(tmp_path / name, ROWS)), library) for name, make in FORMATS.items()]
    assert {one.digest for one in found} == {prompts_digest(found[0].prompts)}
    assert training_set(str(csv(tmp_path / "b.csv", ROWS[:1])), library).digest == found[0].first(1).digest
    assert found[0].first(1).digest != found[0].digest


def test_cells_of_a_csv_file_are_texts_as_they_stand(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeffid,prompt\n007,NA\n\n1.0,"two\nlines, one ""word"""\n', encoding="utf-8")
    prompts = training_set(str(path), library).prompts
    assert [(p.id, p.messages[0].content) for p in prompts] == [("007", "NA"), ("1.0", 'two\nlines, one "word"')]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt\nHello, you\n", r"a\.csv:2: 2 cells, and the first line names 1 columns"),
        ("id,prompt\n1,one\n2\n", r"a\.csv:3: 1 cells"),
        ('prompt\n"open\n', r"a\.csv: cannot be read as CSV"),
        ("prompt\none\n \n", r"a\.csv:3: an empty prompt"),
        ("", r"a\.csv: no prompts in it, and no columns"),
        ("prompt\n", r"a\.csv: no prompts in it"),
        ("prompt,id,prompt\na,b,c\n", r"a\.csv: the column 'prompt' is there twice; leave one out, or rename it"),
    ],
)
def test_a_bad_csv_file_ends_in_one_line(tmp_path: Path, library: Library, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        training_set(str(tmp_path / "a.csv"), library)
    assert "\n" not in str(caught.value)


def test_columns_without_a_name_may_be_several(tmp_path: Path, library: Library) -> None:
    """As spreadsheets write them beside a table."""
    (tmp_path / "a.csv").write_text("prompt,,\none,,\n")
    assert texts(training_set(str(tmp_path / "a.csv"), library)) == ["one"]


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path: Path, library: Library) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["prompt", "prompt"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: the column 'prompt' is there twice"):
        training_set(str(tmp_path / "a.parquet"), library)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.parquet", "cannot be read as Parquet"),
        ("a.json", "not valid JSON"),
        ("a.jsonl", "not valid JSON"),
        ("a.csv", "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_ends_in_one_line(
    tmp_path: Path, library: Library, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(b"[\xff" if name == "a.csv" else b"[no")
    with pytest.raises(UserError, match=message) as caught:
        training_set(str(tmp_path / name), library)
    assert "\n" not in str(caught.value)


def test_a_folder_that_datasets_did_not_save_is_refused(tmp_path: Path, library: Library) -> None:
    with pytest.raises(UserError, match="not one that `datasets` saved"):
        training_set(str(tmp_path), library)


def test_a_saved_folder_of_several_splits_needs_one_to_be_named(tmp_path: Path) -> None:
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[1:])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")
    own = {name: PromptSource(path=tmp_path / "both", split=name) for name in ("test", "dev")}
    library = Library(own)
    assert texts(training_set("test", library)) == ["Dance!"]
    assert texts(training_set(str(tmp_path / "both" / "test"), library)) == ["Dance!"]
    with pytest.raises(UserError, match="has no split 'dev'; it has train, test"):
        training_set("dev", library)
    with pytest.raises(UserError, match="has the splits train, test; give the folder of one"):
        training_set(str(tmp_path / "both"), library)


@pytest.mark.parametrize(("folder", "count", "turns"), [("mt_bench", 80, 1), ("vicuna_bench", 80, 0)])
def test_fastchat_s_questions_are_read_as_they_are(library: Library, folder: str, count: int, turns: int) -> None:
    path = FASTCHAT / folder / "question.jsonl"
    if not path.is_file():
        pytest.skip("needs a copy of FastChat's questions beside the checkout")
    prompts = training_set(str(path), library).prompts
    assert len(prompts) == count and {len(prompt.turns) for prompt in prompts} == {turns}
    assert all(prompt.category and prompt.id.isdigit() for prompt in prompts)


# ---- duplicates and ids


@every_format
def test_exact_duplicates_are_left_out_and_counted(tmp_path: Path, library: Library, name: str, make: Any) -> None:
    rows = [{"prompt": text, "id": number} for number, text in enumerate(["one", "two", "one", "one", "One"])]
    found = training_set(str(make(tmp_path / name, rows)), library)
    assert found.duplicates == 2
    assert [prompt.id for prompt in found.prompts] == ["0", "1", "4"]


def test_prompts_with_other_further_turns_are_no_duplicates(tmp_path: Path, library: Library) -> None:
    rows = [{"turns": ["one", "two"]}, {"turns": ["one", "three"]}, {"turns": ["one"]}, {"turns": ["one", "two"]}]
    found = training_set(str(jsonl(tmp_path / "a.jsonl", *rows)), library)
    first, second, third = found.prompts
    assert found.duplicates == 1
    assert (first.turns, second.turns, third.turns) == (("two",), ("three",), ())
    assert (second.id, third.id) == (f"{first.id}-2", f"{first.id}-3")


def test_a_repeated_id_is_an_error_in_our_format_and_gets_a_number_in_others(tmp_path: Path, library: Library) -> None:
    rows = [{"id": "a", "prompt": "one"}, {"id": "a-2", "prompt": "two"}, {"id": "a", "prompt": "three"}]
    prompts = training_set(str(csv(tmp_path / "a.csv", rows)), library).prompts
    assert [prompt.id for prompt in prompts] == ["a", "a-2", "a-3"]
    with pytest.raises(UserError, match=r"a\.jsonl:3: prompt id 'a' was used on line 1 already"):
        training_set(str(jsonl(tmp_path / "a.jsonl", *rows)), library)


def test_our_own_format_keeps_turns_and_answers(tmp_path: Path, library: Library) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"id": "a", "prompt": "one", "turns": ["two"], "answer": "1"})
    (prompt,) = training_set(str(path), library).prompts
    assert (prompt.turns, prompt.answer) == (("two",), "1")


@pytest.mark.parametrize("turns", ["two", ["two", " "], [2]])
def test_further_turns_are_texts(tmp_path: Path, library: Library, turns: Any) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"id": "a", "prompt": "one"}, {"prompt": "two", "turns": turns})
    with pytest.raises(UserError, match=r"a\.jsonl:2: 'turns' must be a list of texts"):
        training_set(str(path), library)


# ---- parts

MANY = [{"prompt": f"prompt {number}"} for number in range(400)]


@every_format
def test_the_parts_are_disjoint_and_make_up_the_whole(tmp_path: Path, library: Library, name: str, make: Any) -> None:
    path = make(tmp_path / name, MANY)
    train = training_set(f"{path}@train", library)
    test, in_domain = evaluation_set(f"in:{path}@test", train, library)
    assert (train.name, test.name, in_domain) == ("a-train", "a-test", True)
    assert set(texts(train)) | set(texts(test)) == {row["prompt"] for row in MANY}
    assert not set(texts(train)) & set(texts(test))
    assert 20 <= len(texts(test)) <= 60


def test_a_prompt_stays_in_its_part_whatever_else_the_set_holds(tmp_path: Path, library: Library) -> None:
    test = set(texts(training_set(f"{csv(tmp_path / 'a.csv', MANY)}@test", library)))
    other = [{"question": row["prompt"], "id": -n} for n, row in enumerate(reversed(MANY[:200]))]
    again = set(texts(training_set(f"{parquet(tmp_path / 'b.parquet', other)}@test", library)))
    assert again == test & {row["prompt"] for row in MANY[:200]}


def test_a_larger_share_of_test_takes_prompts_from_training_alone(tmp_path: Path, library: Library) -> None:
    path = csv(tmp_path / "a.csv", MANY)
    larger = replace(library, test_share=0.5)
    some, more = (set(texts(training_set(f"{path}@test", of))) for of in (library, larger))
    assert some < more and 150 <= len(more) <= 250


def test_a_part_without_prompts_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(UserError, match=r"a\.csv: no prompts in part 'test'; with a larger test_share"):
        training_set(f"{path}@test", Library(test_share=1e-9))


def test_a_file_whose_name_ends_like_a_part_is_read_whole(tmp_path: Path, library: Library) -> None:
    path = jsonl(tmp_path / "a@test", *MANY)
    assert len(training_set(str(path), library).prompts) == len(MANY)


# ---- the configuration's sets


def test_a_set_of_the_configuration_is_found_by_its_name(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", [{"text": row["prompt"], "topic": "x"} for row in MANY])
    columns = {"prompt": "text", "category": "topic"}
    own = {
        part: PromptSource.model_validate(
            {"path": path, "columns": columns, "part": part, "in_domain": part == "test", "license": "MIT"}
        )
        for part in ("train", "test")
    }
    library = Library(own)
    train = training_set("train", library)
    test, in_domain = evaluation_set("test", train, library)
    assert in_domain and (test.name, test.source, test.license) == ("test", "a.csv", "MIT")
    assert {prompt.category for prompt in test.prompts} == {"x"}
    assert not set(texts(train)) & set(texts(test))
    with pytest.raises(UserError, match="unknown prompt set 'tset'; did you mean 'test'"):
        training_set("tset", library)


def test_a_misspelt_part_of_a_file_is_told_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt\none\n")
    with pytest.raises(UserError, match="a file's parts are @train and @test"):
        training_set(f"{path}@tain", Library())


def test_a_set_of_the_configuration_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    library = Library({"followups": PromptSource(path=tmp_path)})
    with pytest.raises(UserError, match=r"prompts\.followups: there is a prompt set of that name already"):
        training_set("followups", library)


def test_a_prompt_is_equal_to_itself_after_a_journey(tmp_path: Path, library: Library) -> None:
    chat = [{"role": "system", "content": ""}, {"role": "user", "content": "Hé\u2028llo"}]
    found = training_set(str(parquet(tmp_path / "a.parquet", [{"messages": chat, "id": "a"}])), library)
    assert found.prompts == (Prompt.model_validate({"id": "a", "messages": chat}),)


def test_rows_are_duplicates_only_where_all_that_a_model_reads_is_equal(tmp_path: Path, library: Library) -> None:
    said = {"instruction": "Go on."}
    rows = [
        {**said, "system": "Rhyme.", "history": [["a", "b"]]},
        {**said, "system": "Be brief.", "history": [["a", "b"]]},
        {**said, "system": "Rhyme.", "history": [["a", "c"]]},
        {**said, "system": "Rhyme.", "history": [["a", "b"]]},
    ]
    found = training_set(str(jsonl(tmp_path / "a.jsonl", *rows)), library)
    assert (len(found.prompts), found.duplicates) == (3, 1)


def test_what_is_not_taken_is_said_in_a_line_a_set(tmp_path: Path, library: Library) -> None:
    message = {"role": "user", "content": "Hello", "weight": 1}
    rows = [{"messages": [message], "language": "en", "tools": "[]"}, {"messages": [message], "label": 1}]
    assert training_set(str(jsonl(tmp_path / "a.jsonl", *rows)), library).notes == [
        "prompt set 'a': columns that are not used: language, label, messages.weight"
    ]
    assert not training_set(str(jsonl(tmp_path / "b.jsonl", {"prompt": "a", "category": "b"})), library).notes
    many = jsonl(tmp_path / "c.jsonl", {"prompt": "a", "": 0, **{f"c{n}": n for n in range(20)}})
    (note,) = training_set(str(many), library).notes
    assert note.endswith("not used: one without a name, c0, c1, c2, c3, c4, c5, c6, c7, c8 and 11 more")


def test_another_answer_to_the_same_prompt_is_said(tmp_path: Path, library: Library) -> None:
    rows = [{"id": str(n), "prompt": "a", "answer": answer} for n, answer in enumerate(["x", "x", "", "y", 3])]
    found = training_set(str(jsonl(tmp_path / "a.jsonl", *rows)), library)
    assert (found.prompts[0].answer, found.duplicates) == ("x", 4)
    (note,) = found.notes
    assert note.startswith("prompt set 'a': 1 prompts are there again with another answer; the first one's is taken")


@every_format
def test_system_and_history_are_read_from_every_format_that_can_hold_them(
    tmp_path: Path, library: Library, name: str, make: Any
) -> None:
    pairs = [] if name == "a.csv" else [["One?", "1."]]
    row = {"instruction": "Go on.", "input": "", "system": "Rhyme.", "history": pairs, "tools": "[]", "answer": 42}
    found = training_set(str(make(tmp_path / name, [row])), library)
    earlier = [] if name == "a.csv" else ["One?", "1."]
    assert [m.content for m in found.prompts[0].messages] == ["Rhyme.", *earlier, "Go on."]
    assert found.notes == ["prompt set 'a': columns that are not used: answer"]


def test_the_sets_that_ship_are_taken_whole() -> None:
    for name in ("everyday-train", "everyday-test", "followups", "longer-tasks"):
        assert training_set(name, Library()).notes == []
