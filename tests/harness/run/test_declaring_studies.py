"""What a study declares is one family: what a board says of it, with all of its runs and with some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.run import run
from harness.reports.board import board_markdown
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.schema import Results
from harness.results.studies import runs_in
from harness.results.verify import verify
from harness.run.rows import ANCHORS
from harness.store import MANIFEST, Store
from tests.harness.making import quiet
from tests.harness.runs_made import rewrite
from tests.harness.tiny_runs import request

GRID = ["settings.ddpo.beta=0.1,0.5"]
START = next(name for name, kind in ANCHORS.items() if kind == "untrained")


def study(root: Path, checkpoints: dict[str, Path], out: str, **others: Any) -> list[Path]:
    """The folders of a study's runs: ddpo against SFT, and both against the start; no margin, one measure."""
    asked = request(root, checkpoints, **{"seeds": "0,1", "grid": GRID, "measures": "cut", **others})
    asked.set.append(f"contrasts={json.dumps([['ddpo', 'sft'], ['sft', START]])}")
    run(asked, out=root / out)
    return runs_in(root / out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> list[Path]:
    return study(tmp_path_factory.mktemp("declared-study"), checkpoints, "out")


def flags(results: Results) -> set[bool]:
    return {one.declared for one in (*results.contrasts, *results.measure_contrasts)}


def test_a_study_is_one_family_and_whole_on_its_board(whole: list[Path]) -> None:
    runs = [read_results(folder) for folder in whole]
    assert len({stamp.family for one in runs for stamp in one.stamps}) == 1
    # of each seed: ddpo at two points against SFT, and SFT, which stands in both, once
    assert len({stamp.contrast for one in runs for stamp in one.stamps}) == 2 * (2 + 1)
    (board,) = boards(whole)
    assert flags(board) == {True}
    assert {stamp.dropped for stamp in board.stamps} == {0}
    assert {left for one in board.runs for left in one.lacking.values()} == {()}
    assert "All were declared before the run" in board_markdown([board])


def test_a_run_alone_says_how_much_of_its_study_it_lacks(whole: list[Path]) -> None:
    for folder in whole:
        alone = read_results(folder)
        assert flags(alone) == {False} and {stamp.dropped for stamp in alone.stamps} == {6 - 2}
        assert "(4 of it left out since)" in board_markdown([alone])
        assert boards([folder]) == [alone]


@pytest.mark.parametrize("left_out", range(4))
def test_a_run_that_is_left_out_makes_the_rest_chosen_afterwards(whole: list[Path], left_out: int) -> None:
    """By its one contrast that no other run has: SFT's stands in the other point too."""
    (board,) = boards([folder for number, folder in enumerate(whole) if number != left_out])
    assert flags(board) == {False} and {stamp.dropped for stamp in board.stamps} == {1}
    assert [len(left) for one in board.runs for left in one.lacking.values()] == [1, 1, 1]


def test_a_seed_that_is_left_out_is_said(whole: list[Path]) -> None:
    (board,) = boards(whole[:2])
    assert flags(board) == {False} and {stamp.dropped for stamp in board.stamps} == {3}


def test_verify_holds_what_a_run_lacks_against_its_families(whole: list[Path], tmp_path: Path) -> None:
    store = Store(whole[0].parents[2] / "store")
    assert verify(whole[0], store, board_markdown, quiet).wrong == []
    assert verify(whole[0], Store(tmp_path), board_markdown, quiet).wrong == []
    kept = {name: (whole[0] / name).read_text() for name in ("results.json", MANIFEST)}

    def forge(found: dict[str, Any]) -> None:
        found["runs"][0].update(lacking={family: [] for family in found["runs"][0]["lacking"]})
        for stamp in found["stamps"]:
            stamp["dropped"] = 0
        for one in found["contrasts"] + found["measure_contrasts"]:
            one["declared"] = True

    try:
        rewrite(whole[0] / "results.json", forge)
        rewrite(whole[0] / MANIFEST, lambda found: [one.update(dropped=0) for one in found["declared"]])
        wrong = verify(whole[0], Store(tmp_path), board_markdown, quiet).wrong
    finally:
        for name, text in kept.items():
            (whole[0] / name).write_text(text)
    where = "the contrast of ddpo and sft on test"
    assert any(f"what it lacks of the family of {where} is not what" in line for line in wrong)
    assert any(f"{where} it says that 0 that were declared are not here" in line for line in wrong)


def test_a_contrast_of_another_digest_is_found(whole: list[Path], tmp_path: Path) -> None:
    """Else a run could stand for one that is left out."""
    kept = (whole[0] / MANIFEST).read_text()
    try:
        rewrite(whole[0] / MANIFEST, lambda found: [one.update(contrast="0" * 16) for one in found["declared"]])
        wrong = verify(whole[0], Store(tmp_path), board_markdown, quiet).wrong
    finally:
        (whole[0] / MANIFEST).write_text(kept)
    assert any("is not the one that its digest 0000000000000000 is of" in line for line in wrong)


def test_a_study_that_goes_on_is_a_family_of_its_own(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """What stood in the smaller one keeps its stamp, and that is whole where all of it is there."""
    before = study(tmp_path, checkpoints, "two", grid=None)
    (first,) = {stamp.family for folder in before for stamp in read_results(folder).stamps}
    more = study(tmp_path, checkpoints, "three", grid=None, seeds="0,1,2")
    families = [{stamp.family for stamp in read_results(folder).stamps} for folder in more]
    assert families[:2] == [{first}, {first}] and families[2] != {first}
    assert {stamp.time for stamp in read_results(more[0]).stamps} == {
        stamp.time for stamp in read_results(before[0]).stamps
    }
    (board,) = boards(more)
    assert flags(board) == {True} and {stamp.dropped for stamp in board.stamps} == {0}
    (board,) = boards(more[1:])  # the first seed lacks: of its own family, and of the later one
    assert flags(board) == {False} and {stamp.dropped for stamp in board.stamps} == {2}
    # the smaller study is as it was
    (board,) = boards(before)
    assert flags(board) == {True}


def test_boards_of_two_kinds_that_are_shown_together_leave_nothing_out(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """Responses that are drawn otherwise share no table: the study's board has one for each."""
    folders = study(tmp_path, checkpoints, "out", seeds=None, grid=["eval_sampling.temperature=0.7,1"])
    found = boards(folders)
    assert [len(board.runs) for board in found] == [1, 1]
    assert [flags(board) for board in found] == [{True}, {True}]
    assert [flags(board) for folder in folders for board in boards([folder])] == [{False}, {False}]
