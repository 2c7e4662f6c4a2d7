"""Rates and intervals against hand-worked cases, explicit loops over prompts, scipy, and their coverage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import sqrt

import numpy as np
import pytest
from scipy import optimize, stats

from harness.core.records import Order, Status, Verdict
from harness.statistics.outcomes import Outcomes, from_records, from_runs, outcomes
from harness.statistics.rates import (
    MAX_MISSING,
    Interval,
    Rates,
    alike,
    comparison_rates,
    one_way,
    rates,
    rates_of,
    wilson,
    wilson_of,
    worth,
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


def intervals(found: Rates) -> Iterable[tuple[float, Interval]]:
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


Said = Sequence[Sequence[float]]  # of each prompt the preferences, which all belong to it
KINDS = ("run", "turn", "sample", "repeat")


def belonging(said: Said, kind: str = "run", candidate: str = "student") -> Outcomes:
    """Outcomes of one comparison: several on a prompt, as runs, turns, samples or repeats of it."""
    runs: dict[str, list[Verdict]] = {}
    for prompt, preferences in enumerate(said):
        for place, preference in enumerate(preferences):
            one = verdict(str(prompt), "none", preference).model_copy(update={"candidate": candidate})
            if kind != "run":
                one = one.model_copy(update={kind: place + (kind == "turn")})
            runs.setdefault(str(place) if kind == "run" else "", []).append(one)
    return outcomes(from_runs(runs))


def drawn(prompts: int, each: int, chances: Sequence[float], correlation: float, seed: int) -> list[list[float]]:
    """Of each prompt so many preferences, which correlate: a prompt has chances of its own."""
    rng = np.random.default_rng(seed)
    own = rng.dirichlet(np.array(chances) * (1 - correlation) / correlation, size=prompts)
    return [rng.choice([WIN, TIE, LOSS], size=each, p=chance / chance.sum()).tolist() for chance in own]


def squares(said: Said) -> tuple[float, float, float]:
    """MSB, MSW and m₀ of an analysis of variance on prompts, by explicit loops."""
    every = [value for prompt in said for value in prompt]
    n, k, whole = len(every), len(said), sum(every) / len(every)
    between = within = 0.0
    for prompt in said:
        mean = sum(prompt) / len(prompt)
        between += len(prompt) * (mean - whole) ** 2
        for value in prompt:
            within += (value - mean) ** 2
    return between / (k - 1), within / (n - k), (n - sum(len(prompt) ** 2 for prompt in said) / n) / (k - 1)


def correlation_of(rows: Sequence[Said]) -> float:
    above = whole = 0.0
    for said in rows:
        between, within, each = squares(said)
        above += between - within
        whole += between + (each - 1) * within
    return min(1.0, max(0.0, above / whole)) if whole else 0.0  # a row without a win says nothing of its own


def score_ends(p: float, n: float) -> Interval:
    """Where (p − π)² = z² π (1 − π) / n, found by bisection."""
    z2 = stats.norm.ppf(0.975) ** 2

    def beyond(other: float) -> float:
        return (p - other) ** 2 - z2 * other * (1 - other) / n

    low = optimize.brentq(beyond, 0, p) if p > 0 and beyond(p) < 0 else 0.0
    high = optimize.brentq(beyond, p, 1) if p < 1 and beyond(p) < 0 else 1.0
    if p == 0:
        high = optimize.brentq(beyond, 1e-9, 1)
    if p == 1:
        low = optimize.brentq(beyond, 0, 1 - 1e-9)
    return float(low), float(high)


def expected(rows: Sequence[Said], place: int) -> dict[str, Interval]:
    """The three intervals of one row of a table, of preferences 0, ½ and 1, by the formulas of docs/statistics.md."""
    ends = {}
    for name in ("win", "preference"):
        values = [[[float(x == 1) if name == "win" else 2 * x - 1 for x in prompt] for prompt in said] for said in rows]
        rho = max(correlation_of(values), correlation_of([values[place]]))
        mine = values[place]
        n = sum(map(len, mine))
        n_e = n / (1 + (sum(len(prompt) ** 2 for prompt in mine) / n - 1) * rho)
        mean = sum(map(sum, mine)) / n
        if name == "win":
            ends[name] = score_ends(mean, n_e)
            continue
        # n_e outcomes in the shares that were found, and one win, one tie and one loss more: the variance of these
        # over that of wins and losses alone that have the same mean
        shares = {v: sum(prompt.count(v) for prompt in mine) / n for v in (1.0, 0.0, -1.0)}
        weights = {v: (n_e * share + 1) / (n_e + 3) for v, share in shares.items()}
        middle = sum(v * weight for v, weight in weights.items())
        variance = sum(weight * (v - middle) ** 2 for v, weight in weights.items())
        low, high = score_ends((1 + mean) / 2, n_e / (variance / (1 - middle**2)))
        ends |= {"half": (low, high), name: (2 * low - 1, 2 * high - 1)}
    return ends


def uneven(seed: int) -> list[list[float]]:
    said = drawn(30, 4, (0.3, 0.3, 0.4), 0.3, seed)
    return [prompt[: 1 + place % 4] for place, prompt in enumerate(said)]


TABLES: dict[str, list[Said]] = {
    "alike": [drawn(20, 3, (0.3, 0.4, 0.3), 0.3, seed) for seed in range(4)],
    "that differ": [drawn(40, 3, chances, 0.2, 7) for chances in ((0.02, 0.3, 0.68), (0.3, 0.4, 0.3), (0.8, 0.1, 0.1))],
    "of which one correlates": [drawn(50, 4, (0.3, 0.4, 0.3), rho, 3) for rho in (0.01, 0.01, 0.9)],
    "of prompts with more and less": [uneven(seed) for seed in range(3)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_intervals_are_those_of_loops_over_prompts(name: str, kind: str) -> None:
    rows = TABLES[name]
    for place, found in enumerate(rates_of([belonging(said, kind) for said in rows])):
        ends = expected(rows, place)
        assert found.win_interval == pytest.approx(ends["win"], abs=1e-9)
        assert found.preference_interval == pytest.approx(ends["preference"], abs=1e-9)
        assert found.half_tie_interval == pytest.approx(ends["half"], abs=1e-9)
        # a judge that says 0, ½ or 1 has half ties for its preferences
        assert found.mean_preference_interval == pytest.approx(ends["half"], abs=1e-9)


def test_mean_squares_are_those_of_scipy() -> None:
    said = uneven(5)
    values, prompts = np.concatenate(said), np.repeat(np.arange(len(said)), [len(prompt) for prompt in said])
    found = one_way(values, prompts)
    assert found is not None
    assert (found.between, found.within, found.each) == pytest.approx(squares(said))
    assert found.between / found.within == pytest.approx(stats.f_oneway(*said).statistic)


def test_a_correlation_is_found_again() -> None:
    """Of six rows of 4,000 prompts; with wins, ties and losses of a Dirichlet distribution it is that of all values."""
    for correlation in (0.05, 0.3, 0.7):
        rows = [np.array(drawn(4000, 3, (0.3, 0.4, 0.3), correlation, seed)) for seed in range(6)]
        prompts = np.repeat(np.arange(4000), 3)
        for values in (lambda said: said, lambda said: said == 1):
            found = alike([one_way(values(said).ravel().astype(float), prompts) for said in rows])
            assert found == pytest.approx(correlation, abs=0.02)


def test_a_row_takes_the_larger_of_the_tables_correlation_and_its_own() -> None:
    rows = TABLES["of which one correlates"]
    low, _, high = (found.preference_interval for found in rates_of([belonging(said) for said in rows]))
    (alone_low,), (alone_high,) = (rates_of([belonging(rows[place])]) for place in (0, 2))
    assert low and high and alone_low.preference_interval and alone_high.preference_interval
    assert high == pytest.approx(alone_high.preference_interval)
    assert low[1] - low[0] > 1.2 * (alone_low.preference_interval[1] - alone_low.preference_interval[0])


def test_tables_are_of_one_set_one_reference_and_one_judge() -> None:
    """A row of another judge, whose outcomes correlate, leaves the first table as it is."""
    said, other = TABLES["of which one correlates"][0], TABLES["of which one correlates"][2]
    verdicts = [
        verdict(str(prompt), "none", value).model_copy(
            update={"judge": judge, "candidate": "ab"[judge == "two"], "sample": k}
        )
        for judge, row in (("one", said), ("two", other))
        for prompt, values in enumerate(row)
        for k, value in enumerate(values)
    ]
    found = comparison_rates(outcomes(from_records(verdicts)))
    assert found["set", "a", "teacher", "one"].win_interval == rates_of([belonging(said, "sample")])[0].win_interval


# ---- a prompt counts once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(10, 5, 15), (30, 0, 0), (0, 30, 0), (0, 0, 30), (0, 10, 20), (1, 0, 59)])
def test_copies_of_a_prompt_do_not_narrow_an_interval(counts: tuple[int, int, int], kind: str) -> None:
    """Four that say the same, as runs, turns, samples or repeats: four times the outcomes, no more prompts."""
    preferences = [WIN] * counts[0] + [TIE] * counts[1] + [LOSS] * counts[2]
    one, four = rates_of([belonging([[x] for x in preferences])])[0], rates_of(
        [belonging([[x] * 4 for x in preferences], kind)]
    )[0]  # fmt: skip
    n = sum(counts)
    assert (four.n, four.prompts, one.prompts) == (4 * n, n, n)
    for (rate, ends), (same, others) in zip(intervals(one), intervals(four), strict=True):
        assert same == pytest.approx(rate)
        assert others == pytest.approx(ends)


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_several_outcomes_narrow_an_interval_only_where_these_are_less_alike_than_by_chance(
    copies: int,
) -> None:
    """Three seeds on 40 prompts. With SS within prompts and MS between them n_e = P + SS / MS, however often outcomes
    are copied; it is cut at N, and a copy is one more of these."""
    ratios = {True: list[float](), False: list[float]()}
    for seed in range(20):
        said = drawn(40, 3, (0.3, 0.4, 0.3), 0.02, seed)
        one, many = (rates_of([belonging([[*of] * n for of in said])])[0] for n in (1, copies))
        values = 2 * np.array(said) - 1
        mean = values.mean(axis=1)
        worth_of = 40 + ((values - mean[:, None]) ** 2).sum() / (3 * mean.var(ddof=1))
        assert one.preference_interval and many.preference_interval
        widths = [high - low for low, high in (one.preference_interval, many.preference_interval)]
        ratios[bool(worth_of > 120)].append(widths[1] / widths[0])
        if worth_of > 120:  # half a width goes by about 1 / sqrt(n_e)
            assert widths[1] / widths[0] == pytest.approx(sqrt(120 / min(worth_of, 120 * copies)), abs=0.02)
    assert ratios[False] == pytest.approx([1.0] * len(ratios[False]))
    assert min(len(of) for of in ratios.values()) >= 3 and max(ratios[True]) < 1


def test_outcomes_of_one_prompt_that_have_nothing_in_common_are_draws_of_their_own() -> None:
    """Each prompt has a win, a tie and a loss: less alike than chance, which ρ takes for 0."""
    three, one = rates_of([belonging([[WIN, TIE, LOSS]] * 20)])[0], rates(counted(20, 20, 20))
    for (_, ends), (_, others) in zip(intervals(three), intervals(one), strict=True):
        assert ends == pytest.approx(others)


def test_one_prompt_is_worth_one_outcome() -> None:
    for kind in KINDS:
        (found,) = rates_of([belonging([[WIN, WIN, LOSS]], kind)])
        assert (found.n, found.prompts) == (3, 1)
        assert found.win_interval == pytest.approx(score_ends(2 / 3, 1))
        for (_, (low, high)), least in zip(intervals(found), (-1, 0, 0, 0), strict=True):
            assert least <= low < high <= 1


def test_a_table_without_any_spread_counts_prompts() -> None:
    rows = rates_of([belonging([[value] * 3] * 16) for value in (LOSS, LOSS, WIN)])
    assert [row.win_interval for row in rows] == [wilson(0, 16), wilson(0, 16), wilson(16, 16)]


def test_a_row_without_any_spread_has_the_tables_correlation() -> None:
    other = drawn(16, 3, (0.3, 0.4, 0.3), 0.3, 1)
    found, _ = rates_of([belonging([[LOSS] * 3] * 16), belonging(other)])
    rho = correlation_of([[[float(x == 1) for x in prompt] for prompt in other]])
    assert 0 < rho < 1
    assert found.win_interval == pytest.approx(wilson_of(0, 48 / (1 + 2 * rho)))


def test_what_outcomes_are_worth() -> None:
    places = np.repeat(np.arange(10), 4)
    assert worth(places, None, 0.0) == 40
    assert worth(places, None, 1.0) == 10
    assert worth(places, None, 0.5) == pytest.approx(40 / 2.5)
    # one prompt with 10 outcomes beside 10 with one: Σ m² / N = 110 / 20
    assert worth(np.array([0] * 10 + list(range(1, 11))), None, 0.2) == pytest.approx(20 / (1 + 4.5 * 0.2))


# ---- the ends


def ends_of(counts: tuple[int, int, int], prompts: int = 16) -> Rates:
    """The first of six rows of 16 prompts × 3 seeds, whose wins and ties are on prompts of their own as far as there
    are enough; the others are such as a board has."""
    preferences = [WIN] * counts[0] + [TIE] * counts[1] + [LOSS] * counts[2]
    mine = [preferences[place::prompts] for place in range(prompts)]
    return rates_of([belonging(mine), *(belonging(drawn(prompts, 3, (0.1, 0.2, 0.7), 0.2, k)) for k in range(5))])[0]


def test_no_win_of_48_does_not_reach_further_up_than_one() -> None:
    none, one, two = (ends_of((wins, 0, 48 - wins)).win_interval for wins in range(3))
    assert none and one and two
    assert none[1] < one[1] < two[1]
    assert none[0] == 0 < one[0] < two[0]
    assert none[1] < 0.15  # by resampled prompts, all alike, it was .194; and of one of 48 .062


def splits(n: int) -> list[tuple[int, int, int]]:
    return [(wins, ties, n - wins - ties) for wins in range(n + 1) for ties in range(n + 1 - wins)]


def better(counts: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """One loss a tie, or one tie a win."""
    wins, ties, losses = counts
    if losses:
        yield wins, ties + 1, losses - 1
    if ties:
        yield wins + 1, ties - 1, losses


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 24])
def test_ends_rise_with_every_outcome_that_is_better(n: int) -> None:
    found = {counts: list(intervals(rates(counted(*counts)))) for counts in splits(n)}
    for counts, mine in found.items():
        for other in better(counts):
            for (rate, ends), (higher, more) in zip(mine, found[other], strict=True):
                assert higher >= rate
                assert more[0] >= ends[0] - 1e-12 and more[1] >= ends[1] - 1e-12, (counts, other)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10])
def test_every_interval_has_width_contains_its_rate_and_stays_in_range(n: int) -> None:
    for counts in splits(n):
        for (rate, (low, high)), least in zip(intervals(rates(counted(*counts))), (-1, 0, 0, 0), strict=True):
            assert least <= low <= rate <= high <= 1, counts
            assert high - low > 0.1, counts


@pytest.mark.parametrize("n", [1, 10, 32, 100])
def test_all_wins_and_all_losses_are_mirror_images_that_admit_some_of_the_other(n: int) -> None:
    won, lost = rates(counted(n, 0, 0)), rates(counted(0, 0, n))
    assert won.preference_interval is not None and lost.preference_interval is not None
    assert won.preference_interval == pytest.approx((-lost.preference_interval[1], -lost.preference_interval[0]))
    assert won.preference_interval[1] == 1
    # a prompt that may be otherwise may be a tie: somewhat nearer than Wilson's of wins and losses alone
    assert 1 - 2 * wilson(0, n)[1] < won.preference_interval[0] < 1 - wilson(0, n)[1]
    assert lost.win_interval == pytest.approx(wilson(0, n))
    assert won.win_interval == pytest.approx(wilson(n, n))


def test_all_ties_may_lean_either_way() -> None:
    """20 ties, and one more of each outcome: the variance of a value is 2/23."""
    low, high = score_ends(0.5, 20 * 23 / 2)
    assert rates(counted(0, 20, 0)).preference_interval == pytest.approx((2 * low - 1, 2 * high - 1))


def test_both_orders_of_a_prompt_are_one_draw_not_two() -> None:
    one, two = rates(counted(10, 5, 15)), rates(counted(10, 5, 15, BOTH))
    assert (one.orders, two.orders) == ("none", "both")
    assert one.model_copy(update={"orders": "both"}) == two


def test_where_every_prompt_has_the_same_rate_the_interval_still_has_width() -> None:
    """Two judges that contradict each other on each of 30 prompts: a margin of 0 throughout."""
    verdicts = [
        verdict(str(i), "none", value).model_copy(update={"judge": judge})
        for judge, value in (("a", WIN), ("b", LOSS))
        for i in range(30)
    ]
    found = rates_of([outcomes(from_records(verdicts))])[0]
    assert (found.n, found.prompts, found.preference_rate, found.win_rate) == (60, 30, 0, 0.5)
    assert found.win_interval == pytest.approx(wilson(30, 60))


def test_intervals_narrow_with_the_square_root_of_the_prompts() -> None:
    few, many = rates(counted(20, 20, 60)), rates(counted(320, 320, 960))
    for (_, (low, high)), (_, (lower, higher)) in zip(intervals(few), intervals(many), strict=True):
        assert (high - low) / (higher - lower) == pytest.approx(4, rel=0.1)


def test_intervals_of_many_prompts_are_the_normal_distributions() -> None:
    """Half-widths of 1.96 √(variance / n)."""
    n, (w, l) = 90_000, (0.3, 0.5)  # noqa: E741
    found = rates(counted(27_000, 18_000, 45_000))
    for (rate, (low, high)), variance in zip(
        intervals(found), (w + l - (w - l) ** 2, w * (1 - w), (w + l - (w - l) ** 2) / 4), strict=False
    ):
        assert (high - low) / 2 == pytest.approx(1.959964 * sqrt(variance / n), rel=1e-3)
        assert (high + low) / 2 == pytest.approx(rate, abs=1e-4)


def test_intervals_do_not_depend_on_the_order_of_verdicts() -> None:
    verdicts = counted(10, 5, 15, BOTH)
    assert rates(verdicts[::-1]) == rates(verdicts)


# ---- graded preferences, and many comparisons at once


def graded(n: int, name: str, seed: int, start: int = 0) -> list[Verdict]:
    values = np.random.default_rng(seed).uniform(size=n)
    rows = [verdict(str(start + i), "none", value) for i, value in enumerate(values)]
    return [row.model_copy(update={"candidate": name}) for row in rows]


def test_graded_preferences_have_the_variance_that_was_found() -> None:
    """No two prompts have the same: Wilson's interval of as many draws as Student's t has the variance of the mean."""
    values = np.random.default_rng(0).beta(4, 20, size=50)
    found = rates([verdict(str(i), "none", value) for i, value in enumerate(values)])
    mean, error = values.mean(), stats.sem(values) * stats.t.ppf(0.975, 49) / stats.norm.ppf(0.975)
    assert found.mean_preference == pytest.approx(mean)
    assert found.mean_preference_interval == pytest.approx(score_ends(mean, mean * (1 - mean) / error**2))
    assert found.mean_preference_interval == pytest.approx(
        stats.t.interval(0.95, 49, mean, stats.sem(values)), abs=0.003
    )


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_graded_preferences_do_not_narrow_their_interval(kind: str) -> None:
    values = np.random.default_rng(0).uniform(size=30)
    one, three = (rates_of([belonging([[v] * n for v in values], kind)])[0] for n in (1, 3))
    assert three.mean_preference_interval == pytest.approx(one.mean_preference_interval)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_preferences_that_are_all_the_same_have_an_interval_with_width(n: int, value: float) -> None:
    exact = rates([verdict(str(i), "none", value) for i in range(n)]).mean_preference_interval
    near = [min(1.0, max(0.0, value + 1e-13 * i)) for i in range(n)]  # but for rounding
    rounded = rates([verdict(str(i), "none", x) for i, x in enumerate(near)]).mean_preference_interval
    assert exact is not None and exact[0] <= value <= exact[1] and exact[1] - exact[0] > 0.06
    assert rounded == pytest.approx(exact, abs=1e-6)


def test_a_judge_that_grades_some_prompts_is_in_between() -> None:
    """Half of the prompts at 0, as a judge has them that is sure, and half graded."""
    values = [*np.random.default_rng(2).uniform(0.01, 0.2, size=20), *[0.0] * 20]
    found = rates([verdict(str(i), "none", x) for i, x in enumerate(values)]).mean_preference_interval
    mean = float(np.mean(values))
    bare = score_ends(mean, mean * (1 - mean) / (stats.sem(values) ** 2))
    more = [*values, 0.0, 0.5, 1.0]
    middle = float(np.mean(more))
    padded = score_ends(mean, 40 * middle * (1 - middle) / float(np.var(more)))
    assert found is not None
    assert bare[1] - bare[0] < found[1] - found[0] < padded[1] - padded[0]


def test_each_row_of_many_is_what_it_is_alone() -> None:
    """With one outcome a prompt, of which none are alike for being of one prompt."""
    rows = [*graded(60, "a", 0), *graded(60, "b", 1), *counted(20, 15, 25)]
    found = comparison_rates(outcomes(from_records(rows)))
    assert [names[1] for names in found] == ["a", "b", "student"]
    for names, known in found.items():
        assert known == rates([row for row in rows if row.candidate == names[1]])


def test_a_row_with_few_judged_prompts_among_many_has_its_interval() -> None:
    """3 judged of 60."""
    holes = [verdict(str(i), "none", None, "failed").model_copy(update={"candidate": "b"}) for i in range(57)]
    found = comparison_rates(outcomes(from_records([*graded(60, "a", 0), *graded(3, "b", 1, 57), *holes])))
    known = found["set", "b", "teacher", "judge"]
    assert (known.n, known.missing, known.missing_share) == (3, 57, 57 / 60)
    assert known.missing_share > MAX_MISSING
    assert known.mean_preference is not None and known.mean_preference_interval is not None
    low, high = known.mean_preference_interval
    assert 0 <= low < known.mean_preference < high <= 1


def test_a_row_without_anything_judged_may_stand_beside_others() -> None:
    none = outcomes(from_records([verdict("a", "none", None, "failed")]))
    found, other = rates_of([none, belonging(TABLES["alike"][0])])
    assert (found.n, found.missing, found.win_interval) == (0, 1, None)
    assert other == rates_of([belonging(TABLES["alike"][0])])[0]


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
        assert abs(count / n - p) / sqrt(p * (1 - p) / n) == pytest.approx(1.95996, abs=1e-4)


@pytest.mark.parametrize("n", [0.7, 3.4, 28.2, 500])
@pytest.mark.parametrize("p", [0, 0.001, 0.3, 0.5, 0.97, 1])
def test_wilson_of_any_mean_solves_the_score_equation(p: float, n: float) -> None:
    assert wilson_of(p, n) == pytest.approx(score_ends(p, n), abs=1e-9)


@pytest.mark.parametrize("n", [1, 7, 9, 10, 13, 30, 100])
def test_wilson_reaches_0_and_1_exactly(n: int) -> None:
    assert wilson(0, n)[0] == 0.0
    assert wilson(n, n)[1] == 1.0
