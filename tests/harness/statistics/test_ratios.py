"""Ratios by prompts against plain loops over the same draws, and their differences against all changes of places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import isnan

import numpy as np
import pytest

from harness.statistics.contrasts import EXACT, holm, sign_flip_p
from harness.statistics.outcomes import Floats
from harness.statistics.rates import RESAMPLES, wilson
from harness.statistics.ratios import Cell, RatioDifference, Sums, differences, ratio_contrasts, ratios

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


def difference_of(first: Sequence[Cell | None], second: Sequence[Cell | None], seed: int = 0) -> RatioDifference:
    (made,) = differences(sums_of({"a": first, "b": second}), [("a", "b")], seed=seed).values()
    return made


def drawn_prompts(prompts: int, seed: int) -> list[list[int]]:
    """The draws of `drawn_sums`, one list a resample; few enough prompts that they are drawn in one piece."""
    drawn = np.random.default_rng(seed).integers(0, prompts, size=(RESAMPLES, prompts), dtype=np.uint16)
    return [list(map(int, row)) for row in drawn]


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile([value for value in values if not isnan(value)], [0.025, 0.975])
    return float(low), float(high)


def ratio(cells: Sequence[Cell | None]) -> float:
    """Without numpy; NaN of nothing."""
    known = [cell for cell in cells if cell]
    return sum(total for total, _ in known) / sum(count for _, count in known) if known else float("nan")


# ---- ratios


def test_a_ratio_worked_by_hand() -> None:
    found = ratios(sums_of({"a": [(1.0, 2), (3.0, 6), None], "b": [(1.0, 1)], "c": []}))
    a = found["kl", "a"]
    assert (a.value, a.count, a.prompts) == (4 / 8, 8, 2)
    assert (found["kl", "b"].value, found["kl", "b"].prompts) == (1.0, 1)
    assert found["kl", "c"].model_dump() == {"value": None, "interval": None, "count": 0, "prompts": 0}


def test_intervals_are_those_of_loops_over_the_same_draws() -> None:
    """Each prompt is drawn with its values of both runs, and the systems with the same prompts."""
    runs: list[Rows] = [
        {"a": gamma_rows(20), "b": [*gamma_rows(12), *[None] * 8]},
        {"a": gamma_rows(20), "b": [*[None] * 4, *gamma_rows(16)]},
    ]
    found, draws = ratios(sums_of(*runs), seed=3), drawn_prompts(20, 3)
    resampled = {
        name: [ratio([run[name][place] for run in runs for place in draw]) for draw in draws] for name in ("a", "b")
    }
    for name, drawn in resampled.items():
        assert found["kl", name].value == pytest.approx(ratio([cell for run in runs for cell in run[name]]))
        assert found["kl", name].interval == pytest.approx(quantiles(drawn), rel=1e-9)
    # and a difference moves with its two rows; on what both have: run by run, prompt by prompt
    (made,) = differences(sums_of(*runs), [("a", "b")], seed=3).values()
    shared = [
        {name: [cell if run["b"][i] else None for i, cell in enumerate(run[name])] for name in ("a", "b")}
        for run in runs
    ]
    both = [[ratio([run[name][place] for run in shared for place in draw]) for draw in draws] for name in ("a", "b")]
    assert made.interval == pytest.approx(quantiles([a - b for a, b in zip(*both, strict=True)]), rel=1e-9)
    assert made.difference == pytest.approx(
        ratio([cell for run in shared for cell in run["a"]]) - ratio([cell for run in shared for cell in run["b"]])
    )
    assert (made.n, made.left_out) == (20, 0)


def test_a_resample_that_has_none_of_a_system_s_prompts_is_passed_over() -> None:
    rows: Rows = {"a": gamma_rows(4), "b": [(3.0, 10), (1.0, 10), None, None]}
    resampled = [ratio([rows["b"][place] for place in draw]) for draw in drawn_prompts(4, 0)]
    assert any(map(isnan, resampled))
    assert ratios(sums_of(rows))["kl", "b"].interval == pytest.approx(quantiles(resampled))


def test_prompts_are_what_is_resampled_however_many_runs_there_are() -> None:
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
    (made,) = differences(sums, [("b", "none")], shares={"kl"}).values()
    assert made.interval is not None and made.difference == 1 and made.interval[0] < made.interval[1] == 1
    (made,) = differences(sums, [("b", "none")]).values()
    assert made.interval == (1.0, 1.0)


def test_one_prompt_alone_has_no_interval_but_of_a_share() -> None:
    """It says nothing of another prompt: [v, v] would say that it says all."""
    sums = sums_of({"a": [(1.0, 2), (2.0, 2)], "b": [(1.0, 2), None]})
    free, shares = ratios(sums), ratios(sums, shares={"kl"})
    assert (free["kl", "b"].value, free["kl", "b"].interval) == (0.5, None) and free["kl", "a"].interval is not None
    low, high = shares["kl", "b"].interval or (1, 0)
    assert low < 0.5 < high
    (made,), (share,) = (differences(sums, [("a", "b")], shares=of).values() for of in ((), {"kl"}))
    assert (made.n, made.difference, made.interval, made.p) == (1, 0.0, None, 1.0)
    assert share.interval is not None and share.interval[0] < 0 < share.interval[1]


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


def test_many_are_resampled_in_pieces_with_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    names, systems = [f"m{i}" for i in range(5)], ("a", "b", "c")
    cells = {(f"p{i}", s): {name: gamma_rows(1)[0] for name in names} for i in range(9) for s in systems}
    sums, pairs = Sums.of(names, systems, [cells]), [("a", "b"), ("b", "c")]
    whole = ratios(sums), differences(sums, pairs)
    monkeypatch.setattr("harness.statistics.ratios._AT_ONCE", 1)
    assert (ratios(sums), differences(sums, pairs)) == whole


# ---- differences


def test_a_difference_worked_by_hand() -> None:
    made = difference_of([(4.0, 2), (1.0, 1), (9.0, 3), None], [(1.0, 2), (1.0, 1), None, (1.0, 1)])
    assert (made.n, made.left_out, made.differing) == (2, 2, 1)
    assert made.difference == pytest.approx(5 / 3 - 2 / 3)
    assert made.p == made.p_holm == 1.0  # of the two patterns both are as far from 0
    none = difference_of([(1.0, 1), None], [None, (1.0, 1)])
    assert (none.n, none.left_out, none.difference, none.interval, none.p, none.p_holm) == (0, 2, *[None] * 4)


def test_where_the_two_have_no_run_in_common_all_runs_of_each_are_compared() -> None:
    first, second = gamma_rows(10), gamma_rows(10, mean=0.4)
    apart = sums_of({"a": first}, {"a": first, "c": first}, {"b": second})
    (made,) = differences(apart, [("a", "b")]).values()
    doubled: list[Cell] = [(2 * total, 2 * count) for total, count in first]
    assert made == difference_of(doubled, second)
    (alone,) = differences(sums_of({"a": first}, {"a": second, "b": second}), [("a", "b")]).values()
    assert (alone.n, alone.difference) == (10, 0.0)  # the run that both have, and no other


def test_runs_that_are_joined_have_the_values_of_all_of_them() -> None:
    first, second = gamma_rows(10), gamma_rows(10, mean=0.4)
    apart = sums_of({"a": first}, {"a": second}, {"b": second})
    joined = apart.joined(["seed 0", "seed 1", "seed 0"])
    assert joined.by_run("kl", "a") == apart.by_run("kl", "a")[:2]
    assert joined.by_run("kl", "b") == [pytest.approx(ratio(second)), None]
    assert ratios(joined) == ratios(apart)
    (made,) = differences(joined, [("a", "b")]).values()
    assert made == difference_of(first, second)


def changed_places(first: Sequence[Cell], second: Sequence[Cell]) -> float:
    """By writing out every pattern."""

    def apart(pattern: Sequence[bool]) -> float:
        pairs = [(b, a) if change else (a, b) for a, b, change in zip(first, second, pattern, strict=True)]
        return ratio([one for one, _ in pairs]) - ratio([other for _, other in pairs])

    found = [abs(apart(pattern)) for pattern in product((False, True), repeat=len(first))]
    return sum(value >= found[0] - 1e-12 for value in found) / len(found)


@pytest.mark.parametrize("prompts", [1, 2, 5, 9])
def test_the_exact_p_is_that_of_all_changes_of_places(prompts: int) -> None:
    for _ in range(5):
        first, second = gamma_rows(prompts), gamma_rows(prompts, mean=0.4)
        assert difference_of(first, second).p == pytest.approx(changed_places(first, second))


def test_prompts_that_do_not_differ_change_the_ratio_and_no_pattern() -> None:
    same = gamma_rows(30)
    first, second = gamma_rows(6), gamma_rows(6, mean=0.5)
    made = difference_of(first + same, second + same)
    assert (made.n, made.differing) == (36, 6)
    count = sum(n for _, n in same)
    total = sum(t for t, _ in same)
    alike = [(total, count)]  # as one prompt that never changes
    assert made.p == pytest.approx(changed_places(first + alike, second + alike))


def test_with_equal_counts_it_is_the_sign_flip_test_of_the_differences() -> None:
    for prompts in (4, EXACT):
        first = gamma_rows(prompts)
        second = [(total + float(RNG.normal(0.3)), count) for total, count in first]
        apart = np.array([a - b for (a, _), (b, _) in zip(first, second, strict=True)])
        assert difference_of(first, second).p == pytest.approx(sign_flip_p(apart))
    for shift in (0.0, 0.3, 0.6):  # drawn: three standard errors of two draws of 10,000
        first = gamma_rows(40)
        second = [(total + float(RNG.normal(shift)), count) for total, count in first]
        apart = np.array([a - b for (a, _), (b, _) in zip(first, second, strict=True)])
        p, other = difference_of(first, second).p, sign_flip_p(apart)
        assert p is not None and abs(p - other) < 3 * np.sqrt(2 * other * (1 - other) / RESAMPLES) + 2e-4
        assert p * (RESAMPLES + 1) == pytest.approx(round(p * (RESAMPLES + 1)))


def test_drawn_p_agrees_with_the_exact_one_where_counts_differ() -> None:
    """13 prompts are drawn; 2^13 patterns can still be written out."""
    for _ in range(3):
        first, second = gamma_rows(13), gamma_rows(13, mean=0.3)
        exact = changed_places(first, second)
        p = difference_of(first, second).p
        assert p is not None and abs(p - exact) < 3 * np.sqrt(exact * (1 - exact) / RESAMPLES) + 2e-4


def test_p_is_never_0_is_two_sided_and_seeded() -> None:
    low, high = gamma_rows(100), [(total + 50, count) for total, count in gamma_rows(100)]
    assert difference_of(low, high).p == difference_of(high, low).p == pytest.approx(1 / (RESAMPLES + 1))
    mixed = gamma_rows(100), gamma_rows(100)
    assert difference_of(*mixed, seed=3) == difference_of(*mixed, seed=3)
    back = difference_of(*reversed(mixed), seed=3)
    assert back.p == difference_of(*mixed, seed=3).p
    assert back.difference == pytest.approx(-(difference_of(*mixed).difference or 0))


def test_two_that_are_alike_do_not_differ() -> None:
    rows = gamma_rows(30)
    made = difference_of(rows, rows)
    assert (made.difference, made.interval, made.p, made.differing) == (0.0, (0.0, 0.0), 1.0, 0)


def test_p_is_uniform_where_the_two_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harder prompts are harder for both, and each writes responses of its own length. 300 data sets of 30."""
    monkeypatch.setattr("harness.statistics.ratios.RESAMPLES", 1000)
    rng = np.random.default_rng(5)
    found = []
    for seed in range(300):
        hard = rng.gamma(2, 0.1, size=30)
        counts = rng.integers(5, 60, size=(2, 30))
        totals = hard * counts * rng.gamma(4, 0.25, size=(2, 30))
        rows = [list(zip(t.tolist(), c.tolist(), strict=True)) for t, c in zip(totals, counts, strict=True)]
        found.append(difference_of(*rows, seed=seed).p or 0)
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(np.array(found) <= level) - level) < 3.5 * np.sqrt(level * (1 - level) / 300)


def test_intervals_of_ratios_and_of_differences_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of a prompt share its level. 200 data sets of 60 prompts; two standard errors are 3 points,
    and a percentile interval of 60 skewed prompts errs a little towards too narrow."""
    monkeypatch.setattr("harness.statistics.ratios.RESAMPLES", 1000)
    rng = np.random.default_rng(6)
    held: Floats = np.zeros(2)
    for seed in range(200):
        hard, counts = rng.gamma(2, 0.1, size=60), rng.integers(5, 60, size=60)
        rows = {
            name: list(
                zip((hard * level * counts * rng.gamma(4, 0.25, size=60)).tolist(), counts.tolist(), strict=True)
            )
            for name, level in (("a", 1.0), ("b", 0.8))
        }
        sums = sums_of(rows)
        (low, high), (made,) = (
            ratios(sums, seed=seed)["kl", "a"].interval or (9, 9),
            differences(sums, [("a", "b")], seed=seed).values(),
        )
        start, end = made.interval or (9, 9)
        held += low <= 0.2 <= high, start <= 0.04 <= end
    assert (held / 200 >= 0.90).all() and (held / 200 <= 0.985).all()


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
    sums = sums_of({"a": [(1.0, 1), None], "b": [None, (1.0, 1)], "c": [(2.0, 1), (2.0, 1)]})
    none, some = ratio_contrasts({"near": sums}, [("a", "b"), ("a", "c")])
    assert (none.n, none.p, none.p_holm, none.distinguishable) == (0, None, None, False)
    assert some.p_holm == some.p == 1.0
    assert ratio_contrasts({}, [("a", "b")]) == []


def test_in_a_pool_prompts_of_several_sets_are_several() -> None:
    near, far = (sums_of({"a": gamma_rows(8), "b": gamma_rows(8)}) for _ in range(2))
    (made,) = differences(Sums.pooled([near, far]), [("a", "b")]).values()
    assert made.n == 16
    totals, counts = (near.total + far.total).sum(axis=(0, 2, 3)), (near.count + far.count).sum(axis=(0, 2, 3))
    assert made.difference == pytest.approx(totals[0] / counts[0] - totals[1] / counts[1])
