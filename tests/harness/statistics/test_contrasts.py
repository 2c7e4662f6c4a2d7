"""Paired differences against scipy's t tests, families and Holm's worked example, equivalence against two one-sided
tests, and groups of neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from harness.statistics.contrasts import (
    Contrast,
    cells_of,
    contrast,
    contrasts,
    corrected,
    equivalence,
    family_of,
    holm,
    indistinguishable,
    luck_of,
    ranks,
    row_components,
)
from harness.statistics.effects import detectable, luck
from harness.statistics.outcomes import NAN, Floats, Outcomes, from_records, from_runs, outcomes
from tests.harness.tabular import outcomes_of, verdict

RNG = np.random.default_rng(0)


def over_seeds(values: Mapping[str, Floats], sets: int = 1) -> Outcomes:
    """[seeds, prompts] values of each candidate; NaN where there is no outcome. Prompts are dealt out to the sets."""
    known = {name: np.asarray(of, dtype=np.float64) for name, of in values.items()}
    seeds = range(len(next(iter(known.values()))))
    return outcomes(
        from_runs(
            {
                f"seed {seed}": [
                    verdict(f"p{p}", candidate=name, prompt_set=f"set{p % sets}", preference=(1 + value) / 2)
                    for name, of in known.items()
                    for p, value in enumerate(of[seed].tolist())
                    if not np.isnan(value)
                ]
                for seed in seeds
            }
        )
    )


def likely(win: float, loss: float, *shape: int) -> Floats:
    return np.asarray(RNG.choice([1.0, 0.0, -1.0], size=shape, p=[win, 1 - win - loss, loss]))


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
    # differences 2, 0, 1, 0 on the four prompts judged for both: mean ¾, variance 11/12, t = ¾ / √(11/48)
    assert (made.n, made.left_out, made.differing, made.difference) == (4, 2, 2, 0.75)
    assert made.error == pytest.approx(sqrt(11 / 48)) and made.degrees == 3 and made.seeds == 1
    assert made.p == made.p_holm == pytest.approx(2 * stats.t.sf(0.75 / sqrt(11 / 48), 3))
    assert (made.scope, made.judge, made.family) == ("set0", "judge", "methods")
    (back,) = contrasts(found, [("b", "a")])
    assert back.difference == -0.75 and back.p == pytest.approx(made.p)


def test_with_one_seed_it_is_scipy_s_t_test() -> None:
    for prompts in (16, 60, 300):
        a, b = likely(0.4, 0.3, 2, prompts)
        (made,) = contrasts(outcomes_of({"a": a, "b": b}), [("a", "b")])
        wanted = stats.ttest_rel(a, b)
        assert made.p == pytest.approx(wanted.pvalue)
        assert made.interval == pytest.approx(tuple(wanted.confidence_interval()))


def test_over_seeds_the_luck_is_of_all_trained_rows_on_the_prompts_of_all_sets() -> None:
    """The start and the ceiling are no part of it, and have none."""
    values = {name: likely(0.4, 0.3, 3, 60) for name in ("a", "b", "c", "start", "ceiling")}
    values["a"][1] = likely(0.9, 0.05, 60)  # a lucky seed
    found = over_seeds(values, sets=2)
    between = luck(cells_of(found, ["a", "b", "c"]))
    assert between is not None and (between.rows, between.seeds, between.prompts) == (3, 3, 60)
    assert between.own > 0 and between == luck_of(found, {"start", "ceiling"})
    pairs = [("a", "b"), ("a", "start"), ("ceiling", "start")]
    for made in contrasts(found, pairs, untrained={"start", "ceiling"}):
        where = np.arange(60) % 2 == int(made.scope[-1])
        apart = (values[made.first] - values[made.second])[:, where].mean(axis=0)
        parts = [(apart.var(ddof=1) / 30, 29)]
        trained = sum(name in "abc" for name in (made.first, made.second))
        parts += [(trained * between.own / 3, 4)] if trained else []
        parts += [(between.shared / 3, 2)] if trained == 1 and between.shared else []
        variance = sum(part for part, _ in parts)
        degrees = variance**2 / sum(part**2 / of for part, of in parts)
        assert made.error == pytest.approx(sqrt(variance)) and made.degrees == pytest.approx(degrees)
        assert made.p == pytest.approx(2 * stats.t.sf(abs(apart.mean()) / sqrt(variance), degrees))
        assert made.difference == pytest.approx(apart.mean()) and made.seeds == 3


def test_the_cells_of_a_row_hold_all_that_was_judged_there() -> None:
    rows = [
        verdict(f"p{prompt}", candidate=name, preference=preference, turn=turn, sample=sample)
        for name, prompt, turn, sample, preference in (
            ("a", 0, 1, 0, 1.0),
            ("a", 0, 2, 0, 0.0),
            ("a", 0, 2, 1, 1.0),
            ("a", 1, 0, 0, None),
            ("b", 1, 0, 0, 1.0),
        )
    ]
    first, second, nobody = cells_of(outcomes(from_records(rows)), ["a", "b", "nobody"])
    assert (first.total.tolist(), first.count.tolist()) == ([[1.0, 0.0]], [[3.0, 0.0]])
    assert (second.total.tolist(), second.count.tolist()) == ([[0.0, 1.0]], [[0.0, 1.0]])
    assert not nobody.count.any()


def test_samples_of_a_prompt_say_what_sampling_moves_and_turns_do_not() -> None:
    """Within (run, prompt, turn): 1, −1 and −1 have squares of 8/3 with two degrees, 1 and 1 none with one."""
    said = [(0, 1, 0, 1.0), (0, 1, 1, 0.0), (0, 1, 2, 0.0), (0, 2, 0, 1.0), (1, 0, 0, 1.0), (1, 0, 1, 1.0)]
    rows = [verdict(f"p{p}", turn=turn, sample=sample, preference=value) for p, turn, sample, value in said]
    found = row_components(outcomes(from_records(rows)), "a")
    assert found.within == pytest.approx(sqrt((8 / 3) / 3))
    once = row_components(outcomes(from_records(rows[:1] + rows[3:5])), "a")
    assert once.within is None


def test_prompts_not_rows_are_paired_whatever_their_order() -> None:
    rows = [verdict(f"p{i}", candidate=name, preference=float(i % 2)) for name in "ab" for i in range(40)]
    shuffled = [rows[i] for i in RNG.permutation(80)]
    (made,) = contrasts(outcomes(from_records(shuffled)), [("a", "b")])
    assert (made.difference, made.differing, made.p, made.n) == (0.0, 0, 1.0, 40)
    # no prompt differs: as if one more did, by 2
    half = stats.t.ppf(0.975, 39) * np.std([0] * 40 + [2], ddof=1) / sqrt(40)
    assert made.interval == pytest.approx((-half, half))


def test_runs_of_a_prompt_are_one_cluster() -> None:
    """The same differences from three runs say no more than from one: nothing is moved by their seeds."""
    rows = [verdict(f"p{i}", candidate=name, preference=float(v)) for name in "ab" for i, v in
            enumerate(RNG.integers(0, 2, 50))]  # fmt: skip
    one = from_records(rows)
    runs = np.repeat(np.arange(3), len(one))
    three = one.select(np.tile(np.arange(len(one)), 3))
    object.__setattr__(three, "run", runs)
    (alone,), (thrice,) = (contrasts(outcomes(table), [("a", "b")]) for table in (one, three))
    assert thrice == alone.model_copy(update={"seeds": 3})


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
    assert made.p == pytest.approx(stats.ttest_rel(a, b).pvalue) and made.p < 0.002
    assert made.interval is not None and made.interval[0] > 0


# ---- families


def test_each_family_is_corrected_by_itself_and_the_primary_for_none() -> None:
    values = {name: likely(0.4, 0.3, 120) for name in ("a", "b", "c", "start", "ceiling")}
    found = outcomes_of(values, sets=2)
    pairs = [("a", "b"), ("a", "c"), ("a", "start"), ("ceiling", "a"), ("b", "c")]
    domains = {"in-domain": ["set0", "set1"]}
    untrained = {"start", "ceiling"}
    made = contrasts(found, pairs, domains, untrained, ("a", "b", "in-domain"))
    assert [one.family for one in made[:5]] == ["methods", "methods", "anchors", "anchors", "methods"]
    assert [one.family for one in made[10:]] == ["primary", "methods", "anchors", "anchors", "methods"]
    for pooled in (False, True):
        scoped = [one for one in made if (one.scope == "in-domain") == pooled]
        for family, size in (("methods", 2 if pooled else 6), ("anchors", 2 if pooled else 4)):
            some = [one for one in scoped if one.family == family]
            assert len(some) == size and [one.p_holm for one in some] == holm([one.p or 0 for one in some])
            assert [one.detectable for one in some] == [detectable(one.error, one.degrees, size) for one in some]
    (primary,) = [one for one in made if one.family == "primary"]
    assert primary.p_holm == primary.p and primary.detectable == detectable(primary.error, primary.degrees)
    # without one it is among the others
    assert {one.family for one in contrasts(found, pairs, domains, untrained)} == {"methods", "anchors"}


def test_a_family_is_by_whether_both_were_trained() -> None:
    assert family_of("a", "b", {"start"}) == "methods"
    assert family_of("a", "start", {"start"}) == family_of("start", "a", {"start"}) == "anchors"


# ---- equivalence


def found_of(difference: float, error: float | None, degrees: float = 30) -> Contrast:
    known = dict.fromkeys(("interval", "p", "p_holm", "detectable"))
    named = {"first": "a", "second": "b", "scope": "s", "family": "methods", "judge": "j"}
    counts = {"n": 31, "left_out": 0, "differing": 3, "seeds": 1}
    of = {"difference": difference, "error": error, "degrees": None if error is None else degrees}
    return Contrast.model_validate({**known, **named, **counts, **of})


def test_equivalence_is_that_of_two_one_sided_t_tests() -> None:
    margin = 0.1
    for _ in range(200):
        apart = RNG.normal(RNG.choice([-0.09, 0, 0.05]), 0.3, size=60)
        lower = stats.ttest_1samp(apart, -margin, alternative="greater").pvalue < 0.05
        upper = stats.ttest_1samp(apart, margin, alternative="less").pvalue < 0.05
        found = equivalence(found_of(apart.mean(), stats.sem(apart), 59), margin)
        assert found.finding == ("equivalent" if lower and upper else "not worse" if lower else "neither")
        assert found.interval == pytest.approx(stats.ttest_1samp(apart, 0).confidence_interval(0.9))


def test_an_interval_that_ends_at_the_margin_does_not_lie_within() -> None:
    half = stats.t.ppf(0.95, 30) * 0.01
    assert equivalence(found_of(0.0, 0.01), half * 1.001).finding == "equivalent"
    assert equivalence(found_of(0.0, 0.01), half * 0.999).finding == "neither"
    assert equivalence(found_of(0.05, 0.01), 0.05).finding == "not worse"
    assert equivalence(found_of(-0.05, 0.01), 0.05).finding == "neither"
    nothing = equivalence(found_of(0.0, None), 0.05)
    assert (nothing.finding, nothing.interval, nothing.margin) == ("neither", None, 0.05)


def test_rows_that_are_all_alike_are_equivalent_where_prompts_are_many() -> None:
    for prompts, finding in ((20, "neither"), (400, "equivalent")):
        (made,) = contrasts(outcomes_of({"a": [0.0] * prompts, "b": [0.0] * prompts}), [("a", "b")])
        assert equivalence(made, 0.05).finding == finding


# ---- neighbours


def test_neighbours_over_seeds_are_tested_with_the_luck_of_all() -> None:
    found = over_seeds({name: likely(0.4, 0.3, 3, 40) for name in "abc"})
    between = luck_of(found)
    tests, _ = indistinguishable(found, ["a", "b", "c"], "set0", (), between)
    assert between is not None and [(one.first, one.second, one.seeds) for one in tests] == [
        ("a", "b", 3),
        ("b", "c", 3),
    ]
    alone = [contrast(found, pair, "set0", (), between) for pair in (("a", "b"), ("b", "c"))]
    assert [one.p for one in tests] == [one.p for one in alone]
    assert [one.p_holm for one in tests] == holm([one.p or 0 for one in alone])


def test_places_are_those_of_whole_groups() -> None:
    assert ranks([0, 0, 1, 2, 2, 2]) == [(1, 2), (1, 2), (3, 3), (4, 6), (4, 6), (4, 6)]
    assert ranks([]) == []


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


def test_no_group_opens_where_the_seeds_in_common_say_the_opposite_of_the_order() -> None:
    """The first is the better one by what it has alone."""
    by_run = {
        "0": [verdict(f"{n}", preference=0.0, candidate="a") for n in range(60)]
        + [verdict(f"{n}", preference=1.0 if n else 0.5, candidate="b") for n in range(60)],
        "1": [verdict(f"{n}", preference=1.0, candidate="a") for n in range(200)],
    }
    tests, groups = indistinguishable(outcomes(from_runs(by_run)), ["a", "b"], "set")
    assert tests[0].distinguishable and (tests[0].difference or 0) < 0
    assert groups == [0, 0]


def test_one_row_or_none_is_a_group_or_none() -> None:
    found = outcomes_of({"a": [1, 0]})
    assert indistinguishable(found, ["a"], "set0") == ([], [0])
    assert indistinguishable(found, [], "set0") == ([], [])
    assert corrected([]) == []


def test_the_interval_of_a_difference_covers() -> None:
    """Three kinds of prompt: both alike, a better by one step, worse by two. 250 data sets of 150."""
    truth = 0.3 - 2 * 0.1
    held = 0
    for _ in range(250):
        apart = RNG.choice([0.0, 1, -2], size=150, p=[0.6, 0.3, 0.1])
        a, b = np.where(apart == -2, -1.0, np.where(apart == 1, 1.0, 0)), np.where(apart == -2, 1.0, 0)
        found = outcomes_of({"a": a, "b": b})
        low, high = contrast(found, ("a", "b"), "").interval or (9, 9)
        held += low <= truth <= high
    assert 0.915 <= held / 250 <= 0.985
