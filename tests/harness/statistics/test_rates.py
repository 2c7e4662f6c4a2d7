"""Rates and intervals against hand-worked cases, a naive bootstrap, and their coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from harness.core.records import Order, Status, Verdict
from harness.statistics.outcomes import Outcomes, from_records, outcomes
from harness.statistics.rates import (
    MAX_MISSING,
    Rates,
    comparison_rates,
    drawn_sums,
    rates,
    rates_of,
    resampled_counts,
    resampled_sums,
    wilson,
)

WIN, TIE, LOSS = 1.0, 0.5, 0.0
BOTH: tuple[Order, ...] = ("candidate_first", "reference_first")


def verdict(prompt_id: str, order: Order, preference: float | None, status: Status = "ok") -> Verdict:
    return Verdict(
        prompt_set="set",
        prompt_id=prompt_id,
        candidate="student",
        reference="teacher",
        order=order,
        status=status,
        preference=preference,
        judge="judge",
        candidate_tokens=3,
        reference_tokens=4,
    )


def pair(prompt_id: str, first: float, second: float) -> list[Verdict]:
    """Verdicts of one prompt: the preference with the candidate shown first, and with it shown second."""
    return [verdict(prompt_id, order, value) for order, value in zip(BOTH, (first, second), strict=True)]


def counted(wins: int, ties: int, losses: int, orders: Sequence[Order] = ("none",)) -> list[Verdict]:
    preferences = [WIN] * wins + [TIE] * ties + [LOSS] * losses
    return [verdict(str(i), order, value) for i, value in enumerate(preferences) for order in orders]


# ---- counts and rates


def test_counts_and_rates_of_a_hand_worked_case() -> None:
    verdicts = [
        *pair("win", 0.9, 0.8),
        *pair("another win", 1.0, 1.0),
        *pair("disagreement", 1.0, 0.0),
        *pair("both say tie", 0.5, 0.5),
        *pair("loss", 0.1, 0.2),
        verdict("half", "candidate_first", WIN),
        verdict("failed once", "candidate_first", WIN),
        verdict("failed once", "reference_first", None, "failed"),
        verdict("failed twice", "candidate_first", None, "unparsable"),
        verdict("failed twice", "reference_first", None, "skipped"),
    ]
    found = rates(verdicts)
    assert (found.n, found.wins, found.ties, found.losses, found.missing) == (5, 2, 2, 1, 3)
    assert found.failed_verdicts == 3
    assert found.preference_rate == pytest.approx(1 / 5)
    assert found.win_rate == pytest.approx(2 / 5)
    assert found.half_tie_rate == pytest.approx((2 + 2 / 2) / 5)
    # .85, 1, .5, .5 and .15: the mean of each prompt's two preferences
    assert found.mean_preference == pytest.approx(3.0 / 5)
    assert (found.prompts, found.missing_share, found.orders) == (5, 3 / 8, "both")


@pytest.mark.parametrize(
    ("counts", "preference_rate", "win_rate"),
    [((14, 0, 86), -0.72, 0.14), ((30, 40, 30), 0.0, 0.3), ((0, 10, 0), 0.0, 0.0), ((3, 0, 0), 1.0, 1.0)],
)
def test_ties_count_as_0_and_are_not_wins(
    counts: tuple[int, int, int], preference_rate: float, win_rate: float
) -> None:
    found = rates(counted(*counts))
    assert found.preference_rate == pytest.approx(preference_rate)
    assert found.win_rate == pytest.approx(win_rate)


@pytest.mark.parametrize("verdicts", [[], [verdict("a", "none", None, "failed")]])
def test_nothing_to_count_gives_no_rate_and_no_interval(verdicts: list[Verdict]) -> None:
    found = rates(verdicts)
    assert (found.n, found.missing, found.failed_verdicts) == (0, len(verdicts), len(verdicts))
    assert found.preference_rate is found.preference_interval is found.win_rate is found.win_interval is None
    assert found.half_tie_interval is found.mean_preference is found.mean_preference_interval is None
    assert found.missing_share == (1.0 if verdicts else 0.0)


def test_missing_prompts_move_neither_rates_nor_intervals() -> None:
    whole = rates(counted(3, 2, 5))
    holed = rates([*counted(3, 2, 5), verdict("hole", "none", None, "failed")])
    assert holed.missing == 1
    assert (holed.preference_interval, holed.win_interval) == (whole.preference_interval, whole.win_interval)


# ---- intervals


def intervals(found: Rates) -> Iterable[tuple[float, tuple[float, float]]]:
    assert found.preference_rate is not None and found.preference_interval is not None
    assert found.win_rate is not None and found.win_interval is not None
    assert found.half_tie_rate is not None and found.half_tie_interval is not None
    assert found.mean_preference is not None and found.mean_preference_interval is not None
    return [
        (found.preference_rate, found.preference_interval),
        (found.win_rate, found.win_interval),
        (found.half_tie_rate, found.half_tie_interval),
        (found.mean_preference, found.mean_preference_interval),
    ]


def splits(n: int) -> list[tuple[int, int, int]]:
    return [(wins, ties, n - wins - ties) for wins in range(n + 1) for ties in range(n + 1 - wins)]


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10])
def test_every_interval_has_width_contains_its_rate_and_stays_in_range(n: int) -> None:
    for counts in splits(n):
        for (rate, (low, high)), least in zip(intervals(rates(counted(*counts))), (-1, 0, 0, 0), strict=True):
            assert least <= low <= rate <= high <= 1, counts
            assert high - low > 0.05 / (1 - least if least else 2), counts


@pytest.mark.parametrize("n", [1, 10, 32, 100])
def test_all_wins_and_all_losses_are_mirror_images_that_admit_some_of_the_other(n: int) -> None:
    won, lost = rates(counted(n, 0, 0)), rates(counted(0, 0, n))
    assert won.preference_interval is not None and lost.preference_interval is not None
    assert won.preference_interval == pytest.approx((-lost.preference_interval[1], -lost.preference_interval[0]))
    assert won.preference_interval[1] == 1
    # the share of outcomes that were not wins is at most Wilson's, and at worst all of them were losses
    assert won.preference_interval[0] == pytest.approx(max(-1, 1 - 2 * wilson(0, n)[1]))
    assert lost.win_interval == pytest.approx(wilson(0, n))
    assert won.win_interval == pytest.approx(wilson(n, n))


def test_all_ties_may_lean_either_way() -> None:
    found = rates(counted(0, 20, 0)).preference_interval
    assert found == pytest.approx((-wilson(0, 20)[1], wilson(0, 20)[1]))


def test_both_orders_of_a_prompt_are_one_draw_not_two() -> None:
    one, two = rates(counted(10, 5, 15)), rates(counted(10, 5, 15, BOTH))
    assert (one.orders, two.orders) == ("none", "both")
    assert one.model_copy(update={"orders": "both"}) == two


def with_runs(verdicts: list[Verdict], runs: int) -> Outcomes:
    """The same verdicts in each of several runs."""
    one = from_records(verdicts)
    several = one.select(np.tile(np.arange(len(one)), runs))
    names = replace(one.names, run=tuple(str(run) for run in range(runs)))
    return outcomes(replace(several, names=names, run=np.repeat(np.arange(runs), len(one))))


@pytest.mark.parametrize("counts", [(10, 5, 15), (30, 0, 0), (0, 30, 0), (0, 10, 20), (1, 0, 59)])
def test_copies_of_a_prompt_do_not_narrow_an_interval(counts: tuple[int, int, int]) -> None:
    """Three runs that say the same: thrice the outcomes, no more prompts."""
    one, three = rates(counted(*counts)), rates_of([with_runs(counted(*counts), 3)])[0]
    n = sum(counts)
    assert (three.n, three.prompts, one.prompts) == (3 * n, n, n)
    for (rate, ends), (same, wide) in zip(intervals(one), intervals(three), strict=True):
        assert same == pytest.approx(rate)
        # two draws of the same distribution, in steps of one prompt
        assert wide == pytest.approx(ends, abs=1.01 / n if 0 < abs(rate) < 1 else 1e-9)


def test_runs_of_one_prompt_are_drawn_together_as_resampling_prompts_one_by_one_would() -> None:
    rng = np.random.default_rng(5)
    said = rng.choice([0.0, 0.5, 1.0], size=(40, 3), p=[0.5, 0.2, 0.3])
    said[:20] = said[:20, :1]  # half of the prompts are alike in all runs
    verdicts = [verdict(str(i), "none", value) for run in said.T for i, value in enumerate(run)]
    columns = from_records(verdicts)
    names = replace(columns.names, run=("0", "1", "2"))
    found = rates_of([outcomes(replace(columns, names=names, run=np.repeat(np.arange(3), 40)))])[0]
    drawn = said[rng.integers(0, 40, size=(20_000, 40))]
    assert found.n == 120
    for ends, values in (
        (found.win_interval, drawn == 1),
        (found.preference_interval, 2 * drawn - 1),
        (found.mean_preference_interval, drawn),
    ):
        assert ends == pytest.approx(np.quantile(values.mean(axis=(1, 2)), [0.025, 0.975]), abs=0.02)


def test_where_every_prompt_has_the_same_rate_the_interval_still_has_width() -> None:
    """Two judges that contradict each other on each of 30 prompts: a margin of 0 throughout."""
    verdicts = [
        verdict(str(i), "none", value).model_copy(update={"judge": judge})
        for judge, value in (("a", WIN), ("b", LOSS))
        for i in range(30)
    ]
    found = rates_of([outcomes(from_records(verdicts))])[0]
    assert (found.n, found.prompts, found.preference_rate, found.win_rate) == (60, 30, 0, 0.5)
    rest = wilson(0, 30)[1]
    assert found.preference_interval == pytest.approx((-rest, rest))
    assert found.win_interval == pytest.approx((0.5 - rest / 2, 0.5 + rest / 2))


def test_intervals_narrow_with_the_square_root_of_the_prompts() -> None:
    few, many = rates(counted(20, 20, 60)), rates(counted(320, 320, 960))
    for (_, (low, high)), (_, (lower, higher)) in zip(intervals(few), intervals(many), strict=True):
        assert (high - low) / (higher - lower) == pytest.approx(4, rel=0.1)


def test_intervals_are_reproducible_and_seeded() -> None:
    verdicts = counted(300, 133, 567)
    assert rates(verdicts, seed=7) == rates(verdicts, seed=7)
    assert np.array_equal(resampled_counts(3, 2, 5, seed=7), resampled_counts(3, 2, 5, seed=7))
    assert not np.array_equal(resampled_counts(3, 2, 5, seed=7), resampled_counts(3, 2, 5, seed=8))


def test_intervals_do_not_depend_on_the_order_of_verdicts_or_the_global_random_state() -> None:
    verdicts = counted(10, 5, 15, BOTH)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    assert rates(verdicts[::-1]) == rates(verdicts)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]


@pytest.mark.parametrize("counts", [(14, 10, 76), (25, 10, 15), (3, 2, 5)])
def test_the_multinomial_bootstrap_is_a_resampling_of_prompts(counts: tuple[int, int, int]) -> None:
    n = sum(counts)
    values = np.repeat([1, 0, -1], counts)
    drawn = np.random.default_rng(1).choice(values, size=(20_000, n))
    found = rates(counted(*counts))
    step = 1 / n  # rates move in steps of one prompt, so quantiles may differ by one
    assert found.preference_interval == pytest.approx(np.quantile(drawn.mean(1), [0.025, 0.975]), abs=1.01 * step)
    assert found.win_interval == pytest.approx(np.quantile((drawn == 1).mean(1), [0.025, 0.975]), abs=1.01 * step)
    resampled = resampled_counts(*counts, seed=0)
    assert (resampled.sum(1) == n).all()
    np.testing.assert_allclose(resampled.mean(0), counts, atol=0.02 * n)


@pytest.mark.parametrize(("win", "tie"), [(0.14, 0.2), (0.14, 0.0), (0.5, 0.1)])
def test_95_percent_intervals_cover_about_95_percent(win: float, tie: float) -> None:
    loss = 1 - win - tie
    truths = (win - loss, win, win + tie / 2, win + tie / 2)
    draws = np.random.default_rng(2).multinomial(100, [win, tie, loss], size=400)
    covered = [
        [low <= truth <= high for truth, (_, (low, high)) in zip(truths, intervals(found), strict=True)]
        for found in (rates(counted(*counts), seed) for seed, counts in enumerate(draws.tolist()))
    ]
    for coverage in np.mean(covered, axis=0):
        assert 0.90 <= coverage <= 0.99


# ---- graded preferences, and many comparisons at once


def graded(n: int, name: str, seed: int, start: int = 0) -> list[Verdict]:
    values = np.random.default_rng(seed).uniform(size=n)
    rows = [verdict(str(start + i), "none", value) for i, value in enumerate(values)]
    return [row.model_copy(update={"candidate": name}) for row in rows]


def test_the_mean_of_graded_preferences_is_resampled_by_prompt() -> None:
    found = rates(graded(50, "a", 0))
    values = np.random.default_rng(0).uniform(size=50)
    drawn = np.random.default_rng(1).choice(values, size=(20_000, 50)).mean(axis=1)
    assert found.mean_preference == pytest.approx(values.mean())
    assert found.mean_preference_interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.005)


@pytest.mark.parametrize("kinds", [[0.0, 1.0, 3.0], np.linspace(0, 1, 36).tolist()])
def test_every_bootstrap_of_few_rows_is_written_out(kinds: list[float]) -> None:
    """Three prompts have 27 resamples; of 36 of different kinds, mean and variance of a resampled sum are known."""
    values = np.array(kinds)[:, None]
    n = len(values)
    drawn = resampled_sums(values, seed=0)[:, 0]
    assert drawn.mean() == pytest.approx(values.sum(), abs=4 * np.sqrt(n * values.var() / 10_000))
    assert drawn.var() == pytest.approx(n * values.var(), rel=0.06)
    if n == 3:
        every = np.array([sum(picked) for picked in itertools.product(kinds, repeat=3)])
        for value in np.unique(every):
            share = np.mean(every == value)
            assert np.mean(drawn == value) == pytest.approx(share, abs=4 * np.sqrt(share / 10_000))


def test_few_kinds_and_one_by_one_draw_from_the_same_distribution() -> None:
    values = np.repeat([[0.0, 1.0], [1.0, 2.0], [0.25, 1.0]], [20, 5, 15], axis=0)
    few, one = resampled_sums(values, seed=1), drawn_sums(values, seed=2)
    for q in (0.025, 0.25, 0.5, 0.975):
        assert np.quantile(few, q, axis=0) == pytest.approx(np.quantile(one, q, axis=0), abs=1.01)
    assert np.cov(few.T) == pytest.approx(np.cov(one.T), rel=0.1)


def test_each_row_of_many_is_what_it_is_alone() -> None:
    rows = [*graded(60, "a", 0), *graded(60, "b", 1), *counted(20, 15, 25)]
    found = comparison_rates(outcomes(from_records(rows)))
    assert [names[1] for names in found] == ["a", "b", "student"]
    for names, known in found.items():
        alone = rates([row for row in rows if row.candidate == names[1]])
        assert known.mean_preference_interval == pytest.approx(alone.mean_preference_interval, abs=1e-12)
        unsaid = {"mean_preference_interval": None}
        assert known.model_copy(update=unsaid) == alone.model_copy(update=unsaid)


def test_a_row_with_few_judged_prompts_among_many_has_its_interval() -> None:
    """3 judged of 60: some resamples hold none of them."""
    holes = [verdict(str(i), "none", None, "failed").model_copy(update={"candidate": "b"}) for i in range(57)]
    found = comparison_rates(outcomes(from_records([*graded(60, "a", 0), *graded(3, "b", 1, 57), *holes])))
    known = found["set", "b", "teacher", "judge"]
    assert (known.n, known.missing, known.missing_share) == (3, 57, 57 / 60)
    assert known.missing_share > MAX_MISSING
    assert known.mean_preference is not None and known.mean_preference_interval is not None
    low, high = known.mean_preference_interval
    assert 0 <= low < known.mean_preference < high <= 1


def test_there_may_be_nothing() -> None:
    assert comparison_rates(outcomes(from_records([]))) == {}


# ---- Wilson


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (14, 100, 0.0853, 0.2214),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_agrees_with_hand_computed_values(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("count", "n"), [(1, 7), (14, 100), (31, 32)])
def test_wilsons_ends_are_where_the_count_is_just_significant(count: int, n: int) -> None:
    for p in wilson(count, n):
        assert abs(count / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(1.95996, abs=1e-4)


@pytest.mark.parametrize("n", [1, 7, 9, 10, 13, 30, 100])
def test_wilson_reaches_0_and_1_exactly(n: int) -> None:
    assert wilson(0, n)[0] == 0.0
    assert wilson(n, n)[1] == 1.0
