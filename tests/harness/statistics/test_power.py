"""Power, against the noncentral t distribution of scipy, against simulation, and against what boards say."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.statistics.effects import Cells, compared, detectable
from harness.statistics.power import Spread, floor, prompts_for, seeds_for, told, told_of_methods


@pytest.mark.parametrize("tests", [1, 2, 12])
@pytest.mark.parametrize("prompts", [3, 6, 16, 80, 1000])
def test_what_can_be_told_is_found_with_80_percent_power(prompts: int, tests: int) -> None:
    difference, error = told(0.9, prompts, tests=tests), 0.9 / sqrt(prompts)
    assert difference is not None
    critical = stats.t.ppf(1 - 0.05 / tests / 2, prompts - 1)
    assert stats.nct.sf(critical, prompts - 1, difference / error) == pytest.approx(0.80, abs=1e-9)


def test_it_is_found_so_often_in_simulation() -> None:
    difference = told(0.9, 40)
    apart = np.random.default_rng(0).normal(difference, 0.9, (20_000, 40))
    assert (stats.ttest_1samp(apart, 0, axis=1).pvalue <= 0.05).mean() == pytest.approx(0.80, abs=0.012)


def test_it_is_what_a_board_says_of_the_same_prompts() -> None:
    apart = np.random.default_rng(1).choice([-1.0, 0.0, 1.0, 2.0], 57)
    ones = np.ones((1, 57))
    found = compared(Cells(apart[None], ones), Cells(np.zeros((1, 57)), ones))
    assert told(float(apart.std(ddof=1)), 57) == pytest.approx(found.detectable)


def test_of_one_prompt_nothing_can_be_told() -> None:
    assert told(0.9, 1) is None
    assert told(0.0, 10) is None


@pytest.mark.parametrize("tests", [1, 7])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("difference", [0.05, 0.1, 0.2, 0.9])
def test_the_prompts_needed_are_the_fewest(difference: float, seeds: int, tests: int) -> None:
    needed = prompts_for(difference, 0.9, seeds, tests)
    assert needed is not None
    most, least = told(0.9, needed, seeds, tests), told(0.9, needed - 1, seeds, tests)
    assert most is not None
    assert most <= difference
    assert least is None or least > difference


def test_a_row_that_never_differs_takes_no_prompts_and_a_tiny_difference_too_many() -> None:
    assert prompts_for(0.1, 0.0) == 2
    assert prompts_for(1e-9, 0.9) is None


def test_prompts_needed_near_parity() -> None:
    """The table of docs/statistics.md."""
    rows = [[prompts_for(points / 100, sqrt(0.86), seeds) for points in (5, 10, 20)] for seeds in (1, 3)]
    assert rows == [[2702, 677, 171], [902, 227, 59]]
    with_holm = [[prompts_for(points / 100, sqrt(0.86), seeds, 20) for points in (5, 10, 20)] for seeds in (1, 3)]
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
    heads = ["1", "3", "1, first of 20 tests by Holm", "3, first of 20 tests by Holm"]
    for head, numbers in zip(heads, rows + with_holm, strict=True):
        assert f"| {' | '.join([head, *(f'{number:,}' for number in numbers)])} |" in page
    # by the normal distribution, without what t adds to few prompts
    by_z = [
        [(stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 0.86 / s / (d / 100) ** 2 for d in (5, 10, 20)]
        for s in (1, 3)
    ]
    assert [[round(value) for value in row] for row in by_z] == [[2700, 675, 169], [900, 225, 56]]


@pytest.mark.parametrize(("seeds", "luck", "points"), [(1, 2, 7.9), (1, 5, 19.8), (3, 2, 4.6), (3, 5, 11.4)])
def test_the_floor_is_what_no_prompts_take_away(seeds: int, luck: float, points: float) -> None:
    assert floor(seeds, luck) == pytest.approx(points, abs=0.05)
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
    floors = " | ".join(f"{floor(some, luck):.1f}" for some in (1, 2, 3, 5, 10))
    assert f"| {luck} points | {floors} |" in page
    means = np.random.default_rng(seeds).normal(0, luck, (40_000, 2, seeds)).mean(axis=2)
    found = floor(seeds, luck) + means[:, 0] - means[:, 1]
    assert (np.abs(found) > 1.96 * luck * sqrt(2 / seeds)).mean() == pytest.approx(0.80, abs=0.01)


@pytest.mark.parametrize("luck", [0.0, 0.02, 0.05])
def test_the_seeds_needed_are_the_fewest(luck: float) -> None:
    def error(seeds: int) -> float:
        return sqrt(0.9**2 / 200 / seeds + 2 * luck**2 / seeds)

    needed = seeds_for(0.1, 0.9, 200, luck)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert z * error(needed) <= 0.1
    assert needed == 1 or z * error(needed - 1) > 0.1


def test_more_responses_a_prompt_shrink_what_is_within_a_prompt() -> None:
    """Two rows: a prompt's own difference, and two responses' luck."""
    rng = np.random.default_rng(3)
    of_prompts, luck = rng.normal(0, 0.5, 100_000), rng.normal(0, 0.6, (2, 100_000, 4))
    one, four = of_prompts + luck[0, :, 0] - luck[1, :, 0], of_prompts + luck[0].mean(axis=1) - luck[1].mean(axis=1)
    spread = Spread(0.25 + 2 * 0.36, 2 * 0.36)
    assert spread.at(1) == pytest.approx(one.std(), rel=0.01)
    assert spread.at(4) == pytest.approx(four.std(), rel=0.01)
    assert Spread(0.81).at(4) == 0.9  # what is within a prompt is not known


def test_what_several_seeds_tell_has_their_luck_in_it() -> None:
    """Without luck it is what more prompts would tell; with luck alone it is Student's t of that alone."""
    assert told_of_methods(0.9, 400, 3, 0.0, rows=4) == pytest.approx(told(0.9, 400, seeds=3))
    luck_alone = told_of_methods(0.0, 400, 3, 0.02, rows=4)
    assert luck_alone == pytest.approx(detectable(sqrt(2 / 3) * 0.02, (4 - 1) * (3 - 1)))
    assert luck_alone > floor(3, 0.02)  # the floor is by the normal distribution
    both = told_of_methods(0.9, 400, 3, 0.02, rows=4)
    assert both is not None and both > max(luck_alone, told(0.9, 400, seeds=3) or 0)
    assert told_of_methods(0.9, 400, 3, 0.02, rows=4, tests=6) > both  # type: ignore[operator]
    assert told_of_methods(0.9, 400, 1, 0.02, rows=4) is told_of_methods(0.9, 400, 3, 0.02, rows=1) is None
    assert told_of_methods(0.9, 1, 3, 0.02, rows=4) is None
