"""Components of variance against sums of squares by loops, differences against scipy's t tests and by hand, and what
simulations of a known truth find."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from harness.statistics.effects import (
    POWER,
    Cells,
    Components,
    Luck,
    compared,
    components,
    detectable,
    linear,
    luck,
    t_interval,
    told_apart,
    widened,
)
from harness.statistics.outcomes import Floats

RNG = np.random.default_rng(0)
NAN = float("nan")


def cells(values: Floats | Sequence[Sequence[float]], each: int = 1) -> Cells:
    """[seeds, prompts] means of so many values each; NaN where there are none."""
    found = np.asarray(values, dtype=np.float64)
    return Cells(np.where(np.isnan(found), 0, found) * each, np.where(np.isnan(found), 0.0, each))


def rows_of(values: Floats) -> list[Cells]:
    return [cells(row) for row in values]


def drawn(
    rng: np.random.Generator, rows: int, seeds: int, prompts: int, own: float, shared: float, rest: float = 0.6
) -> Floats:
    """[rows, seeds, prompts] of a known truth: standard deviations."""
    found = rng.normal(0, shared, (1, seeds, 1)) + rng.normal(0, own, (rows, seeds, 1))
    found = found + rng.normal(0, 0.4, (1, 1, prompts)) + rng.normal(0, 0.3, (rows, 1, prompts))
    return np.asarray(found + rng.normal(0, rest, (rows, seeds, prompts)))


def mean_squares(y: Floats) -> tuple[float, float, float]:
    """Of seed, of row×seed and of the rest of a three-way layout, each sum of squares by its definition, in loops."""
    m, s, p = y.shape
    places = list(product(range(m), range(s), range(p)))

    def mean(row: int | None = None, seed: int | None = None, prompt: int | None = None) -> float:
        wanted = (row, seed, prompt)
        some = [y[at] for at in places if all(w is None or w == a for w, a in zip(wanted, at, strict=True))]
        return sum(some) / len(some)

    of_row, of_seed = [mean(row=i) for i in range(m)], [mean(seed=j) for j in range(s)]
    of_prompt = [mean(prompt=k) for k in range(p)]
    row_seed = {(i, j): mean(row=i, seed=j) for i in range(m) for j in range(s)}
    row_prompt = {(i, k): mean(row=i, prompt=k) for i in range(m) for k in range(p)}
    seed_prompt = {(j, k): mean(seed=j, prompt=k) for j in range(s) for k in range(p)}
    whole = mean()
    ss_seed = m * p * sum((of_seed[j] - whole) ** 2 for j in range(s))
    ss_both = p * sum((row_seed[i, j] - of_row[i] - of_seed[j] + whole) ** 2 for i in range(m) for j in range(s))
    ss_rest = sum(
        (
            y[i, j, k]
            - row_seed[i, j]
            - row_prompt[i, k]
            - seed_prompt[j, k]
            + of_row[i]
            + of_seed[j]
            + of_prompt[k]
            - whole
        )
        ** 2
        for i, j, k in places
    )
    degrees = (m - 1) * (s - 1)
    return ss_seed / (s - 1), ss_both / degrees, ss_rest / (degrees * (p - 1))


# ---- components of seeds


@pytest.mark.parametrize(("rows", "seeds", "prompts"), [(2, 2, 2), (3, 2, 7), (2, 5, 4), (4, 3, 9)])
def test_the_luck_of_seeds_is_that_of_a_three_way_analysis_of_variance(rows: int, seeds: int, prompts: int) -> None:
    for _ in range(5):
        y = drawn(RNG, rows, seeds, prompts, own=0.5, shared=0.7)
        of_seed, both, rest = mean_squares(y)
        found = luck(rows_of(y))
        assert found is not None
        assert found.own == pytest.approx(max(0, (both - rest) / prompts), abs=1e-12)
        assert found.shared == pytest.approx(max(0, (of_seed - both) / (rows * prompts)), abs=1e-12)
        assert (found.own_degrees, found.shared_degrees) == ((rows - 1) * (seeds - 1), seeds - 1)
        assert (found.rows, found.seeds, found.prompts) == (rows, seeds, prompts)


def test_the_luck_of_seeds_worked_by_hand() -> None:
    """Two rows, two seeds, two prompts. The rows are 2, 2 apart at one seed and 0, 1 at the other: farther by 2, 1,
    mean 1.5, variance ½: σ̂² = (1.5² − ½/2) / 4 = ½. From seed to seed the first moves by 2, 2 and the second by 0, 1:
    σ̂²_seed = 2 · ½ / 2 = ½."""
    found = luck(rows_of(np.array([[[3.0, 4], [1, 2]], [[1.0, 2], [1, 1]]])))
    assert found == Luck(own=0.5, own_degrees=1, shared=0.5, shared_degrees=1, rows=2, seeds=2, prompts=2)


def test_of_one_row_alone_all_is_shared() -> None:
    y = drawn(RNG, 1, 4, 12, own=0.5, shared=0.7)
    found = luck(rows_of(y))
    rest = np.mean([(y[0, i] - y[0, j]).var(ddof=1) / 2 for i in range(4) for j in range(i)])
    assert found is not None and (found.own, found.own_degrees, found.shared_degrees, found.rows) == (0, 0, 3, 1)
    assert found.shared == pytest.approx(y[0].mean(axis=1).var(ddof=1) - rest / 12)


def test_one_seed_or_no_row_says_nothing_of_seeds() -> None:
    assert luck([]) is None
    assert luck(rows_of(drawn(RNG, 3, 1, 9, 0.5, 0.5))) is None
    alone = np.full((2, 2, 4), NAN)
    alone[0, 0], alone[1, 1] = 1.0, 2.0
    assert luck(rows_of(alone)) is None  # each row has a seed of its own, and one alone
    assert luck(rows_of(drawn(RNG, 3, 2, 1, 0.5, 0.5))) is None  # one prompt has no variance


def test_the_components_of_seeds_are_unbiased() -> None:
    """Before they are clipped at 0, which would lift the mean: here they seldom are."""
    rng, own, shared = np.random.default_rng(1), 0.3, 0.4
    found = [luck(rows_of(drawn(rng, 4, 4, 60, own, shared))) for _ in range(600)]
    known = np.array([(one.own, one.shared) for one in found if one is not None])
    error = known.std(axis=0) / sqrt(len(known))
    assert np.abs(known.mean(axis=0) - [own**2, shared**2]).max() < 3.5 * error.max()
    assert known.mean(axis=0)[0] == pytest.approx(own**2, rel=0.08)


def test_with_cells_missing_they_still_are_and_no_prompt_is_lost_that_a_pair_has() -> None:
    """A tenth of the cells of 5 rows × 3 seeds: every fifth prompt has all fifteen."""
    rng, own = np.random.default_rng(2), 0.3
    known = []
    for _ in range(600):
        y = drawn(rng, 5, 3, 40, own, 0.4)
        y[rng.random(y.shape) < 0.1] = NAN
        found = luck(rows_of(y))
        assert found is not None and found.own_degrees == 8 and found.prompts == 40
        known.append(found.own)
    assert np.mean(known) == pytest.approx(own**2, abs=3.5 * float(np.std(known)) / sqrt(600))


def test_a_row_that_lacks_a_seed_takes_nothing_from_the_others() -> None:
    y = drawn(RNG, 4, 3, 30, 0.5, 0.5)
    y[3, 2] = NAN
    found = luck(rows_of(y))
    # 11 cells, less 4 rows and 2 seeds: 5. Without the row it were 4, without the seed 3
    assert found is not None and (found.own_degrees, found.shared_degrees, found.seeds) == (5, 2, 3)
    wanted = []
    for i, j in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)):
        for s, t in ((0, 1), (0, 2), (1, 2)):
            apart = (y[i, s] - y[i, t]) - (y[j, s] - y[j, t])
            if not np.isnan(apart).any():
                wanted.append((apart.mean() ** 2 - apart.var(ddof=1) / 30) / 4)
    assert len(wanted) == 12 and found.own == pytest.approx(max(0, float(np.mean(wanted))))


def test_rows_without_a_seed_in_common_still_say_what_seeds_move() -> None:
    y = np.full((2, 4, 20), NAN)
    y[0, :2], y[1, 2:] = drawn(RNG, 1, 2, 20, 1.0, 1.0)[0], drawn(RNG, 1, 2, 20, 1.0, 1.0)[0]
    found = luck(rows_of(y))
    assert found is not None and (found.own, found.own_degrees, found.shared_degrees) == (0, 0, 2)
    alone = [luck(rows_of(y[[row]])) for row in range(2)]
    assert found.shared == pytest.approx(np.mean([one.shared for one in alone if one]), rel=1e-6)


# ---- components of one row


def test_the_components_of_a_row_are_those_of_a_two_way_analysis_of_variance() -> None:
    y = RNG.normal(size=(3, 1)) + RNG.normal(size=25) + RNG.normal(size=(3, 25)) * 0.5
    seed, prompt, whole = y.mean(axis=1), y.mean(axis=0), y.mean()
    rest = sum((y[s, p] - seed[s] - prompt[p] + whole) ** 2 for s in range(3) for p in range(25)) / (2 * 24)
    found = components(cells(y))
    wanted = [max(0.0, v) ** 0.5 for v in (prompt.var(ddof=1) - rest / 3, seed.var(ddof=1) - rest / 25, rest)]
    assert [found.prompt, found.seed, found.residual] == pytest.approx(wanted) and found.within is None


def test_with_one_seed_prompts_and_the_residual_are_one() -> None:
    y = RNG.normal(size=(1, 12))
    found = components(cells(y))
    assert (found.prompt, found.seed, found.residual) == (pytest.approx(y.std(ddof=1)), None, None)
    assert components(cells([[1.0]])) == Components(prompt=None, seed=None, residual=None, within=None)
    assert components(cells([[]])).prompt is None


def test_rounding_alone_is_no_component() -> None:
    """From seed to seed one prompt moves by d and another by 0: (d/2)² less (d²/2)/2. The root of what rounding leaves
    of that would be seen, and be another one elsewhere."""
    for d in RNG.normal(size=200).tolist():
        moved, still = [[d, 0.7], [0.0, 0.7]], [[0.3, 0.7], [0.3, 0.7]]
        assert components(cells(moved)).seed == 0
        found = luck(rows_of(np.array([moved, still])))
        assert found is not None and (found.own, found.shared) == (0, 0)


def test_what_samples_say_of_sampling_is_taken_out_of_the_residual() -> None:
    y = RNG.normal(size=(2, 1)) + RNG.normal(size=400) + RNG.normal(size=(2, 400))
    whole, apart = components(cells(y, each=4)), components(cells(y, each=4), within=1.2)
    assert whole.residual is not None and apart.within == pytest.approx(sqrt(1.2))
    assert apart.residual == pytest.approx(sqrt(whole.residual**2 - 1.2 / 4))
    assert (apart.prompt, apart.seed) == (whole.prompt, whole.seed)
    alone = components(cells(y[:1], each=4), within=1.2)
    assert alone.prompt == pytest.approx(sqrt(y[0].var(ddof=1) - 1.2 / 4))


def test_the_components_of_a_row_are_found_again() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 0.3, (6, 1)) + rng.normal(0, 0.6, 4000) + rng.normal(0, 0.5, (6, 4000))
    y[rng.random(y.shape) < 0.1] = NAN
    found = components(cells(y))
    assert (found.prompt, found.residual) == (pytest.approx(0.6, rel=0.05), pytest.approx(0.5, rel=0.05))


# ---- what a prompt says of a ratio


def test_what_prompts_say_of_a_ratio_has_the_ratio_as_its_mean() -> None:
    count = np.array([3.0, 0, 10, 7])
    total = np.array([1.0, 0, 9, 2])
    z = linear(total, count)
    ratio, each = 12 / 20, 20 / 3
    wanted = [ratio + (t - ratio * c) / each for t, c in ((1, 3), (9, 10), (2, 7))]
    assert np.isnan(z[1]) and z[[0, 2, 3]] == pytest.approx(wanted)
    assert np.nanmean(z) == pytest.approx(ratio)
    assert linear(np.array([2.0, 6]), np.array([2.0, 2])) == pytest.approx([1, 3])  # of equal counts, their means
    assert np.isnan(linear(np.zeros(2), np.zeros(2))).all()


# ---- differences


def test_with_one_seed_it_is_scipy_s_paired_t_test() -> None:
    for prompts in (2, 5, 16, 200):
        a, b = RNG.choice([-1.0, 0, 1], size=(2, prompts)) + np.array([[0.0], [0.001]])
        a[0] += 0.5  # so that no two differences are all alike
        found, wanted = compared(cells([a]), cells([b]), bounds=(-3, 3)), stats.ttest_rel(a, b)
        ends = wanted.confidence_interval()
        assert found.difference == pytest.approx((a - b).mean())
        assert (found.p, found.degrees) == (pytest.approx(wanted.pvalue), pytest.approx(wanted.df))
        assert found.interval == pytest.approx((max(-3, ends.low), min(3, ends.high)))
        assert found.error == pytest.approx(stats.sem(a - b))
        assert (found.n, found.seeds, found.p_holm) == (prompts, 1, found.p)
        assert found.differing == np.count_nonzero(a != b)


BETWEEN = Luck(own=0.004, own_degrees=8, shared=0.009, shared_degrees=2, rows=5, seeds=3, prompts=40)


def by_hand(apart: Floats, parts: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """(error, degrees, p)."""
    variance = apart.var(ddof=1) / len(apart)
    every = [(variance, len(apart) - 1), *parts]
    whole = sum(part for part, _ in every)
    degrees = whole**2 / sum(part**2 / of for part, of in every)
    return sqrt(whole), degrees, float(2 * stats.t.sf(abs(apart.mean()) / sqrt(whole), degrees))


@pytest.mark.parametrize(
    ("trained", "parts"),
    [
        ((True, True), [(2 * 0.004 / 3, 8)]),
        ((True, False), [(0.004 / 3, 8), (0.009 / 3, 2)]),
        ((False, True), [(0.004 / 3, 8), (0.009 / 3, 2)]),
        ((False, False), []),
    ],
)
def test_over_seeds_their_luck_is_added_and_degrees_are_satterthwaite_s(
    trained: tuple[bool, bool], parts: list[tuple[float, float]]
) -> None:
    y = drawn(RNG, 2, 3, 30, 0.1, 0.1)
    found = compared(cells(y[0]), cells(y[1]), trained, BETWEEN)
    apart = y[0].mean(axis=0) - y[1].mean(axis=0)
    error, degrees, p = by_hand(apart, parts)
    assert (found.error, found.degrees, found.p) == (pytest.approx(error), pytest.approx(degrees), pytest.approx(p))
    assert found.interval == pytest.approx(stats.t.interval(0.95, degrees, apart.mean(), error))
    assert found.seeds == 3


def test_a_difference_over_seeds_worked_by_hand() -> None:
    """d_p = 0, 1, 2, 1 (s² = 2/3): 1/6 with 3 degrees, and 2 · 0.25 / 2 = 1/4 with 4: 5/12, with
    (5/12)² / ((1/6)²/3 + (1/4)²/4) = 6.97 degrees."""
    first = cells([[1.0, 1, 3, 2], [1, 3, 3, 2]])
    second = cells([[1.0, 1, 1, 1], [1, 1, 1, 1]])
    between = Luck(own=0.25, own_degrees=4, shared=9.0, shared_degrees=1, rows=5, seeds=2, prompts=4)
    found = compared(first, second, (True, True), between)
    assert (found.difference, found.error) == (1.0, pytest.approx(sqrt(5 / 12)))
    assert found.degrees == pytest.approx((25 / 144) / (1 / 108 + 1 / 64))
    assert found.degrees == pytest.approx(6.97, abs=0.01)


def test_one_seed_in_common_is_of_checkpoints_whatever_is_known_of_seeds() -> None:
    y = drawn(RNG, 2, 3, 20, 0.1, 0.1)
    y[1, 1:] = NAN
    found = compared(cells(y[0]), cells(y[1]), (True, True), BETWEEN)
    assert found.seeds == 1 and found.p == pytest.approx(stats.ttest_rel(y[0, 0], y[1, 0]).pvalue)


def test_rows_without_a_seed_in_common_have_the_luck_of_all_of_theirs() -> None:
    """Nothing that seeds share cancels: var = s_d²/P + (σ̂² + σ̂²_seed)(1/2 + 1/3)."""
    y = drawn(RNG, 2, 5, 20, 0.1, 0.1)
    y[0, 2:], y[1, :2] = NAN, NAN
    found = compared(cells(y[0]), cells(y[1]), (True, True), BETWEEN)
    apart = y[0, :2].mean(axis=0) - y[1, 2:].mean(axis=0)
    share = 1 / 2 + 1 / 3
    error, degrees, p = by_hand(apart, [(0.004 * share, 8), (0.009 * share, 2)])
    assert (found.error, found.degrees, found.p) == (pytest.approx(error), pytest.approx(degrees), pytest.approx(p))
    assert (found.n, found.seeds) == (20, 2)


def test_seeds_that_do_not_weigh_alike_count_by_their_weights() -> None:
    """Of the second seed only a quarter of the prompts is there for both."""
    y = drawn(RNG, 2, 2, 40, 0.1, 0.1)
    y[1, 1, 10:] = NAN
    found = compared(cells(y[0]), cells(y[1]), (True, True), BETWEEN)
    weights = np.array([40, 10]) / 50
    (total, count), (others, _) = (
        (np.where(np.isnan(y[1]), 0, row).sum(axis=0), (~np.isnan(y[1])).sum(axis=0)) for row in y
    )
    z = [linear(np.nan_to_num(one), count.astype(float)) for one in (total, others)]
    error, degrees, p = by_hand(z[0] - z[1], [(2 * 0.004 * float((weights**2).sum()), 8)])
    assert (found.error, found.degrees, found.p) == (pytest.approx(error), pytest.approx(degrees), pytest.approx(p))
    both = ~np.isnan(y[1])
    assert found.difference == pytest.approx(y[0][both].mean() - y[1][both].mean())


def test_cells_that_only_one_has_are_passed_over_and_prompts_that_only_one_has_are_counted() -> None:
    first = cells([[1.0, 1, NAN, 5], [1, NAN, NAN, 5]])
    second = cells([[0.0, 0, 9, NAN], [NAN, 0, 9, NAN]])
    found = compared(first, second)
    assert (found.n, found.left_out, found.differing, found.difference, found.seeds) == (2, 2, 2, 1.0, 1)
    nothing = compared(cells([[1.0, NAN]]), cells([[NAN, 1.0]]))
    assert (nothing.n, nothing.left_out, nothing.seeds) == (0, 2, 0)
    assert (nothing.difference, nothing.interval, nothing.p, nothing.detectable) == (None,) * 4


def test_one_prompt_alone_has_a_difference_and_nothing_else() -> None:
    found = compared(cells([[1.0]]), cells([[0.0]]), bounds=(-2, 2))
    assert (found.n, found.difference) == (1, 1.0)
    assert (found.error, found.degrees, found.interval, found.p, found.p_holm, found.detectable) == (None,) * 6


def test_prompts_that_are_all_alike_are_as_if_one_more_stood_at_the_farther_bound() -> None:
    for prompts, value in ((3, 0.0), (6, 2.0), (48, 0.0), (200, -1.0)):
        found = compared(cells([[value] * prompts]), cells([[0.0] * prompts]), bounds=(-2, 2))
        more = [value] * prompts + [-2.0 if value >= 0 else 2.0]
        error = float(np.std(more, ddof=1)) / sqrt(prompts)
        assert found.error == pytest.approx(error)
        assert found.p == pytest.approx(2 * stats.t.sf(abs(value) / error, prompts - 1))
        low, high = found.interval or (9, 9)
        assert low < value < high or high == value == 2.0
        assert (low > 0 or high < 0) == ((found.p or 0) < 0.05)  # one t
    # near what coins for signs say: 2 / 2^6 and 2 / 2^5
    six, five = (compared(cells([[2.0] * n]), cells([[0.0] * n]), bounds=(-2, 2)).p or 0 for n in (6, 5))
    assert six < 0.05 < five


def test_none_of_all_prompts_differing_reaches_no_farther_than_one() -> None:
    one = np.zeros(48)
    one[0] = 1
    none, some = (compared(cells([row]), cells([one * 0]), bounds=(-2, 2)) for row in (one * 0, one * 2))
    assert (none.interval or (0, 0))[1] < (some.interval or (0, 0))[1]


def test_what_is_known_of_seeds_takes_nothing_from_what_few_prompts_leave_open() -> None:
    """Three prompts on which two rows are always alike; other sets say how little a seed moves."""
    little = Luck(own=1e-4, own_degrees=8, shared=0.0, shared_degrees=2, rows=5, seeds=3, prompts=400)
    alike = cells([[0.0] * 3] * 3)
    alone, known = (compared(alike, alike, (True, True), of, (-2, 2)) for of in (None, little))
    assert known.error == pytest.approx(sqrt((alone.error or 0) ** 2 + 2e-4 / 3))
    assert (known.error or 0) > 0.5 and (known.interval or (0, 0))[1] > 1.9


def test_without_bounds_prompts_that_are_all_alike_leave_no_width() -> None:
    same, other = (compared(cells([[value] * 4]), cells([[0.1] * 4])) for value in (0.1, 0.4))
    assert (same.difference, same.interval, same.p, same.detectable) == (0, (0, 0), 1, None)
    assert other.interval == pytest.approx((0.3, 0.3)) and other.p == 2 / 2**4
    # of several seeds, theirs is a width
    lucky = compared(cells([[0.4] * 4] * 2), cells([[0.1] * 4] * 2), (True, True), BETWEEN)
    assert lucky.error == pytest.approx(sqrt(0.004)) and lucky.degrees == pytest.approx(8)


def test_the_other_way_round_it_is_the_same() -> None:
    y = drawn(RNG, 2, 3, 30, 0.1, 0.1)
    there = compared(cells(y[0]), cells(y[1]), (True, False), BETWEEN)
    back = compared(cells(y[1]), cells(y[0]), (False, True), BETWEEN)
    assert back.p == pytest.approx(there.p) and back.difference == pytest.approx(-(there.difference or 0))


# ---- power


@pytest.mark.parametrize("tests", [1, 5])
def test_the_detectable_difference_is_told_in_four_of_five(tests: int) -> None:
    """By the noncentral t, over degrees from many to few."""
    for degrees in (1.7, 6, 20, 200, 50_000):
        size = detectable(0.03, degrees, tests)
        assert size is not None
        limit = stats.t.ppf(1 - 0.05 / tests / 2, degrees)
        assert stats.nct.sf(limit, degrees, size / 0.03) == pytest.approx(POWER, abs=1e-9)
    assert detectable(None, 3) is None and detectable(0.0, 3) is None and detectable(0.1, None) is None


def test_a_simulated_difference_of_that_size_is_told_in_four_of_five() -> None:
    rng, told, sizes = np.random.default_rng(4), 0, []
    size = 2.8 * 0.9 / sqrt(120)
    for _ in range(800):
        found = compared(cells([rng.normal(size, 0.9, 120)]), cells([np.zeros(120)]))
        told += told_apart(found)
        sizes.append(found.detectable or 0)
    assert np.mean(sizes) == pytest.approx(size, rel=0.03)
    assert told / 800 == pytest.approx(POWER, abs=0.045)


def test_over_seeds_the_interval_covers_and_finds_nothing_where_there_is_nothing() -> None:
    """Five rows alike, three seeds with a luck of 5 points, 200 prompts; 600 data sets. The seeds held fixed as one
    would hold them, two of five are false findings."""
    rng, held, naive = np.random.default_rng(5), 0, 0
    for _ in range(600):
        y = drawn(rng, 5, 3, 200, 0.05, 0.05, rest=0.5)
        rows = rows_of(y)
        held += (compared(rows[0], rows[1], (True, True), luck(rows)).p or 0) > 0.05
        naive += (compared(rows[0], rows[1]).p or 0) > 0.05
    assert 0.93 <= held / 600 <= 0.98
    assert naive / 600 < 0.90


def test_against_the_start_what_trained_rows_share_is_in_the_interval() -> None:
    rng, held = np.random.default_rng(6), 0
    for _ in range(600):
        y = drawn(rng, 5, 3, 200, 0.03, 0.06, rest=0.5)
        start = drawn(rng, 1, 3, 200, 0, 0, rest=0.5)[0]
        rows = rows_of(y)
        held += (compared(rows[0], cells(start), (True, False), luck(rows)).p or 0) > 0.05
    assert 0.92 <= held / 600 <= 0.99


def test_a_row_s_interval_is_widened_by_what_seeds_move_each_side_for_itself() -> None:
    assert widened(0.5, (0.4, 0.7), []) == widened(0.5, (0.4, 0.7), [(0.0, 8)]) == (0.4, 0.7)
    half = stats.t.ppf(0.975, 2) * 0.05
    low, high = widened(0.5, (0.4, 0.7), [(0.05**2, 2), (0.0, 8)])
    assert (low, high) == pytest.approx((0.5 - np.hypot(0.1, half), 0.5 + np.hypot(0.2, half)))
    variance, degrees = 0.0005, 0.0005**2 / (0.0004**2 / 2 + 0.0001**2 / 8)  # Satterthwaite's
    of_both = widened(0.5, (0.5, 0.5), [(0.0004, 2), (0.0001, 8)])
    assert of_both == pytest.approx(stats.t.interval(0.95, degrees, 0.5, variance**0.5))
    assert widened(0.5, (0.4, 0.7), [(1.0, 2)], (-1.0, 1.0)) == (-1.0, 1.0)


def test_the_t_interval_is_scipy_s_and_is_cut_at_bounds() -> None:
    assert t_interval(0.2, 0.1, 7) == pytest.approx(stats.t.interval(0.95, 7, 0.2, 0.1))
    assert t_interval(0.2, 0.1, 2.5, level=0.1) == pytest.approx(stats.t.interval(0.9, 2.5, 0.2, 0.1))
    assert t_interval(0.9, 0.1, 7, bounds=(-1, 1)) == pytest.approx((0.9 - stats.t.ppf(0.975, 7) * 0.1, 1.0))
