"""What contrasts found, in words: of whom they speak, and what they could have told."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports import findings
from harness.reports.cells import difference_short
from harness.reports.findings import Whom, contrast_words, measure_words
from harness.results.schema import (
    ContrastFigures,
    Disagreement,
    LuckFigures,
    MeasureContrast,
    MeasureFacts,
    Results,
    VersusFigures,
)
from harness.statistics.contrasts import Equivalence
from tests.harness.results_made import (
    as_results,
    contrast,
    disagreement,
    luck,
    make_run,
    measure_contrast,
    measure_facts,
    of_seeds,
    versus,
    with_measures,
)

Data = dict[str, Any]
NONE = dict.fromkeys(("difference", "interval", "p", "p_holm", "detectable", "error", "degrees"))
ROWS = frozenset({"untrained", "teacher (second sample)"})  # that no training made


def of(**values: Any) -> ContrastFigures:
    return ContrastFigures.model_validate(contrast(**values))


def measured(measure: str = "forward_kl", **values: Any) -> MeasureContrast:
    return MeasureContrast.model_validate(measure_contrast(measure, **values))


def facts_of(name: str = "forward_kl", **values: Any) -> MeasureFacts:
    return MeasureFacts.model_validate(measure_facts(name, **values))


def pooled(**more: Any) -> Results:
    """Of three seeds, with what another one moves."""
    run = {**with_measures(make_run()), "luck": [luck(), luck("forward_kl", own=0.0086, shared=0.0)], **more}
    return as_results({**run, "runs": [{**run["runs"][0], "seed": seed} for seed in (4, 5, 6)]})


# ---- of whom


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "this checkpoint of dadpo is better than that of kd"),
        ({"difference": -0.2}, "this checkpoint of kd is better than that of dadpo"),
        ({"second": "untrained"}, "this checkpoint of dadpo is better than untrained"),
        ({"second": "untrained", "difference": -0.2}, "untrained is better than this checkpoint of dadpo"),
        ({"first": "teacher (second sample)"}, "teacher (second sample) is better than this checkpoint of kd"),
        (
            {"first": "teacher (second sample)", "second": "untrained"},
            "teacher (second sample) is better than untrained",
        ),
        ({"seeds": 3}, "dadpo is better"),
        ({"seeds": 3, "difference": -0.2}, "kd is better"),
        ({"p_holm": 0.05}, "this checkpoint of dadpo is better than that of kd"),
        ({"p_holm": 0.0501}, "not told apart: 80% power from 21 points"),
        ({"p_holm": 0.0501, "detectable": None}, "not told apart"),
        ({"p_holm": 0.9, "detectable": 2.01}, "not told apart: no difference has 80% power here"),
        (NONE, "no prompt was judged for both"),
    ],
)
def test_a_contrast_speaks_of_checkpoints_with_one_seed_and_of_methods_with_several(values: Data, said: str) -> None:
    assert contrast_words(of(**values), Whom(ROWS)) == said


def test_what_could_have_been_told_may_stand_elsewhere() -> None:
    assert contrast_words(of(p_holm=0.2), Whom(ROWS), power=False) == "not told apart"
    assert measure_words(measured(p_holm=0.2, better=""), facts_of(), (), Whom(ROWS), power=False) == "not told apart"


def test_seeds_that_are_not_in_the_test_make_no_finding_of_methods() -> None:
    several = of(seeds=2)
    assert contrast_words(several, Whom(ROWS, own=False, shared=False)) == (
        "these checkpoints of dadpo are better than those of kd"
    )
    # of one trained row its own luck is in what rows share: two trained rows are not known by it
    assert contrast_words(several, Whom(ROWS, own=False)).startswith("these checkpoints of dadpo")
    assert contrast_words(of(seeds=2, second="untrained"), Whom(ROWS, own=False)) == "dadpo is better"
    start = contrast_words(of(seeds=2, second="untrained", difference=-0.2), Whom(ROWS, shared=False))
    assert start == "untrained is better than these checkpoints of dadpo"


def test_what_is_known_of_seeds_is_read_from_the_results() -> None:
    assert Whom.of(as_results(make_run())) == Whom(ROWS, own=False, shared=False)
    assert Whom.of(pooled()) == Whom.of(pooled(), "forward_kl") == Whom(ROWS)
    assert Whom.of(pooled(), "nll") == Whom(ROWS, own=False, shared=False)
    assert Whom.of(pooled(luck=[luck(own=0.0, own_degrees=0, rows=1)])) == Whom(ROWS, own=False)


def test_whom_contrasts_speak_of_is_said_once() -> None:
    run = {**make_run(), "contrasts": [contrast(), contrast("far")]}
    one = findings.whom_words(as_results(run))
    assert one == "One seed: what is found is of these checkpoints, not of the methods."
    several = of_seeds(run, 4, 5, 6)
    assert findings.whom_words(as_results(several)) == (
        "What is found is of the methods: the 3 seeds are random draws, and what another one would move is in every "
        "test."
    )
    unknown = findings.whom_words(as_results({**several, "luck": []}))
    assert "nothing is known of what a seed moves: what is found is of these checkpoints" in unknown
    # a measure's luck says nothing of the judge's
    assert findings.whom_words(as_results({**several, "luck": [luck("forward_kl")]})) == unknown


def test_whom_contrasts_speak_of_follows_from_the_contrasts() -> None:
    run = of_seeds({**make_run(), "contrasts": [contrast(), contrast("far")]}, 4, 5, 6)
    both, one = run["contrasts"]
    assert "the 2 to 3 seeds are" in findings.whom_words(as_results({**run, "contrasts": [both, one | {"seeds": 2}]}))
    one["seeds"] = 1
    results = as_results(run)
    mark = findings.mark_of(results)
    assert [mark(made) for made in results.contrasts] == ["", " ‡"]
    assert "‡ marks a difference of checkpoints" in findings.whom_words(results)
    # one without a difference, and one of two rows that no training made, speak of neither
    for more in (NONE, {"first": "teacher (second sample)", "second": "untrained"}):
        results = as_results({**run, "contrasts": [both, one | more]})
        assert "is in every test" in findings.whom_words(results)
    alone = as_results({**run, "contrasts": [one]})
    assert findings.mark_of(alone)(alone.contrasts[0]) == ""
    one["family"] = "primary"
    assert findings.primary_words(as_results(run).contrasts[1], as_results(run)).startswith(
        "Primary contrast, declared before the run: dadpo − kd on far, +20.0 [+5.0, +35.0] ‡ points"
    )


@pytest.mark.parametrize(
    ("measure", "values", "said"),
    [
        ("forward_kl", {}, "this checkpoint of kd is nearer to the teacher than that of dadpo"),
        ("forward_kl", {"seeds": 3}, "kd is nearer to the teacher"),
        ("margin_accuracy", {}, "this checkpoint of kd is better than that of dadpo"),
        ("repetition", {"seeds": 3}, "kd is better"),
        ("length", {"better": ""}, "this checkpoint of dadpo has more than that of kd"),
        ("length", {"better": "", "difference": -3.0, "seeds": 2}, "kd has more"),
        ("forward_kl", {"p_holm": 0.2, "better": ""}, "not told apart: 80% power from 0.0017 nats a token"),
        ("top1", {"p_holm": 0.2, "better": "", "detectable": 0.0412}, "not told apart: 80% power from 4.1 points"),
        ("forward_kl", NONE | {"better": ""}, "no prompt was measured for both"),
    ],
)
def test_a_finding_of_a_measure_is_said_in_words(measure: str, values: Data, said: str) -> None:
    assert measure_words(measured(measure, **values), facts_of(measure), (), Whom(ROWS)) == said


def test_a_finding_on_a_row_s_own_loss_or_by_a_bound_says_so() -> None:
    found, plain = measured(seeds=3), "kd is nearer to the teacher"
    assert measure_words(found, facts_of(), {"kd"}, Whom(ROWS)) == f"{plain} (†)"
    assert measure_words(found, facts_of(), {"dadpo"}, Whom(ROWS)) == plain
    assert measure_words(found, facts_of(bound="lower"), (), Whom(ROWS)) == f"{plain} by the bound"
    alike = measured(p_holm=0.2, better="")
    assert measure_words(alike, facts_of(bound="lower"), {"kd"}, Whom(ROWS)) == (
        "not told apart by the bound: 80% power from 0.0017 nats a token"
    )
    assert difference_short(found, facts_of(), {"kd"}) == "**+0.0025** †"
    assert difference_short(found, facts_of(), {"kd"}, ends=True) == "**+0.0025 [+0.0014, +0.0036]** †"
    assert difference_short(alike, facts_of(), {"kd"}) == "+0.0025"


def test_two_instruments_disagree_about_checkpoints_or_methods() -> None:
    found = Disagreement.model_validate(disagreement())
    run = with_measures(make_run(), contrasts=[contrast()])
    assert findings.disagreement_words(found, as_results(run)) == (
        "dadpo against kd on near: this checkpoint of dadpo is better by the judge (both), same top token; this "
        "checkpoint of kd is better by forward KL †"
    )
    methods = (
        "dadpo against kd on near: dadpo is better by the judge (both), same top token; kd is better by forward KL †"
    )
    several = of_seeds(run, 4, 5, 6)
    assert findings.disagreement_words(found, as_results(several)) == methods
    # the rows of a contrast may have fewer seeds than the board, and a measure no luck
    for one in several["measure_contrasts"]:
        one["seeds"] = 1 if one["scope"] == "far" or one["measure"] == "nll" else 3
    assert findings.disagreement_words(found, as_results(several)) == methods
    several["contrasts"][0]["seeds"] = 1
    assert findings.disagreement_words(found, as_results(several)).startswith(
        "dadpo against kd on near: this checkpoint of dadpo is better by"
    )
    unknown = of_seeds(run, 4, 5, luck=[luck(), luck("top1")])
    assert findings.disagreement_words(found, as_results(unknown)) == (
        "dadpo against kd on near: these checkpoints of dadpo are better by the judge (both), same top token; these "
        "checkpoints of kd are better by forward KL †"
    )


# ---- declared, primary, small


def test_whether_contrasts_were_declared_is_said_once_where_it_is_the_same_of_all() -> None:
    def words(*declared: bool, stamps: bool = False) -> str:
        stamp = {"run": "r", "prompt_set": "near", "first": "dadpo", "second": "kd", "time": "t", "family": "f"}
        stamp |= {"primary": False, "margin": None}
        run = {**make_run(), "contrasts": [contrast(declared=one) for one in declared]}
        results = as_results({**run, "stamps": [{**stamp, "began": "b"}] if stamps else []})
        assert findings.mixed(results) == (len(set(declared)) > 1)
        return findings.declared_words(results)

    assert words(True, True).startswith("All were declared before the run: stamped before")
    assert words(False) == "All count as chosen afterwards: nothing says that they were declared before the run."
    assert words(False, stamps=True).startswith("All were chosen afterwards: no stamp is older than")
    assert words(True, False).startswith("Those that are called declared")


def test_whether_the_margin_was_declared_is_said() -> None:
    small = {"margin": 0.05, "interval": [-0.031, 0.02], "finding": "equivalent"}

    def words(*declared: bool) -> str:
        made = [contrast(equivalence=small, margin_declared=one) for one in declared]
        return findings.declared_words(as_results({**make_run(), "contrasts": made}))

    assert words(True, True).endswith(" The margin of ±5 points was declared with them.")
    assert words(False).endswith(" The margin of ±5 points was chosen afterwards.")
    assert words(True, False).endswith(" The margin of ±5 points was declared with some alone.")


def test_the_primary_contrast_is_a_sentence() -> None:
    small = {"margin": 0.05, "interval": [-0.031, 0.02], "finding": "equivalent"}
    made = of(family="primary", p=0.3, p_holm=0.3, equivalence=small)
    assert findings.primary_words(made, pooled()) == (
        "Primary contrast, declared before the run: dadpo − kd on near, +20.0 [+5.0, +35.0] points, p = 0.300, "
        "corrected for no other: not told apart: 80% power from 21 points; equivalent within ±5 [-3.1, +2.0] by the "
        "90% interval"
    )
    made = of(family="primary", p=0.0001, p_holm=0.0001)
    assert findings.primary_words(made, as_results(make_run())).endswith(
        "p < 0.001, corrected for no other: this checkpoint of dadpo is better than that of kd"
    )
    domain = findings.primary_words(of(scope="in-domain", family="primary"), pooled())
    assert "dadpo − kd on in-domain, sets pooled, +20.0 [+5.0, +35.0] points" in domain
    nothing = findings.primary_words(of(family="primary", **NONE), as_results(make_run()))
    assert nothing == "Primary contrast, declared before the run: dadpo − kd on near, no prompt was judged for both"
    late = of(primary=True, p=0.02, p_holm=0.3)
    assert findings.primary_words(late, pooled()) == (
        "Primary contrast, named as that afterwards: dadpo − kd on near, +20.0 [+5.0, +35.0] points, p = 0.300 after "
        "Holm with its family: not told apart: 80% power from 21 points"
    )
    run = {**make_run(), "contrasts": [contrast("far"), contrast(primary=True)]}
    assert [one.scope for one in findings.primaries(as_results(run))] == ["near"]


@pytest.mark.parametrize(
    ("finding", "interval", "said"),
    [
        ("equivalent", (-0.031, 0.02), "equivalent within ±5 [-3.1, +2.0]"),
        ("not worse", (-0.049, 0.2), "not worse than −5 [-4.9, +20.0]"),
        ("neither", (-0.06, 0.2), "neither, at ±5 [-6.0, +20.0]"),
        ("neither", None, "neither, at ±5"),
    ],
)
def test_whether_a_difference_is_small_is_said_by_its_interval(finding: Any, interval: Any, said: str) -> None:
    assert findings.equivalence_words(Equivalence(margin=0.05, interval=interval, finding=finding)) == said
    assert findings.equivalence_words(None) == ""


# ---- what another seed moves


def test_what_another_seed_moves_is_said_with_its_degrees_and_where_it_is() -> None:
    assert findings.luck_words(LuckFigures.model_validate(luck())) == (
        "What another seed moves in the preference rate, as an SD: in each trained row for itself 2.9 points (8 "
        "degrees of freedom), in all trained rows alike 14 points (2 degrees of freedom); from 5 rows, 3 seeds and 48 "
        "prompts. Over several seeds the first is in every contrast of two trained rows, both in those with the start "
        "or the ceiling. So few degrees leave an SD rough."
    )
    found = LuckFigures.model_validate(luck("forward_kl", own=0.0, shared=0.021, shared_degrees=5))
    text = findings.luck_words(found, facts_of())
    assert "in forward KL" in text and "for itself not seen (8 degrees of freedom)" in text
    assert "alike 0.021 nats a token (5 degrees of freedom)" in text and "rough" not in text
    assert text.endswith("Not seen: the estimate came out at zero or below, which does not say that it is zero.")


def test_of_one_trained_row_what_rows_share_is_not_told_from_its_own() -> None:
    text = findings.luck_words(LuckFigures.model_validate(luck(own=0.0, own_degrees=0, shared_degrees=1, rows=1)))
    assert "for itself" not in text and "alike 14 points (1 degree of freedom); from 1 row, 3 seeds" in text
    assert "Of one row its own part cannot be told from what rows share." in text and "Not seen" not in text


def test_from_where_on_several_contrasts_have_power_is_a_range() -> None:
    made = [of(detectable=0.53), of(detectable=0.746), of(**NONE)]
    assert findings.power_words(made) == ", 80% power from 53 to 75 points"
    assert findings.power_words(made[:1]) == ", 80% power from 53 points" and findings.power_words(made[2:]) == ""
    assert findings.power_words([of(detectable=0.53), of(detectable=2.6)]) == ", 80% power from 53 points at best"
    assert findings.power_words([of(detectable=2.6)]) == ", 80% power from no difference at best"
    assert findings.power_words([measured(), measured(detectable=0.01)], facts_of()) == (
        ", 80% power from 0.0017 to 0.010 nats a token"
    )


# ---- directly


def test_a_direct_comparison_stands_beside_the_contrast_of_its_pair_whichever_way_it_was_declared() -> None:
    pair = VersusFigures.model_validate(versus())
    same = as_results({**make_run(), "contrasts": [contrast("far"), contrast(difference=0.2)]})
    assert findings.versus_contrast(same, pair) == same.contrasts[1]
    turned = as_results({**make_run(), "contrasts": [contrast(first="kd", second="dadpo")]})
    found = findings.versus_contrast(turned, pair)
    assert found and (found.first, found.second, found.difference) == ("dadpo", "kd", -0.2)
    assert found.interval == (-0.35, -0.05)
    assert findings.versus_contrast(as_results({**make_run(), "contrasts": [contrast("far")]}), pair) is None
