"""Leaderboards as files: what pandas reads back of them, and which endings there are."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.errors import UserError
from harness.reports import board
from harness.reports.formats import WRITERS, as_csv, writer
from tests.harness.results_made import (
    MEASURES,
    all_results,
    components,
    disagreement,
    make_run,
    retention,
    with_measures,
    with_rows,
)

COLUMNS = (
    "board,student,teacher,seeds,deciding,prompt_set,in_domain,method,kind,judge,n,wins,ties,losses,missing,"
    "failed_verdicts,preference_rate,preference_low,preference_high,win_rate,win_low,win_high,half_tie_rate,"
    "half_tie_low,half_tie_high,mean_preference,mean_preference_low,mean_preference_high,prompts,missing_share,orders,"
    "flips,flips_of,identical,mean_tokens,cut_share,runs,spread,sd_prompt,sd_seed,sd_residual,sd_within,rank_first,"
    "rank_last"
)


def read(*runs: dict[str, Any]) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(as_csv(all_results(runs))))


def one(frame: pd.DataFrame, **where: Any) -> dict[str, Any]:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    (row,) = frame.to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_csv_has_a_line_for_each_row_and_judge_of_each_board() -> None:
    other = {**make_run(), "name": "tiny-seed0-abc", "pair": {"student": "tiny", "teacher": "large", "weights": {}}}
    frame = read(make_run(), other)
    assert ",".join(frame.columns) == COLUMNS
    assert len(frame) == len(make_run()["rows"]) + len(other["rows"])
    assert list(dict.fromkeys(frame["board"])) == ["small-seed4-abc", "tiny-seed0-abc"]
    assert set(frame[frame["board"] == "tiny-seed0-abc"]["student"]) == {"tiny"}


def test_csv_holds_rates_as_shares_and_intervals_in_two_columns() -> None:
    row = one(read(make_run(200, ranked=True)), prompt_set="far", method="kd", judge="both")
    names = ("preference_rate", "preference_low", "preference_high", "win_rate", "win_low", "win_high")
    assert [row[name] for name in names] == pytest.approx([-0.456, -0.581, -0.331, 0.219, 0.1, 0.4])
    counts = ("n", "wins", "ties", "losses", "flips", "flips_of", "rank_first", "rank_last", "runs", "seeds")
    assert [row[name] for name in counts] == [200, 7, 11, 13, 0, 0, 4, 4, 1, 4]
    assert (row["deciding"], row["in_domain"], row["kind"], row["mean_tokens"]) == (True, False, "method", 61.4)
    assert one(read(make_run()), prompt_set="far", method="kd", judge="part-one")["deciding"] is False


def test_what_there_is_not_is_an_empty_cell() -> None:
    none = dict.fromkeys(("preference_rate", "preference_interval", "mean_tokens", "spread", "rank"))
    row = one(read(with_rows(make_run(), "kd", **none)), prompt_set="near", method="kd", judge="both")
    for name in ("preference_rate", "preference_low", "preference_high", "mean_tokens", "spread", "rank_first"):
        assert pd.isna(row[name])


def test_measures_and_costs_stand_on_the_deciding_judge_s_row_with_intervals_in_two_columns() -> None:
    frame = read(with_measures(make_run()))
    own = ("", "_low", "_high", "_own_loss")
    names = [f"{name}{end}" for name, *_ in MEASURES for end in (own if name == "forward_kl" else own[:3])]
    assert [name for name in frame.columns if name not in COLUMNS.split(",")] == [
        *names,
        *("trained_tokens", "teacher_read_tokens", "teacher_sampled_tokens", "student_sampled_tokens"),
        *("seconds", "peak_memory", "device"),
    ]
    row = one(frame, prompt_set="near", method="kd", judge="both")
    figures = [row[name] for name in ("forward_kl", "forward_kl_low", "forward_kl_high", "trained_tokens", "seconds")]
    assert figures == pytest.approx([0.40484, 0.384598, 0.425082, 98765, 184.75])
    assert row["forward_kl_own_loss"] is True and "mean_tokens" not in frame and "cut_share" not in frame
    assert pd.isna(row["margin_accuracy"]) and row["device"] == "cpu"
    other = one(frame, prompt_set="near", method="kd", judge="part-one")
    assert pd.isna(other["forward_kl"]) and pd.isna(other["seconds"])
    assert pd.isna(one(frame, prompt_set="near", method="untrained", judge="both")["seconds"])


def test_the_teacher_s_own_values_and_bounds_stand_in_the_csv() -> None:
    run = with_measures(make_run())
    run["measured"][0]["bound"] = "lower"
    next(facts for facts in run["measured"] if facts["name"] == "nll")["teacher_bound"] = "lower"
    frame = read(run)
    teacher = one(frame, prompt_set="near", kind="teacher")
    assert (teacher["method"], teacher["nll_bound"], teacher["deciding"]) == ("teacher", "lower", False)
    assert teacher["nll"] == pytest.approx(1.21247) and pd.isna(teacher["judge"]) and pd.isna(teacher["forward_kl"])
    row = one(frame, prompt_set="near", method="kd", judge="both")
    assert (row["forward_kl_bound"], row["nll_bound"]) == ("lower", "exact") and "top1_bound" not in frame


@pytest.mark.parametrize("name", ["n", "seconds", "win", "board", "forward_kl_low", "device"])
def test_a_measure_overwrites_no_other_column(name: str) -> None:
    run = with_measures(make_run())
    for found in (*run["measures"], *run["measured"]):
        for field in ("measure", "name"):
            found.update({field: name} if found.get(field) == "top1" else {})
    row, plain = (
        one(read(each), prompt_set="near", method="kd", judge="both") for each in (run, with_measures(make_run()))
    )
    assert row[f"measure_{name}"] == plain["top1"] and row[f"measure_{name}_low"] == plain["top1_low"]
    kept = {key: value for key, value in row.items() if not key.startswith("measure_")}
    assert kept == pytest.approx({key: plain[key] for key in kept}, nan_ok=True)


def test_boards_with_and_without_measures_share_a_file() -> None:
    frame = read(make_run(), {**with_measures(make_run()), "name": "measured"})
    known = {board: mine["forward_kl"].notna().sum() for board, mine in frame.groupby("board")}
    assert known == {"small-seed4-abc": 0, "measured": 8}


def test_seeds_are_listed_and_runs_counted_where_a_row_has_a_rate() -> None:
    run = with_rows(make_run(), "kd", by_run=[0.1, None, 0.3], spread=0.1)
    run["runs"] = [{**run["runs"][0], "seed": seed} for seed in (4, 5, 6)]
    row = one(read(run), prompt_set="near", method="kd", judge="both")
    assert (row["seeds"], row["runs"], row["spread"]) == ("4 5 6", 2, 0.1)


def test_what_a_row_s_variance_is_made_of_has_a_column_each() -> None:
    run = with_rows(make_run(), "kd", components=components(seed=0.0, residual=0.49))
    row = one(read(run), prompt_set="near", method="kd", judge="both")
    assert (row["sd_prompt"], row["sd_seed"], row["sd_residual"]) == (0.61, 0.0, 0.49) and pd.isna(row["sd_within"])
    # of one seed all in which prompts differ: no figure to set beside that of several, and one of its own alone
    assert pd.isna(one(read(run), prompt_set="near", method="dadpo", judge="both")["sd_prompt"])
    assert one(read(make_run()), prompt_set="near", method="dadpo", judge="both")["sd_prompt"] == 0.61


def test_names_of_any_kind_survive_csv() -> None:
    hostile = 'a,"b"\n| c; é'
    run = json.loads(json.dumps(make_run()).replace('"kd"', json.dumps(hostile)))
    assert one(read(run), prompt_set="near", method=hostile, judge="both")["wins"] == 7


def test_no_run_is_an_empty_file() -> None:
    assert as_csv([]).strip() == ""


@pytest.mark.parametrize("name", ["board.json", "BOARD.JSON"])
def test_json_holds_the_results_whole(name: str) -> None:
    run = with_measures(make_run(), disagreements=[disagreement()], retention=[retention("kd", "method")])
    run["pair"]["student"] = "é"
    text = writer(Path(name))(all_results([run]))
    assert json.loads(text) == [run] and "é" in text


def test_markdown_is_the_board_and_a_page_is_a_page() -> None:
    assert writer(Path("a/board.md"))(all_results([make_run()])) == board.board_markdown(all_results([make_run()]))
    assert writer(Path("board.html"))([]).lstrip().lower().startswith("<!doctype html>")
    assert list(WRITERS) == [".md", ".html", ".json", ".csv"]


@pytest.mark.parametrize("name", ["board", "board.txt", "board.csv.gz", ".csv", "folder.md/board"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"a leaderboard is written as \.md, \.html, \.json, \.csv; name a file that"):
        writer(Path(name))
