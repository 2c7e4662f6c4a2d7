"""Rates corrected with people's labels, against formulas written out in float64, and how often intervals hold."""

from __future__ import annotations

from math import sqrt
from statistics import mean, variance

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.labels import JUDGES, simulated
from harness.statistics.labelled import DIFFERENCE, ENOUGH, RATE, Corrected, Units, corrected, estimate, slope
from harness.statistics.rates import wilson


def units(
    judged: list[float], labelled: dict[int, float], prompts: list[int] | None = None, strata: list[int] | None = None
) -> Units:
    n = len(judged)
    return Units(
        np.array(judged),
        np.array([labelled.get(place, np.nan) for place in range(n)]),
        np.array(prompts or range(n)),
        np.array(strata or [0] * n),
    )


def drawn(n: int, labels: int, seed: int = 0, wrong: float = 0.3) -> tuple[list[float], dict[int, float]]:
    """A judge that says anything of a share of the outcomes, and people's labels of some."""
    rng = np.random.default_rng(seed)
    true = rng.choice([1.0, 0.0, -1.0], n, p=[0.3, 0.3, 0.4])
    judged = np.where(rng.random(n) < wrong, rng.choice([1.0, 0.0, -1.0], n), true)
    return judged.tolist(), {int(place): float(true[place]) for place in rng.permutation(n)[:labels]}


# ---- one stratum of one outcome a prompt


def test_slope_is_that_of_least_squares() -> None:
    judged, labels = drawn(200, 60)
    f, y = [judged[place] for place in labels], list(labels.values())
    assert slope(units(judged, labels)) == pytest.approx(stats.linregress(f, y).slope)


def test_mean_is_that_of_prediction_powered_inference() -> None:
    """With n labelled and N − n others, mean(λ' f of the others) − mean(λ' f − y of the labelled), λ' = λ (1 − n/N)."""
    judged, labels = drawn(200, 60)
    found = units(judged, labels)
    tuned = slope(found) * (1 - 60 / 200)
    others = [value for place, value in enumerate(judged) if place not in labels]
    rectifier = mean(tuned * judged[place] - label for place, label in labels.items())
    assert estimate(found).value == pytest.approx(tuned * mean(others) - rectifier)


def test_variance_is_that_of_a_regression_on_a_subsample() -> None:
    judged, labels = drawn(200, 60)
    found = units(judged, labels)
    weight = slope(found)
    left = [label - weight * judged[place] for place, label in labels.items()]
    off = [value - mean(left) for value in left]
    expected = sum(value**2 for value in off) / 58 / 60 + weight**2 * variance(judged) / 200
    assert estimate(found).variance == pytest.approx(expected)
    assert estimate(found).degrees == 58


def test_labels_alone_are_a_mean() -> None:
    judged, labels = drawn(200, 60)
    found = estimate(units(judged, labels), 0.0)
    said = list(labels.values())
    assert (found.value, found.variance, found.degrees) == pytest.approx((mean(said), variance(said) / 60, 59))


def test_a_judge_that_says_what_people_say_leaves_the_spread_of_prompts_alone() -> None:
    judged, labels = drawn(400, 50, wrong=0.0)
    found = estimate(units(judged, labels))
    assert found.value == pytest.approx(mean(judged))
    assert found.variance == pytest.approx(variance(judged) / 400)


@pytest.mark.parametrize("judged", [[1.0] * 80, [float(-(place % 3 - 1)) for place in range(80)]])
def test_a_judge_that_says_one_thing_or_the_contrary_is_not_used(judged: list[float]) -> None:
    labels = {place: float(place % 3 - 1) for place in range(0, 80, 2)}
    found = units(judged, labels)
    assert slope(found) == 0
    assert estimate(found) == estimate(found, 0.0)


def test_where_all_are_labelled_the_judge_says_no_more() -> None:
    judged, labels = drawn(50, 50)
    assert estimate(units(judged, labels)) == estimate(units(judged, labels), 0.0)


# ---- strata and clusters


def test_strata_and_clusters_by_hand() -> None:
    rng = np.random.default_rng(3)
    prompts = [place // 3 for place in range(120)]  # of three seeds, and two prompt sets of different shares
    strata = [place % 3 + 3 * (place >= 60) for place in range(120)]
    judged = rng.choice([1.0, 0.0, -1.0], 120).tolist()
    asked = [place for place in range(120) if (place // 3) % (2 if place < 60 else 4) == 0]
    labels = {place: float(rng.choice([1.0, 0.0, -1.0])) for place in asked}
    found = units(judged, labels, prompts, strata)
    weight = slope(found)
    of = {s: [place for place in range(120) if strata[place] == s] for s in range(6)}
    left = {place: labels[place] - weight * judged[place] for place in asked}
    mean_of = {s: mean(left[place] for place in places if place in left) for s, places in of.items()}
    rest = sum(len(places) / 120 * mean_of[s] for s, places in of.items())
    assert estimate(found).value == pytest.approx(weight * mean(judged) + rest)
    n, degrees, total = 15, 13 if weight else 14, 0.0
    for prompt in range(40):
        psi = 0.0
        for place in range(3 * prompt, 3 * prompt + 3):
            s = strata[place]
            psi += (weight * (judged[place] - mean(judged)) + mean_of[s] - rest) * sqrt(40 / 39)
            if place in left:
                share = len(of[s]) / sum(one in left for one in of[s])
                psi += share * (left[place] - mean_of[s]) * sqrt(n / degrees)
        total += (psi / 120) ** 2
    assert estimate(found).variance == pytest.approx(total)


def test_a_stratum_counts_by_its_outcomes_and_not_by_its_labels() -> None:
    """100 outcomes of which people like all, 50 labelled; and 10 of which they like none, all labelled."""
    labels = dict.fromkeys(range(50), 1.0) | dict.fromkeys(range(100, 110), -1.0)
    found = units([0.0] * 110, labels, strata=[0] * 100 + [1] * 10)
    assert estimate(found).value == pytest.approx((100 - 10) / 110)


def test_outcomes_of_one_prompt_are_not_so_many_prompts() -> None:
    judged, labels = drawn(100, 40)
    four = units(
        [value for value in judged for _ in range(4)],
        {4 * place + more: label for place, label in labels.items() for more in range(4)},
        [place for place in range(100) for _ in range(4)],
    )
    one = units(judged, labels)
    assert estimate(four).variance == pytest.approx(estimate(one).variance)
    assert estimate(four).interval(RATE) == pytest.approx(estimate(one).interval(RATE))


# ---- intervals


def test_interval_of_a_rate_is_wilsons_with_t() -> None:
    judged, labels = drawn(200, 60)
    found = estimate(units(judged, labels))
    n, r = 60 * variance(labels.values()) / 60 / found.variance, found.value
    assert n == pytest.approx(found.worth)
    assert 60 < n < 200
    values = n * r / (n + 3), (n * (n * found.variance + r * r) + 2) / (n + 3)
    worth = n * (1 - values[0] ** 2) / (values[1] - values[0] ** 2)
    t = stats.t.ppf(0.975, 58)
    p = (1 + r) / 2
    ends = [
        2
        * (p + t * t / (2 * worth) + sign * t * sqrt(p * (1 - p) / worth + t * t / (4 * worth**2)))
        / (1 + t * t / worth)
        - 1
        for sign in (-1, 1)
    ]
    assert found.interval(RATE) == pytest.approx(ends)


def test_interval_of_few_that_are_all_alike_has_a_width() -> None:
    found = estimate(units([0.0] * 100, dict.fromkeys(range(40), -1.0)), 0.0)
    low, high = found.interval(RATE)
    assert low == -1
    # about as far as Wilson's of 40 losses of 40: what is not lost may be a tie, half as far away
    assert high == pytest.approx(2 * wilson(0, 40)[1] - 1, abs=0.03)


def test_what_seeds_move_is_added_to_what_prompts_that_are_alike_leave_open() -> None:
    found = estimate(units([0.0] * 100, dict.fromkeys(range(40), 0.0)), 0.0, DIFFERENCE)
    assert found.variance == pytest.approx(4 / (40 * 41))
    assert found.with_parts([(1e-4, 8.0)]).variance == pytest.approx(4 / (40 * 41) + 1e-4)


def test_interval_of_a_difference_is_ts() -> None:
    judged, labels = drawn(200, 60)
    found = estimate(units(judged, labels), None, DIFFERENCE)
    half = stats.t.ppf(0.975, 58) * sqrt(found.variance)
    assert found.interval(DIFFERENCE) == pytest.approx((found.value - half, found.value + half))


def test_seeds_add_to_the_variance_with_their_degrees() -> None:
    judged, labels = drawn(200, 60)
    plain = estimate(units(judged, labels), None, DIFFERENCE)
    found = plain.with_parts([(0.01, 4)])
    assert found.variance == pytest.approx(plain.variance + 0.01)
    assert found.degrees == pytest.approx(found.variance**2 / (plain.variance**2 / 58 + 0.01**2 / 4))
    assert plain.with_parts([(0.0, 4)]) == plain


# ---- what is told


def told(judged: list[float], labels: dict[int, float], strata: list[int] | None = None) -> Corrected:
    return corrected(units(judged, labels, strata=strata), (mean(judged), (-1.0, 1.0)))


def test_below_thirty_labelled_prompts_nothing_is_corrected() -> None:
    judged, labels = drawn(200, ENOUGH - 1)
    found = told(judged, labels)
    assert (found.corrected, found.corrected_interval, found.slope) == (None, None, None)
    assert found.reason == "labels of 29 prompts, and 30 are needed"
    assert found.by_people == pytest.approx(mean(labels.values()))
    assert told(*drawn(200, ENOUGH)).reason == ""


def test_a_set_with_one_label_is_not_extrapolated_from() -> None:
    judged, labels = drawn(200, 60)
    strata = [0] * 190 + [1] * 10
    labels = {place: label for place, label in labels.items() if place < 190} | {195: 1.0}
    found = told(judged, labels, strata)
    assert (found.by_people, found.corrected) == (None, None)
    assert found.reason == "fewer than 2 labels on a prompt set"


def test_a_judge_that_is_off_is_said_to_be() -> None:
    judged, labels = drawn(300, 60)
    assert not told(judged, labels).judge_is_off
    assert told([1.0] * 250 + judged[250:], labels).judge_is_off


# ---- how often they hold


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGES)
def test_corrected_intervals_hold_whatever_the_judge_is_worth(name: str) -> None:
    found = simulated(JUDGES[name], true=(0.15, 0.30, 0.55), prompts=400, labels=50, times=600, seed=1)
    least, most = stats.binom.ppf((0.001, 0.999), 600, (0.935, 0.96)) / 600
    assert least <= found.covers_people <= most
    assert least <= found.covers_corrected <= most
    assert found.width < 1.05
    if name == "as people":
        assert found.width < 0.5
    else:
        assert found.covers_judge < 0.5


@pytest.mark.slow
def test_corrected_differences_hold_where_the_judge_favours_one_row() -> None:
    found = simulated(
        JUDGES["likes length"], (0.3, 0.3, 0.4), prompts=400, labels=50, times=600, seed=2, second=(0.25, 0.3, 0.45)
    )
    least, most = stats.binom.ppf((0.001, 0.999), 600, (0.935, 0.96)) / 600
    assert least <= found.covers_corrected <= most
    assert found.covers_judge < 0.2
