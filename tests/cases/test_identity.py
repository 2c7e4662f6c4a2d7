"""A figure is of one judge, and a prompt counts once: by what they are, and not by what they are called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from harness.judging import api
from tests.cases.conftest import EVALUATION, Case, refused, written
from tests.serving import Call, Reply, Server, completion

Data = dict[str, Any]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def preferring(wanted: Callable[[str], str]) -> Callable[[Call], Reply]:
    """A judge that prefers the response with the words that `wanted` says, of all that it is asked."""

    def reply(call: Call) -> Reply:
        text = "\n".join(message["content"] for message in call.body["messages"])
        first = text.find(wanted(text)) < text.find({"Ours": "Theirs", "Theirs": "Ours"}[wanted(text)])
        return completion("A" if first else "B", [("A", -0.05 if first else -3.0), ("B", -3.0 if first else -0.05)])

    return reply


def responses(folder: Path, about: str, count: int = 4) -> list[str | Path]:
    """Two files of responses to as many prompts, numbered from 0."""
    folder.mkdir(exist_ok=True)
    files = {
        name: written(
            folder / f"{name}.jsonl",
            [{"prompt_id": n, "prompt": f"{about} {n}?", "response": f"{said} {n}."} for n in range(count)],
        )
        for name, said in (("ours", "Ours"), ("theirs", "Theirs"))
    }
    return ["--candidate", files["ours"], "--reference", files["theirs"]]


def judged(case: Case, name: str, files: Sequence[str | Path], server: Server, *options: str | Path) -> Path:
    out = case.root / name
    at = ["--judge", "openai:m", "--set", f"judge.base_url={server.base_url}", "--out", out]
    ended = case.cli("judge", *files, *at, *options)
    api._sessions.clear()
    assert ended.status == 0, ended.err
    return out


def stats(case: Case, *files: Path) -> Data:
    ended = case.cli("stats", "--json", *files)
    assert ended.status == 0, ended.err
    found: Data = json.loads(ended.out)
    return found


def annotations(case: Case, name: str, preferences: Sequence[float], **more: Any) -> Path:
    said = {"output_1": "So.", "output_2": "Because.", "generator_1": "base", "generator_2": "mine", "annotator": "j"}
    rows = [{"instruction": f"Task {n}", **said, **more, "preference": p} for n, p in enumerate(preferences)]
    path = case.root / name
    path.write_text(json.dumps(rows))
    return path


def imported(case: Case, kind: str, name: str, *files: Path) -> Path:
    out = case.root / name
    ended = case.cli("import", kind, *files, "--out", out)
    assert ended.status == 0, ended.err
    return out


# ---- judges


def test_two_servers_and_two_templates_under_one_name_are_three_judges(case: Case) -> None:
    files = responses(case.root / "files", "Fruit")
    other = case.root / "own.yaml"
    other.write_text((resources.files("benchmarks") / "judge_templates" / "default.yaml").read_text() + "\n# mine\n")
    other.write_text(other.read_text().replace("You are an impartial judge", "You are a fair judge"))
    with Server(preferring(lambda _: "Ours")) as one, Server(preferring(lambda _: "Theirs")) as two:
        outs = [judged(case, "a.jsonl", files, one), judged(case, "b.jsonl", files, two)]
        outs.append(judged(case, "c.jsonl", files, one, "--template", other))
    found = stats(case, *outs)["comparisons"]
    names = [row["judge"] for row in found]
    assert len(set(names)) == 3 and all(name.startswith("openai:m (") for name in names)
    assert sorted(row["preference_rate"] for row in found) == [-1, 1, 1]
    assert all((row["n"], row["prompts"]) == (4, 4) for row in found)
    (alone,) = stats(case, outs[0])["comparisons"]
    assert alone["judge"] == "openai:m"


def test_a_file_of_an_older_version_is_by_a_judge_that_is_not_known(case: Case) -> None:
    files = responses(case.root / "files", "Fruit")
    with Server(preferring(lambda _: "Ours")) as server:
        new = judged(case, "new.jsonl", files, server)
    rows = [json.loads(line) for line in new.read_text(encoding="utf-8").splitlines()]
    added = ("judge_digest", "prompt_digest", "turn", "repeat")
    old = written(case.root / "old.jsonl", [{k: v for k, v in row.items() if k not in added} for row in rows])
    (alone,) = stats(case, old)["comparisons"]
    assert (alone["judge"], alone["prompts"]) == ("openai:m", 4)
    both = stats(case, old, new)
    digest = rows[0]["judge_digest"][:6]
    assert {row["judge"] for row in both["comparisons"]} == {"openai:m (unknown)", f"openai:m ({digest})"}
    assert both["agreement"][0]["n"] == 4  # of the same prompts


def test_alpaca_eval_s_own_figures_are_by_annotator(case: Case) -> None:
    one = annotations(case, "one.json", [2, 2, 2, 2])
    two = annotations(case, "two.json", [1, 1, 1, 2], annotator="other")
    found = stats(case, imported(case, "alpaca-eval", "verdicts.jsonl", one, two))
    assert [(row["judge"], row["win_rate"], row["n_total"]) for row in found["alpaca_eval"]] == [
        ("j", 100, 4),
        ("other", 25, 4),
    ]


# ---- prompts


def test_two_sets_with_the_same_ids_are_two_sets_of_prompts(case: Case) -> None:
    about = {name: responses(case.root / name, name, 20) for name in ("Cooking", "Algebra")}
    with Server(preferring(lambda text: "Ours" if "Cooking" in text else "Theirs")) as server:
        outs = [judged(case, f"{name}.jsonl", files, server) for name, files in about.items()]
        again = Path(shutil.copy(outs[0], case.root / "again.jsonl"))
    (row,) = stats(case, *outs)["comparisons"]
    assert (row["prompts"], row["n"], row["preference_rate"]) == (40, 40, 0)
    assert row["preference_interval"][1] - row["preference_interval"][0] > 0.5
    (row,) = stats(case, outs[0], again)["comparisons"]  # the same judgments as two runs
    assert (row["prompts"], row["n"]) == (20, 40)


def test_judgments_that_are_there_four_times_are_of_as_many_prompts(case: Case) -> None:
    preferences = [2.0 if n % 3 else 1.0 for n in range(40)]
    four = [annotations(case, f"a{n}.json", preferences) for n in range(4)]
    (once,) = stats(case, imported(case, "alpaca-eval", "one.jsonl", four[0]))["comparisons"]
    (found,) = stats(case, imported(case, "alpaca-eval", "four.jsonl", *four))["comparisons"]
    assert (found["prompts"], found["n"], found["win_rate"]) == (40, 160, once["win_rate"])
    width, other = (row["win_interval"][1] - row["win_interval"][0] for row in (once, found))
    assert width == pytest.approx(other, rel=0.1)


def test_the_turns_of_a_question_are_one_prompt(case: Case) -> None:
    said = {"model_1": "mine", "model_2": "base", "judge": ["gpt-4", "pair-v2"], "g1_judgment": "", "g2_judgment": ""}
    rows = [
        {**said, "question_id": question, "turn": turn, "g1_winner": winner, "g2_winner": winner}
        for question in range(30)
        for turn in (1, 2)
        for winner in ["model_1" if question % 2 else "model_2"]
    ]
    path = written(case.root / "pair.jsonl", rows)
    (row,) = stats(case, imported(case, "fastchat", "verdicts.jsonl", path))["comparisons"]
    assert (row["prompts"], row["n"]) == (30, 60)
    assert row["preference_interval"][1] - row["preference_interval"][0] > 0.6  # of 30, not of 60
    written(path, [*rows, {**rows[0], "judge": ["gpt-4", "pair-v3"]}])
    assert "these are two judges" in refused(case.cli("import", "fastchat", path, "--out", case.root / "no.jsonl"))


def test_one_id_in_two_sets_of_a_run_is_two_prompts(case: Case) -> None:
    other = written(case.root / "other.jsonl", [{**row, "prompt": f"Why {row['prompt']}"} for row in EVALUATION])
    ended = case.run("--eval", f"in:{case.evaluation},{other}")
    assert ended.status == 0, ended.err
    assert {(row["prompt_set"], row["prompts"]) for row in case.results()["rows"]} == {("test", 4), ("other", 4)}
    rows = [json.loads(line) for line in (case.out / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    (judge,) = case.results()["judges"]
    assert {judge["digest"][: len(row["judge_digest"])] for row in rows} == {rows[0]["judge_digest"]} != {""}
    assert len({row["prompt_digest"] for row in rows}) == 8
    ended = case.cli("verify", case.out)
    assert ended.status == 0 and "judges and prompts of verdicts.jsonl" in ended.out, ended.out
