"""Ratios by prompts against plain loops and the bootstrap, and their differences against the same of their sums."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from harness.statistics.contrasts import holm
from harness.statistics.effects import Luck, compared, components, luck
from harness.statistics.outcomes import Floats
from harness.statistics.rates import wilson
from harness.statistics.ratios import (
    Cell,
    RatioContrast,
    Sums,
    luck_in,
    ratio_contrasts,
    ratios,
    row_components,
)

RNG = np.random.default_rng(0)
Rows = Mapping[str, Sequence[Cell | None]]  # of each system, prompt by prompt; None where nothing was measured


def sums_of(*runs: Rows, measure: str = "kl") -> Sums:
    """One measure; prompts are p00, p01, …"""
    systems = list(dict.fromkeys(system for run in runs for system in run))
    cells = [
        {(f"p{i:02}", name): {measure: cell} for name, row in run.items() for i, cell in enumerate(row) if cell}
        for run in runs
    ]
    return Sums.of([measure], systems, cells)


def gamma_rows(prompts: int, mean: float = 0.2, rng: np.random.Generator = RNG) -> list[Cell]:
    """A total and a number of tokens for each prompt; some prompts are harder than others, whatever the token."""
    counts = rng.integers(5, 60, size=prompts)
    totals = rng.gamma(2, mean / 2, size=prompts) * counts
    return list(zip(totals.tolist(), counts.tolist(), strict=True))


def difference_of(
    first: Sequence[Cell | None], second: Sequence[Cell | None], shares: Collection[str] = ()
) -> RatioContrast:
    return contrast_of(sums_of({"a": first, "b": second}), shares)


def contrast_of(sums: Sums, shares: Collection[str] = ()) -> RatioContrast:
    (made,) = ratio_contrasts({"set": sums}, [("a", "b")], shares)
    return made


def ratio(cells: Sequence[Cell | None]) -> float:
    """Without numpy; NaN of nothing."""
    known = [cell for cell in cells if cell]
    return sum(total for total, _ in known) / sum(count for _, count in known) if known else float("nan")


def said(cells: Sequence[Cell]) -> list[float]:
    """What each prompt says of the ratio, by its definition."""
    value, each = ratio(cells), sum(count for _, count in cells) / len(cells)
    return [value + (total - value * count) / each for total, count in cells]


# ---- ratios


def test_a_ratio_worked_by_hand() -> None:
    found = ratios(sums_of({"a": [(1.0, 2), (3.0, 6), None], "b": [(1.0, 1)], "c": []}))
    a = found["kl", "a"]
    assert (a.value, a.count, a.prompts) == (4 / 8, 8, 2)
    assert (found["kl", "b"].value, found["kl", "b"].prompts) == (1.0, 1)
    assert found["kl", "c"].model_dump() == {"value": None, "interval": None, "count": 0, "prompts": 0}


def test_the_interval_is_student_s_of_what_prompts_say() -> None:
    for prompts in (2, 5, 40):
        rows = gamma_rows(prompts)
        found, z = ratios(sums_of({"a": rows}))["kl", "a"], said(rows)
        assert np.mean(z) == pytest.approx(found.value)
        assert found.interval == pytest.approx(stats.t.interval(0.95, prompts - 1, found.value, stats.sem(z)))


def test_the_interval_is_near_that_of_resampling_prompts() -> None:
    rows: Rows = {"a": gamma_rows(80), "b": gamma_rows(80, 0.3)}
    draws = RNG.integers(0, 80, size=(4000, 80))
    table = {name: np.array(cells) for name, cells in rows.items()}
    drawn = {name: of[draws, 0].sum(axis=1) / of[draws, 1].sum(axis=1) for name, of in table.items()}
    made = contrast_of(sums_of(rows))
    for one, other in (
        (ratios(sums_of(rows))["kl", "a"].interval, drawn["a"]),
        (made.interval, drawn["a"] - drawn["b"]),
    ):
        low, high = np.quantile(other, [0.025, 0.975])
        assert one is not None and one == pytest.approx((low, high), abs=0.12 * (high - low))


def test_a_share_has_wilson_s_interval_of_as_many_draws_as_leave_its_variance() -> None:
    """One value of 0 or 1 a prompt is a draw: n of them, less what Student's t takes for few."""
    rows: list[Cell] = [(float(i < 12), 1) for i in range(50)]
    low, high = ratios(sums_of({"a": rows}), shares={"kl"})["kl", "a"].interval or (9, 9)
    draws = 49 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 49)) ** 2
    wanted = stats.binomtest(12, 50).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.01)
    for end in (low, high):  # Wilson's ends are where the score test is just refused
        assert abs(0.24 - end) / sqrt(end * (1 - end) / draws) == pytest.approx(stats.norm.ppf(0.975))


def test_a_share_of_none_is_worth_no_more_than_its_prompts() -> None:
    """Words in loops, some tens a prompt, and whole responses of them: none in 16 prompts says little of the 17th."""
    few: list[Cell] = [(12.0 if i == 3 else 0.0, 40) for i in range(16)]
    more: list[Cell] = [(9.0 if i % 4 == 0 else 0.0, 40) for i in range(16)]
    rows = {"none": [(0.0, 40)] * 16, "few": few, "more": more, "all": [(40.0, 40)] * 16}
    found = ratios(sums_of(rows), shares={"kl"})
    none, one, some, every = (found["kl", name].interval or (9.0, 9.0) for name in ("none", "few", "more", "all"))
    assert none == pytest.approx(wilson(0, 16)) and every == pytest.approx(wilson(16, 16))
    assert 0 < one[0] < some[0] and one[1] < some[1]
    # by hand, of a row with less spread than the table: the variance of both rows' means, over independent words'
    means = [np.array([total / 40 for total, _ in row]) for row in (few, more)]
    effect = sum(one.var(ddof=1) / 16 for one in means) / sum(one.mean() * (1 - one.mean()) / 640 for one in means)
    draws = 640 / effect / (stats.t.ppf(0.975, 15) / stats.norm.ppf(0.975)) ** 2
    rate = means[1].mean()
    for end in some:
        assert abs(rate - end) / sqrt(end * (1 - end) / draws) == pytest.approx(stats.norm.ppf(0.975))


def test_prompts_are_what_is_drawn_however_many_runs_there_are() -> None:
    rows: Rows = {"a": gamma_rows(30)}
    once, thrice = ratios(sums_of(rows))["kl", "a"], ratios(sums_of(rows, rows, rows))["kl", "a"]
    assert (thrice.count, thrice.prompts) == (3 * once.count, once.prompts)
    assert thrice.value == pytest.approx(once.value) and thrice.interval == pytest.approx(once.interval)


def test_where_all_prompts_are_alike_a_share_s_interval_is_open_and_another_s_the_value() -> None:
    sums = sums_of({"a": [(0.3, 3)] * 40, "b": [(3.0, 3)] * 40, "none": [(0.0, 3)] * 40})
    free, shares = ratios(sums), ratios(sums, shares={"kl"})
    value = free["kl", "a"].value
    assert value == pytest.approx(0.1) and free["kl", "a"].interval == (value, value)
    assert shares["kl", "b"].interval == pytest.approx(wilson(40, 40))
    assert shares["kl", "none"].interval == pytest.approx(wilson(0, 40))
    open_, free_ = (ratio_contrasts({"set": sums}, [("b", "none")], of)[0] for of in ({"kl"}, ()))
    assert open_.interval is not None and open_.difference == 1 and open_.interval[0] < open_.interval[1] == 1
    assert free_.interval == (1.0, 1.0)


def test_one_prompt_alone_has_no_interval_but_of_a_share() -> None:
    """It says nothing of another prompt: [v, v] would say that it says all."""
    sums = sums_of({"a": [(1.0, 2), (2.0, 2)], "b": [(1.0, 2), None]})
    free, shares = ratios(sums), ratios(sums, shares={"kl"})
    assert (free["kl", "b"].value, free["kl", "b"].interval) == (0.5, None) and free["kl", "a"].interval is not None
    low, high = shares["kl", "b"].interval or (1, 0)
    assert low < 0.5 < high
    for shares in ((), {"kl"}):
        made = contrast_of(sums, shares)
        assert (made.n, made.difference, made.interval, made.p) == (1, 0.0, None, None)


def test_each_run_has_a_ratio_of_its_own() -> None:
    sums = sums_of({"a": [(1.0, 2), (1.0, 2)]}, {"a": [(3.0, 1)], "b": [(1.0, 1)]})
    assert sums.by_run("kl", "a") == [0.5, 3.0] and sums.by_run("kl", "b") == [None, 1.0]


def test_the_order_of_prompts_systems_and_runs_changes_nothing() -> None:
    rows = {"a": gamma_rows(15), "b": gamma_rows(15)}
    cells = {(f"p{i}", name): {"kl": cell} for name, row in rows.items() for i, cell in enumerate(row)}
    turned = dict(reversed(cells.items()))
    found = [Sums.of(["kl"], ["a", "b"], [given]) for given in (cells, turned)]
    assert ratios(found[0]) == ratios(found[1])
    again = Sums.of(["other", "kl"], ["b", "a"], [cells])
    assert ratios(again)["kl", "a"] == ratios(found[0])["kl", "a"] and not again.has("other", "a")


# ---- differences


def test_a_difference_worked_by_hand() -> None:
    made = difference_of([(4.0, 2), (1.0, 1), (9.0, 3), None], [(1.0, 2), (1.0, 1), None, (1.0, 1)])
    assert (made.n, made.left_out, made.differing) == (2, 2, 1)
    # 5/3 − 2/3. Of the first the prompts say 5/3 ± ⅔·(…): (4 − 5/3·2)/1.5 = 4/9 more, and as much less; of the second
    # (1 − 2/3·2)/1.5 = −2/9 less, and more: 1 ± 2/3
    assert made.difference == pytest.approx(1.0)
    assert made.error == pytest.approx(2 / 3) and made.degrees == 1
    assert made.p == made.p_holm == pytest.approx(2 * stats.t.sf(1.5, 1))
    none = difference_of([(1.0, 1), None], [None, (1.0, 1)])
    assert (none.n, none.left_out, none.difference, none.interval, none.p, none.p_holm) == (0, 2, *[None] * 4)


def test_a_difference_is_the_t_test_of_what_prompts_say_of_each() -> None:
    for prompts in (2, 5, 40):
        first, second = gamma_rows(prompts), gamma_rows(prompts, mean=0.4)
        made, wanted = difference_of(first, second), stats.ttest_rel(said(first), said(second))
        assert (made.p, made.n, made.differing) == (pytest.approx(wanted.pvalue), prompts, prompts)
        assert made.interval == pytest.approx(tuple(wanted.confidence_interval()))
        assert made.difference == pytest.approx(ratio(first) - ratio(second))


def test_with_equal_counts_it_is_the_t_test_of_the_prompts_own_means() -> None:
    first = [(total, 10) for total, _ in gamma_rows(30)]
    second = [(total * float(RNG.gamma(4, 0.25)), 10) for total, _ in first]
    wanted = stats.ttest_rel([total / 10 for total, _ in first], [total / 10 for total, _ in second])
    assert difference_of(first, second).p == pytest.approx(wanted.pvalue)


def test_prompts_on_which_the_values_are_the_same_do_not_differ() -> None:
    """Though each says something else of two ratios that differ."""
    same: list[Cell] = gamma_rows(30)
    first, second = gamma_rows(6), gamma_rows(6, mean=0.5)
    made = difference_of(first + same, second + same)
    assert (made.n, made.differing) == (36, 6)


def test_where_the_two_have_no_run_in_common_all_runs_of_each_are_compared() -> None:
    first, second = gamma_rows(10), gamma_rows(10, mean=0.4)
    made = contrast_of(sums_of({"a": first}, {"a": first, "c": first}, {"b": second}))
    doubled: list[Cell] = [(2 * total, 2 * count) for total, count in first]
    assert made == difference_of(doubled, second)
    alone = contrast_of(sums_of({"a": first}, {"a": second, "b": second}))
    assert (alone.n, alone.difference) == (10, 0.0)  # the run that both have, and no other


def test_runs_that_are_joined_have_the_values_of_all_of_them() -> None:
    first, second = gamma_rows(10), gamma_rows(10, mean=0.4)
    apart = sums_of({"a": first}, {"a": second}, {"b": second})
    joined = apart.joined(["seed 0", "seed 1", "seed 0"])
    assert joined.by_run("kl", "a") == apart.by_run("kl", "a")[:2]
    assert joined.by_run("kl", "b") == [pytest.approx(ratio(second)), None]
    assert ratios(joined) == ratios(apart)
    assert contrast_of(joined) == difference_of(first, second)


def test_what_seeds_move_is_of_all_trained_systems_on_the_prompts_of_all_sets() -> None:
    """And goes into every contrast over seeds, as it does for rates."""
    runs = [{name: gamma_rows(24, float(RNG.uniform(0.2, 0.6))) for name in ("a", "b", "c")} for _ in range(3)]
    parts = [sums_of(*({name: row[half] for name, row in run.items()} for run in runs))
             for half in (slice(0, 10), slice(10, 24))]  # fmt: skip
    whole = sums_of(*runs)
    between = luck_in(parts, "kl", ["a", "b"])
    assert between is not None and (between.rows, between.seeds, between.prompts) == (2, 3, 24)
    known = luck([whole.cells("kl", name) for name in ("a", "b")])
    assert known is not None and (between.own, between.shared) == pytest.approx((known.own, known.shared))
    assert luck_in(parts, "kl", []) is None
    pairs = [("a", "b"), ("a", "c")]
    made = ratio_contrasts({"near": parts[0]}, pairs, untrained={"c"}, between={"kl": between})
    assert [one.family for one in made] == ["methods", "anchors"]
    for one, trained in zip(made, ((True, True), (True, False)), strict=True):
        wanted = compared(parts[0].cells("kl", one.first), parts[0].cells("kl", one.second), trained, between)
        assert (one.p, one.error, one.degrees, one.seeds) == (wanted.p, wanted.error, wanted.degrees, 3)


def test_the_values_of_a_seed_have_its_ratio_as_their_mean() -> None:
    """So that what seeds move is what their ratios differ by, whatever their counts."""
    runs: list[Rows] = [{"a": gamma_rows(30, mean)} for mean in (0.2, 0.5)]
    cells = sums_of(*runs).cells("kl", "a")
    ratios_ = [ratio(run["a"]) for run in runs]
    assert cells.by_seed.mean(axis=1) == pytest.approx(ratios_)
    assert cells.weights @ ratios_ == pytest.approx(cells.total.sum() / cells.count.sum())
    assert row_components(sums_of(*runs), "kl", "a") == components(cells)


def test_a_luck_that_is_known_is_weighed_by_counts() -> None:
    """A seed of twice as many tokens is two thirds of a ratio."""
    rows: Rows = {"a": gamma_rows(20), "b": gamma_rows(20)}
    longer = {name: [(2 * total, 2 * count) for total, count in row] for name, row in rows.items()}
    between = Luck(own=1.0, own_degrees=4, shared=1.0, shared_degrees=1, rows=5, seeds=2, prompts=20)
    (made,) = ratio_contrasts({"set": sums_of(rows, longer)}, [("a", "b")], between={"kl": between})
    (plain,) = ratio_contrasts({"set": sums_of(rows, longer)}, [("a", "b")])
    assert (made.error or 0) ** 2 - (plain.error or 0) ** 2 == pytest.approx(2 * (1 / 9 + 4 / 9))


def test_two_that_are_alike_do_not_differ() -> None:
    rows = gamma_rows(30)
    made = difference_of(rows, rows)
    assert (made.difference, made.interval, made.p, made.differing) == (0.0, (0.0, 0.0), 1.0, 0)


def test_p_is_uniform_where_the_two_are_alike() -> None:
    """Harder prompts are harder for both, and each writes responses of its own length. 400 data sets of 30."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        hard = rng.gamma(2, 0.1, size=30)
        counts = rng.integers(5, 60, size=(2, 30))
        totals = hard * counts * rng.gamma(4, 0.25, size=(2, 30))
        rows = [list(zip(t.tolist(), c.tolist(), strict=True)) for t, c in zip(totals, counts, strict=True)]
        found.append(difference_of(*rows).p or 0)
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(np.array(found) <= level) - level) < 3.5 * np.sqrt(level * (1 - level) / 400)


def test_intervals_of_ratios_and_of_differences_cover() -> None:
    """Tokens of a prompt share its level. 400 data sets of 60 prompts; two standard errors are 2.2 points, and the
    interval of 60 skewed prompts errs a little towards too narrow."""
    rng = np.random.default_rng(6)
    held: Floats = np.zeros(2)
    for _ in range(400):
        hard, counts = rng.gamma(2, 0.1, size=60), rng.integers(5, 60, size=60)
        rows = {
            name: list(
                zip((hard * level * counts * rng.gamma(4, 0.25, size=60)).tolist(), counts.tolist(), strict=True)
            )
            for name, level in (("a", 1.0), ("b", 0.8))
        }
        sums = sums_of(rows)
        low, high = ratios(sums)["kl", "a"].interval or (9, 9)
        start, end = contrast_of(sums).interval or (9, 9)
        held += low <= 0.2 <= high, start <= 0.04 <= end
    assert (held / 400 >= 0.91).all() and (held / 400 <= 0.98).all()


# ---- contrasts


def test_a_family_is_one_measure_on_all_scopes() -> None:
    names = ["kl", "nll"]
    cells = [
        {(f"p{i}", s): {name: gamma_rows(1, mean)[0] for name in names} for i in range(10) for s, mean in
         (("a", 0.1), ("b", 0.3), ("c", 0.3))}
        for _ in range(2)
    ]  # fmt: skip
    cells[1] = {key: {"kl": found["kl"]} if key[1] == "c" else found for key, found in cells[1].items()}
    scopes = {
        name: Sums.of(names, ["a", "b", "c"], [given]) for name, given in zip(("near", "far"), cells, strict=True)
    }
    made = ratio_contrasts(scopes, [("a", "b"), ("a", "c"), ("a", "nobody")])
    assert [(one.measure, one.scope, one.first, one.second) for one in made] == [
        ("kl", "near", "a", "b"),
        ("kl", "near", "a", "c"),
        ("kl", "far", "a", "b"),
        ("kl", "far", "a", "c"),
        ("nll", "near", "a", "b"),
        ("nll", "near", "a", "c"),
        ("nll", "far", "a", "b"),
    ]
    for family in (made[:4], made[4:]):
        assert [one.p_holm for one in family] == holm([one.p or 0 for one in family])
        assert [one.distinguishable for one in family] == [(one.p_holm or 0) <= 0.05 for one in family]


def test_a_pair_without_a_prompt_in_common_has_no_part_in_the_family() -> None:
    sums = sums_of({"a": [(1.0, 1), (3.0, 1), None], "b": [None, None, (1.0, 1)], "c": [(2.0, 1), (2.0, 1), (2.0, 1)]})
    none, some = ratio_contrasts({"near": sums}, [("a", "b"), ("a", "c")])
    assert (none.n, none.p, none.p_holm, none.distinguishable) == (0, None, None, False)
    assert some.p_holm == some.p is not None
    assert ratio_contrasts({}, [("a", "b")]) == []


def test_in_a_pool_prompts_of_several_sets_are_several() -> None:
    near, far = (sums_of({"a": gamma_rows(8), "b": gamma_rows(8)}) for _ in range(2))
    made = contrast_of(Sums.pooled([near, far]))
    assert made.n == 16
    totals, counts = (near.total + far.total).sum(axis=(0, 2, 3)), (near.count + far.count).sum(axis=(0, 2, 3))
    assert made.difference == pytest.approx(totals[0] / counts[0] - totals[1] / counts[1])
