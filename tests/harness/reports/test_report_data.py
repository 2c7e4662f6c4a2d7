"""The page of a study: what of it is of all runs, and what of the first seed alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import plain
from harness.reports import html, tables
from harness.reports.report_data import ReportData, read_report, read_run
from harness.results.pooling import boards
from harness.results.studies import STUDY, StudyFacts, StudyRun
from harness.run.rows import TEACHER
from tests.harness.runs_made import LOSS, TIE, WIN, Run, Said, make_folder

SEEDS, BETAS = (3, 4), (0.1, 0.3)


def says(seed: int) -> Callable[[str, int], Said]:
    """SFT wins at the first seed and loses at the other; dDPO ties."""
    return lambda candidate, number: TIE if candidate != "sft" else WIN if seed == SEEDS[0] else LOSS


def a_study(root: Path, *layers: dict[str, Any]) -> tuple[Path, list[Run]]:
    """A run for each layer and seed, as a study has them."""
    runs = [
        make_folder(root / "runs", f"run{place}-{seed}", says(seed), prompts=3, seed=seed, **layer)
        for seed in SEEDS
        for place, layer in enumerate(layers)
    ]
    listed = tuple(
        StudyRun(name=run.folder.name, folder=run.folder.relative_to(root).as_posix(), manifest="") for run in runs
    )
    said = {"command": "python -m harness run", "seeds": SEEDS, "grid": (), "tune": (), "tune_by": "forward_kl"}
    facts = StudyFacts(harness="0.1.0", **said, runs=listed, board="")
    (root / STUDY).write_text(facts.model_dump_json(by_alias=True))
    return root, runs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    return a_study(tmp_path_factory.mktemp("study"), *({"settings": {"ddpo": {"beta": beta}}} for beta in BETAS))


@pytest.fixture(scope="module")
def page(study: tuple[Path, list[Run]]) -> ReportData:
    (found,) = read_report(study[0])
    return found


def test_a_run_is_read_as_it_was(study: tuple[Path, list[Run]]) -> None:
    folder = study[1][0].folder
    assert read_report(folder) == [read_run(folder)]
    assert html.reported(read_report(folder)) == html.report_html(read_run(folder))


def test_figures_are_those_of_the_common_board(study: tuple[Path, list[Run]], page: ReportData) -> None:
    (board,) = boards([run.folder for run in study[1]])
    assert plain(page.results) == plain(board)
    assert [one.name for one in board.methods] == ["sft", "ddpo (beta=0.1)", "ddpo (beta=0.3)"]


def test_responses_are_of_the_first_seed_each_row_once_under_its_common_name(page: ReportData) -> None:
    assert page.some == "seed 3 (runs 1, 2)"
    rows = Counter(one.system for one in page.responses or () if one.prompt_set == "near")
    named = ("sft", "ddpo (beta=0.1)", "ddpo (beta=0.3)", "student (untrained)", "teacher (second sample)", TEACHER)
    assert rows == dict.fromkeys(named, 3)
    island = html._island(page, {(one.prompt_set, one.id): one for one in page.prompts or ()}, html._deciding(page))
    assert len(island["prompts"]) == 6 and not any("sample" in one for one in island["prompts"])
    first = island["prompts"][0]
    assert first["outcomes"]["sft"] == "win" and first["outcomes"]["ddpo (beta=0.3)"] == "tie"
    assert {name: len(said) for name, said in first["verdicts"].items()} == dict.fromkeys(set(named) - {TEACHER}, 2)


def test_rates_by_category_are_of_all_seeds_as_on_the_board(page: ReportData) -> None:
    prompts = {(one.prompt_set, one.id): one.model_copy(update={"category": "all"}) for one in page.prompts or ()}
    near, _ = tables.categories(page.results, prompts, html._deciding(page))
    (cells,) = near.rows
    known = dict(zip(near.columns, cells, strict=True))
    for row in page.results.rows_of("near"):
        assert row.preference_rate is not None and row.preference_interval is not None
        assert known[row.method].drawn == pytest.approx(
            (row.preference_interval[0], row.preference_rate, row.preference_interval[1])
        )
    assert next(row.preference_rate for row in page.results.rows_of("near") if row.method == "sft") == 0.0


def test_each_training_has_its_curve_once_by_row_and_seed(page: ReportData) -> None:
    """SFT is the same training at both points."""
    rows = ("sft", "ddpo (beta=0.1)", "ddpo (beta=0.3)")
    assert page.curves == {f"{row}, seed {seed}": row for row in rows for seed in SEEDS}
    assert list(page.metrics or ()) == list(page.curves)


def test_tokens_are_of_the_first_seed_with_every_row_beside_the_teacher(page: ReportData) -> None:
    written = [view for view in page.tokens.views if view.prompt_set == "near" and view.writer == TEACHER]
    assert written and {name for view in written for name in view.kl} >= {"sft", "ddpo (beta=0.1)", "ddpo (beta=0.3)"}
    keys = [(view.prompt_set, view.prompt_id, view.sample, view.writer) for view in page.tokens.views]
    assert len(set(keys)) == len(keys)
    positions = [(one.prompt_set, one.method, one.writer) for one in page.tokens.positions]
    assert positions and len(set(positions)) == len(positions)


def test_the_page_says_what_is_of_some_runs_alone(page: ReportData) -> None:
    text = " ".join(html.reported([page]).split())
    assert "Responses and verdicts of <b>seed 3 (runs 1, 2)</b>" in text
    assert "Every setting of run 1;" in text
    alone = " ".join(html.report_html(ReportData(page.results, [])).split())
    assert "Responses and verdicts of" not in alone


def test_kinds_of_a_study_have_boards_on_one_page(tmp_path: Path) -> None:
    root, runs = a_study(tmp_path, {}, {"eval_sampling": {"temperature": 0.7}})
    found = read_report(root)
    assert [one.results.name for one in found] == [one.name for one in boards([run.folder for run in runs])]
    text = html.reported(found)
    assert text.count('class="run"') == 2 and html.SEVERAL_KINDS in text


def test_a_training_that_was_made_twice_at_one_seed_counts_twice_here_too(tmp_path: Path) -> None:
    root, _ = a_study(tmp_path, {}, {"generation_batch_size": 2})
    (found,) = read_report(root)
    judged = [one for one in found.verdicts if (one.candidate, one.prompt_set) == ("sft", "near") and one.order != "x"]
    assert Counter(one.sample for one in judged) == dict.fromkeys(range(4), 6)  # two seeds, twice each
    row = next(row for row in found.results.rows_of("near") if row.method == "sft")
    assert row.n == 12


def test_study_json_names_runs_below_it(study: tuple[Path, list[Run]]) -> None:
    said = StudyFacts.model_validate(json.loads((study[0] / STUDY).read_text()))
    assert [study[0] / run.folder for run in said.runs] == [run.folder for run in study[1]]
