"""Figures of a board, by hand, from verdicts and responses made up for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import stdev, variance
from typing import Any

import pytest
from scipy import stats

from harness.core.records import IDENTICAL, RunMeasured, RunResponse, Verdict, plain
from harness.results import figures as made_of
from harness.results.declared import Stamps
from harness.results.figures import Declared, RunRows
from harness.results.schema import UNTOLD, StampFacts
from harness.statistics.contrasts import cells_of, holm, luck_of
from harness.statistics.effects import compared
from harness.statistics.outcomes import from_runs, outcomes
from harness.statistics.panel import MAJORITY, MEAN
from harness.statistics.rates import wilson
from tests.harness.results.test_measured import facts
from tests.harness.runs_made import FLIP, LOSS, TIE, WIN, Said, judged
from tests.harness.tabular import verdict

Data = dict[str, Any]


def declared(*candidates: str, **fields: Any) -> Declared:
    known: Data = {"sets": {"near": True}, "judges": ["judge"], "parts": [], "contrasts": []}
    return Declared(**{**known, "candidates": dict.fromkeys(candidates, "method"), **fields})


def near(candidate: str, said: Sequence[Said], **fields: Any) -> list[Verdict]:
    return judged(candidate, said, **{"prompt_set": "near", **fields})


def made(said: Mapping[str, Sequence[Said]], **fields: Any) -> RunRows:
    """One run of the set `near`."""
    return RunRows([row for name, every in said.items() for row in near(name, every, **fields)], [])


def board_of(said: Mapping[str, Sequence[Said]], rank_incomplete: bool = False, **fields: Any) -> Data:
    found = figures(declared(*said, **fields), {"run": made(said)}, rank_incomplete)
    json.dumps(found, allow_nan=False)
    return found


def figures(*given: Any) -> Data:
    """As the file of results has them."""
    return plain(made_of.figures(*given))


def by_method(found: Data, **where: Any) -> dict[str, Data]:
    return {row["method"]: row for row in found["rows"] if all(row[key] == value for key, value in where.items())}


# ---- rows


def test_a_row_has_the_rates_and_counts_of_its_verdicts() -> None:
    (row,) = board_of({"a": [WIN, WIN, LOSS, FLIP, TIE, (None, 1.0)]})["rows"]
    names = ("prompt_set", "in_domain", "method", "kind", "judge")
    assert [row[name] for name in names] == ["near", True, "a", "method", "judge"]
    counts = ("wins", "ties", "losses", "missing", "n", "prompts", "failed_verdicts", "identical")
    assert [row[name] for name in counts] == [2, 2, 1, 1, 5, 5, 1, 0]
    assert (row["preference_rate"], row["win_rate"], row["half_tie_rate"]) == pytest.approx((0.2, 0.4, 0.6))
    assert row["mean_preference"] == pytest.approx((1 + 1 + 0 + 0.5 + 0.5) / 5)
    assert row["missing_share"] == pytest.approx(1 / 6)
    assert row["flips"] == {"count": 1, "n": 5, "share": 0.2, "interval": list(wilson(1, 5))}
    assert (row["orders"], row["by_run"], row["spread"], row["rank"]) == ("both", [row["preference_rate"]], None, None)


def test_rows_stand_by_set_judge_and_candidate_as_declared() -> None:
    rows = [
        verdict("p0", "none", 1.0, candidate=candidate, prompt_set=prompt_set, judge=judge)
        for judge in ("part", "judge")
        for candidate in ("b", "a", "nobody's")
        for prompt_set in ("far", "near")
    ]
    shown = declared("a", "b", "unjudged", sets={"near": True, "far": False}, parts=["judge", "part"])
    found = figures(shown, {"run": RunRows(rows, [])})
    assert [(row["prompt_set"], row["judge"], row["method"]) for row in found["rows"]] == [
        (prompt_set, judge, name)
        for prompt_set in ("near", "far")
        for judge in ("judge", "part")
        for name in ("a", "b")
    ]
    assert [(entry["name"], entry["in_domain"]) for entry in found["prompt_sets"]] == [("near", True), ("far", False)]


def test_several_judges_are_a_panel_that_decides_and_is_shown_first() -> None:
    said = {"x": [1.0, 1.0, 0.0, 0.9], "y": [1.0, 0.0, 0.0, 0.3]}
    rows = [row for judge, every in said.items() for row in near("a", [(p,) for p in every], judge=judge)]
    several = declared("a", judges=["x", "y"], parts=["x", "y", "part of y"])
    assert (several.judge, several.judges_shown) == (MAJORITY, [MAJORITY, MEAN, "x", "y", "part of y"])
    found = figures(several, {"run": RunRows(rows, [])})
    outcomes = {row["judge"]: (row["wins"], row["ties"], row["losses"]) for row in found["rows"]}
    # of a split vote the majority is a tie; the mean of 1 and 0 is one too, that of .9 and .3 a win
    assert outcomes == {MAJORITY: (1, 2, 1), MEAN: (2, 1, 1), "x": (3, 0, 1), "y": (1, 0, 3)}
    (pair,) = found["agreement"]
    assert (pair["first"], pair["second"], pair["n"]) == ("x", "y", 4)
    assert (pair["agreement"]["count"], pair["table"]) == (2, [[1, 0, 2], [0, 0, 0], [0, 0, 1]])
    assert {row["orders"] for row in found["rows"]} == {"none"}
    # p_o = 2/4, p_e = (3 · 1 + 1 · 3) / 16
    assert pair["kappa"] == pytest.approx((1 / 2 - 6 / 16) / (1 - 6 / 16))


@pytest.mark.parametrize(("of_y", "orders"), [("both", "both"), ("none", "mixed")])
def test_a_panel_has_the_orders_of_its_members(of_y: str, orders: str) -> None:
    rows = near("a", [WIN, LOSS], judge="x") + near("a", [WIN, LOSS] if of_y == "both" else [(1.0,)] * 2, judge="y")
    found = by_method(figures(declared("a", judges=["x", "y"]), {"run": RunRows(rows, [])}), judge=MAJORITY)
    assert found["a"]["orders"] == orders


def test_judging_is_counted_for_each_judge_that_was_asked() -> None:
    said = near("a", [WIN, FLIP, TIE, FLIP], judge="x", form="letter")
    said += near("b", [(None, 1.0)], judge="x", form="rationale", truncated=True)
    said += [verdict("p9", "none", 0.5, judge="x", candidate="b", prompt_set="near", detail=IDENTICAL)]
    said += [verdict("p0", "none", None, judge="y", candidate="a", prompt_set="near", status="unparsable")]
    found = figures(declared("a", "b", judges=["x", "y"]), {"run": RunRows(said, [])})
    x, y = found["judging"]
    assert x == {
        "judge": "x",
        "verdicts": 11,
        "ok": 10,
        "unparsable": 0,
        "failed": 1,
        "skipped": 0,
        "identical": 1,
        "truncated": 2,
        "forms": {"letter": 8, "rationale": 2},
        "flips": 2,
        "both_orders": 4,
        "ties": 4,  # two contradictions, a half in both orders, identical responses
        "outcomes": 5,
    }
    assert (y["judge"], y["verdicts"], y["unparsable"], y["outcomes"], y["forms"]) == ("y", 1, 1, 0, {})
    assert by_method(found, judge="x")["b"]["identical"] == 1


# ---- ranks

MANY = 80


def test_rows_that_cannot_be_told_apart_share_a_range_of_ranks() -> None:
    halves = [WIN if i % 2 else LOSS for i in range(MANY)]
    said = {"loser": [LOSS] * MANY, "like b": [TIE, *halves[1:]], "b": halves, "winner": [WIN] * MANY}
    found = by_method(board_of(said))
    assert {name: row["rank"] for name, row in found.items()} == {
        "winner": [1, 1],
        "like b": [2, 3],
        "b": [2, 3],
        "loser": [4, 4],
    }


def test_the_deciding_judge_alone_ranks_and_tests() -> None:
    """Another one, beside it, says the contrary."""
    said = {"judge": {"a": [WIN] * MANY, "b": [LOSS] * MANY}, "part": {"a": [LOSS] * MANY, "b": [WIN] * MANY}}
    rows = [row for judge, every in said.items() for row in made(every, judge=judge).verdicts]
    shown = declared("a", "b", parts=["judge", "part"], contrasts=[("a", "b")])
    found = figures(shown, {"run": RunRows(rows, [])})
    assert {row["method"]: row["rank"] for row in found["rows"] if row["judge"] == "judge"} == {
        "a": [1, 1],
        "b": [2, 2],
    }
    assert {row["rank"] for row in found["rows"] if row["judge"] == "part"} == {None}
    (tested,) = found["contrasts"]
    assert (tested["judge"], tested["difference"], tested["distinguishable"]) == ("judge", 2.0, True)
    assert {control["judge"] for control in found["length"]} == {"judge"}


@pytest.mark.parametrize(
    ("prompts", "missing", "rank_incomplete", "reason"),
    [
        (MANY, 0, False, ""),
        (8, 0, False, ""),
        (4, 0, False, UNTOLD),
        (4, 0, True, UNTOLD),
        (100, 10, False, ""),
        (100, 11, False, "11% of b's prompts are missing"),
        (100, 11, True, ""),
        (100, 97, True, UNTOLD),
        (100, 100, True, UNTOLD),
    ],
)
def test_a_set_is_ranked_where_rows_are_told_apart_and_few_prompts_are_missing(
    prompts: int, missing: int, rank_incomplete: bool, reason: str
) -> None:
    said = {"a": [WIN] * prompts, "b": [(None, None)] * missing + [LOSS] * (prompts - missing)}
    found = board_of(said, rank_incomplete)
    (entry,) = found["prompt_sets"]
    assert bool(entry["unranked"]) == bool(reason) and reason in entry["unranked"]
    ranks = {name: row["rank"] for name, row in by_method(found).items()}
    assert ranks == ({"a": None, "b": None} if reason else {"a": [1, 1], "b": [2, 2]})


def test_what_a_set_could_tell_of_neighbours_is_the_worst_of_them() -> None:
    """Three rows, two tests: each at Holm's first step, of 2.5%."""
    halves = [WIN if i % 2 else LOSS for i in range(40)]
    said = {"a": [WIN] * 40, "b": halves, "c": [LOSS, *halves[1:]]}
    (entry,) = board_of(said, contrasts=[("a", "b"), ("b", "c")])["prompt_sets"]
    alone = [one["detectable"] for one in board_of(said, contrasts=[("a", "b"), ("b", "c")])["contrasts"]]
    assert entry["detectable"] == max(alone) > min(alone)
    assert board_of({"a": [WIN] * 40})["prompt_sets"][0]["detectable"] is None


def test_a_set_that_nobody_judged_is_not_ranked() -> None:
    shown = declared("a", "b", sets={"near": True, "far": False})
    found = figures(shown, {"run": made({"a": [WIN] * MANY, "b": [LOSS] * MANY})})
    assert [bool(entry["unranked"]) for entry in found["prompt_sets"]] == [False, True]
    assert found["prompt_sets"][1]["prompts"] == 0


# ---- several runs


def test_several_runs_have_a_rate_each_and_their_standard_deviation() -> None:
    runs = {
        "one": made({"a": [WIN, WIN], "b": [WIN, LOSS]}),
        "two": made({"a": [WIN, TIE]}),
        "three": made({"a": [LOSS, (None, None)]}),
        "four": made({"a": [(None, None)] * 2}),
    }
    found = by_method(figures(declared("a", "b"), runs))
    assert found["a"]["by_run"] == [1.0, 0.5, -1.0, None]
    assert found["a"]["spread"] == pytest.approx(stdev([1.0, 0.5, -1.0]))
    assert (found["b"]["by_run"], found["b"]["spread"]) == ([0.0, None, None, None], None)
    row = found["a"]
    assert (row["n"], row["prompts"], row["missing"], row["preference_rate"]) == (5, 2, 3, pytest.approx(2 / 5))
    assert row["flips"]["n"] == 5


def test_prompts_are_what_is_drawn_however_many_runs_there_are() -> None:
    said = {"a": [WIN] * 24 + [LOSS] * 16}
    (once,) = figures(declared("a"), {"one": made(said)})["rows"]
    (thrice,) = figures(declared("a"), {name: made(said) for name in ("one", "two", "three")})["rows"]
    assert (thrice["n"], thrice["prompts"], thrice["spread"]) == (120, 40, 0.0)
    assert thrice["preference_rate"] == once["preference_rate"] == pytest.approx(0.2)
    for name in ("preference_interval", "win_interval", "mean_preference_interval"):
        assert thrice[name] == pytest.approx(once[name], abs=0.03)  # of 120 prompts it would be 0.13 nearer
    assert once["preference_interval"] == pytest.approx((-0.1, 0.5), abs=0.03)


def test_contradictions_are_looked_for_within_a_run_alone() -> None:
    runs = {"one": made({"a": [WIN]}), "two": made({"a": [LOSS]}), "three": made({"a": [FLIP]})}
    found = figures(declared("a"), runs)
    assert (found["rows"][0]["flips"]["count"], found["rows"][0]["flips"]["n"]) == (1, 3)
    assert (found["judging"][0]["flips"], found["judging"][0]["both_orders"]) == (1, 3)


# ---- contrasts


def test_declared_contrasts_are_tested_on_every_set_and_domain() -> None:
    sets = {"home": True, "near": False, "far": False}
    said = {"a": [WIN] * 6, "b": [LOSS] * 6, "like a": [WIN] * 6}
    rows = [row for name in sets for who, every in said.items() for row in judged(who, every, prompt_set=name)]
    pairs = [("a", "b"), ("a", "like a")]
    found = figures(declared(*said, sets=sets, contrasts=pairs), {"run": RunRows(rows, [])})["contrasts"]
    assert [(one["scope"], one["first"], one["second"]) for one in found] == [
        (scope, *pair) for scope in ("home", "near", "far", "out-of-domain") for pair in pairs
    ]
    single, pooled = found[:6], found[6:]
    assert {one["difference"] for one in single if one["second"] == "b"} == {2.0}
    # all six differ by 2, as if one more did by −2: t = 2 / (4 / √(6 · 7)). Three such tests of six
    p = float(2 * stats.t.sf(2 / (4 / 42**0.5), 5))
    assert [one["p"] for one in single] == pytest.approx([p, 1, p, 1, p, 1])
    assert [one["p_holm"] for one in single] == pytest.approx([6 * p, 1] * 3)
    assert not any(one["distinguishable"] for one in single)
    # a family of its own, and twelve prompts
    p = float(2 * stats.t.sf(2 / (4 / 156**0.5), 11))
    assert [one["p"] for one in pooled] == pytest.approx([p, 1])
    assert [one["p_holm"] for one in pooled] == pytest.approx([2 * p, 1])
    assert [(one["n"], one["distinguishable"]) for one in pooled] == [(12, True), (12, False)]
    assert {(one["family"], one["declared"], one["equivalence"], one["seeds"]) for one in found} == {
        ("methods", False, None, 1)
    }


def mixed(number: int, seed: int = 0) -> Said:
    return (WIN, TIE, LOSS)[(number * 7 + number // 3 + seed * number) % 3]


def test_the_primary_contrast_is_on_the_pooled_in_domain_sets_and_corrected_for_no_other() -> None:
    sets = {"home": True, "near": True, "far": False}
    rows = [
        row
        for name in sets
        for shift, who in enumerate(("a", "b", "start"))
        for row in judged(who, [mixed(i + shift) for i in range(30)], prompt_set=name)
    ]
    known = {"sets": sets, "contrasts": [("a", "b"), ("b", "a"), ("a", "start")], "primary": ("a", "b")}
    shown = declared("a", "b", **known)
    stamps = [Stamps("ab", [stamp(name, "f", primary=True) for name in ("home", "near")])]
    shown = replace(shown, candidates={**shown.candidates, "start": "untrained"}, stamps=stamps)
    assert shown.primary_in == shown.primary_declared == ("a", "b", "in-domain")
    found = {
        (one["first"], one["second"], one["scope"]): one
        for one in figures(shown, {"run": RunRows(rows, [])})["contrasts"]
    }
    assert {key for key, one in found.items() if one["family"] == "primary"} == {("a", "b", "in-domain")}
    assert found["a", "b", "in-domain"]["p_holm"] == found["a", "b", "in-domain"]["p"]
    assert {key for key, one in found.items() if one["primary"]} == {("a", "b", "in-domain")}
    assert found["a", "start", "home"]["family"] == "anchors"
    singles = [found[first, second, name] for name in sets for first, second in (("a", "b"), ("b", "a"))]
    assert [one["p_holm"] for one in singles] == pytest.approx(holm([one["p"] for one in singles]))


LATE: dict[str, dict[str, Any]] = {
    "not at all": {},
    "as one of several": {"primary": False},
    "too late": {"primary": True, "began": "2025-01-01T00:00:00+00:00"},
    "without what was declared with it": {"primary": True, "dropped": 1},
}


@pytest.mark.parametrize("said", LATE.values(), ids=LATE)
def test_a_primary_contrast_that_was_named_afterwards_is_corrected_as_any_other(said: dict[str, Any]) -> None:
    """Whoever looks first and then names the best of several is not rid of them."""
    rows = [
        row
        for shift, who in enumerate("abc")
        for row in judged(who, [mixed(i + shift) for i in range(30)], prompt_set="near")
    ]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    stamps = [Stamps("abc", [stamp("near", "f", first=first, second=second, **said) for first, second in pairs])]
    named = declared(*"abc", contrasts=pairs, primary=("a", "c"), stamps=stamps if said else ())
    assert named.primary_in == ("a", "c", "near") and named.primary_declared is None
    found = figures(named, {"run": RunRows(rows, [])})["contrasts"]
    assert {one["family"] for one in found} == {"methods"}
    assert [one["p_holm"] for one in found] == pytest.approx(holm([one["p"] for one in found]))
    assert [one["primary"] for one in found] == [False, True, False]
    assert {one["declared"] for one in found} == {said == {"primary": False}}


def test_where_no_contrast_is_primary_none_is_said_to_be() -> None:
    assert declared("a", "b", sets={"home": True}, primary=("a", "b")).primary_in == ("a", "b", "home")
    assert declared("a", "b", sets={"home": True}).primary_in is None


def stamp(prompt_set: str, family: str, **values: Any) -> StampFacts:
    times = {"time": "2026-01-01T00:00:00+00:00", "began": "2026-01-01T00:00:01+00:00"}
    what = {"run": "run", "first": "a", "second": "b", "prompt_set": prompt_set, "family": family}
    return StampFacts.model_validate({**what, **times, "primary": False, "margin": None, **values})


def test_a_contrast_is_declared_where_it_was_stamped_on_all_sets_of_its_scope() -> None:
    sets = {"home": True, "near": True, "far": False}
    said = {"a": [WIN] * 6, "b": [LOSS] * 6}
    rows = [row for name in sets for who, every in said.items() for row in judged(who, every, prompt_set=name)]
    measured = [
        RunMeasured(prompt_set=name, prompt_id=f"p{i}", system=who, values={"kl": (float(i), 1)})
        for name in sets
        for who in said
        for i in range(3)
    ]

    def scopes(*stamped: str, family: str = "f") -> list[str]:
        stamps = Stamps(said, [stamp(name, family if name == "near" else "f") for name in stamped])
        # of a measure none is primary: whether a contrast was declared as that is no matter
        shown = declared(*said, sets=sets, contrasts=[("a", "b")], stamps=[stamps], measures=[facts("kl")])
        shown = replace(shown, primary=("a", "b"))
        found = figures(shown, {"run": RunRows(rows, [], measured)})
        by_judge, by_measure = (
            [one["scope"] for one in found[name] if one["declared"]] for name in ("contrasts", "measure_contrasts")
        )
        assert by_judge == by_measure
        return by_judge

    assert scopes() == []
    assert scopes("home") == ["home"]
    assert scopes("home", "near") == ["home", "near", "in-domain"]
    assert scopes("home", "near", family="of another day") == ["home", "near"]


def test_with_a_margin_each_contrast_says_whether_it_is_small() -> None:
    said = {"a": [WIN, LOSS] * 40, "b": [WIN, LOSS] * 40, "c": [LOSS, LOSS] * 40}
    found = board_of(said, contrasts=[("a", "b"), ("c", "a"), ("a", "c")], margin=0.1)["contrasts"]
    assert [one["equivalence"]["finding"] for one in found] == ["equivalent", "neither", "not worse"]
    assert {one["equivalence"]["margin"] for one in found} == {0.1}


# ---- over seeds


def over_seeds(count: int = 3, names: Sequence[str] = ("a", "b", "start")) -> dict[str, RunRows]:
    return {
        f"run{seed}": made(
            {name: [mixed(i * (place + 2), seed) for i in range(40)] for place, name in enumerate(names)}
        )
        for seed in range(count)
    }


def test_over_seeds_contrasts_have_the_luck_of_those_that_were_trained() -> None:
    runs = over_seeds()
    shown = declared("a", "b", contrasts=[("a", "b"), ("a", "start")])
    shown = replace(shown, candidates={**shown.candidates, "start": "untrained"})
    found = figures(shown, runs)
    known = outcomes(from_runs({run: rows.verdicts for run, rows in runs.items()}))
    between = luck_of(known, {"start"})
    assert between is not None and (between.rows, between.seeds, between.prompts) == (2, 3, 40)
    (luck,) = found["luck"]
    assert luck == {
        "measure": "",
        "own": between.own**0.5,
        "own_degrees": 2,
        "shared": between.shared**0.5,
        "shared_degrees": 2,
        "rows": 2,
        "seeds": 3,
        "prompts": 40,
    }
    for one, trained in zip(found["contrasts"], ((True, True), (True, False)), strict=True):
        first, second = cells_of(known, [one["first"], one["second"]])
        wanted = compared(first, second, trained, between, (-2, 2))
        assert (one["p"], one["error"], one["seeds"]) == (pytest.approx(wanted.p), pytest.approx(wanted.error), 3)
    row = by_method(found)["a"]
    assert row["components"]["residual"] > 0 and row["components"]["within"] is None
    assert figures(shown, over_seeds(1))["luck"] == []


def test_runs_of_one_seed_are_one_seed_of_its_components_and_contrasts() -> None:
    """Though each has a rate of its own."""
    one, two = over_seeds(2, ("a", "b")).values()
    parts = [RunRows([row for row in one.verdicts if row.candidate == name], []) for name in ("a", "b")]
    shown = declared("a", "b", contrasts=[("a", "b")])
    apart = figures(shown, {"x": parts[0], "y": parts[1], "z": two}, False, {"x": 0, "y": 0, "z": 1})
    together = figures(shown, {"x": one, "z": two}, False, {"x": 0, "z": 1})
    assert apart["contrasts"] == together["contrasts"] and apart["luck"] == together["luck"]
    assert by_method(apart)["a"]["components"] == by_method(together)["a"]["components"]
    assert [rate is None for rate in by_method(apart)["a"]["by_run"]] == [False, True, False]


def test_samples_say_what_sampling_moves_within_a_prompt() -> None:
    rows = [row for sample in range(3) for row in near("a", [mixed(i + sample) for i in range(30)], sample=sample)]
    row = by_method(figures(declared("a"), {"run": RunRows(rows, [])}))["a"]
    # of each prompt a win, a tie and a loss in some order, or not: the variance of three, of which one is a mean
    table = [[{WIN: 1, TIE: 0, LOSS: -1}[mixed(i + sample)] for sample in range(3)] for i in range(30)]
    assert row["components"]["within"] == pytest.approx((sum(variance(three) for three in table) / 30) ** 0.5)
    assert (row["n"], row["prompts"]) == (90, 30)


# ---- students against each other


def test_rows_that_were_judged_against_each_other_stand_apart() -> None:
    """And are in no other figure but what the judge was asked in all."""
    said = {"a": [WIN] * 4, "b": [LOSS] * 4}
    rows = made(said).verdicts
    direct = near("a", [WIN, WIN, FLIP, LOSS], reference="b")
    shown = declared("a", "b", contrasts=[("a", "b")], versus=[("a", "b"), ("b", "a")])
    found = figures(shown, {"run": RunRows([*rows, *direct], [])})
    (one,) = found["versus"]
    assert (one["first"], one["second"], one["prompt_set"], one["judge"]) == ("a", "b", "near", "judge")
    assert (one["wins"], one["ties"], one["losses"], one["flips"]["count"]) == (2, 1, 1, 1)
    without = figures(shown, {"run": RunRows(rows, [])})
    assert without["versus"] == [] and [found["judging"][0][name] for name in ("verdicts", "outcomes")] == [24, 12]
    assert {**found, "versus": [], "judging": []} == {**without, "judging": []}


def test_a_contrast_that_nobody_declared_is_not_tested() -> None:
    assert board_of({"a": [WIN], "b": [LOSS]})["contrasts"] == []


# ---- length


def lengths_of(prompts: int) -> Data:
    """The longer its response, the likelier a win, with exceptions on both sides."""
    rows = []
    for number in range(prompts):
        longer = number % 20 - 10
        won = (longer > 0) != (number % 3 == 0)
        known = {"candidate_tokens": 50 + longer, "reference_tokens": 50}
        rows += near("a", [WIN if won else LOSS], first=number, **known)
    (found,) = figures(declared("a"), {"run": RunRows(rows, [])})["length"]
    return dict(found)


def test_length_is_taken_out_where_there_is_enough_to_learn_from() -> None:
    found = lengths_of(120)
    assert (found["prompt_set"], found["method"], found["judge"], found["unit"]) == ("near", "a", "judge", "tokens")
    assert found["reason"] == "" and found["coefficient"] > 0
    assert (found["candidate_mean"], found["reference_mean"]) == pytest.approx((49.5, 50))
    low, high = found["controlled_interval"]
    assert -1 <= low < found["controlled_rate"] < high <= 1
    refused = lengths_of(99)
    assert "99 judged prompts" in refused["reason"] and refused["controlled_rate"] is None


# ---- responses


def response(prompt_set: str, number: int, system: str, tokens: int, finish: str = "stop") -> RunResponse:
    return RunResponse(
        prompt_set=prompt_set, prompt_id=f"p{number}", system=system, text="x", tokens=tokens, finish=finish
    )


def test_lengths_are_those_of_all_responses_judged_or_not() -> None:
    told = [
        response("near", 0, "a", 10, "length"),
        response("near", 1, "a", 21),
        response("near", 2, "a", 5),
        response("near", 0, "teacher", 7),
        response("near", 1, "teacher", 8, "length"),
        response("far", 0, "a", 100, "length"),
    ]
    shown = declared("a", "b", sets={"near": True, "far": False})
    verdicts = near("a", [WIN]) + near("b", [WIN]) + near("a", [WIN], prompt_set="far")
    found = figures(shown, {"run": RunRows(verdicts, told)})
    lengths = {(row["prompt_set"], row["method"]): (row["mean_tokens"], row["cut_share"]) for row in found["rows"]}
    assert lengths == {("near", "a"): (12, pytest.approx(1 / 3)), ("near", "b"): (None, None), ("far", "a"): (100, 1.0)}
    assert [entry["teacher"] for entry in found["prompt_sets"]] == [
        {"mean_tokens": 7.5, "cut_share": 0.5},
        {"mean_tokens": None, "cut_share": None},
    ]
    assert [entry["prompts"] for entry in found["prompt_sets"]] == [2, 0]  # those that the teacher answered


def test_lengths_of_several_runs_are_one_mean() -> None:
    told = {"one": 4, "two": 8}
    runs = {
        name: RunRows(near("a", [WIN]), [response("near", 0, system, tokens) for system in ("a", "teacher")])
        for name, tokens in told.items()
    }
    found = figures(declared("a"), runs)
    assert found["rows"][0]["mean_tokens"] == 6
    assert (found["prompt_sets"][0]["prompts"], found["prompt_sets"][0]["teacher"]["mean_tokens"]) == (1, 6)
