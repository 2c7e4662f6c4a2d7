"""A study's folder, and the commands that take one."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli.run import plan, run, show_example
from harness.cli.store import store_gc
from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.reports.board import board_markdown
from harness.results import recording
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.studies import (
    STUDY,
    StudyFacts,
    changed_runs,
    check_place,
    folders_of,
    one_run,
    read_study,
    runs_in,
)
from harness.results.verify import verify_study
from harness.store import MANIFEST, STORE_VARIABLE, Store
from tests.harness.cli.test_app import assert_one_line
from tests.harness.making import quiet
from tests.harness.runs_made import rewrite
from tests.harness.tiny_runs import request

SEEDS, GRID = "0,1", ["settings.dadpo.beta_teacher=0.05,0.1"]
NAMES = [f"seed{seed}, dadpo.beta_teacher={beta}" for seed in (0, 1) for beta in (0.05, 0.1)]


def asked(root: Path, checkpoints: dict[str, Path], **others: Any) -> Any:
    given = {"methods": "ddpo,dadpo", "controls": "basic", "seeds": SEEDS, "grid": GRID, "measures": "forward_kl,cut"}
    return request(root, checkpoints, **{**given, **others})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """A study of two seeds and two settings; beside it its store, and what the terminal showed."""
    root = tmp_path_factory.mktemp("study")
    run(asked(root, checkpoints), out=root / "out")
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty benchmarks/results."""
    found = tmp_path / "benchmarks" / "results"
    found.mkdir(parents=True)
    monkeypatch.setattr(recording, "results_folder", lambda: found)
    return found


# ---- what it says of itself


def test_study_json_says_what_was_declared_and_vouches_for_its_runs(made: Path) -> None:
    out = made / "out"
    found = read_study(out)
    assert (found.seeds, found.grid, found.tune) == ((0, 1), ({"settings.dadpo.beta_teacher": (0.05, 0.1)},), ())
    assert [one.name for one in found.runs] == NAMES
    assert [out / one.folder for one in found.runs] == runs_in(out) == folders_of(out, NAMES)
    assert [one.manifest for one in found.runs] == [file_sha256(path / MANIFEST) for path in runs_in(out)]
    assert found.board == file_sha256(out / "leaderboard.md")
    assert {read_results(path).runs[0].command for path in runs_in(out)} == {found.command}
    assert changed_runs(out) == []
    assert (out / "leaderboard.md").read_text() == board_markdown(boards(runs_in(out)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not valid JSON"),
        ("[]", "says no version"),
        ('{"schema": 1}', "damaged, it has no 'harness'; run it again"),
        ('{"schema": 2}', r"of a newer version \(2, this program knows 1\); update the harness"),
    ],
)
def test_a_study_that_cannot_be_read_is_refused_in_one_line(folder: Path, content: str, why: str) -> None:
    (folder / STUDY).write_text(content)
    with pytest.raises(UserError, match=rf"study\.json: .*{why}") as caught:
        runs_in(folder)
    assert "\n" not in str(caught.value)


def test_runs_lie_in_folders_of_their_own_whatever_they_are_called(tmp_path: Path) -> None:
    names = [
        "seed0, student=a/m",
        "seed1, student=a/m",
        "seed1, student=a m",
        "SEED1, student=a/m",
        "seed0, " + "x" * 200,
    ]
    found = folders_of(tmp_path, names)
    assert len({path.name.lower() for path in found}) == len(names)
    assert all(path.parent == tmp_path / "runs" and len(path.name) < 120 for path in found)
    assert folders_of(tmp_path, []) == [tmp_path]


def test_a_command_that_takes_one_run_says_which_to_name(cli: Any, made: Path) -> None:
    assert one_run(runs_in(made / "out")[0]) == runs_in(made / "out")[0]
    ended = cli("label", made / "out", "--out", made / "labels.csv")
    assert_one_line(ended, "is a study; name one of its runs", "runs/seed0-dadpo.beta_teacher-0.05")


# ---- its folder is its own


def test_other_results_are_not_left_beside_those_that_are_written(
    made: Path, folder: Path, checkpoints: dict[str, Path]
) -> None:
    """They would be read as if they belonged together; and they are not taken away, as nobody asked for that."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(UserError, match=r"holds runs that this study does not have \(seed1-.*0\.05, seed1-.*0\.1\)"):
        run(asked(made, checkpoints, seeds="0,2"), out=folder)
    with pytest.raises(UserError, match="holds a study, and this is a run"):
        run(asked(made, checkpoints, seeds=None, grid=None), out=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    check_place(folder, [*NAMES, "seed2, dadpo.beta_teacher=0.05"])  # it may go on
    (folder / STUDY).unlink()  # killed before it was written
    with pytest.raises(UserError, match="holds a study, and this is a run"):
        check_place(folder, [])
    alone = runs_in(made / "out")[0]
    with pytest.raises(UserError, match="holds the results of a run, and this is a study"):
        check_place(alone, NAMES)
    check_place(alone, [])


def test_two_runs_that_are_the_same_are_refused(made: Path, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"two runs of the study are the same: 'seed0, kd\.top_k=4' and 'seed0, kd"):
        plan(asked(made, checkpoints, grid=["settings.kd.top_k=4,8"]))


# ---- what is shared


def test_what_is_shared_is_made_once(made: Path) -> None:
    """Every stage that four runs of two seeds and two settings need, by what it makes."""
    store = Store(made / "store")
    count = Counter(str(manifest["job"]["label"]) for ref in store.refs() for manifest in [store.read(ref).manifest])
    often = {
        1: ["read train", "read test", "responses: teacher, training prompts"],
        2: [  # of each seed, whatever the setting
            *(
                "responses: teacher, test",
                "responses: student (untrained), test",
                "responses: SFT student, training prompts",
            ),
            *(
                "train sft",
                "log-probs: reference",
                "train ddpo",
                "responses: ddpo, test",
                "judge typicality: ddpo, test",
            ),
            *("measure ddpo, test", "compare ddpo with the teacher: the teacher, test", "measure teacher, test"),
        ],
        4: [  # of each run
            *("train dadpo", "responses: dadpo, test", "judge typicality: dadpo, test", "measure dadpo, test"),
            "compare dadpo with the teacher: the teacher, test",
        ],
    }
    told = {label: times for times, labels in often.items() for label in labels}
    assert {label: count[label] for label in told} == told
    manifests = [json.loads((path / MANIFEST).read_text()) for path in runs_in(made / "out")]
    of_runs = [{stage["ref"]: stage["label"] for stage in manifest["stages"]} for manifest in manifests]
    assert set().union(*of_runs) == set(store.refs())


def test_a_further_setting_adds_what_it_moves_and_nothing_else(made: Path) -> None:
    manifests = [json.loads((path / MANIFEST).read_text()) for path in runs_in(made / "out")]
    one, other = ({stage["ref"]: stage["label"] for stage in manifest["stages"]} for manifest in manifests[:2])
    added = {label for ref, label in other.items() if ref not in one}
    assert added == {  # the method and its control, whose β is what both of daDPO's are together
        f"{what}{row}{rest}"
        for row in ("dadpo", "ddpo-beta0.2")
        for what, rest in (
            ("train ", ""),
            ("responses: ", ", test"),
            ("compare ", " with the teacher: the teacher, test"),
            ("measure ", ", test"),
            ("teacher's log-probs: ", ", test"),  # what the judge is made of
            ("judge typicality: ", ", test"),
        )
    }


def test_a_second_run_makes_nothing_and_leaves_all_as_it_is(
    made: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (made / "out").rglob("*") if path.is_file()}
    run(asked(made, checkpoints), out=made / "out")
    assert "0 of " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (made / "out").rglob("*") if path.is_file()} == before


def test_a_study_takes_refresh_and_a_copy_of_its_board(
    made: Path, tmp_path: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "copy"))
    again = asked(root, checkpoints, judge="embedding")
    run(again, out=tmp_path / "by another judge", copy=tmp_path / "board.md")
    assert (tmp_path / "board.md").read_text() == (tmp_path / "by another judge" / "leaderboard.md").read_text()
    verdicts = [ref for ref in Store(root / "store").refs() if ref.startswith("judge/")]
    capsys.readouterr()
    run(again, out=tmp_path / "by another judge", refresh=True)
    assert "0 of " in capsys.readouterr().err  # a proxy is a function of what is there
    assert [ref for ref in Store(root / "store").refs() if ref.startswith("judge/")] == verdicts


def test_progress_says_of_which_run_a_stage_is(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run import launch

    seen: list[str] = []
    view = launch.StageView.stage
    monkeypatch.setattr(launch.StageView, "stage", lambda self, label: seen.append(label) or view(self, label))
    run(asked(tmp_path, checkpoints), out=tmp_path / "out")
    assert {
        "responses: teacher, training prompts",
        "seed1: train ddpo",
        "seed1, dadpo.beta_teacher=0.1: train dadpo",
        "seed0: judge typicality: ddpo, test",
    } <= set(seen)
    assert len(seen) == len(set(seen))
    labels = [stage["label"] for stage in json.loads((runs_in(tmp_path / "out")[0] / MANIFEST).read_text())["stages"]]
    assert "train ddpo" in labels and not any(label.startswith("seed") for label in labels)


# ---- plan, show-example, checks


def test_plan_is_of_the_whole(made: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    plan(asked(made, checkpoints, seeds="0,1,2"))
    said = capsys.readouterr().out
    assert "a study of 6 runs (seeds 0, 1, 2 × settings.dadpo.beta_teacher = 0.05, 0.1): " in said
    row = next(line for line in said.splitlines() if "train dadpo " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["4", "2"]  # there, to do
    row = next(line for line in said.splitlines() if "train ddpo " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["2", "1"]
    assert "3 seeds, luck 2" in " ".join(said.split())
    plan(asked(made, checkpoints, seeds=None, grid=None))
    assert "a study of" not in capsys.readouterr().out


def test_an_example_is_of_the_first_run(
    made: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    show_example(asked(made, checkpoints), index=0)
    assert "chosen" in capsys.readouterr().out


def test_what_is_wrong_with_some_runs_names_them(made: Path, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError) as caught:
        plan(asked(made, checkpoints, grid=["train_sampling.max_new_tokens=8,80000"]))
    assert all(line.startswith("seed0, train_sampling.max_new_tokens=80000; seed1, ") for line in caught.value.lines)
    with pytest.raises(UserError) as caught:
        plan(asked(made, checkpoints, train_prompts=str(made / "test.jsonl")))
    assert all(line.startswith("evaluation set 'test' holds") for line in caught.value.lines)  # of all of them


# ---- record, verify, gc


def test_all_runs_of_a_study_are_recorded_and_their_board_is_whole(folder: Path, place: Path) -> None:
    targets = recording.record_study(folder)
    assert sorted(targets) == recording.recorded() and len(targets) == 4
    assert board_markdown(boards(targets)) == (folder / "leaderboard.md").read_text()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert recording.record_study(folder) == targets
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_of_a_study_that_cannot_be_recorded_whole_nothing_is(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = recording.record_study(folder)[0]
    (kept / "marked").write_text("as it was")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    replace = Path.replace

    def full(self: Path, target: Any) -> Any:
        if self.name.endswith(".partial") and "seed1" in self.name:
            raise OSError("No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "replace", full)
        recording.record_study(folder)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    (runs_in(folder)[3] / "verdicts.jsonl").write_text("")
    with pytest.raises(UserError, match=r"verdicts\.jsonl is not the file"):
        recording.record_study(folder)
    shutil.rmtree(runs_in(folder)[2])
    with pytest.raises(UserError, match=r"holds no manifest\.json, and study\.json has it as seed1"):
        recording.record_study(folder)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_verify_holds_every_run_and_their_board(cli: Any, made: Path, folder: Path) -> None:
    ended = cli("verify", folder, "--store", made / "store")
    assert ended.status == 0 and f"every figure of {folder} follows" in ended.out
    assert "(each of 4 runs)" in ended.out
    ended = cli("leaderboard", folder)
    assert ended.out.strip() == (folder / "leaderboard.md").read_text().strip()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("verdicts", r"seed1, dadpo\.beta_teacher=0\.05: verdicts\.jsonl is not the file that the run wrote"),
        ("board", r"^leaderboard\.md is not the file that study\.json has the sha256 of"),
        ("rendered", r"^leaderboard\.md is not what its runs' results render to"),
        ("manifest", r"0\.05/manifest\.json is not the file that study\.json has the sha256 of"),
        ("lacking", r"0\.05 holds no manifest\.json, and study\.json has it as seed1, dadpo"),
        ("fewer", r"^study\.json: it declares 4 runs, and has 3"),
        ("more", r"^study\.json does not have runs/other"),
        ("turned", r"0\.1/results\.json is of seed 0, dadpo\.beta_teacher=0\.1; study\.json declares seed 0, dadpo"),
    ],
)
def test_what_does_not_follow_is_found(folder: Path, tmp_path: Path, change: str, said: str) -> None:
    third = runs_in(folder)[2]

    def edit(**facts: Any) -> None:
        found = read_study(folder).model_copy(update=facts)
        (folder / STUDY).write_text(json.dumps(found.model_dump(mode="json", by_alias=True)))

    if change == "verdicts":
        (third / "verdicts.jsonl").write_text("")
    elif change in ("board", "rendered"):
        (folder / "leaderboard.md").write_text("# Mine\n")
        if change == "rendered":
            edit(board=file_sha256(folder / "leaderboard.md"))
    elif change == "manifest":
        rewrite(third / MANIFEST, lambda found: found.update(command="another"))
    elif change == "lacking":
        shutil.rmtree(third)
    elif change == "fewer":
        shutil.rmtree(runs_in(folder)[3])
        edit(runs=read_study(folder).runs[:3])
    elif change == "more":
        shutil.copytree(third, folder / "runs" / "other")
    else:
        edit(runs=read_study(folder).runs[::-1], grid=read_study(folder).grid, seeds=(1, 0))
    wrong = verify_study(folder, Store(tmp_path / "none"), board_markdown, quiet).wrong
    assert any(re.search(said, line) for line in wrong), wrong


def test_what_a_study_needs_stays_in_the_store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(shutil.copytree(made, tmp_path / "copy"))
    monkeypatch.setenv(STORE_VARIABLE, str(root / "store"))
    monkeypatch.setattr(recording, "recorded_runs", list)
    before = Store(root / "store").refs()
    store_gc(older_than=0, keep=[root / "out"], yes=True)
    assert Store(root / "store").refs() == before
    (root / "runs").mkdir()
    shutil.copytree(root / "out", root / "runs" / "study")
    monkeypatch.chdir(root)
    assert recording.unrecorded_runs() == sorted(Path("runs/study/runs") / path.name for path in runs_in(root / "out"))


def test_a_study_of_a_file_says_the_same(made: Path) -> None:
    text = (made / "out" / STUDY).read_text()
    assert StudyFacts.model_validate(json.loads(text)) == read_study(made / "out")
