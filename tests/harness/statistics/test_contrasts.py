"""Paired differences, the sign-flip test by enumeration, Holm's worked example, and groups of neighbours."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from harness.statistics.contrasts import contrast, contrasts, corrected, holm, indistinguishable, sign_flip_p
from harness.statistics.outcomes import NAN, from_records, outcomes
from harness.statistics.rates import wilson
from tests.harness.tabular import outcomes_of, verdict

RNG = np.random.default_rng(0)


# ---- the sign-flip test


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1, 1], 2 / 8),  # +++ and −−−
        ([1, 1, -1], 1.0),  # a sum of ±1 or ±3: all
        ([2, 1], 2 / 4),
        ([2, -1, 0, 0], 1.0),
        ([2, 2, 1, -1], 6 / 16),  # |sum| ≥ 4: ±(2+2) with 1, −1 either way round (4), and ±(2+2+1+1) (2)
        ([0, 0, 0], 1.0),
        ([], 1.0),
    ],
)
def test_the_exact_p_of_cases_worked_by_hand(values: list[float], expected: float) -> None:
    assert sign_flip_p(np.array(values, dtype=float)) == pytest.approx(expected)


def test_the_exact_p_is_that_of_all_patterns() -> None:
    for _ in range(20):
        values = RNG.choice([-2, -1, 0, 0, 0.5, 1, 2], size=11)
        sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=11)]
        assert sign_flip_p(values) == pytest.approx(np.mean(np.array(sums) >= abs(values.sum()) - 1e-9))


def test_drawn_p_agrees_with_the_exact_one() -> None:
    """13 differing prompts are drawn; 2^13 patterns can still be written out. Three standard errors of 10,000 draws."""
    for _ in range(10):
        values = RNG.choice([-1.0, 1.0, 2.0], size=13)
        signs = np.array(list(product((1, -1), repeat=13)))
        exact = float(np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9))
        drawn = sign_flip_p(values)
        assert abs(drawn - exact) < 3 * np.sqrt(exact * (1 - exact) / 10_000) + 2e-4
        assert drawn * 10_001 == pytest.approx(round(drawn * 10_001))


def test_p_is_never_0_is_two_sided_and_seeded() -> None:
    values = np.ones(200)
    assert sign_flip_p(values) == sign_flip_p(-values) == pytest.approx(1 / 10_001)
    mixed = RNG.choice([-1.0, 0, 1.0], size=100)
    assert sign_flip_p(mixed, seed=3) == sign_flip_p(mixed, seed=3)


def test_p_is_uniform_where_there_is_no_difference() -> None:
    """A third decimal below nominal: the statistic is discrete, so p is a little conservative. 600 data sets."""
    found = np.array([sign_flip_p(RNG.choice([-2.0, -1, 0, 1, 2], size=150), seed, 2000) for seed in range(600)])
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(found <= level) - level) < 3.5 * np.sqrt(level * (1 - level) / 600) + 0.01


# ---- Holm


def test_holm_of_a_worked_example() -> None:
    """.01·4, .02·3, .03·2 (kept at .06), .04·1 (kept at .06), in the order given."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_rejects_what_its_steps_reject() -> None:
    for _ in range(50):
        values = RNG.beta(0.3, 3, size=8).tolist()
        rejected: set[int] = set()
        for step, place in enumerate(sorted(range(8), key=values.__getitem__)):
            if values[place] > 0.05 / (8 - step):
                break
            rejected.add(place)
        assert {i for i, p in enumerate(holm(values)) if p <= 0.05} == rejected


# ---- contrasts


def test_a_contrast_worked_by_hand() -> None:
    found = outcomes_of({"a": [1, 1, 0, -1, NAN, 1], "b": [-1, 1, -1, -1, 1, NAN]})
    (made,) = contrasts(found, [("a", "b")])
    # differences 2, 0, 1, 0 on the four prompts judged for both
    assert (made.n, made.left_out, made.differing, made.difference) == (4, 2, 2, 0.75)
    assert made.p == made.p_holm == pytest.approx(2 / 4)
    assert (made.scope, made.judge) == ("set0", "judge")
    (back,) = contrasts(found, [("b", "a")])
    assert back.difference == -0.75 and back.p == made.p


def test_the_interval_is_that_of_resampling_prompts() -> None:
    a, b = RNG.choice([1.0, 0, -1], size=(2, 60))
    a[:30] = b[:30]
    (made,) = contrasts(outcomes_of({"a": a, "b": b}), [("a", "b")])
    drawn = RNG.choice(a - b, size=(20_000, 60)).mean(axis=1)
    assert made.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1.01 / 60)


def test_prompts_not_rows_are_paired_whatever_their_order() -> None:
    rows = [verdict(f"p{i}", candidate=name, preference=float(i % 2)) for name in "ab" for i in range(40)]
    shuffled = [rows[i] for i in RNG.permutation(80)]
    (made,) = contrasts(outcomes(from_records(shuffled)), [("a", "b")])
    assert (made.difference, made.differing, made.p, made.n) == (0.0, 0, 1.0, 40)
    # no prompt differs: at most Wilson's share of them may, and by at most 2
    assert made.interval == pytest.approx((-2 * wilson(0, 40)[1], 2 * wilson(0, 40)[1]))


def test_runs_of_a_prompt_are_one_cluster() -> None:
    """The same differences from three runs say no more than from one."""
    rows = [verdict(f"p{i}", candidate=name, preference=float(v)) for name in "ab" for i, v in
            enumerate(RNG.integers(0, 2, 50))]  # fmt: skip
    one = from_records(rows)
    runs = np.repeat(np.arange(3), len(one))
    three = one.select(np.tile(np.arange(len(one)), 3))
    object.__setattr__(three, "run", runs)
    (alone,), (thrice,) = (contrasts(outcomes(table), [("a", "b")]) for table in (one, three))
    assert thrice == alone


def test_holm_is_over_all_pairs_and_sets_and_pools_are_a_family_of_their_own() -> None:
    values = {name: RNG.choice([1.0, 0, -1], size=90, p=p) for name, p in
              zip("abc", ([0.5, 0.2, 0.3], [0.3, 0.2, 0.5], [0.2, 0.2, 0.6]), strict=True)}  # fmt: skip
    found = outcomes_of(values, sets=3)
    domains = {"in-domain": ["set0"], "out-of-domain": ["set1", "set2"]}
    made = contrasts(found, [("a", "b"), ("a", "c")], domains)
    assert [test.scope for test in made] == ["set0", "set0", "set1", "set1", "set2", "set2"] + ["out-of-domain"] * 2
    for family in (made[:6], made[6:]):
        assert [test.p_holm for test in family] == holm([test.p or 0 for test in family])
    assert made[6].n == made[2].n + made[4].n == 60
    assert made[6].difference == pytest.approx(((made[2].difference or 0) + (made[4].difference or 0)) / 2)


def test_without_a_common_prompt_there_is_no_number_and_no_part_in_the_family() -> None:
    found = outcomes_of({"a": [1, 1, NAN], "b": [NAN, NAN, 1], "c": [-1, -1, -1]})
    none, some = contrasts(found, [("a", "b"), ("a", "c")])
    assert (none.n, none.left_out, none.difference, none.interval, none.p, none.p_holm) == (
        0,
        3,
        None,
        None,
        None,
        None,
    )
    assert some.p_holm == some.p and not none.distinguishable


def test_pairing_finds_what_two_intervals_apart_would_not() -> None:
    """Two methods that differ on 10 of 200 prompts, always the same way."""
    b = RNG.choice([1.0, -1.0], size=200)
    a = b.copy()
    a[np.flatnonzero(b == -1)[:10]] = 1
    (made,) = contrasts(outcomes_of({"a": a, "b": b}), [("a", "b")])
    assert made.p == pytest.approx(2 / 2**10)
    assert made.interval is not None and made.interval[0] > 0


# ---- neighbours


def test_groups_open_where_a_row_is_distinguishable_from_the_one_before() -> None:
    n = 300
    best = np.ones(n)
    nearly = best.copy()
    nearly[0] = 0
    worst = -best
    tests, groups = indistinguishable(outcomes_of({"w": worst, "b": best, "n": nearly}), ["b", "n", "w"], "set0")
    assert groups == [0, 0, 1]
    assert [(test.first, test.second, test.distinguishable) for test in tests] == [("b", "n", False), ("n", "w", True)]
    assert [test.p_holm for test in tests] == holm([test.p or 0 for test in tests])


def test_one_row_or_none_is_a_group_or_none() -> None:
    found = outcomes_of({"a": [1, 0]})
    assert indistinguishable(found, ["a"], "set0") == ([], [0])
    assert indistinguishable(found, [], "set0") == ([], [])
    assert corrected([]) == []


def test_the_interval_of_a_difference_covers() -> None:
    """Three kinds of prompt: both alike, a better by one step, worse by two. 250 data sets of 150."""
    truth = 0.3 - 2 * 0.1
    held = 0
    for seed in range(250):
        apart = RNG.choice([0.0, 1, -2], size=150, p=[0.6, 0.3, 0.1])
        a, b = np.where(apart == -2, -1.0, np.where(apart == 1, 1.0, 0)), np.where(apart == -2, 1.0, 0)
        found = outcomes_of({"a": a, "b": b})
        low, high = contrast(found.where(candidate="a"), found.where(candidate="b"), ("a", "b"), "", seed).interval or (
            9,
            9,
        )
        held += low <= truth <= high
    assert 0.915 <= held / 250 <= 0.985
