"""The commands that read what runs left: leaderboard, record, report, import, stats, verify."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.judging.importers import IMPORTERS
from harness.reports import board
from harness.results import recording
from harness.results.folder import as_json
from harness.results.pooling import boards
from harness.store import MANIFEST, STORE_VARIABLE
from tests.harness.cli.test_app import assert_one_line, shell
from tests.harness.runs_made import LOSS, Run, Said, by_number, make_folder, rewrite, rewrite_line

PREFERENCES = [2, 1, 0, 1.75, None, 7]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two seeds of one kind."""
    root = tmp_path_factory.mktemp("commands")
    return [make_folder(root, f"seed{seed}", prompts=3, seed=seed) for seed in (0, 1)]


@pytest.fixture
def folder(runs: list[Run], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs[0].folder, tmp_path / "run"))


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "cwd"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A file of AlpacaEval's: a win, a loss, a draw, three quarters of a win, a null and what it drops."""
    told = {"generator_1": "base", "generator_2": "model", "annotator": "gpt4", "output_1": "So.", "output_2": "Why."}
    rows = [{"instruction": f"Q{i}", **told, "preference": preference} for i, preference in enumerate(PREFERENCES)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


# ---- leaderboard


def test_a_leaderboard_is_printed(cli: Any, runs: list[Run], cwd: Path) -> None:
    ended = cli("leaderboard", runs[0].folder)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.strip() == (runs[0].folder / "leaderboard.md").read_text().strip()
    assert list(cwd.iterdir()) == []


def test_a_leaderboard_is_written_as_its_name_says(cli: Any, runs: list[Run], cwd: Path) -> None:
    folders = [run.folder for run in runs]
    for name in ("board.md", "board.html", "board.json", "board.csv"):
        assert cli("leaderboard", *folders, "--out", name).out == f"written to {name}\n"
    found = boards(folders)
    assert Path("board.md").read_text() == board.board_markdown(found)
    assert "SD of runs" in Path("board.md").read_text()
    assert Path("board.json").read_text() == as_json(found)
    frame = pd.read_csv("board.csv")
    rows = frame[frame["kind"] != "teacher"]  # whose own values of measures are rows too
    assert (len(rows), set(frame["seeds"]), set(rows["runs"])) == (len(found[0].rows), {"0 1"}, {2})
    assert Path("board.html").read_text().startswith("<!doctype html>")
    assert "<td" in Path("board.html").read_text()


@pytest.mark.parametrize("name", ["board.txt", "board", "."])
def test_a_leaderboard_in_no_known_form_is_refused_and_nothing_is_written(
    cli: Any, runs: list[Run], cwd: Path, name: str
) -> None:
    assert_one_line(cli("leaderboard", runs[0].folder, "--out", name), name)
    assert list(cwd.iterdir()) == []


def test_one_run_twice_is_refused(cli: Any, runs: list[Run], folder: Path) -> None:
    assert_one_line(cli("leaderboard", runs[0].folder, folder), "is the same run as", "it would count twice")


def test_a_set_with_missing_verdicts_is_ranked_only_when_told_to(cli: Any, tmp_path: Path) -> None:
    def failing(candidate: str, number: int) -> Said:
        if candidate == "sft":
            return (None, None) if number < 12 else LOSS
        return by_number(candidate, number)

    run = make_folder(tmp_path / "failing", say=failing, prompts=100)
    plain, told = cli("leaderboard", run.folder), cli("leaderboard", run.folder, "--rank-incomplete")
    assert "**near is not ranked.** 12% of sft's prompts are missing" in plain.out and "| rank" not in plain.out
    assert "is not ranked" not in told.out and "| rank" in told.out
    assert "12 (12%)" in plain.out and "12 (12%)" in told.out


# ---- records


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "checkout"
    (made / "benchmarks" / "results").mkdir(parents=True)
    (made / "pyproject.toml").write_text("")
    monkeypatch.setattr(recording.resources, "files", lambda package: made / package)
    return made


def test_a_run_is_recorded_and_the_board_of_all_records_is_written(cli: Any, runs: list[Run], checkout: Path) -> None:
    for run in runs:
        ended = cli("record", run.folder)
        assert ended.status == 0
        assert f"benchmarks/results/{run.data['name']}; now: python -m harness leaderboard" in ended.out
    assert cli("leaderboard").out == f"written to {checkout / 'leaderboard.md'}\n"
    text = (checkout / "leaderboard.md").read_text()
    assert text == board.board_markdown(boards([run.folder for run in runs]))
    for run in runs:
        record = checkout / "benchmarks" / "results" / run.data["name"]
        assert cli("verify", record, "--store", run.store.root).status == 0


def test_a_run_that_was_changed_is_not_recorded(cli: Any, folder: Path, checkout: Path) -> None:
    rewrite_line(folder / "verdicts.jsonl", 0, detail="changed")
    assert_one_line(cli("record", folder), "verdicts.jsonl is not the file that the run wrote", "run it again")
    assert list((checkout / "benchmarks" / "results").iterdir()) == []


# ---- report


def test_a_report_is_a_page(cli: Any, runs: list[Run], cwd: Path) -> None:
    ended = cli("report", runs[0].folder)
    assert (ended.status, ended.out) == (0, "written to report.html; open it in a browser\n")
    assert "near" in (cwd / "report.html").read_text()
    assert cli("report", runs[0].folder, "--out", "a/page.html").status == 0
    assert (cwd / "a" / "page.html").read_text() == (cwd / "report.html").read_text()
    assert_one_line(cli("report", cwd), "holds no results.json")
    assert_one_line(cli("report", runs[0].folder, "--out", cwd), "is a folder; name a file")


# ---- import, stats


def test_imported_judgments_have_the_figures_of_their_own_tool(cli: Any, annotations: Path, cwd: Path) -> None:
    ended = cli("import", "alpaca-eval", annotations, "--out", "verdicts.jsonl")
    assert ended.status == 0
    assert ended.out.endswith("written to verdicts.jsonl; now: python -m harness stats verdicts.jsonl\n")
    assert len((cwd / "verdicts.jsonl").read_text().splitlines()) == len(PREFERENCES)
    text = cli("stats", "verdicts.jsonl").out
    # 1, 0, 1/2 and 3/4 of a win: 9/16; two of four are wins and one a draw
    assert "win_rate 56.25, standard_error 21.35" in text and "discrete_win_rate 62.50" in text
    found = json.loads(cli("stats", "verdicts.jsonl", "--json").out)
    (pooled,) = found["alpaca_eval"]
    assert (pooled["win_rate"], pooled["n_total"], pooled["discrete_win_rate"]) == (pytest.approx(56.25), 4, 62.5)
    (row,) = found["comparisons"]
    assert (row["candidate"], row["reference"], row["judge"]) == ("model", "base", "gpt4")
    assert (row["wins"], row["ties"], row["losses"], row["missing"]) == (2, 1, 1, 2)


def test_what_an_import_leaves_out_is_said(cli: Any, cwd: Path) -> None:
    rows = [{"question_id": 1, "model_1": one, "model_2": "base", "judge": "gpt-4", "g1_winner": "tie"} for one in "ab"]
    rows.append({**rows[0], "model_1": "base"})
    (cwd / "pair.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = cli("import", "fastchat", "pair.jsonl", "--out", "verdicts.jsonl")
    assert (ended.status, ended.err) == (0, "")
    assert "\n- candidates: 2 (a, b)\n" in ended.out
    assert (
        "\nnote: 1 row sets the reference 'base' against itself, and nothing follows from that: left out\n" in ended.out
    )
    assert [row["candidate"] for row in json.loads(cli("stats", "verdicts.jsonl", "--json").out)["comparisons"]] == [
        "a",
        "b",
    ]


def test_verdicts_of_runs_are_tested_against_each_other(cli: Any, runs: list[Run]) -> None:
    files = [run.folder / "verdicts.jsonl" for run in runs]
    ended = cli("stats", *files, "--contrast", "ddpo, sft", "--json")
    (near, far) = json.loads(ended.out)["contrasts"][:2]
    assert [(one["first"], one["second"], one["prompt_set"], one["n"]) for one in (near, far)] == [
        ("ddpo", "sft", name, 3) for name in ("near", "far")
    ]


BAD: dict[str, tuple[list[str], list[str]]] = {
    "format": (["import", "alpaca-evl", "a", "--out", "b"], ["unknown format 'alpaca-evl'", "mean 'alpaca-eval'?"]),
    "file": (["import", "alpaca-eval", "missing.json", "--out", "b"], ["missing.json"]),
    "its own file": (["import", "alpaca-eval", "a", "--out", "a"], ["is one of the files to import"]),
    "verdicts": (["stats", "missing.jsonl"], ["missing.jsonl: cannot be read"]),
    "contrast": (["stats", "missing.jsonl", "--contrast", "sft"], ["--contrast sft: expected two candidates"]),
    **{
        f"margin of {margin}": (
            ["stats", "missing.jsonl", "--contrast", "a,b", "--margin", margin],
            [f"--margin {margin}: expected a number of points above 0, and 100 at most"],
        )
        for margin in ("0", "-1", "101", "500", "nan", "inf")
    },
    "margin of nothing": (
        ["stats", "missing.jsonl", "--margin", "5"],
        ["--margin 5 is said of contrasts; name one with --contrast FIRST,SECOND"],
    ),
    "no run": (["verify", "missing"], ["missing holds no results.json"]),
}


@pytest.mark.parametrize(("arguments", "parts"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_one_line(cli: Any, cwd: Path, arguments: list[str], parts: list[str]) -> None:
    assert_one_line(cli(*arguments), *parts)
    assert list(cwd.iterdir()) == []


def test_help_names_the_formats_that_there_are(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "|".join(IMPORTERS) in cli("import", "--help").out


# ---- verify


@pytest.mark.parametrize("how", ["--store", "environment"])
def test_a_run_that_follows_ends_with_status_0(
    cli: Any, runs: list[Run], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store = runs[0].store.root
    if how == "environment":
        monkeypatch.setenv(STORE_VARIABLE, str(store))
    ended = cli("verify", runs[0].folder, *(["--store", store] if how == "--store" else []))
    assert ended.status == 0
    *lines, last = ended.out.splitlines()
    assert last == f"every figure of {runs[0].folder} follows"
    assert len(lines) == 14 and all(line.startswith("checked: ") for line in lines)


def test_a_run_that_does_not_follow_ends_with_status_3(cli: Any, runs: list[Run], folder: Path) -> None:
    rewrite(folder / "results.json", lambda results: results["rows"][0].update(wins=9))
    ended = cli("verify", folder)
    assert ended.status == 3
    wrong = [line for line in ended.out.splitlines() if line.startswith("WRONG: ")]
    assert ended.out.splitlines()[-1] == f"{len(wrong)} problems in {folder}"
    assert any("wins is 9; from verdicts.jsonl it is" in line for line in wrong)
    jobs = len(runs[0].road.jobs)
    assert f"not checked: {jobs} artifacts that this store does not have, such as read train (prompts/" in ended.out


def test_a_folder_without_a_manifest_ends_with_status_2(cli: Any, folder: Path) -> None:
    (folder / MANIFEST).unlink()
    assert_one_line(cli("verify", folder), f"holds no {MANIFEST}")


# ---- imports


def test_none_of_these_commands_imports_torch(runs: list[Run], annotations: Path, cwd: Path) -> None:
    run, store = str(runs[0].folder), str(runs[0].store.root)
    commands = [
        ["leaderboard", run, str(runs[1].folder), "--out", "board.html"],
        ["report", run],
        ["import", "alpaca-eval", str(annotations), "--out", "verdicts.jsonl"],
        ["stats", "verdicts.jsonl"],
        ["verify", run, "--store", store],
    ]
    code = (
        "import sys\n"
        "from harness.__main__ import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv = ['harness', *arguments]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as ended:\n"
        "        assert not ended.code, arguments\n"
        "    heavy = sorted({'torch', 'transformers'} & set(sys.modules))\n"
        "    print('imported by', arguments[0], heavy)\n"
    )
    ended = shell(program=("-c", code))
    assert ended.status == 0, ended.err
    assert [line for line in ended.out.splitlines() if line.startswith("imported by")] == [
        f"imported by {name} []" for name, *_ in commands
    ]
