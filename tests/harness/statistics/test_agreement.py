"""κ, flips, ties, means and differences against definitions written out, worked examples, and coverage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest

from harness.core.records import Order, Status, Verdict
from harness.statistics.agreement import (
    CATEGORIES,
    Mean,
    agreement,
    agreements,
    difference,
    flips,
    kappas,
    mean,
    share,
    tie_rate,
)
from harness.statistics.outcomes import Outcome, from_records, outcomes
from harness.statistics.rates import wilson

Table = Sequence[Sequence[int]]


def outcomes_of(table: Table) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Two judges' outcomes with these counts, the second in another order."""
    cells = [
        (a, b) for i, a in enumerate(CATEGORIES) for j, b in enumerate(CATEGORIES) for _ in range(int(table[i][j]))
    ]
    first = {f"p{n}": a for n, (a, _) in enumerate(cells)}
    second = {f"p{n}": b for n, (_, b) in reversed(list(enumerate(cells)))}
    return first, second


def kappa_by_definition(table: Table) -> float:
    """Cohen (1960), prompt by prompt, without matrices."""
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(int(table[i][j]))]
    n = len(pairs)
    observed = sum(1 for a, b in pairs if a == b) / n
    chance = 0.0
    for category in range(3):
        chance += sum(1 for a, _ in pairs if a == category) / n * (sum(1 for _, b in pairs if b == category) / n)
    return (observed - chance) / (1 - chance)


# ---- Cohen's κ


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # two readers of 50 grant proposals, yes/no: p_o = 35/50, p_e = .5·.6 + .5·.4 = .5 (the usual textbook case)
        ([[20, 0, 5], [0, 0, 0], [10, 0, 15]], 0.4),
        # same raw agreement of 60/100, different margins: p_e = .54 and .46
        ([[45, 0, 15], [0, 0, 0], [25, 0, 15]], (0.60 - 0.54) / 0.46),
        ([[25, 0, 35], [0, 0, 0], [5, 0, 35]], (0.60 - 0.46) / 0.54),
        # independent margins .5/.3/.2 by .5/.3/.2 in 100 prompts
        ([[25, 15, 10], [15, 9, 6], [10, 6, 4]], 0.0),
        ([[10, 0, 0], [0, 7, 0], [0, 0, 3]], 1.0),
        # complete disagreement with even margins
        ([[0, 0, 10], [0, 0, 0], [10, 0, 0]], -1.0),
    ],
)
def test_kappa_of_worked_examples(table: Table, expected: float) -> None:
    found = agreement(*outcomes_of(table))
    assert found.kappa == pytest.approx(expected, abs=1e-12)
    assert found.kappa == pytest.approx(kappa_by_definition(table), abs=1e-12)
    assert found.table == tuple(tuple(row) for row in table)


def test_kappa_is_that_of_its_definition_on_random_tables() -> None:
    rng = np.random.default_rng(1)
    tables = rng.integers(0, 12, size=(50, 3, 3))
    assert kappas(tables) == pytest.approx([kappa_by_definition(table.tolist()) for table in tables], abs=1e-12)


def test_the_interval_is_that_of_resampling_prompts_one_by_one() -> None:
    table = [[20, 4, 3], [5, 10, 4], [2, 3, 14]]
    pairs = np.array([(i, j) for i in range(3) for j in range(3) for _ in range(table[i][j])])
    rng = np.random.default_rng(3)
    naive = []
    for _ in range(4000):
        drawn = pairs[rng.integers(0, len(pairs), len(pairs))]
        counts = np.zeros((3, 3), dtype=int)
        np.add.at(counts, (drawn[:, 0], drawn[:, 1]), 1)
        naive.append(kappa_by_definition(counts.tolist()))
    found = agreement(*outcomes_of(table))
    assert found.kappa_interval == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])), abs=0.02)
    assert found.undefined_resamples == 0


def test_the_interval_covers() -> None:
    """95% nominal; a percentile bootstrap at n = 80 is a little below. 300 data sets: standard error 1.3 points."""
    truth = np.array([[0.30, 0.06, 0.04], [0.07, 0.18, 0.05], [0.03, 0.05, 0.22]])
    chance = float((truth.sum(axis=0) * truth.sum(axis=1)).sum())
    kappa = (float(np.trace(truth)) - chance) / (1 - chance)
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        table = rng.multinomial(80, truth.ravel()).reshape(3, 3)
        low, high = agreement(*outcomes_of(table.tolist()), seed=seed, resamples=1000).kappa_interval or (9.0, 9.0)
        covered += low <= kappa <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_it_is_the_same_for_a_seed_and_symmetric_in_the_judges() -> None:
    first, second = outcomes_of([[9, 2, 1], [3, 8, 0], [1, 1, 5]])
    assert agreement(first, second, seed=4) == agreement(first, second, seed=4)
    assert agreement(first, second, seed=4).kappa_interval != agreement(first, second, seed=5).kappa_interval
    assert agreement(first, second).kappa == pytest.approx(agreement(second, first).kappa)


def test_prompts_that_either_did_not_judge_are_counted_and_left_out() -> None:
    first: dict[str, Outcome] = {"a": "win", "b": "missing", "c": "loss", "d": "tie", "only first": "win"}
    second: dict[str, Outcome] = {"a": "win", "b": "win", "c": "missing", "d": "win", "only second": "tie"}
    found = agreement(first, second)
    assert (found.n, found.missing) == (2, 4)
    assert found.agreement == share(1, 2)


def test_without_a_common_prompt_there_is_no_number() -> None:
    found = agreement({"a": "win"}, {"b": "win"})
    assert (found.n, found.missing, found.kappa, found.kappa_interval) == (0, 2, None, None)
    assert found.agreement.share is None
    assert "no prompt" in found.note


def test_kappa_is_undefined_where_both_say_one_thing_only() -> None:
    found = agreement(*outcomes_of([[0, 0, 0], [0, 12, 0], [0, 0, 0]]))
    assert (found.kappa, found.kappa_interval, found.agreement.share) == (None, None, 1.0)
    assert "undefined" in found.note


def test_a_constant_judge_has_a_kappa_of_zero_that_says_nothing() -> None:
    found = agreement(*outcomes_of([[0, 0, 0], [5, 9, 6], [0, 0, 0]]))
    assert found.kappa == pytest.approx(0)
    assert found.kappa_interval is None
    assert "single outcome" in found.note


def test_full_agreement_is_not_certain() -> None:
    """30 of 30: the lower end is κ at Wilson's lower end of the agreement, 30/(30 + z²)."""
    found = agreement(*outcomes_of([[10, 0, 0], [0, 10, 0], [0, 0, 10]]))
    lowest = 30 / (30 + 1.959963984540054**2)
    assert found.kappa_interval == pytest.approx(((lowest - 1 / 3) / (2 / 3), 1.0))


def test_full_disagreement_is_not_certain_either() -> None:
    found = agreement(*outcomes_of([[0, 0, 10], [0, 0, 0], [10, 0, 0]]))
    assert found.kappa == -1
    low, high = found.kappa_interval or (math.nan, math.nan)
    assert low == pytest.approx(-1)
    assert high >= (wilson(0, 20)[1] - 0.5) / 0.5 - 1e-12


def test_resamples_without_a_kappa_are_counted() -> None:
    found = agreement(*outcomes_of([[9, 0, 0], [0, 1, 0], [0, 0, 0]]))
    # no tie among ten draws: 0.9^10 = 35%; ten ties never
    assert found.undefined_resamples / 10_000 == pytest.approx(0.9**10, abs=0.02)


# ---- flips and ties


def verdict(prompt_id: str, order: Order, preference: float | None, status: Status = "ok") -> Verdict:
    return Verdict(
        prompt_set="set",
        prompt_id=prompt_id,
        candidate="a",
        reference="b",
        order=order,
        status=status,
        preference=preference,
        judge="judge",
    )


def pair(prompt_id: str, first: float | None, second: float | None) -> list[Verdict]:
    orders: tuple[Order, ...] = ("candidate_first", "reference_first")
    return [
        verdict(prompt_id, order, value, "ok" if value is not None else "failed")
        for order, value in zip(orders, (first, second), strict=True)
    ]


def test_flips_are_preferences_on_different_sides_of_one_half() -> None:
    verdicts = [
        *pair("same", 0.9, 0.6),
        *pair("same loss", 0.1, 0.4),
        *pair("flip", 0.9, 0.1),
        *pair("flip by a hair", 0.49, 0.51),
        *pair("one half is no side", 0.5, 0.9),
        *pair("both one half", 0.5, 0.5),
        *pair("half failed", 0.9, None),
    ]
    assert flips(verdicts) == share(2, 6)
    # ties: both flips, the two with one half; the failed one has no outcome
    assert tie_rate(verdicts) == share(4, 6)


def test_samples_of_a_prompt_flip_and_tie_each_for_itself() -> None:
    first = [*pair("a", 0.9, 0.1), *pair("b", 0.9, 0.9)]
    second = [row.model_copy(update={"sample": 1}) for row in [*pair("a", 0.9, 0.9), *pair("b", 0.2, 0.8)]]
    assert flips([*first, *second]) == tie_rate([*first, *second]) == share(2, 4)


def test_a_judge_without_orders_has_no_flips() -> None:
    verdicts = [verdict("a", "none", 0.9), verdict("b", "none", 0.5)]
    assert flips(verdicts).share is None
    assert tie_rate(verdicts) == share(1, 2)


def test_a_share_of_nothing_is_none() -> None:
    assert share(0, 0).share is None
    assert share(3, 8).interval == wilson(3, 8)


# ---- means and differences


def test_a_mean_and_its_interval_are_those_of_a_normal_sample() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.1, 200)
    found = mean(values.tolist())
    assert found.interval is not None
    assert found.mean is not None
    assert found.mean == pytest.approx(float(np.mean(values)))
    half = 1.96 * float(np.std(values)) / math.sqrt(200)
    assert found.interval == pytest.approx((found.mean - half, found.mean + half), abs=0.002)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 1, 0), (0.0, 0, 1), (0.5, 0.5, 0.5)])
def test_a_mean_of_equal_values_is_not_certain(value: float, low: float, high: float) -> None:
    rest = 1 - 10 / (10 + 1.959963984540054**2)
    assert mean([value] * 10).interval == pytest.approx((value - rest * low, value + rest * high))


def test_a_mean_of_nothing_is_none() -> None:
    assert mean([]) == Mean(0, None, None)
    assert difference(mean([]), mean([0.5])) == (None, None)


def test_a_difference_of_two_proportions_is_newcombes() -> None:
    """56/70 − 48/80 with Wilson's intervals: Newcombe (1998), table II, method 10: 0.0524 to 0.3339."""
    a, b = share(56, 70), share(48, 80)
    apart, interval = difference(Mean(70, a.share, a.interval), Mean(80, b.share, b.interval))
    assert apart == pytest.approx(0.2)
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


# ---- several candidates on the same prompts


def said(judge: str, candidate: str, by_prompt: dict[str, Outcome], prompt_set: str = "set") -> list[Verdict]:
    value = {"win": 1.0, "tie": 0.5, "loss": 0.0, "missing": None}
    return [
        Verdict(
            prompt_set=prompt_set,
            prompt_id=key,
            candidate=candidate,
            reference="teacher",
            order="none",
            status="failed" if outcome == "missing" else "ok",
            preference=value[outcome],
            judge=judge,
        )
        for key, outcome in by_prompt.items()
    ]


def agreed(rows: Iterable[Verdict], judges: list[str]) -> list[dict[str, Any]]:
    return agreements(outcomes(from_records(rows)), judges)


@pytest.mark.parametrize(
    "table",
    [[[8, 2, 1], [1, 5, 2], [2, 1, 8]], [[10, 0, 0], [0, 10, 0], [0, 0, 10]], [[0, 6, 0], [6, 0, 6], [0, 6, 6]]],
)
def test_more_candidates_that_are_judged_alike_on_a_prompt_do_not_narrow_the_interval(table: Table) -> None:
    first, second = outcomes_of(table)
    rows = [[*said("one", name, first), *said("two", name, second)] for name in ("a", "b", "c", "d")]
    (alone,), (four,) = (agreed(chain(*part), ["one", "two"]) for part in (rows[:1], rows))
    assert four.n == 4 * alone.n and four.kappa == pytest.approx(alone.kappa)
    assert four.kappa_interval == pytest.approx(alone.kappa_interval)
    # as many prompts more would
    apart = [
        *said("one", "a", {f"{key}-{copy}": outcome for key, outcome in first.items() for copy in range(4)}),
        *said("two", "a", {f"{key}-{copy}": outcome for key, outcome in second.items() for copy in range(4)}),
    ]
    (more,) = agreed(apart, ["one", "two"])
    widths = [found.kappa_interval[1] - found.kappa_interval[0] for found in (four, more)]
    assert widths[1] < 0.7 * widths[0]


def test_full_disagreement_on_few_prompts_is_as_uncertain_with_many_candidates() -> None:
    first, second = outcomes_of([[0, 0, 5], [0, 0, 0], [5, 0, 0]])
    rows = [[*said("one", name, first), *said("two", name, second)] for name in ("a", "b", "c", "d")]
    (alone,), (four,) = (agreed(chain(*part), ["one", "two"]) for part in (rows[:1], rows))
    assert four.kappa_interval == pytest.approx(alone.kappa_interval)


def test_the_same_id_in_two_sets_is_two_prompts() -> None:
    first, second = outcomes_of([[4, 1, 1], [1, 4, 0], [1, 0, 4]])
    in_two = [
        row
        for name in ("near", "far")
        for judge, found in (("one", first), ("two", second))
        for row in said(judge, "a", found, name)
    ]
    (found,) = agreed(in_two, ["one", "two"])
    doubled = [{f"{key}-{copy}": o for copy in range(2) for key, o in outcomes.items()} for outcomes in (first, second)]
    expected = agreement(*doubled)
    assert (found.n, found.kappa) == (expected.n, expected.kappa)
    assert found.kappa_interval == pytest.approx(expected.kappa_interval)


def test_every_pair_of_judges_is_compared_once_by_name() -> None:
    rows = [row for judge in ("a", "b", "c") for row in said(judge, "x", {"p": "win", "q": "loss"})]
    found = agreed(rows, ["c", "a", "b"])
    assert [(pair.first, pair.second) for pair in found] == [("c", "a"), ("c", "b"), ("a", "b")]
    assert {(pair.n, pair.missing, pair.kappa) for pair in found} == {(2, 0, 1.0)}
    assert agreed(rows, ["a"]) == []


def test_what_one_judge_did_not_judge_is_missing_from_the_agreement() -> None:
    rows = [*said("a", "x", {"p": "win", "q": "loss", "r": "missing"}), *said("b", "x", {"p": "win", "r": "win"})]
    (found,) = agreed(rows, ["a", "b"])
    assert (found.n, found.missing) == (1, 2)
    (nothing,) = agreed(rows, ["a", "nobody"])
    assert (nothing.n, nothing.kappa, nothing.note) == (0, None, "no prompt was judged by both")
