"""Outcomes, rates and intervals against hand-worked cases, a naive bootstrap, and their coverage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from harness.records import Order, Status, Verdict
from harness.statistics.rates import Rates, outcomes, rates, resampled_counts, wilson

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


def outcome(*verdicts: Verdict) -> str:
    (found,) = outcomes(verdicts).values()
    return found


# ---- one prompt


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1.0, 1.0, "win"),
        (0.51, 0.99, "win"),
        (0.0, 0.0, "loss"),
        (0.49, 0.01, "loss"),
        (1.0, 0.0, "tie"),
        (0.0, 1.0, "tie"),
        (0.9, 0.4, "tie"),  # preferred on average, but not in both orders
        (0.5, 0.5, "tie"),
        (1.0, 0.5, "tie"),
        (0.5, 0.0, "tie"),
    ],
)
def test_a_win_or_a_loss_needs_both_orders_and_all_else_is_a_tie(first: float, second: float, expected: str) -> None:
    assert outcome(*pair("a", first, second)) == expected


@pytest.mark.parametrize(("preference", "expected"), [(0.6, "win"), (0.5, "tie"), (0.4, "loss")])
def test_a_judge_without_orders_needs_one_verdict(preference: float, expected: str) -> None:
    assert outcome(verdict("a", "none", preference)) == expected


@pytest.mark.parametrize("order", BOTH)
def test_half_a_pair_is_missing(order: Order) -> None:
    assert outcome(verdict("a", order, WIN)) == "missing"


@pytest.mark.parametrize("status", ["unparsable", "failed", "skipped"])
def test_a_pair_with_a_verdict_that_could_not_be_had_is_missing(status: Status) -> None:
    assert outcome(verdict("a", "candidate_first", WIN), verdict("a", "reference_first", None, status)) == "missing"


def test_a_preference_cannot_come_with_a_failure() -> None:
    with pytest.raises(ValidationError, match="if, and only if, its status is ok"):
        verdict("a", "none", WIN, "failed")


@pytest.mark.parametrize(
    "orders",
    [
        ("none", "none"),
        ("candidate_first", "candidate_first"),
        ("candidate_first", "candidate_first", "reference_first"),
        ("candidate_first", "reference_first", "none"),
        ("candidate_first", "none"),
    ],
)
def test_orders_that_are_repeated_or_mixed_are_missing(orders: Sequence[Order]) -> None:
    assert outcome(*(verdict("a", order, WIN) for order in orders)) == "missing"


def test_verdicts_are_joined_on_the_prompts_id_wherever_they_stand() -> None:
    a, b = pair("a", WIN, WIN), pair("b", LOSS, LOSS)
    assert outcomes([a[0], b[1], b[0], a[1]]) == {"a": "win", "b": "loss"}


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


def test_missing_prompts_move_neither_rates_nor_intervals() -> None:
    whole = rates(counted(3, 2, 5))
    holed = rates([*counted(3, 2, 5), verdict("hole", "none", None, "failed")])
    assert holed.missing == 1
    assert (holed.preference_interval, holed.win_interval) == (whole.preference_interval, whole.win_interval)


# ---- intervals


def intervals(found: Rates) -> Iterable[tuple[float, tuple[float, float]]]:
    assert found.preference_rate is not None and found.preference_interval is not None
    assert found.win_rate is not None and found.win_interval is not None
    return [(found.preference_rate, found.preference_interval), (found.win_rate, found.win_interval)]


def splits(n: int) -> list[tuple[int, int, int]]:
    return [(wins, ties, n - wins - ties) for wins in range(n + 1) for ties in range(n + 1 - wins)]


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10])
def test_every_interval_has_width_contains_its_rate_and_stays_in_range(n: int) -> None:
    for counts in splits(n):
        for (rate, (low, high)), least in zip(intervals(rates(counted(*counts))), (-1, 0), strict=True):
            assert least <= low <= rate <= high <= 1, counts
            assert high - low > 0.05, counts


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
    assert one == two


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
    draws = np.random.default_rng(2).multinomial(100, [win, tie, loss], size=400)
    covered = [
        [low <= truth <= high for truth, (_, (low, high)) in zip((win - loss, win), intervals(found), strict=True)]
        for found in (rates(counted(*counts), seed) for seed, counts in enumerate(draws.tolist()))
    ]
    for coverage in np.mean(covered, axis=0):
        assert 0.90 <= coverage <= 0.99


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
