"""Several samples of a prompt, and rows that are judged against each other, in a run's figures, boards and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import IDENTICAL, RunResponse, Verdict, plain, read_records
from harness.reports.board import board_markdown
from harness.results import pooling
from harness.results.declared import Declared
from harness.results.figures import RunRows, figures
from harness.results.verify import Verification, verify
from harness.run.jobs import VERDICTS
from harness.statistics.panel import MAJORITY
from tests.harness.runs_made import FLIP, LOSS, TIE, WIN, Run, Said, judged, make_folder, rewrite_line

Data = dict[str, Any]
PROMPTS = 4


def near(candidate: str, *said: Said, sample: int = 0, **fields: Any) -> list[Verdict]:
    rows = judged(candidate, said, **{"prompt_set": "near", **fields})
    return [row.model_copy(update={"sample": sample}) for row in rows]


def board_of(rows: list[Verdict], judges: tuple[str, ...] = ("judge",), **fields: Any) -> Data:
    candidates = {row.candidate: "method" for row in rows if row.reference == "teacher"}
    declared = Declared({"near": True}, candidates, judges, [], **{"contrasts": [], **fields})  # type: ignore[arg-type]
    return plain(figures(declared, {"run": RunRows(rows, [])}))


# ---- samples


def test_samples_are_outcomes_of_their_prompt() -> None:
    rows = near("a", WIN, LOSS, TIE) + near("a", WIN, WIN, FLIP, sample=1)
    (row,) = board_of(rows)["rows"]
    assert (row["n"], row["prompts"], row["wins"], row["ties"], row["losses"]) == (6, 3, 3, 2, 1)
    assert row["flips"]["count"] == 1 and row["flips"]["n"] == 6
    # within prompts by hand: of 1, 1; −1, 1; 0, 0 the squares from their means, over as many as there are too many
    assert row["components"]["within"] == pytest.approx((2 / 3) ** 0.5)


def test_identical_responses_are_counted_one_by_one() -> None:
    rows = near("a", TIE, TIE, detail=IDENTICAL) + near("a", TIE, WIN, sample=1)
    rows[4:6] = near("a", TIE, sample=1, detail=IDENTICAL)
    (row,) = board_of(rows)["rows"]
    assert row["identical"] == 3


# ---- against each other


def test_rows_against_each_other_are_in_no_rate_against_the_teacher() -> None:
    alone = near("a", WIN, LOSS, TIE) + near("b", LOSS, LOSS, TIE)
    direct = near("a", WIN, WIN, FLIP, reference="b")
    pairs = {"contrasts": [("a", "b")]}
    before, after = board_of(alone, **pairs), board_of([*alone, *direct], **pairs, versus=[("a", "b")])
    (versus,) = after.pop("versus")
    assert before.pop("versus") == []
    (was,), (now,) = before.pop("judging"), after.pop("judging")
    assert before == after
    assert (versus["first"], versus["second"], versus["judge"]) == ("a", "b", "judge")
    assert (versus["wins"], versus["ties"], versus["losses"], versus["flips"]["count"]) == (2, 1, 0, 1)
    # of the judge all are counted
    added = {"verdicts": 6, "ok": 6, "both_orders": 3, "flips": 1, "ties": 1, "outcomes": 3}
    assert {name: now[name] - was[name] for name in added} == added


def test_a_panel_s_word_on_rows_against_each_other_is_its_members() -> None:
    rows = [
        *(near("a", WIN, judge=judge) for judge in ("one", "two")),
        near("a", WIN, WIN, LOSS, reference="b", judge="one"),
        near("a", WIN, LOSS, LOSS, reference="b", judge="two"),
        *(near("b", WIN, judge=judge) for judge in ("one", "two")),
    ]
    found = board_of([row for some in rows for row in some], ("one", "two"), versus=[("a", "b")])
    (versus,) = found["versus"]
    assert (versus["judge"], versus["wins"], versus["ties"], versus["losses"]) == (MAJORITY, 1, 1, 1)
    assert versus["orders"] == "both"
    # agreement is of what both said against the teacher
    assert found["agreement"][0]["n"] == 2


# ---- runs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def made(root: Path) -> Run:
    return make_folder(root, samples=2, versus=[["ddpo", "sft"]], prompts=PROMPTS)


@pytest.fixture
def copy(made: Run, tmp_path: Path) -> Path:
    return shutil.copytree(made.folder, tmp_path / "copy")


def held(folder: Path, store: Any) -> Verification:
    return verify(folder, store, board_markdown, lambda *_: None)


def test_a_run_s_folder_has_every_sample_and_follows_from_its_artifacts(made: Run) -> None:
    said = read_records(made.folder / "responses.jsonl", RunResponse)
    places = [(row.prompt_set, row.prompt_id, row.system, row.sample) for row in said]
    systems = {row.system for row in said}
    assert len(places) == len(set(places)) == 2 * len(systems) * PROMPTS * 2
    rows = read_records(made.folder / VERDICTS, Verdict)
    assert len(rows) == 2 * (len(systems) - 1 + 1) * PROMPTS * 2 * 2
    assert {row.candidate for row in rows if row.reference == "sft"} == {"ddpo"}
    assert held(made.folder, made.store).wrong == []
    (near_by, far) = made.data["versus"]
    assert [one["prompt_set"] for one in (near_by, far)] == ["near", "far"]


@pytest.mark.parametrize(
    ("file", "number", "change", "words"),
    [
        ("responses.jsonl", 1, {"text": "other"}, "is not what its artifact holds"),
        ("responses.jsonl", 1, {"sample": 5}, "is not what its artifact holds"),
        (VERDICTS, -1, {"preference": 0.75}, "versus"),
        (VERDICTS, -1, {"preference": 0.75}, "are not in the judgings of the store"),
    ],
)
def test_a_sample_or_a_direct_verdict_that_was_changed_is_found(
    made: Run, copy: Path, file: str, number: int, change: Data, words: str
) -> None:
    assert held(copy, made.store).wrong == []
    rewrite_line(copy / file, number, **change)
    assert any(words in line for line in held(copy, made.store).wrong)


def test_verdicts_of_before_say_less_and_are_the_same(made: Run, copy: Path) -> None:
    """An artifact that was made before a field was there has it nowhere."""
    (ref, *_) = (ref for ref, job in made.road.jobs.items() if job.stage == "judge")
    path = made.store.read(ref).path / VERDICTS
    before = path.read_text(encoding="utf-8")
    older = [json.loads(line) for line in before.splitlines()]
    for row in older:
        del row["repeat"]
    try:
        path.write_text("".join(json.dumps(row) + "\n" for row in older), encoding="utf-8")
        wrong = held(copy, made.store).wrong
    finally:
        path.write_text(before, encoding="utf-8")
    assert not any("in the judgings of the store" in line for line in wrong)


def test_runs_of_several_seeds_are_pooled_pair_by_pair(root: Path, made: Run) -> None:
    second = make_folder(root, "second", samples=2, versus=[["ddpo", "sft"]], prompts=PROMPTS, seed=1)
    (found,) = pooling.boards([made.folder, second.folder])
    for versus in plain(found)["versus"]:
        each = [
            row for run in (made, second) for row in run.data["versus"] if row["prompt_set"] == versus["prompt_set"]
        ]
        assert (versus["n"], versus["prompts"]) == (4 * PROMPTS, PROMPTS)
        assert versus["wins"] == sum(row["wins"] for row in each)


def test_what_two_runs_share_counts_once_and_a_pair_that_is_new_counts(root: Path, made: Run) -> None:
    """The same trainings of the same seed: the rows are known, and so is the pair, or it is not."""
    layer: Data = {"samples": 2, "prompts": PROMPTS, "methods": ["sft", "kd", "ddpo"], "contrasts": [["ddpo", "sft"]]}
    other = make_folder(root, "other", **layer, versus=[["ddpo", "sft"], ["ddpo", "kd"]])
    (found,) = pooling.boards([made.folder, other.folder])
    counts = {(row.first, row.second, row.prompt_set): row.n for row in found.versus}
    assert counts == {
        (first, second, where): 2 * PROMPTS
        for first, second in (("ddpo", "sft"), ("ddpo", "kd"))
        for where in ("near", "far")
    }


def test_rows_that_are_renamed_on_a_common_board_are_so_in_their_pairs(root: Path, made: Run) -> None:
    settings = {"settings": {"ddpo": {"beta": 0.5}}}
    other = make_folder(root, "beta", samples=2, versus=[["ddpo", "sft"]], prompts=PROMPTS, seed=1, **settings)
    (found,) = pooling.boards([made.folder, other.folder])
    firsts = {row.first for row in found.versus}
    assert len(firsts) == 2 and all(name.startswith("ddpo (") for name in firsts)
    assert {row.second for row in found.versus} == {"sft"}
    turned = make_folder(root, "turned", samples=2, versus=[["sft", "ddpo"]], prompts=PROMPTS, seed=2, **settings)
    (found,) = pooling.boards([made.folder, turned.folder])
    assert any(row.second.startswith("ddpo (") and row.n for row in found.versus)


def test_a_prompt_without_an_answer_of_the_teacher_is_in_no_direct_comparison_either(root: Path) -> None:
    """Students answered it, and were judged on it: it counts nowhere all the same."""
    layer: Data = {"samples": 2, "versus": [["ddpo", "sft"]], "prompts": PROMPTS, "measures": ["length"]}
    run = make_folder(root, "filtered", left_out={"teacher, near": "p1"}, **layer)
    counts = {row["prompt_set"]: row["n"] for row in run.data["versus"]}
    assert counts == {"near": 2 * (PROMPTS - 1), "far": 2 * PROMPTS}
    rows = read_records(run.folder / VERDICTS, Verdict)
    assert not any(row.prompt_id == "p1" for row in rows if row.prompt_set == "near")
    assert held(run.folder, run.store).wrong == []
