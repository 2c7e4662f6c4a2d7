"""Records: copies of runs' files in benchmarks/results, refused where they are not what a run wrote."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.reports import html
from harness.reports.board import board_markdown
from harness.reports.report_data import read_run
from harness.results import recording
from harness.results.recording import record, recorded, results_folder
from harness.results.verify import verify
from harness.store import MANIFEST, Store
from tests.harness.making import quiet
from tests.harness.runs_made import Run, make_folder, rewrite

FILES = {
    "results.json",
    "verdicts.jsonl",
    "responses.jsonl",
    "prompts.jsonl",
    "measures.jsonl",
    "tokens.json",
    "config.yaml",
    "leaderboard.md",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty benchmarks/results."""
    made = tmp_path / "benchmarks" / "results"
    made.mkdir(parents=True)
    monkeypatch.setattr(recording, "results_folder", lambda: made)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_folder(tmp_path_factory.mktemp("recorded"), prompts=1)


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "run"))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_one(run: Path) -> Path:
    (target,) = record([run])
    return target


def renamed(run: Path, name: str) -> Path:
    """The same run under another name, with a manifest that vouches for it."""
    rewrite(run / "results.json", lambda results: results.update(name=name))
    sha = file_sha256(run / "results.json")
    rewrite(run / MANIFEST, lambda manifest: manifest["files"]["results.json"].update(sha256=sha))
    return run


def test_a_record_holds_every_file_that_the_manifest_vouches_for(run: Path, place: Path, made: Run) -> None:
    before = tree(run)
    (run / "harness-run.json").write_text("{}")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "model.safetensors").write_bytes(b"weights")
    target = record_one(run)
    assert target == place / made.data["name"]
    assert set(before) == {*FILES, MANIFEST, "metrics/sft.jsonl", "metrics/ddpo.jsonl"}
    assert tree(target) == before
    assert verify(target, made.store, board_markdown, quiet).wrong == []


def test_recording_again_replaces_what_was_there(run: Path, place: Path) -> None:
    before = tree(run)
    target = record_one(run)
    (target / "verdicts.jsonl").write_text("old")
    (target / "metrics" / "old.jsonl").write_text("old")
    (target / "old.txt").write_text("old")
    assert record_one(run) == target
    assert tree(target) == before
    assert recorded() == [target]


def test_a_record_is_not_harmed_by_recording_it_from_its_place(run: Path, place: Path) -> None:
    target = record_one(run)
    before = tree(place)
    assert record_one(target) == target
    assert tree(place) == before


@pytest.mark.parametrize("name", [*sorted(FILES - {"results.json"}), "metrics/sft.jsonl"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_run_with_a_file_that_it_did_not_write_is_not_recorded(run: Path, place: Path, name: str, how: str) -> None:
    if how == "changed":
        (run / name).write_text((run / name).read_text() + "\n")
    else:
        (run / name).unlink()
    with pytest.raises(UserError, match=rf"run: {name} is (not the file|missing).*; run it again") as caught:
        record_one(run)
    assert "\n" not in str(caught.value)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["results.json", MANIFEST])
def test_nothing_is_recorded_without_results_and_a_manifest(run: Path, place: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UserError, match=f"run holds no {name}; give the output folder of a finished run"):
        record_one(run)
    assert list(place.iterdir()) == []


def test_a_record_that_cannot_be_renewed_is_left_as_it_was(run: Path, place: Path) -> None:
    target = record_one(run)
    before = tree(target)
    (run / "verdicts.jsonl").write_text("")
    with pytest.raises(UserError, match=r"verdicts\.jsonl is not the file"):
        record_one(run)
    assert tree(target) == before


@pytest.mark.parametrize("renewed", [False, True])
def test_a_record_that_is_cut_short_is_none(
    run: Path, place: Path, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    if renewed:
        record_one(run)
    before, copy = tree(place), shutil.copyfile

    def full(source: Path, target: Path) -> object:
        if source.name == "verdicts.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        record_one(run)
    assert tree(place) == before
    assert len(list(place.iterdir())) == len(recorded()) == renewed


@pytest.mark.parametrize("name", ["owner/small-seed0-abc", "../models/small-seed0-abc", "/models/small-seed0-abc"])
def test_a_record_stays_with_the_others_whatever_its_name(run: Path, place: Path, name: str) -> None:
    assert record_one(renamed(run, name)) == place / "small-seed0-abc"


def test_recorded_runs_come_by_name(place: Path) -> None:
    for name in ("b", "a", "c", ".b.partial"):
        (place / name).mkdir()
        (place / name / "results.json").write_text("{}")
    (place / "README.md").write_text("not a run")
    (place / "empty").mkdir()
    assert [path.name for path in recorded()] == ["a", "b", "c"]


def test_records_lie_in_the_checkout() -> None:
    assert results_folder() == Path(__file__).parents[3] / "benchmarks" / "results"


def test_an_installed_package_is_no_place_to_record_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.resources, "files", lambda package: tmp_path / "site-packages" / package)
    with pytest.raises(UserError, match="recorded results live in a checkout"):
        results_folder()


# ---- what is recorded in this checkout


@pytest.mark.parametrize("folder", recording.recorded(), ids=lambda folder: folder.name)
def test_every_figure_of_a_recorded_run_follows(folder: Path, tmp_path: Path) -> None:
    found = verify(folder, Store(tmp_path), board_markdown, quiet)
    assert found.wrong == [] and found.checked


def test_recorded_reports_are_those_of_their_runs() -> None:
    pages = sorted(recording.results_folder().glob("*/report.html"))
    assert pages
    for page in pages:
        assert page.read_text(encoding="utf-8") == html.report_html(read_run(page.parent))
