"""What is shown token by token, from comparisons written by hand, and that it stays small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.results.tokens import (
    BINS,
    DEPARTING,
    LONGEST,
    PROMPTS,
    Compared,
    TokenViews,
    as_compact_json,
    token_views,
)
from tests.harness.runs_made import write_comparison

Responses = list[tuple[str, int]]


def compared(
    root: Path, method: str, writer: str, responses: Responses, kl: float, prompt_set: str = "near"
) -> Compared:
    folder = root / f"{prompt_set}-{method}-{writer}"
    folder.mkdir()
    write_comparison(folder, responses, kl)
    return Compared(prompt_set, method, writer, folder)


def test_views_are_of_the_teacher_s_response_with_every_row_and_of_each_row_s_own(tmp_path: Path) -> None:
    theirs: Responses = [("p0", 2), ("p1", 3)]
    made = token_views(
        [
            compared(tmp_path, "a", "teacher", theirs, 0.12345),
            compared(tmp_path, "a", "a", [("p0", 1), ("p1", 0)], 0.5),
            compared(tmp_path, "b", "teacher", theirs, 0.3),
        ],
        {"near": ["p0", "p1"]},
        longest=8,
    )
    assert [(view.prompt_id, view.writer, view.tokens, view.pieces, view.kl) for view in made.views] == [
        ("p0", "teacher", 2, ("p0.0", "p0.1"), {"a": (0.1235, 0.1335), "b": (0.3, 0.31)}),
        ("p1", "teacher", 3, ("p1.0", "p1.1", "p1.2"), {"a": (0.1235, 0.1335, 0.1435), "b": (0.3, 0.31, 0.32)}),
        ("p0", "a", 1, ("p0.0",), {"a": (1.5,)}),
        ("p1", "a", 0, (), {"a": ()}),
    ]


def test_positions_count_every_response_bin_by_bin(tmp_path: Path) -> None:
    one = compared(tmp_path, "a", "teacher", [("p0", 3), ("p1", 1), ("p2", 2)], 0.1)
    (found,) = token_views([one], {"near": ["p0", "p1", "p2"]}, longest=BINS).positions
    assert (found.method, found.writer, found.width) == ("a", "teacher", 1)
    assert (found.total, found.count) == (pytest.approx((0.3, 0.22, 0.12)), (3, 2, 1))
    (found,) = token_views([one], {"near": ["p0", "p1", "p2"]}, longest=BINS + 1).positions
    assert (found.width, found.total, found.count) == (2, pytest.approx((0.52, 0.12)), (5, 1))


def test_departures_are_the_largest_of_all_sets_for_each_row_and_writer(tmp_path: Path) -> None:
    many: Responses = [(f"p{i}", 5) for i in range(DEPARTING)]
    ids = [name for name, _ in many]
    made = token_views(
        [
            compared(tmp_path, "a", "teacher", many, 0.1),
            compared(tmp_path, "a", "a", many, 0.1),
            compared(tmp_path, "a", "teacher", [("p0", 9)], 0.2, "far"),
        ],
        {"near": ids, "far": ["p0"]},
        longest=8,
    )
    assert [(row.writer, row.prompt_set) for row in made.departures] == [
        ("teacher", "far"),
        *[("teacher", "near")] * (DEPARTING - 1),
        *[("a", "near")] * DEPARTING,
    ]
    assert (made.departures[0].kl, made.departures[0].position, made.departures[0].token) == (0.28, 8, "a")


def test_prompts_that_count_nowhere_are_nowhere(tmp_path: Path) -> None:
    one = compared(tmp_path, "a", "teacher", [("p0", 2), ("p1", 3)], 0.1)
    made = token_views([one], {"near": ["p1"]}, longest=8)
    assert [view.prompt_id for view in made.views] == ["p1"]
    assert made.positions[0].count == (1, 1, 1)
    assert [row.prompt_id for row in made.departures] == ["p1"]
    assert token_views([one], {"near": []}, longest=8).positions[0].count == ()


def test_nothing_compared_is_nothing_shown() -> None:
    assert token_views([], {"near": ["p0"]}, longest=8) == TokenViews()


def test_the_file_is_small_whatever_the_run(tmp_path: Path) -> None:
    many: Responses = [(f"p{i}", 2000) for i in range(50)]
    made = token_views([compared(tmp_path, "a", "teacher", many, 0.1)], {"near": [i for i, _ in many]}, longest=2048)
    assert len(made.views) == PROMPTS and {len(view.pieces) for view in made.views} == {LONGEST}
    assert {view.tokens for view in made.views} == {2000}
    (found,) = made.positions
    assert len(found.total) <= BINS and sum(found.count) == 50 * 2000
    text = as_compact_json(made)
    assert len(text) < 50_000 and TokenViews.model_validate(json.loads(text)) == made
