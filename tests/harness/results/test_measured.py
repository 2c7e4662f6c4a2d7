"""Figures of what was measured, by hand: rows, contrasts, and what disagrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.core.records import RunMeasured, Verdict, plain
from harness.results.figures import Declared, RunRows, figures
from harness.results.schema import MeasureFacts
from harness.statistics.rates import wilson
from tests.harness.runs_made import LOSS, WIN, judged

Data = dict[str, Any]
Values = Mapping[str, Sequence[float]]  # by system, each prompt's value


def facts(name: str, better: str = "lower", unit: str = "nats a token") -> MeasureFacts:
    words = {"digest": f"digest of {name}", "head": name, "summary": "", "misses": ""}
    return MeasureFacts.model_validate(
        {
            "name": name,
            "group": "fidelity",
            "aside": False,
            "reads": "teacher_tokens",
            "unit": unit,
            "better": better,
            "bound": "exact",
            "teacher_bound": "exact",
            **words,
        }
    )


KL, TOP1, LENGTH = facts("kl"), facts("top1", "higher", "share of tokens"), facts("length", "neither", "tokens")


def rows(measure: str, values: Values, prompt_set: str = "near", count: int = 2) -> list[RunMeasured]:
    """Of `count` values a prompt, whose mean is as given."""
    return [
        RunMeasured(prompt_set=prompt_set, prompt_id=f"p{i}", system=name, values={measure: (count * value, count)})
        for name, every in values.items()
        for i, value in enumerate(every)
    ]


def merged(*parts: Sequence[RunMeasured]) -> list[RunMeasured]:
    """Rows of one prompt and system as one."""
    found: dict[tuple[str, str, str], RunMeasured] = {}
    for row in (row for part in parts for row in part):
        key = (row.prompt_set, row.prompt_id, row.system)
        values = {**found[key].values, **row.values} if key in found else row.values
        found[key] = row.model_copy(update={"values": values})
    return list(found.values())


def declared(*measures: MeasureFacts, **fields: Any) -> Declared:
    known: Data = {"sets": {"near": True}, "judges": ["judge"], "parts": [], "contrasts": [], "measures": measures}
    return Declared(**{**known, "candidates": {"start": "untrained", "a": "method", "b": "method"}, **fields})


def made(shown: Declared, *runs: Sequence[RunMeasured], verdicts: Sequence[Verdict] = ()) -> Data:
    return plain(figures(shown, {f"run{i}": RunRows(verdicts, [], measured) for i, measured in enumerate(runs)}))


def by_system(found: Data, measure: str = "kl", prompt_set: str = "near") -> dict[str, Data]:
    return {r["method"]: r for r in found["measures"] if (r["measure"], r["prompt_set"]) == (measure, prompt_set)}


# ---- rows


def test_rows_stand_by_set_measure_and_system_the_teacher_first() -> None:
    given = merged(
        rows("kl", {"b": [0.2], "a": [0.1]}),
        rows("length", {"a": [5], "teacher": [6], "nobody's": [7]}),
        rows("not shown", {"a": [5]}),
        rows("kl", {"a": [0.3]}, "far"),
    )
    found = made(declared(KL, LENGTH, sets={"near": True, "far": False, "empty": False}), given)
    names = ("prompt_set", "in_domain", "measure", "method", "kind")
    assert [tuple(row[name] for name in names) for row in found["measures"]] == [
        ("near", True, "kl", "a", "method"),
        ("near", True, "kl", "b", "method"),
        ("near", True, "length", "teacher", "teacher"),
        ("near", True, "length", "a", "method"),
        ("far", False, "kl", "a", "method"),
    ]


def test_a_row_is_the_ratio_of_its_sums() -> None:
    given = [*rows("kl", {"a": [0.1, 0.4]}, count=2), *rows("kl", {"b": [0.1, 0.4]}, count=2)]
    given[1] = given[1].model_copy(update={"values": {"kl": (0.4 * 8, 8)}})
    found = by_system(made(declared(KL), given))
    assert (found["a"]["value"], found["a"]["count"], found["a"]["prompts"]) == (pytest.approx(3.4 / 10), 10, 2)
    assert found["b"]["value"] == pytest.approx(0.25)
    # the prompts say 0.34 − 0.24 · 2/5 · … : (0.2 − 0.34 · 2) / 5 below it, and as much above
    said = [0.34 + (0.2 - 0.34 * 2) / 5, 0.34 + (3.2 - 0.34 * 8) / 5]
    assert found["a"]["interval"] == pytest.approx(stats.t.interval(0.95, 1, 0.34, stats.sem(said)))


def test_shares_alike_are_open_by_wilson_s_interval() -> None:
    given = merged(rows("top1", {"a": [1.0] * 20}), rows("kl", {"a": [0.0] * 20}))
    found = made(declared(KL, TOP1), given)
    assert by_system(found, "top1")["a"]["interval"] == pytest.approx(wilson(20, 20))
    assert by_system(found, "kl")["a"]["interval"] == [0.0, 0.0]


def test_a_row_that_minimised_the_measure_is_marked() -> None:
    given = merged(rows("kl", {"a": [0.1], "b": [0.2]}), rows("length", {"a": [5], "b": [5]}))
    found = made(declared(KL, LENGTH, own_losses={"a": ("kl",)}), given)
    assert [(r["measure"], r["method"]) for r in found["measures"] if r["own_loss"]] == [("kl", "a")]


def test_several_runs_have_a_value_each_and_their_standard_deviation() -> None:
    runs = [rows("kl", {"a": values, "b": values[:1]}) for values in ([0.1, 0.3], [0.3, 0.5])]
    runs.append(rows("kl", {"b": [0.9]}))
    found = by_system(made(declared(KL), *runs))
    assert found["a"]["by_run"] == [pytest.approx(0.2), pytest.approx(0.4), None]
    assert found["a"]["spread"] == pytest.approx(stdev([0.2, 0.4]))
    assert found["a"]["value"] == pytest.approx(0.3) and found["a"]["prompts"] == 2
    assert found["b"]["by_run"] == pytest.approx([0.1, 0.3, 0.9])


def test_prompts_that_were_left_out_are_in_no_measure() -> None:
    whole = RunRows([], [], rows("kl", {"a": [0.1, 9.0]}))
    found = plain(figures(declared(KL), {"run": whole.without({"near": ["p1"]})}))
    assert by_system(found)["a"]["value"] == pytest.approx(0.1)


def test_without_measures_there_is_nothing() -> None:
    found = made(declared(contrasts=[("a", "b")]), rows("kl", {"a": [0.1], "b": [0.2]}))
    assert found["measures"] == found["measure_contrasts"] == found["disagreements"] == []
    assert made(declared(KL, contrasts=[("a", "b")]), [])["measures"] == []


# ---- contrasts

LOW, HIGH = [0.1 + i / 100 for i in range(12)], [0.4 + i / 90 for i in range(12)]


@pytest.mark.parametrize(("measure", "better"), [(KL, "a"), (facts("kl", "higher"), "b"), (facts("kl", "neither"), "")])
def test_a_contrast_says_which_one_its_measure_finds_better(measure: MeasureFacts, better: str) -> None:
    given = rows("kl", {"a": LOW, "b": HIGH})
    (one,) = made(declared(measure, contrasts=[("a", "b")]), given)["measure_contrasts"]
    assert (one["distinguishable"], one["better"]) == (True, better)
    assert one["p"] == pytest.approx(stats.ttest_rel(LOW, HIGH).pvalue)
    assert one["difference"] == pytest.approx(sum(LOW) / 12 - sum(HIGH) / 12)


def test_what_is_not_told_apart_has_no_better_one() -> None:
    given = rows("kl", {"a": [0.1, 0.3], "b": [0.2, 0.1]})
    (one,) = made(declared(KL, contrasts=[("a", "b")]), given)["measure_contrasts"]
    assert (one["distinguishable"], one["better"]) == (False, "")


def test_contrasts_stand_by_measure_and_pools_are_a_family_of_their_own() -> None:
    """A domain of which one set alone has the measure is no pool: it would be that set again, without its family."""
    sets = {"home": True, "near": False, "far": False}
    given = merged(
        *(rows("kl", {"a": LOW[:6], "b": HIGH[:6]}, name) for name in sets),
        *(rows("top1", {"a": [0.5] * 6, "b": [0.25] * 6}, name) for name in ("near", "home")),
    )
    found = made(declared(KL, TOP1, sets=sets, contrasts=[("a", "b")]), given)["measure_contrasts"]
    assert [(one["measure"], one["scope"]) for one in found] == [
        ("kl", "home"),
        ("kl", "near"),
        ("kl", "far"),
        ("kl", "out-of-domain"),
        ("top1", "home"),
        ("top1", "near"),
    ]
    # three tests of one p; and one of twelve prompts
    p, pooled = (stats.ttest_rel(LOW[:6] * times, HIGH[:6] * times).pvalue for times in (1, 2))
    assert [one["p_holm"] for one in found[:4]] == pytest.approx([3 * p, 3 * p, 3 * p, pooled], rel=1e-6)
    # a quarter apart on every prompt: as if on one more it were −1
    alike = float(2 * stats.t.sf(0.25 / (1.25 / 42**0.5), 5))
    assert [one["p_holm"] for one in found[4:6]] == pytest.approx([min(1, 2 * alike)] * 2)


def test_a_pool_is_of_the_sets_that_have_the_measure() -> None:
    """What is drawn are their prompts alone: another set would leave the figures, and change their intervals."""
    sets = {"near": False, "far": False, "turns": False}
    of_two = [rows("kl", {"a": LOW, "b": HIGH}, name) for name in ("near", "far")]
    given = merged(*of_two, rows("length", {"a": LOW, "b": HIGH}, "turns"), rows("length", {"a": LOW, "b": HIGH}))
    found = made(declared(KL, LENGTH, sets=sets, contrasts=[("a", "b")]), given)["measure_contrasts"]
    alone = made(declared(KL, sets=sets, contrasts=[("a", "b")]), merged(*of_two))["measure_contrasts"]
    assert [one["scope"] for one in found] == ["near", "far", "out-of-domain", "near", "turns", "out-of-domain"]
    assert found[:3] == alone and found[2]["n"] == 24


def test_runs_of_one_seed_are_one_where_rows_are_set_against_each_other() -> None:
    runs = {
        "one": merged(rows("kl", {"a": LOW})),
        "same seed": merged(rows("kl", {"b": HIGH})),
        "other seed": merged(rows("kl", {"a": HIGH})),
    }
    shown, seeds = declared(KL, contrasts=[("a", "b")]), {"one": 0, "same seed": 0, "other seed": 1}
    found = plain(figures(shown, {name: RunRows([], [], given) for name, given in runs.items()}, seeds=seeds))
    together = made(shown, merged(runs["one"], runs["same seed"]))
    assert found["measure_contrasts"] == together["measure_contrasts"]
    assert [value is None for value in by_system(found)["a"]["by_run"]] == [False, True, False]


def test_so_they_are_for_the_judge() -> None:
    def by_judge(name: str, said: Sequence[Any]) -> RunRows:
        return RunRows(judged(name, said, prompt_set="near", judge="judge"), [])

    runs = {"one": by_judge("a", [WIN] * 8), "same seed": by_judge("b", [LOSS] * 8)}
    runs["other seed"] = by_judge("a", [LOSS] * 8)
    seeds = {"one": 0, "same seed": 0, "other seed": 1}
    (one,) = figures(declared(contrasts=[("a", "b")]), runs, seeds=seeds).contrasts
    assert (one.n, one.difference) == (8, 2.0)


# ---- what disagrees


def test_measures_that_decide_a_contrast_differently_are_named() -> None:
    given = merged(
        rows("kl", {"a": LOW, "b": HIGH}),
        rows("top1", {"a": LOW, "b": HIGH}),
        rows("other", {"a": LOW, "b": HIGH}),
        rows("length", {"a": LOW, "b": HIGH}),
    )
    shown = declared(KL, TOP1, facts("other"), LENGTH, contrasts=[("a", "b")])
    assert made(shown, given)["disagreements"] == [
        {"scope": "near", "first": "a", "second": "b", "for_first": ["kl", "other"], "for_second": ["top1"]}
    ]
    assert made(declared(KL, LENGTH, contrasts=[("a", "b")]), given)["disagreements"] == []


def test_the_judge_counts_as_one() -> None:
    verdicts = [
        *judged("a", [LOSS] * 12, prompt_set="near", judge="judge"),
        *judged("b", [WIN] * 12, prompt_set="near", judge="judge"),
    ]
    given = rows("kl", {"a": LOW, "b": HIGH})
    assert made(declared(KL, contrasts=[("a", "b")]), given, verdicts=verdicts)["disagreements"] == [
        {"scope": "near", "first": "a", "second": "b", "for_first": ["kl"], "for_second": ["judge"]}
    ]
    agreed = rows("kl", {"a": HIGH, "b": LOW})
    assert made(declared(KL, contrasts=[("a", "b")]), agreed, verdicts=verdicts)["disagreements"] == []


def test_what_is_not_told_apart_disagrees_with_nothing() -> None:
    given = merged(rows("kl", {"a": LOW, "b": HIGH}), rows("top1", {"a": [1.0, 0.9], "b": [0.9, 0.9]}))
    assert made(declared(KL, TOP1, contrasts=[("a", "b")]), given)["disagreements"] == []


# ---- harm


def harmed(found: Data) -> list[tuple[str, str, str]]:
    return [(one["method"], one["measure"], one["scope"]) for one in found["harms"]]


def test_a_row_further_from_the_teacher_than_before_training_is_told_whatever_was_declared() -> None:
    start, noise = [0.5, 0.9, 0.7, 1.1, 0.6, 0.8], [0.0, 0.01, -0.01, 0.02, -0.02, 0.0]
    worse = [at + 0.2 + by for at, by in zip(start, noise, strict=True)]
    better = [at - 0.2 + by for at, by in zip(start, noise, strict=True)]
    same = [at + by for at, by in zip(start, noise, strict=True)]
    values = {"start": start, "a": worse, "b": better, "as it was": same, "second": worse}
    kinds = {"start": "untrained", "a": "control", "b": "method", "as it was": "method", "second": "ceiling"}
    given = merged(rows("kl", values), rows("length", {name: [100 * v for v in of] for name, of in values.items()}))
    found = made(declared(KL, LENGTH, candidates=kinds), given)
    assert harmed(found) == [("a", "kl", "near")]  # by no measure that has no direction; no row that no training made
    (one,) = found["harms"]
    test = stats.ttest_1samp([w - s for w, s in zip(worse, start, strict=True)], 0.0)
    assert one["difference"] == pytest.approx(0.2)
    assert one["interval"] == pytest.approx(list(test.confidence_interval()))
    assert one["p"] == pytest.approx(test.pvalue)
    # three rows were trained, on one set; the row's is one of the two least p, which are equal
    assert one["looks"] == 3 and one["p_holm"] == pytest.approx(3 * test.pvalue)
    assert found["measure_contrasts"] == []


def test_of_shares_that_are_better_high_it_is_the_lower_one() -> None:
    given = rows("top1", {"start": [0.8, 0.7, 0.9, 0.8, 0.75], "a": [0.6, 0.5, 0.72, 0.6, 0.53], "b": [0.95] * 5})
    found = made(declared(TOP1), given)
    assert harmed(found) == [("a", "top1", "near")] and found["harms"][0]["difference"] == pytest.approx(-0.2)


def test_nothing_is_told_within_an_interval_or_of_what_is_not_measured() -> None:
    unsure = rows("kl", {"start": [0.5, 0.9, 0.7, 1.1], "a": [0.9, 0.7, 1.0, 1.0], "b": [0.5, 0.9, 0.7, 1.1]})
    assert made(declared(KL), unsure)["harms"] == []
    far = rows("kl", {"start": [0.1] * 6, "a": [5.0, 5.1, 5.2, 5.3, 5.4, 5.5]})
    assert made(declared(KL.model_copy(update={"group": "text"})), far)["harms"] == []
    assert made(declared(), far)["harms"] == []
    assert made(declared(KL, candidates={"a": "method"}), far)["harms"] == []  # nothing to be held against
    assert harmed(made(declared(KL), far)) == [("a", "kl", "near")]


def test_sets_are_one_family_and_pooled_domains_another() -> None:
    start, by = [0.1, 0.4, 0.2, 0.3, 0.2], [0.10, 0.13, 0.08, 0.11, 0.12]
    worse = [at + more for at, more in zip(start, by, strict=True)]
    near, also = (rows("kl", {"start": start, "a": worse}, name) for name in ("near", "also"))
    found = made(declared(KL, sets={"near": True, "also": True}), [*near, *also])
    assert harmed(found) == [("a", "kl", "near"), ("a", "kl", "also"), ("a", "kl", "in-domain")]
    assert [one["looks"] for one in found["harms"]] == [2, 2, 1]
    p = stats.ttest_1samp(by, 0.0).pvalue
    assert [one["p_holm"] for one in found["harms"][:2]] == pytest.approx([2 * p, 2 * p])


def test_with_several_seeds_their_luck_is_in_it() -> None:
    """All prompts are further off at one seed, and as far nearer at the other: it may be either at the next."""
    start = [0.5, 0.9, 0.7, 1.1, 0.6, 0.8]

    def seed(a: float, b: float) -> list[RunMeasured]:
        off = [at + by for at, by in zip(start, (0.0, 0.01, -0.01, 0.02, -0.02, 0.0), strict=True)]
        return rows("kl", {"start": start, "a": [at + a for at in off], "b": [at + b for at in off]})

    def found(*seeds: list[RunMeasured]) -> Data:
        return made(declared(KL), *seeds)

    assert harmed(found(seed(0.5, 0.0))) == [("a", "kl", "near")]  # of this checkpoint
    assert harmed(found(seed(0.5, 0.0), seed(-0.3, 0.0), seed(0.2, 0.0))) == []
    several = found(seed(0.51, 0.0), seed(0.5, 0.0), seed(0.49, 0.0))
    assert harmed(several) == [("a", "kl", "near")]
    assert (
        several["harms"][0]["seeds"] == 3
        and several["harms"][0]["interval"][0] < 0.5 < several["harms"][0]["interval"][1]
    )


def test_a_false_alarm_is_as_rare_as_its_level_says() -> None:
    """Of rows that training left as near as they were: 400 boards of four rows, two measures and two sets."""
    draw = np.random.default_rng(0)
    names, shown = ["start", *"abcd"], [KL, TOP1]
    shown_as = declared(
        *shown,
        sets={"near": True, "far": False},
        candidates={name: "method" if name != "start" else "untrained" for name in names},
    )
    alarms = np.zeros((400, 2), dtype=bool)
    for board in alarms:
        given = []
        for prompt_set in ("near", "far"):
            prompt = draw.gamma(4, 0.2, 20)
            for measure in ("kl", "top1"):
                values = {name: list(np.clip(prompt / 2 + draw.normal(0, 0.1, 20), 0, 1)) for name in names}
                given.append(rows(measure, values, prompt_set))
        found = figures(shown_as, {"run": RunRows([], [], merged(*given))})
        board[:] = [any(one.measure == name for one in found.harms) for name in ("kl", "top1")]
    # of two sides at 5% one is harm; the rows share their start, and so their alarms
    for rate in alarms.mean(axis=0):
        assert 0.005 < rate < 0.045
    assert alarms.any(axis=1).mean() < 0.08
