"""`label`, and `--labels`: from a run to a board that people's labels corrected."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.results.label_pairs import COLUMNS
from tests.harness.cli.test_app import assert_one_line
from tests.harness.runs_made import FLIP, LOSS, TIE, WIN, Run, Said, make_folder


def says(candidate: str, number: int) -> Said:
    return (WIN, TIE, LOSS, FLIP, LOSS)[(number * 3 + number // 7 + len(candidate)) % 5]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("labels")
    return [make_folder(root, f"seed{seed}", says, 40, seed=seed, primary=["ddpo", "sft"]) for seed in (0, 1)]


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "cwd"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def read(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8-sig"), newline="")))


def fill(path: str, out: str, *labels: str) -> str:
    """The file with its labels in turn."""
    rows = [{**row, "label": labels[number % len(labels)]} for number, row in enumerate(read(path))]
    with Path(out).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_pairs_and_a_page_are_written(cli: Any, runs: list[Run]) -> None:
    ended = cli("label", runs[0].folder, "--pairs", 60, "--out", "l.csv")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "60 pairs written to l.csv: 30 prompts, with the responses of ddpo and sft",
        "label them in l.html, or in a spreadsheet; then: "
        f"python -m harness leaderboard {runs[0].folder} --labels l.csv",
    ]
    rows = read("l.csv")
    assert len(rows) == 60
    page = Path("l.html").read_text(encoding="utf-8")
    island = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [row["pair"] for row in island["pairs"]] == [row["pair"] for row in rows]
    assert set(island) == {"columns", "pairs", "file", "name"}
    assert set(island["pairs"][0]) == set(COLUMNS)
    assert runs[0].results.name not in page


def test_few_pairs_are_said_to_be_few(cli: Any, runs: list[Run]) -> None:
    ended = cli("label", runs[0].folder, "--pairs", 40, "--out", "l.csv")
    assert "note: below 30 labelled prompts a rate is not corrected, and there are 20 here\n" in ended.out
    ended = cli("label", runs[0].folder, "--pairs", 100, "--rows", "sft", "--sets", "near,far", "--out", "m.csv")
    assert "80 pairs written to m.csv: 80 prompts, with the responses of sft; no more were judged" in ended.out


@pytest.mark.parametrize(
    ("asked", "written", "prompts", "said"),
    [
        (1, 2, "1 prompt", "; rounded up from 1, as each prompt has one of every row"),
        (2, 2, "1 prompt", ""),
        (63, 64, "32 prompts", "; rounded up from 63, as each prompt has one of every row"),
        (80, 80, "40 prompts", ""),
        (81, 80, "40 prompts", "; no more were judged"),
    ],
)
def test_every_row_has_as_many_pairs(
    cli: Any, runs: list[Run], asked: int, written: int, prompts: str, said: str
) -> None:
    ended = cli("label", runs[0].folder, "--pairs", asked, "--out", "l.csv")
    first, *others = ended.out.splitlines()
    assert first == f"{written} pairs written to l.csv: {prompts}, with the responses of ddpo and sft{said}"
    assert len(read("l.csv")) == written
    assert others[0].endswith("a rate is not corrected, and there is 1 here") == (asked < 3)


def test_one_pair_is_one(cli: Any, runs: list[Run]) -> None:
    ended = cli("label", runs[0].folder, "--pairs", 1, "--rows", "sft", "--out", "l.csv")
    assert ended.out.startswith("1 pair written to l.csv: 1 prompt, with the responses of sft\n")


def test_labels_that_are_there_are_not_written_over(cli: Any, runs: list[Run]) -> None:
    cli("label", runs[0].folder, "--out", "l.csv")
    before = Path("l.csv").read_bytes()
    ended = cli("label", runs[0].folder, "--out", "l.csv")
    assert_one_line(ended, "l.csv is there already, and may hold labels; name another file, or delete it")
    Path("l.csv").rename("kept.csv")
    ended = cli("label", runs[0].folder, "--out", "l.csv")
    assert_one_line(ended, "l.html is there already")
    assert Path("kept.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "l.txt"], "--out l.txt: labels are written as CSV; name a file that ends in .csv"),
        (["--out", "l.csv", "--rows", "dpo"], "has no 'dpo'; did you mean 'ddpo'?"),
        (["--out", "l.csv", "--sets", "middle"], "has no 'middle'; known: far, near"),
    ],
)
def test_what_cannot_be_drawn_is_refused(cli: Any, runs: list[Run], cwd: Path, options: list[str], said: str) -> None:
    assert_one_line(cli("label", runs[0].folder, *options), said)
    assert list(cwd.iterdir()) == []


def test_a_folder_without_a_run_has_no_pairs(cli: Any, cwd: Path) -> None:
    assert_one_line(cli("label", cwd, "--out", "l.csv"), "holds no results.json")


def test_from_a_run_to_a_corrected_board(cli: Any, runs: list[Run]) -> None:
    cli("label", runs[0].folder, "--out", "l.csv")
    fill("l.csv", "ana.csv", "a", "Tie", "b", "b")
    fill("l.csv", "ben.csv", "a", "tie", "b", "a")
    labels = ["--labels", "ana.csv", "--labels", "ben.csv"]
    ended = cli("leaderboard", runs[0].folder, *labels)
    assert (ended.status, ended.err) == (0, "")
    assert "### By people's labels" in ended.out
    assert (
        "80 outcomes were labelled by ana, ben (2 people; what several labelled counts by its mean), blind" in ended.out
    )
    assert "openai:m and people: Cohen's κ" in ended.out and "ana and ben: Cohen's κ 0.6" in ended.out
    plain = cli("leaderboard", runs[0].folder)
    assert plain.out.strip() == (runs[0].folder / "leaderboard.md").read_text().strip()
    # all else is as it is without
    kept = [part for part in ended.out.split("\n### ") if not part.startswith("By people's labels")]
    assert "\n### ".join(kept).strip() == plain.out.strip()

    assert cli("report", runs[0].folder, *labels, "--out", "report.html").status == 0
    assert '<section id="labels"' in Path("report.html").read_text(encoding="utf-8")
    cli("report", runs[0].folder, "--out", "plain.html")
    assert "people" not in Path("plain.html").read_text(encoding="utf-8").split("<main>")[1].split('id="data"')[0]
    for ending in ("md", "html", "json", "csv"):
        ended = cli("leaderboard", *(run.folder for run in runs), *labels, "--out", f"board.{ending}")
        assert (ended.status, ended.err) == (0, "")
    (found,) = json.loads(Path("board.json").read_text())
    assert found["labels"]["people"] == ["ana", "ben"]
    assert "By people&#39;s labels" in Path("board.html").read_text()
    frame = pd.read_csv("board.csv")
    row = frame[(frame["method"] == "sft") & (frame["prompt_set"] == "near")].iloc[0]
    rate = next(one for one in found["labels"]["rates"] if one["method"] == "sft")
    assert [row["corrected_rate"], row["corrected_low"], row["corrected_high"]] == pytest.approx(
        [rate["corrected"], *rate["corrected_interval"]]
    )
    assert row["labels"] == rate["labels"]
    assert frame[frame["prompt_set"] == "far"]["corrected_rate"].isna().all()


def test_what_is_recorded_is_not_written_over_by_labels(
    cli: Any, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.results import recording

    cli("label", runs[0].folder, "--out", "l.csv")
    fill("l.csv", "ana.csv", "a", "b")
    monkeypatch.setattr(recording, "recorded", lambda: [runs[0].folder])
    written: list[Path] = []
    monkeypatch.setattr("harness.core.files.write_atomically", lambda path, text: written.append(path))
    assert "### By people's labels" in cli("leaderboard", "--labels", "ana.csv").out
    assert written == []


@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_labels_that_are_none_are_refused(cli: Any, runs: list[Run], command: str) -> None:
    cli("label", runs[0].folder, "--out", "l.csv")
    cli("label", runs[1].folder, "--out", "other.csv")
    out = ["--out", "out.html"]
    run = [command, runs[0].folder, *out]
    assert_one_line(cli(*run, "--labels", "l.csv"), "l.csv: nothing is labelled in it yet")
    assert_one_line(cli(*run, "--labels", "none.csv"), "none.csv: cannot be read")
    assert_one_line(
        cli(*run, "--labels", fill("l.csv", "c.csv", "a", "c")), "c.csv: row 3: 'c' is no label; write a, b or tie"
    )
    other = fill("other.csv", "o.csv", "a")
    assert_one_line(cli(*run, "--labels", other), "o.csv: labels of another run: none of its pairs is of small-seed0-")
    mixed = Path("mixed.csv")
    mixed.write_text(Path(fill("l.csv", "a.csv", "a")).read_text() + "bcdfghjklmnp,,,,a\r\n")
    assert_one_line(cli(*run, "--labels", mixed), "not all of its pairs are of small-seed0-")
    twice = Path("twice.csv")
    twice.write_text(Path("a.csv").read_text() + f"{read('l.csv')[0]['pair']},,,,b\r\n")
    assert_one_line(cli(*run, "--labels", twice), "is labelled a above, and b here")
    assert not Path("out.html").exists()
