"""Answers that arrived are kept for good: by all that shapes them, through kills, by two processes at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.judging import Answer, Comparison, Question
from harness.judging.api import open_api_judge
from harness.judging.cache import VerdictCache, question_key
from harness.judging.settings import Judging
from harness.judging.templates import load_template
from tests.harness.asking import comparison, response
from tests.waiting import LIMIT

BASE = comparison("a", "Why?", "Because.", "So.")
QUESTION = Question(BASE, "candidate_first")
ROOT = Path(__file__).parents[3]


def prompted(*said: tuple[str, str], prompt_id: str = "a", **more: Any) -> Question:
    messages = tuple(Message(role=role, content=content) for role, content in said)  # type: ignore[arg-type]
    return Question(replace(BASE, prompt=Prompt(id=prompt_id, messages=messages, **more)), "candidate_first")


def shown(candidate: str, reference: str, order: Any = "candidate_first") -> Question:
    return Question(replace(BASE, candidate=response("a", candidate, 1), reference=response("a", reference, 1)), order)


# ---- keys

OTHERS = {
    "order": Question(BASE, "reference_first"),
    "no order": Question(BASE, "none"),
    "candidate": shown("Because!", "So."),
    "reference": shown("Because.", "So!"),
    "turned": shown("So.", "Because."),
    "prompt": prompted(("user", "Why not?")),
    "role": prompted(("system", "Why?")),
    "one more turn": prompted(("user", "Why?"), ("assistant", ""), ("user", "")),
    "answer": prompted(("user", "Why?"), answer="42"),
    "further turn": prompted(("user", "Why?"), turns=("And?",)),
    "another further turn": prompted(("user", "Why?"), turns=("So?",)),
    "answer to a further turn": prompted(("user", "Why?"), turns=("And?",), turn_answers=("42",)),
}


def test_a_key_changes_with_every_part_of_a_question() -> None:
    keys = {name: question_key("judge", question) for name, question in {**OTHERS, "as it is": QUESTION}.items()}
    keys["judge"] = question_key("another", QUESTION)
    assert len(set(keys.values())) == len(keys)
    assert all(len(key) == 32 for key in keys.values())


# pairs of questions whose parts, written one after the other, are the same text
ALIKE = {
    "between the responses": (shown("ab", "c"), shown("a", "bc")),
    "between response and answer": (
        Question(replace(shown("a", "bc").comparison), "candidate_first"),
        Question(replace(shown("a", "b").comparison, prompt=prompted(("user", "Why?"), answer="c").comparison.prompt),
                 "candidate_first"),
    ),
    "between two turns": (
        prompted(("user", "one"), ("assistant", "two"), ("user", "three")),
        prompted(("user", "oneassistanttwo"), ("user", "three")),
    ),
    "a role inside a text": (prompted(("user", "a"), ("user", "b")), prompted(("user", "auserb"))),
    "a length inside a text": (shown("1:a", "b"), shown("1", "a1:b")),
    "a separator": (shown("a\x00", "b"), shown("a", "\x00b")),
    "an empty text": (shown("", "a"), shown("a", "")),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_no_text_moved_from_one_part_to_another_gives_the_same_key(one: Question, other: Question) -> None:
    assert question_key("judge", one) != question_key("judge", other)


def test_text_moved_between_judge_and_order_gives_another_key() -> None:
    assert question_key("judgenone", QUESTION) != question_key("judge", QUESTION)


def test_a_key_does_not_change_with_ids_categories_and_tokens() -> None:
    prompt = BASE.prompt.model_copy(update={"id": "z", "category": "chat"})
    longer = response("z", BASE.candidate.text, 99)
    same = Question(Comparison(prompt, longer, BASE.reference), "candidate_first")
    assert question_key("judge", same) == question_key("judge", QUESTION)


@pytest.mark.parametrize("text", ["é", "e\u0301", "日本", "\u2028", "😀"])
def test_a_key_is_of_any_text(text: str) -> None:
    assert question_key("judge", shown(text, "b")) != question_key("judge", shown("e", "b"))


JUDGES = {
    "model": ("openai:other", "other", {}),
    "name": ("openai:alias", "m", {}),
    "server": ("openai:m", "m", {"base_url": "http://other/v1"}),
    "temperature": ("openai:m", "m", {"temperature": 0.5}),
    "form": ("openai:m", "m", {"form": "rationale"}),
    "max_tokens": ("openai:m", "m", {"max_tokens": 64}),
}
FREE: dict[str, dict[str, Any]] = {
    "concurrency": {"concurrency": 2},
    "timeout": {"timeout": 5.0},
    "tries": {"tries": 1},
    "prices": {"prices": {"input": 1.0, "output": 1.0}},
    "max_cost": {"max_cost": 2.0, "prices": {"input": 1.0, "output": 1.0}},
    "credentials": {"base_url": "http://user:pw@host/v1"},
    "pace": {"requests_per_minute": 9.0, "tokens_per_minute": 9.0},
}


def api_digest(name: str = "openai:m", model: str = "m", template: str = "default", **settings: Any) -> str:
    judging = Judging.model_validate({"name": name, "base_url": "http://host/v1", **settings})
    return open_api_judge(name, model, judging, load_template(template)).digest


def test_a_judge_is_another_with_every_setting_that_shapes_its_answers(tmp_path: Path) -> None:
    template = tmp_path / "default.yaml"
    template.write_text((ROOT / "benchmarks/judge_templates/default.yaml").read_text().replace("better", "best"))
    found = {change: api_digest(name, model, **settings) for change, (name, model, settings) in JUDGES.items()}
    found |= {"template": api_digest(template=str(template)), "as it is": api_digest()}
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("settings", FREE.values(), ids=FREE)
def test_a_judge_is_the_same_however_fast_it_is_asked_and_whatever_it_costs(settings: dict[str, Any]) -> None:
    assert api_digest(**settings) == api_digest()


# ---- keeping


def key(number: int) -> bytes:
    return question_key("judge", shown(f"candidate {number}", "reference"))


WHOLE = Answer("ok", 0.25, "the letters", "B\u2028😀\x00", 120, 3, 0.5)


def test_an_answer_comes_back_as_it_was_and_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdicts.sqlite"
    with VerdictCache(path) as cache:
        cache.put(key(0), "judge", WHOLE)
        assert cache.get([key(0), key(1)]) == {key(0): WHOLE}
    with VerdictCache(path) as cache:
        assert cache.get([key(1), key(0)]) == {key(0): WHOLE}
        assert cache.get([]) == {}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Answer("ok", 1.0), True),
        (Answer("unparsable", None, "no verdict", "Hm."), True),
        (Answer("failed", None, "timed out"), False),
        (Answer("skipped", None, "the limit"), False),
    ],
)
def test_only_what_a_judge_said_is_kept(tmp_path: Path, answer: Answer, kept: bool) -> None:
    with VerdictCache(tmp_path / "verdicts.sqlite") as cache:
        cache.put(key(0), "judge", answer)
        assert cache.get([key(0)]) == ({key(0): answer} if kept else {})
        cache.put(key(1), "judge", WHOLE)
        cache.put(key(1), "judge", answer)
        assert cache.get([key(1)]) == {key(1): answer if kept else WHOLE}


# ---- several processes, and their ends

PER_WRITER = 300


def write(path: Path, writer: int) -> None:
    with VerdictCache(path) as cache:
        for number in range(PER_WRITER):
            cache.put(key(writer * PER_WRITER + number), f"judge {writer}", Answer("ok", writer / 2, str(number)))
            cache.get([key(number)])


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path, context = tmp_path / "verdicts.sqlite", multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(path, writer)) for writer in range(2)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(timeout=LIMIT)
    assert [process.exitcode for process in writers] == [0, 0]
    with VerdictCache(path) as cache:
        for writer in range(2):
            keys = [key(writer * PER_WRITER + number) for number in range(PER_WRITER)]
            found = cache.get(keys)
            assert [found[k].detail for k in keys] == list(map(str, range(PER_WRITER)))
            assert {answer.preference for answer in found.values()} == {writer / 2}


WRITER = """
import sys
from pathlib import Path
from harness.judging import Answer
from harness.judging.cache import VerdictCache
from tests.harness.judging.test_cache import key

with VerdictCache(Path(sys.argv[1])) as cache:
    for number in range(100_000):
        cache.put(key(number), "judge", Answer("ok", 1.0, str(number)))
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_put(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.replace("tests.harness.judging.test_cache", "test_cache"), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])},
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(500)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert process.wait() == -signal.SIGKILL
    with VerdictCache(path) as cache:
        for start in range(0, len(said), 200):
            part = said[start : start + 200]
            found = cache.get(list(map(key, part)))
            assert [found[key(number)].detail for number in part] == list(map(str, part))
        cache.put(key(0), "judge", WHOLE)  # and it can be written to at once
        assert cache.get([key(0)]) == {key(0): WHOLE}


# ---- what is wrong with the file


def damaged_header(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to look like one " * 40)


def damaged_pages(path: Path) -> None:
    write(path, 0)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("damage", [damaged_header, damaged_pages, a_folder])
def test_a_file_that_is_damaged_is_one_line_that_names_it(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "verdicts.sqlite"
    damage(path)
    with pytest.raises(UserError) as caught, VerdictCache(path) as cache:
        cache.get([key(0)])
    assert str(caught.value).startswith(f"the verdict cache {path} cannot be used (")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be used"), VerdictCache(path) as cache:
        cache.put(key(0), "judge", WHOLE)


def test_an_answer_that_is_none_of_ours_is_one_line_too(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    for text in ("{", '{"status": "ok", "colour": "red"}', "[]"):
        with VerdictCache(path) as cache:
            cache.put(key(0), "judge", WHOLE)
            cache._base.execute("UPDATE answers SET answer = ?", (text,))
            with pytest.raises(UserError, match=r"the verdict cache .* cannot be used"):
                cache.get([key(0)])


def test_a_cache_in_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((UserError, OSError)):
        VerdictCache(tmp_path / "file" / "verdicts.sqlite")


def test_another_process_that_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.judging import cache as module

    path = tmp_path / "verdicts.sqlite"
    with VerdictCache(path) as cache:
        assert cache._base.execute("PRAGMA busy_timeout").fetchone() == (1000 * module.WAIT_SECONDS,)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    with VerdictCache(path) as cache:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="database is locked"):
            cache.put(key(0), "judge", WHOLE)
        other.execute("COMMIT")
        other.close()
        cache.put(key(0), "judge", WHOLE)
