from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.reports import board
from harness.results import pooling, recording
from harness.statistics.panel import MAJORITY
from tests.harness.results_made import (
    FIXED,
    RANKED,
    all_results,
    components,
    contrast,
    control,
    disagreement,
    harm,
    judging,
    make_run,
    measure_contrast,
    of_seeds,
    refused,
    retention,
    versus,
    with_measures,
    with_rows,
)

ROOT = Path(__file__).parents[3]


def section(text: str, title: str) -> str:
    """The text under a heading, to the next one."""
    return re.split(r"^#+ ", text.split(title, 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rendered(runs: list[dict[str, Any]]) -> str:
    return board.board_markdown(all_results(runs))


def table(text: str, title: str, place: int = 0) -> list[dict[str, str]]:
    """The rows of a table under a heading, by column."""
    tables = [part for part in section(text, title).split("\n\n") if part.startswith("|")]
    lines = tables[place].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], found, strict=True)) for found in cells[2:]]


def test_a_board_without_runs_says_how_to_record_one() -> None:
    assert "python -m harness record RUN_DIR" in rendered([])


def test_the_head_says_what_was_run_and_how_to_run_it_again() -> None:
    text = rendered([make_run()])
    for figure in (
        "## small, taught by large",
        "judge: both; 2 further teacher samples a prompt",
        "run: seed 4, 2025-02-03, harness 0.1.0, small-seed4-abc",
        "small, pruned from 1,000 to 800 parameters",
        "640 prompts of everyday",
        "temperature 1, at most 128 tokens",
        "temperature 0.8, top-p 0.95, at most 96 tokens",
        "`python -m harness run --student small`",
    ):
        assert figure in text


def test_a_set_is_shown_with_its_judge_and_the_teacher_s_responses() -> None:
    text = rendered([make_run()])
    for figure in (
        "### near (in-domain, 144 prompts)",
        "72 tokens, 34% cut",
        "### far (out-of-domain, 88 prompts)",
        "82 tokens, 45% cut",
    ):
        assert figure in text
    assert text.count("Judge: both, a proxy") == 2


def test_every_figure_of_a_row_is_shown() -> None:
    rows = {found["method"]: found for found in table(rendered([make_run()]), "### far")}
    assert rows["dadpo"] == {
        "": "method",
        "method": "dadpo",
        "preference rate": "-25.3% [-37.8, -12.8]",
        "W / T / L": "7 / 11 / 13",
        "N": "32",
        "missing": "0",
        "tokens": "61",
        "cut": "25%",
    }
    assert {name: found[""] for name, found in rows.items()} == {
        "teacher (second sample)": "ceiling",
        "kd": "method",
        "dadpo": "method",
        "ddpo-beta0.15": "control",
        "untrained": "start",
    }


def test_a_rate_above_parity_has_its_sign() -> None:
    text = board.board_markdown(
        all_results([with_rows(make_run(), "kd", preference_rate=0.125, preference_interval=[0.0, 0.25])])
    )
    assert "+12.5% [+0.0, +25.0]" in text


def test_missing_prompts_and_failed_verdicts_are_shown() -> None:
    more = {"n": 27, "prompts": 27, "missing": 5, "missing_share": 5 / 32, "failed_verdicts": 9}
    text = rendered([with_rows(make_run(), "kd", **more)])
    found = next(found for found in table(text, "### near") if found["method"] == "kd")
    assert (found["N"], found["missing"]) == ("27", "5 (16%)")
    found = next(found for found in table(text, "### The same verdicts by other rates") if found["method"] == "kd")
    assert found["failed verdicts"] == "9"


def test_outcomes_of_several_runs_are_no_further_prompts() -> None:
    found = table(rendered([with_rows(make_run(), "kd", n=64, prompts=32)]), "### near")
    assert {row["method"]: row["N"] for row in found}["kd"] == "64 (32 prompts)"


def test_the_same_verdicts_are_shown_by_other_rates() -> None:
    rows = table(
        rendered([with_rows(make_run(), "kd", orders="both")]),
        "### The same verdicts by other rates",
    )
    assert len(rows) == 2 * 5
    assert next(row for row in rows if (row["method"], row["on"]) == ("kd", "far")) == {
        "method": "kd",
        "on": "far",
        "win rate": "21.9% [10.0, 40.0]",
        "half-tie win rate": "27.2% [21.0, 33.5]",
        "mean preference": "37.5% [25.0, 50.0]",
        "orders": "both",
        "failed verdicts": "0",
        "identical": "0",
    }


@pytest.mark.parametrize("n", [32, 144])
def test_a_method_that_was_never_judged_is_shown_as_such(n: int) -> None:
    rates = ("preference", "win", "half_tie")
    none = dict.fromkeys(f"{name}_{part}" for name in rates for part in ("rate", "interval"))
    none |= dict.fromkeys(("mean_preference", "mean_preference_interval"))
    counts = {"n": 0, "prompts": 0, "wins": 0, "ties": 0, "losses": 0, "missing": n, "missing_share": 1.0}
    run = with_rows(make_run(n), "kd", failed_verdicts=n, rank=None, **counts, **none)
    for entry in run["prompt_sets"]:
        entry["unranked"] = "0 judged prompts"
    found = next(found for found in table(rendered([run]), "### near") if found["method"] == "kd")
    assert found["preference rate"] == "none judged"
    assert (found["N"], found["missing"]) == ("0", f"{n} (100%)")


def test_each_part_of_a_judge_is_shown_alone() -> None:
    rows = {found["method"]: found for found in table(rendered([make_run()]), "### The judges", 1)}
    assert rows["dadpo"] == {
        "method": "dadpo",
        "part-one, near": "-21.3% [-33.8, -8.8]",
        "part-two, near": "-22.3% [-34.8, -9.8]",
        "part-one, far": "-26.3% [-38.8, -13.8]",
        "part-two, far": "-27.3% [-39.8, -14.8]",
    }


def test_what_was_trained_is_shown_with_its_settings_and_what_it_controls() -> None:
    rows = {found["method"]: found for found in table(rendered([make_run()]), "### What was trained")}
    assert rows["kd"] == {
        "method": "kd",
        "starts from": "untrained student",
        "learning rate": "0.0002",
        "epochs": "3",
        "batch": "16",
        "steps": "120",
        "tokens": "98,765",
        "its own settings": "",
        "control of": "",
    }
    assert rows["dadpo"]["starts from"] == "SFT student"
    assert rows["dadpo"]["its own settings"] == "beta_reference 0.1, beta_teacher 0.05, teacher_margin own"
    assert rows["ddpo-beta0.15"]["control of"] == "dadpo: the larger beta alone"


# ---- judges that read

SETUP = {"model": "gpt", "server": "https://api/v1", "template": "default (0a1b2c)", "form": "auto", "temperature": "0"}


def reading(run: dict[str, Any]) -> dict[str, Any]:
    """The same run with a panel of two judges that read, in both orders."""
    for judge, setup in zip(run["judges"], ({"judges": "part-one, part-two"}, SETUP, {"model": "other"}), strict=True):
        judge["setup"] = setup
    for found in run["rows"]:
        found.update(flips={"count": 3, "n": 31, "share": 3 / 31, "interval": [0.0, 0.2]}, identical=4)
    table = [[4, 0, 0], [0, 2, 1], [0, 0, 3]]
    run["agreement"] = [
        {
            "first": "part-one",
            "second": "part-two",
            "n": 10,
            "missing": 2,
            "table": table,
            "agreement": {"count": 9, "n": 10, "share": 0.9, "interval": [0.6, 0.98]},
            "kappa": 0.848,
            "kappa_interval": [0.5, 1.0],
            "undefined_resamples": 0,
            "note": "",
        }
    ]
    return run


def test_the_head_of_each_set_says_how_the_judge_was_asked() -> None:
    text = rendered([reading(make_run(proxy=False))])
    assert text.count("Judge: both (judges part-one, part-two). The teacher") == 2
    said = "model gpt, server https://api/v1, template default (0a1b2c), form auto, temperature 0"
    assert f"- **part-one** ({said}): the first part." in text
    alone = reading(make_run(proxy=False))
    alone["judge"] = "part-one"
    assert f"Judge: part-one ({said}). The teacher" in rendered([alone])


def test_flips_and_identical_responses_are_shown() -> None:
    text = rendered([reading(make_run())])
    assert {found["flips"] for found in table(text, "### far")} == {"3 of 31"}
    assert {found["identical"] for found in table(text, "### The same verdicts by other rates")} == {"4"}


def test_a_row_that_was_never_judged_whole_has_its_flips_too() -> None:
    nothing = {"count": 0, "n": 0, "share": None, "interval": None}
    for method in ("teacher (second sample)", "untrained"):  # the first row and the last
        text = rendered([with_rows(reading(make_run()), method, flips=nothing)])
        rows = table(text, "### near")
        assert list(rows[0]) == list(rows[1])
        assert {found["method"]: found["flips"] for found in rows}[method] == "no orders"


def test_a_judge_without_orders_has_no_column_of_flips() -> None:
    assert "flips" not in table(rendered([make_run()]), "### far")[0]


def test_judging_is_counted_by_judge() -> None:
    counts = {"verdicts": 1200, "ok": 1190, "unparsable": 6, "failed": 4, "identical": 2, "truncated": 7}
    one = judging("part-one", 120, **counts, flips=30, both_orders=590, ties=50, outcomes=595)
    one["forms"] = {"letter": 1100, "rationale": 100}
    asked, measured = table(rendered([{**make_run(), "judging": [one, judging("part-two", 12)]}]), "### The judges")
    assert asked == {
        "judge": "part-one",
        "verdicts": "1200",
        "ok": "1190",
        "unparsable": "6",
        "failed": "4",
        "skipped": "0",
        "identical": "2",
        "ties": "50 of 595",
        "contradicts itself": "30 of 590",
        "read in part": "7",
        "asked for": "letter: 1100, rationale: 100",
    }
    assert (measured["contradicts itself"], measured["asked for"]) == ("no orders", "")


def test_the_agreement_of_judges_is_shown() -> None:
    text = rendered([reading(make_run())])
    assert "| part-one, part-two | 0.85 [0.50, 1.00] | 9 of 10        | 2         |        |" in text
    run = reading(make_run())
    run["agreement"][0].update(kappa=None, kappa_interval=None, note="no prompt was judged by both")
    text = rendered([run])
    assert "| undefined | " in text and "no prompt was judged by both" in text
    assert "Agreement of the judges" not in rendered([make_run()])


# ---- measures


def measured_run(**more: Any) -> dict[str, Any]:
    return with_measures(make_run(), **more)


def changed_measures(run: dict[str, Any], measure: str, method: str, **values: Any) -> dict[str, Any]:
    for found in run["measures"]:
        if (found["measure"], found["method"]) == (measure, method):
            found.update(values)
    return run


def test_a_set_has_a_table_of_rates_one_of_fidelity_and_one_of_text() -> None:
    text = rendered([measured_run()])
    rates, fidelity, texts = ({row["method"]: row for row in table(text, "### near", place)} for place in range(3))
    assert list(rates["kd"]) == ["", "method", "preference rate", "W / T / L", "N", "missing"]
    assert fidelity["kd"] == {
        "": "method",
        "method": "kd",
        "forward KL": "0.405 [0.385, 0.425] †",
        "reverse KL": "0.437 [0.415, 0.459]",
        "acceptance": "81.5% [77.4, 85.6]",
        "accepted length": "2.46",
        "same top token": "86.3%",
        "NLL": "1.452",
        "pairs ranked right": "",
    }
    assert list(fidelity) == ["kd", "dadpo", "ddpo-beta0.15", "untrained"]
    assert fidelity["dadpo"]["pairs ranked right"] == "57.6% [54.7, 60.4]"  # of few values
    assert texts["teacher"] == {
        "": "teacher",
        "method": "teacher",
        "tokens": "28.2",
        "cut": "26.2%",
        "distinct-2": "61.1%",
        "in loops": "6.38%",
        "self-BLEU": "7.88",
        "repeats the prompt": "2.18%",
    }
    assert list(texts) == ["teacher", *FIXED]
    assert "Text. In the report too: ended by itself, distinct-1.\n" in section(text, "### near")
    assert all(line.count(" | ") < 11 for line in section(text, "### near").splitlines())


def test_fidelity_says_its_temperature_its_tokens_and_the_teacher_s_own_entropy() -> None:
    text = section(rendered([measured_run()]), "### near")
    assert "both at temperature 0.8, pairs ranked right at temperature 1; forward KL, reverse KL, NLL in nats" in text
    assert "A row's forward KL is a mean over 5,904 tokens of 48 prompts." in text
    assert "The teacher's own NLL 1.212 [1.152, 1.273]." in text


def test_a_measure_of_pairs_or_responses_that_comes_first_is_no_mean_over_tokens() -> None:
    for name, said in (("margin_accuracy", "5,904 pairs of 48 prompts"), ("reads_text", "5,904 responses of 48")):
        run = measured_run()
        run["measured"] = [found for found in run["measured"] if found["name"] == "margin_accuracy"]
        run["measured"][0] |= {"reads": "pairs" if name == "margin_accuracy" else "responses"}
        run["measures"] = [found for found in run["measures"] if found["measure"] == "margin_accuracy"]
        text = rendered([run | {"measure_contrasts": []}])
        assert f"A row's pairs ranked right is a mean over {said}" in text
        assert "both at temperature" not in text


def test_how_many_responses_were_read_stands_under_the_tables() -> None:
    run = measured_run()
    assert rendered([run]).count("Read of a row: 48 responses of 48 prompts (1 sample a prompt). All intervals:") == 4
    run["config"]["samples"] = 2
    run = of_seeds(run, 4, 5)
    assert "Read of a row: 96 responses of 48 prompts (2 samples a prompt) in each of 2 runs." in rendered([run])
    run["measures"][0]["by_run"] = [0.4, None]
    assert "(2 samples a prompt) in each of 1 to 2 runs." in rendered([run])


def test_an_interval_has_two_figures_of_its_width() -> None:
    run = changed_measures(measured_run(), "forward_kl", "kd", value=0.0025, interval=[0.0014, 0.0036], own_loss=False)
    run = changed_measures(run, "acceptance", "kd", value=0.99731, interval=[0.99712, 0.99752])
    found = next(row for row in table(rendered([run]), "### near", 1) if row["method"] == "kd")
    assert (found["forward KL"], found["acceptance"]) == ("0.0025 [0.0014, 0.0036]", "99.731% [99.712, 99.752]")


def test_bounds_are_marked_and_explained() -> None:
    run = measured_run()
    run["measured"][0]["bound"], run["measured"][2]["bound"] = "lower", "upper"
    text = rendered([run])
    found = next(row for row in table(text, "### near", 1) if row["method"] == "dadpo")
    assert (found["forward KL"], found["acceptance"]) == ("≥ 0.410 [0.390, 0.431]", "≤ 80.7% [76.7, 84.7]")
    assert "- **forward KL** (nats a token; lower is better; here a lower bound)" in text
    assert "≥ and ≤ mark bounds" in text and "≥ and ≤ mark bounds" not in rendered([measured_run()])


def test_differences_of_bounds_are_said_to_be_none() -> None:
    run = measured_run()
    run["measured"][0]["bound"], run["measured"][2]["bound"] = "lower", "upper"
    text = section(rendered([run]), "### Method against method")
    assert "than that of dadpo by the bound (†)" in text and "not told apart by the bound: 80% power" in text
    assert "acceptance by the bound" in text and text.count("A difference of two bounds is no bound") == 1
    assert "bound" not in section(rendered([measured_run()]), "### Method against method")


def test_the_teacher_s_own_value_may_be_a_bound() -> None:
    run = measured_run()
    next(found for found in run["measured"] if found["name"] == "nll")["teacher_bound"] = "lower"
    assert "The teacher's own NLL ≥ 1.212 [1.152, 1.273]." in rendered([run])


def test_a_figure_of_the_first_sample_does_not_stand_beside_that_of_all() -> None:
    run = measured_run()
    assert "The teacher's responses:" not in rendered([run])
    run["measures"] = [found for found in run["measures"] if found["measure"] != "cut"]
    text = rendered([run])
    assert "The teacher's responses: 34% cut." in section(text, "### near")
    assert "cut" in table(text, "### near")[0] and "tokens" not in table(text, "### near")[0]


SECONDS = "seconds on that machine, shared work counted whole"


def test_what_each_row_took_stands_once_for_all_sets() -> None:
    text = rendered([measured_run()])
    rows = {row["method"]: row for row in table(text, "### What each row took")}
    assert list(rows) == ["kd", "dadpo", "ddpo-beta0.15"]
    assert rows["kd"] == {
        "method": "kd",
        "tokens trained": "98,765",
        "the teacher read": "45,678",
        "the teacher wrote": "6,543",
        "the student wrote": "5,432",
        SECONDS: "185",
        "peak memory": "1.2 GB",
    }
    assert "Trained on cpu.\n" in section(text, "### What each row took")
    assert "What each row took" not in rendered([measured_run() | {"costs": []}])


def test_devices_are_named_once_or_row_by_row_and_their_seconds_have_no_mean() -> None:
    run = measured_run()
    run["costs"][0]["device"] = "H200"
    text = rendered([run])
    found = {row["method"]: row for row in table(text, "### What each row took")}
    assert (found["kd"]["device"], found["dadpo"]["device"]) == ("H200", "cpu") and "Trained on" not in text
    run["costs"][0]["device"] = "H200; cpu"
    text = rendered([run])
    found = {row["method"]: row for row in table(text, "### What each row took")}
    assert (found["kd"][SECONDS], found["dadpo"][SECONDS]) == ("", "185")
    assert "Seconds of runs on different devices have no mean." in text


def test_the_legend_says_what_there_is() -> None:
    run = measured_run()
    said = ("**Fidelity**", "† marks a row", "**Text**", "**Cost**", "Findings follow p after Holm")
    assert all(words in rendered([run]) for words in said)
    bare = [found for found in run["measures"] if found["measure"] == "length"]
    facts = [found for found in run["measured"] if found["name"] == "length"]
    text = rendered([run | {"measures": bare, "measured": facts, "measure_contrasts": [], "costs": []}])
    assert [words for words in said if words in text] == ["**Text**"]


def test_measures_are_explained_once_for_all_runs() -> None:
    run = measured_run()
    text = rendered([run, run | {"name": "other"}])
    assert text.count("- **reverse KL** (") == 1 and text.count("## The measures\n") == 1
    assert text.index("## The measures\n") > text.rindex("### What was trained")


def test_harm_is_said_under_the_title_and_marked_in_the_row_s_cell() -> None:
    run = measured_run(harms=[harm(), harm(measure="top1", difference=-0.05, interval=[-0.07, -0.03], scope="far")])
    text = rendered([run])
    said = (
        "> **Further from the teacher than before training:** this checkpoint of dadpo by forward KL on near, "
        "+0.120 [+0.050, +0.190] nats a token; this checkpoint of dadpo by same top token on far, -5.0 [-7.0, -3.0] "
        "points."
    )
    assert said in text and text.index(said) < text.index("- student:")
    near, far = ({row["method"]: row for row in table(text, f"### {name}", 1)} for name in ("near", "far"))
    marked = [
        (row["method"], head) for rows in (near, far) for row in rows.values() for head in row if "⚠" in row[head]
    ]
    assert marked == [("dadpo", "forward KL"), ("dadpo", "same top token")]
    assert near["dadpo"]["forward KL"].endswith("] ⚠") and "⚠ marks a row" in text
    assert "⚠" not in rendered([measured_run()]) and "Further from" not in rendered([measured_run()])


def test_the_spread_of_runs_stands_beside_the_first_measure() -> None:
    run = changed_measures(measured_run(), "forward_kl", "dadpo", by_run=[0.40, 0.42], spread=0.01414)
    assert "SD of runs" not in table(rendered([run]), "### near", 1)[0]
    run["runs"] = [{**run["runs"][0], "seed": seed} for seed in (4, 5)]
    found = {row["method"]: row["SD of runs"] for row in table(rendered([run]), "### near", 1)}
    assert (found["dadpo"], found["kd"]) == ("0.014 (2 runs)", "(1 run)")


def test_why_nothing_is_measured_is_said() -> None:
    run = measured_run()
    run["measures"] = [found for found in run["measures"] if found["prompt_set"] == "near"]
    run["prompt_sets"][1]["unmeasured"] = "its prompts have several turns"
    text = rendered([run])
    assert "Not everything is measured here: its prompts have several turns." in section(text, "### far")
    assert "Fidelity to the teacher" not in section(text, "### far")
    assert "Not everything" not in section(text, "### near")


def test_measures_that_runs_do_not_have_alike_are_named() -> None:
    run = measured_run()
    run["prompt_sets"][1]["unpooled"] = ["acceptance", "of_a_plugin"]
    said = "Not pooled, as the runs do not have them alike: acceptance, of_a_plugin."
    assert said in section(rendered([run]), "### far") and said not in section(rendered([run]), "### near")


def test_the_first_measure_is_said_of_the_declared_one_alone() -> None:
    nll = section(rendered([measured_run(first_measure="nll")]), "### Method against method")
    assert "The same pairs by NLL, the measure that was declared as the first (nats a token;" in nll
    assert "forward KL" in nll.split("And by the others")[1]
    text = section(rendered([measured_run(first_measure="of_a_plugin")]), "### Method against method")
    assert (
        "by forward KL (nats a token; lower is better), on the prompts that were measured for both. of_a_plugin, "
        in (text)
    )
    assert "of_a_plugin, declared as the first, is not measured here. A measure has the same families" in text
    assert "declared as the first" not in rendered([measured_run(first_measure="")])


def test_whom_contrasts_speak_of_and_when_they_were_declared_is_said_once_for_judge_and_measures() -> None:
    run = measured_run(contrasts=[contrast()])
    head = "One seed: what is found is of these checkpoints, not of the methods. All were declared before the run:"
    assert rendered([run]).count(head) == 1
    pooled = rendered([of_seeds(run, 4, 5)])
    assert pooled.count("What is found is of the methods: the 2 seeds are random draws") == 1
    assert "checkpoints, not" not in pooled


def test_what_is_of_checkpoints_is_marked_where_other_contrasts_are_of_methods() -> None:
    """Of a row that one run alone has, on a board of several seeds."""
    anchor = contrast(second="untrained", family="anchors")
    run = of_seeds(measured_run(contrasts=[contrast(), contrast("far"), anchor]), 4, 5)
    assert "‡" not in rendered([run])
    for one in (*run["contrasts"][1:], *(one for one in run["measure_contrasts"] if one["measure"] == "nll")):
        one["seeds"] = 1
    text, head = rendered([run]), "### Method against method"
    assert (
        "What is found over several seeds is of the methods" in text and "‡ marks a difference of checkpoints" in text
    )
    near, far = table(text, head)[:2]
    assert (near["difference in points"], near["finding"]) == ("+20.0 [+5.0, +35.0]", "dadpo is better")
    assert far["difference in points"] == "+20.0 [+5.0, +35.0] ‡"
    assert far["finding"] == "this checkpoint of dadpo is better than that of kd"
    assert table(text, head, 1) == [{"first − second": "dadpo − untrained", "near": "**+20.0 [+5.0, +35.0]** ‡"}]
    others = table(text, head, 3)
    assert all(row["NLL"].endswith(" ‡") and "‡" not in row["reverse KL"] for row in others)
    assert "‡" not in table(text, head, 2)[0]["difference in nats a token"]


def test_whether_a_difference_with_the_start_is_small_is_said_behind_it() -> None:
    small = [{"margin": 0.05, "interval": [-0.02, 0.4], "finding": finding} for finding in ("not worse", "neither")]
    anchors = [contrast(scope, second="untrained", family="anchors") for scope in ("near", "far")]
    head = "### Method against method"
    text = rendered([{**make_run(), "contrasts": anchors}])
    assert "90% interval" not in section(text, head) and table(text, head)[0]["near"] == "**+20.0 [+5.0, +35.0]**"
    anchors = [one | {"equivalence": found} for one, found in zip(anchors, small, strict=True)]
    text = rendered([{**make_run(), "contrasts": [*anchors, contrast("sum", second="untrained", family="anchors")]}])
    assert "its 90% interval lies within ±5 (equivalent), above −5 (not worse), or neither:" in section(text, head)
    (row,) = table(text, head)
    assert (row["near"], row["far"], row["sum"]) == (
        "**+20.0 [+5.0, +35.0]**; not worse",
        "**+20.0 [+5.0, +35.0]**; neither",
        "**+20.0 [+5.0, +35.0]**",
    )


def test_old_tests_are_not_spoken_of() -> None:
    text = rendered([of_seeds(measured_run(contrasts=[contrast()]), 4, 5)])
    for word in ("bootstrap", "sign-flip", "percentile", "holds fixed", "change places", "Too small"):
        assert word not in text


def test_families_and_power_are_explained_once() -> None:
    for run in (measured_run(contrasts=[contrast()]), measured_run()):
        text = section(rendered([run]), "### Method against method")
        assert text.count("methods against each other, and methods against the start or the ceiling;") == 1
        assert text.count("*80% power from*") == 1 and "measured for both" in text


def test_the_primary_contrast_stands_apart_and_in_no_table() -> None:
    primary = contrast(family="primary", p=0.031, p_holm=0.031)
    text = section(rendered([{**make_run(), "contrasts": [contrast("far"), primary]}]), "### Method against method")
    assert (
        "**Primary contrast, declared before the run: dadpo − kd on near, +20.0 [+5.0, +35.0] points, p = 0.031, "
        "corrected for no other: this checkpoint of dadpo is better than that of kd.**"
    ) in text
    assert text.index("**Primary") < text.index("By the judge")
    assert [row["on"] for row in table(f"### M\n{text}", "### M")] == ["far"]
    alone = section(rendered([{**make_run(), "contrasts": [primary]}]), "### Method against method")
    assert "|" not in alone and "Primary" in alone


def test_anchors_are_a_table_of_a_line_a_pair() -> None:
    against = {"family": "anchors", "second": "untrained"}
    made = [
        contrast(),
        contrast(**against),
        contrast("far", **against, p_holm=0.3, detectable=0.4),
        contrast("far", **against | {"first": "kd"}),
    ]
    text = rendered([{**make_run(), "contrasts": made}])
    assert len(table(text, "### Method against method")) == 1
    assert table(text, "### Method against method", 1) == [
        {"first − second": "dadpo − untrained", "near": "**+20.0 [+5.0, +35.0]**", "far": "+20.0 [+5.0, +35.0]"},
        {"first − second": "kd − untrained", "near": "", "far": "**+20.0 [+5.0, +35.0]**"},
    ]
    assert "in points, in bold where the two are told apart, 80% power from 21 to 40 points:" in text


def test_anchors_of_a_measure_are_such_a_table_too() -> None:
    run = measured_run()
    run["measure_contrasts"] += [
        measure_contrast("forward_kl", "kd", "untrained", better="kd", family="anchors", difference=-0.2)
    ]
    text = rendered([run])
    assert [row["first − second"] for row in table(text, "### Method against method")[:2]] == [
        "dadpo − kd",
        "dadpo − ddpo-beta0.15",
    ]
    assert table(text, "### Method against method", 1) == [
        {"first − second": "kd − untrained", "near": "**-0.2000 [+0.0014, +0.0036]** †"}
    ]
    assert "in nats a token, in bold where the two are told apart, 80% power from 0.0017 nats a token:" in text


def test_what_was_declared_and_what_was_not_have_a_column() -> None:
    against = {"family": "anchors", "second": "untrained"}
    made = [
        contrast(),
        contrast("far", declared=False),
        contrast(**against),
        contrast("far", declared=False, **against),
    ]
    text = rendered([{**make_run(), "contrasts": made}])
    assert [row[""] for row in table(text, "### Method against method")] == [
        "declared before the run",
        "chosen afterwards",
    ]
    assert [row[""] for row in table(text, "### Method against method", 1)] == ["declared in part"]
    late = rendered([{**make_run(), "contrasts": [contrast(declared=False)]}])
    assert "All count as chosen afterwards" in late and "" not in table(late, "### Method against method")[0]


def test_whether_differences_are_small_has_a_column_where_a_margin_was_named() -> None:
    small = {"margin": 0.05, "interval": [-0.041, 0.02], "finding": "equivalent"}
    text = rendered([{**make_run(), "contrasts": [contrast(equivalence=small), contrast("far")]}])
    rows = table(text, "### Method against method")
    assert [row["by the 90% interval"] for row in rows] == ["equivalent within ±5 [-4.1, +2.0]", ""]
    bare = rendered([{**make_run(), "contrasts": [contrast()]}])
    assert "by the 90% interval" not in table(bare, "### Method against method")[0]


def test_what_another_seed_moves_is_said_of_the_judge_and_of_the_first_measure() -> None:
    text = rendered([of_seeds(measured_run(contrasts=[contrast()]), 4, 5)])
    assert "moves in the preference rate, as an SD: in each trained row for itself 2.9 points (8 degrees" in text
    assert "moves in forward KL, as an SD: in each trained row for itself not seen (8 degrees of freedom)" in text
    assert "| dadpo is better |" in text
    assert "What another seed moves" not in rendered([measured_run(contrasts=[contrast()])])


def test_a_direct_comparison_stands_beside_the_indirect_one() -> None:
    rates = {"preference_rate": 0.125, "preference_interval": [-0.05, 0.3]}
    run = {**make_run(), "contrasts": [contrast("far", p_holm=0.2)]}
    run["versus"] = [versus(**rates), versus("kd", "dadpo", "far", **rates)]
    text = rendered([run])
    assert table(text, "### Judged against each other") == [
        {
            "first against second": "dadpo against kd",
            "on": "near",
            "W / T / L": "14 / 8 / 10",
            "N": "32",
            "missing": "0",
            "preference rate": "+12.5% [-5.0, +30.0]",
            "flips": "5 of 32",
            "against the teacher, points": "+20.3",  # of -0.203 and -0.406: no contrast, and so no interval
            "finding there": "no contrast of them",
        },
        {
            "first against second": "kd against dadpo",
            "on": "far",
            "W / T / L": "14 / 8 / 10",
            "N": "32",
            "missing": "0",
            "preference rate": "+12.5% [-5.0, +30.0]",
            "flips": "5 of 32",
            "against the teacher, points": "-20.0 [-35.0, -5.0]",
            "finding there": "not told apart: 80% power from 21 points",
        },
    ]
    assert "holds the checkpoints fixed" in section(text, "### Judged against each other")
    assert "Judged against each other" not in rendered([make_run()])
    run["versus"] = [versus(flips={"count": 0, "n": 0, "share": None, "interval": None})]  # a judge that sees no order
    assert "flips" not in table(rendered([run]), "### Judged against each other")[0]


def test_the_first_measure_s_contrasts_are_shown_whole_and_the_others_in_short() -> None:
    text = rendered([measured_run(contrasts=[contrast()])])
    assert table(text, "### Method against method", 1)[:2] == [
        {
            "first − second": "dadpo − kd",
            "on": "near",
            "difference in nats a token": "+0.0025 [+0.0014, +0.0036]",
            "p": "< 0.001",
            "p (Holm)": "< 0.001",
            "N": "48",
            "left out": "0",
            "finding": "this checkpoint of kd is nearer to the teacher than that of dadpo (†)",
        },
        {
            "first − second": "dadpo − ddpo-beta0.15",
            "on": "near",
            "difference in nats a token": "-0.0007 [-0.0021, +0.0008]",
            "p": "0.340",
            "p (Holm)": "0.340",
            "N": "48",
            "left out": "0",
            "finding": "not told apart: 80% power from 0.0017 nats a token",
        },
    ]
    assert "by forward KL, the measure that was declared as the first" in text
    assert table(text, "### Method against method", 2)[:2] == [
        {
            "first − second": "dadpo − kd",
            "on": "near",
            "reverse KL": "**+0.0025**",
            "acceptance": "**+0.25**",
            "accepted length": "**+0.0025**",
            "same top token": "**+0.25**",
            "NLL": "**+0.0025**",
            "pairs ranked right": "",
        },
        {
            "first − second": "dadpo − ddpo-beta0.15",
            "on": "near",
            "reverse KL": "-0.0007",
            "acceptance": "-0.07",
            "accepted length": "-0.0007",
            "same top token": "-0.07",
            "NLL": "-0.0007",
            "pairs ranked right": "-0.07",
        },
    ]


def test_measures_that_disagree_are_named() -> None:
    text = rendered([measured_run(disagreements=[disagreement()])])
    assert (
        "- dadpo against kd on near: this checkpoint of dadpo is better by the judge (both), same top token; this "
        "checkpoint of kd is better by forward KL †" in section(text, "### Where measures disagree")
    )
    text = rendered([measured_run()])
    assert "disagree" not in text and "No pair is told apart in opposite orders" in text


def test_what_models_still_can_is_shown_where_it_was_asked() -> None:
    kept = [
        retention("teacher", "teacher"),
        retention("kd", "method", value=0.375, standard_error=None),
        retention("kd", "method", "words", metric="perplexity", value=12.5, higher_is_better=False),
    ]
    rows = table(rendered([measured_run(retention=kept)]), "### What the models still can")
    sums, words = "sums: acc,none (n = 200, higher is better)", "words: perplexity (n = 200, lower is better)"
    assert rows == [
        {"": "teacher", "method": "teacher", sums: "0.412 ± 0.016", words: ""},
        {"": "method", "method": "kd", sums: "0.375", words: "12.500 ± 0.016"},
    ]
    assert "What the models still can" not in rendered([measured_run()])


def test_a_run_without_measures_has_no_word_of_them() -> None:
    text = rendered([make_run()])
    assert "Fidelity" not in text and "docs/measures.md" not in text and "### The measures" not in text
    assert "[docs/measures.md](docs/measures.md)" in rendered([make_run(), measured_run()])


# ---- ranks, runs, contrasts, length


@pytest.mark.parametrize(("ranked", "order"), [(False, FIXED), (True, RANKED)])
def test_rows_are_ranked_where_they_are_told_apart_however_few_prompts_there_are(
    ranked: bool, order: list[str]
) -> None:
    text = rendered([make_run(16, ranked=ranked)])
    for title, place in (("### near", 0), ("### far", 0), ("### The judges", 1)):
        rows = table(text, title, place)
        assert [found["method"] for found in rows] == order
    ranks = [found.get("rank") for found in table(text, "### far")]
    assert ranks == (["1", "2–3", "2–3", "4", "5"] if order == RANKED else [None] * 5)


def test_what_a_set_can_tell_stands_under_its_table() -> None:
    text = rendered([make_run(144, ranked=True)])
    assert "144 prompts and one seed tell neighbours apart from 21 points on (80% power)." in section(text, "### near")
    assert "from 9.4 points on" in section(text, "### far")


def test_a_set_is_ranked_for_itself() -> None:
    run = make_run(144, ranked=True)
    run["prompt_sets"][1]["unranked"] = "12% of kd's prompts are missing"
    for found in run["rows"]:
        found["rank"] = found["rank"] if found["prompt_set"] == "near" else None
    text = rendered([run])
    assert "> **far is not ranked.** 12% of kd's prompts are missing." in text
    assert [found["method"] for found in table(text, "### near")] == RANKED
    assert [found["method"] for found in table(text, "### far")] == FIXED
    assert "rank" in table(text, "### near")[0] and "rank" not in table(text, "### far")[0]


def test_the_spread_of_runs_has_a_column_where_there_are_several() -> None:
    run = with_rows(make_run(), "kd", by_run=[-0.3, -0.5], spread=0.1414)
    assert "SD of runs" not in table(rendered([run]), "### near")[0]
    run["runs"] = [{**run["runs"][0], "seed": seed, "command": f"run --seed {seed}"} for seed in (4, 5)]
    text = rendered([run])
    spread = {found["method"]: found["SD of runs"] for found in table(text, "### near")}
    assert (spread["kd"], spread["dadpo"]) == ("14.1 (2 runs)", "(1 run)")
    assert "- to reproduce: `run --seed 4`; `run --seed 5` (" in text


def test_what_variance_is_made_of_stands_beside_the_spread_of_runs() -> None:
    run = of_seeds(with_rows(measured_run(), "kd", components=components(seed=0.0, residual=0.49)), 4, 5)
    run = changed_measures(run, "forward_kl", "kd", components=components(prompt=0.18, seed=0.012, residual=0.26))
    text = rendered([run])
    head = "SD: prompt / seed / rest"
    rates, fidelity = ({row["method"]: row for row in table(text, "### near", place)} for place in range(2))
    assert (rates["kd"][head], rates["dadpo"][head]) == ("61 / not seen / 49", "– / – / –")
    assert (fidelity["kd"][head], fidelity["dadpo"][head]) == ("0.18 / 0.012 / 0.26", "– / – / –")
    names = list(rates["kd"])
    assert names.index(head) == names.index("SD of runs") + 1
    said = "*SD: prompt / seed / rest*: what one"
    assert text.count("*SD of runs*: how far a row's figures of single runs are spread") == 1
    assert said in text and said not in rendered([measured_run()])
    assert head not in table(rendered([measured_run()]), "### near")[0]


def test_samples_of_one_checkpoint_have_a_part_of_their_own() -> None:
    text = rendered([with_rows(make_run(), "kd", components=components(within=0.33))])
    assert {row["method"]: row for row in table(text, "### near")}["kd"]["SD: prompt / within"] == "61 / 33"


def test_contrasts_are_shown_with_what_was_found() -> None:
    none = dict.fromkeys(("difference", "interval", "p", "p_holm"))
    made = [contrast(), contrast("far", p=0.00004, p_holm=0.2)]
    made.append(contrast("out-of-domain", n=0, left_out=9, **none))
    text = rendered([{**make_run(), "contrasts": made}])
    rows = table(text, "### Method against method")
    assert rows[0] == {
        "first − second": "dadpo − kd",
        "on": "near",
        "difference in points": "+20.0 [+5.0, +35.0]",
        "p": "0.004",
        "p (Holm)": "0.012",
        "N": "140",
        "left out": "4",
        "finding": "this checkpoint of dadpo is better than that of kd",
    }
    assert (rows[1]["p"], rows[1]["p (Holm)"]) == ("< 0.001", "0.200")
    assert rows[1]["finding"] == "not told apart: 80% power from 21 points"
    assert (rows[2]["difference in points"], rows[2]["p"]) == ("none judged", "")
    assert rows[2]["finding"] == "no prompt was judged for both"
    assert "All were declared before the run" in section(text, "### Method against method")
    assert "Method against method" not in rendered([make_run()])


def test_length_is_shown_with_rates_at_equal_length_and_reasons_for_none() -> None:
    made = [control(), refused("99 judged prompts", "kd"), refused("99 judged prompts", "kd", prompt_set="far")]
    text = rendered([{**make_run(), "length": made}])
    assert table(text, "### How much of it is length") == [
        {
            "method": "dadpo",
            "on": "near",
            "tokens, teacher's": "84, 72",
            "preference rate": "-20.0%",
            "at equal length": "-30.0% [-40.0, -20.0]",
            "difficulty": "from the others",
            "logits for each SD more": "+0.50 [+0.25, +0.75]",
        }
    ]
    assert "Not modelled, kd on near; kd on far: 99 judged prompts." in text
    assert "not AlpacaEval's length-controlled win rate" in section(text, "### How much of it is length")
    none = rendered([{**make_run(), "length": made[1:]}])
    assert "Not modelled, everywhere: 99" in none and "AlpacaEval" not in none
    assert "How much of it is length" not in rendered([make_run()])


# ---- banners


def test_banners_stand_before_everything_else() -> None:
    text = board.board_markdown(
        all_results([{**make_run(79), "judging": [judging("both", 9, ok=80, unparsable=6, failed=4)]}])
    )
    banner = text.split("## small, taught by large\n\n")[1].split("\n\n")[0].splitlines()
    assert [line.split("**")[1] for line in banner if line != ">"] == [
        "No row is told from the next on near, far.",
        "Verdicts are missing.",
        "The judges are declared proxies (both, part-one, part-two).",
    ]
    assert "On near 79 prompts and one seed tell neighbours apart from 21 points on (80% power)." in text
    assert "Of 90: 6 unparsable, 4 failed." in text


def test_how_the_judge_is_related_to_the_teacher_stands_at_the_head_of_each_table() -> None:
    run = make_run(proxy=False, ranked=True)
    related, other = "judge and teacher are of one family (qwen2.5)", "judge and teacher are of one vendor (Qwen)"
    run["judges"][0]["relation"] = related
    assert rendered([run]).count("Judge: both. **Judge and teacher are of one family (qwen2.5).** The teacher's") == 2
    # of a panel each of its judges is
    run["judges"][1]["relation"] = other
    run["judges"].append({**run["judges"][0], "name": MAJORITY, "relation": ""})
    run["judge"], run["rows"] = MAJORITY, [{**one, "judge": MAJORITY} for one in run["rows"] if one["judge"] == "both"]
    text = rendered([run])
    assert text.count(f"Judge: {MAJORITY}. **Of its judges, both: {related}; part-one: {other}.** The") == 2
    assert f"> **Judge and teacher are related.** both: {related}; part-one: {other}." in text


def test_a_ranked_run_with_a_judge_that_reads_has_no_banner() -> None:
    assert "\n> " not in rendered([make_run(proxy=False, ranked=True)])


def test_proxies_are_declared_with_what_they_miss() -> None:
    text = rendered([make_run()])
    assert text.count("A proxy; it misses grammar.") == 3
    assert text.count("Judge: both, a proxy: it misses grammar.") == 2  # above the table of each set
    reads = rendered([make_run(proxy=False)])
    assert "proxy" not in reads and "further teacher samples" not in reads


# ---- several runs, and the same twice


def test_rows_of_different_runs_share_no_table() -> None:
    other = make_run()
    other["pair"] |= {"student": "tiny", "teacher": "large"}
    text = rendered([make_run(), other])
    assert text.index("## small, taught by large") < text.index("## tiny, taught by large")
    assert text.count("### near") == 2
    assert text.count("Formulas:") == 1
    assert [found["method"] for found in table(text, "### near")] == FIXED


def test_rendering_is_deterministic_and_leaves_the_results_alone() -> None:
    run = {**make_run(), "contrasts": [contrast()], "length": [control()]}
    before = copy.deepcopy(run)
    assert rendered([run]) == rendered([json.loads(json.dumps(run))])
    assert run == before


HOSTILE = ["a | b", "a\nb", "a\n\n# b", "`a`", "a``b", "a \\| b", "| --- |", "<!-- x", "</s>"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_add_no_line_and_no_column(text: str) -> None:
    def with_name(name: str) -> str:
        plain = measured_run(
            contrasts=[contrast()],
            length=[control(), refused("few")],
            disagreements=[disagreement()],
            retention=[retention("dadpo", "method")],
            versus=[versus()],
        )
        plain["contrasts"] += [contrast(family=name, second="untrained") for name in ("primary", "anchors")]
        run = json.loads(json.dumps(plain).replace('"dadpo"', json.dumps(name)).replace('"near"', json.dumps(name)))
        run["runs"][0] |= {"command": name, "name": name}
        run["pair"] |= {"student": name, "teacher": name}
        run["judges"][0] |= {"summary": name, "setup": {"template": name}}
        run["methods"][2]["why"] = run["training"]["prompt_set"] = name
        run["prompt_sets"][1]["unmeasured"] = run["retention"][0]["task"] = run["retention"][0]["metric"] = name
        run["prompt_sets"][1]["unpooled"], run["first_measure"], run["costs"][0]["device"] = [name], name, name
        run["measured"][0] |= {"head": name, "summary": name, "misses": name, "unit": name}
        return rendered([run])

    def shape(board_text: str) -> list[tuple[str, int]]:
        """Of each line: how it starts, and its columns."""
        return [
            (line[:1], len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0)
            for line in board_text.splitlines()
        ]

    shown = with_name(text)
    assert shape(shown) == shape(with_name("name"))
    assert not re.search(r"(?<!\\)<[!/]", re.sub("to reproduce: .*", "", shown))  # the command is code


def test_a_command_with_backticks_is_still_code() -> None:
    run = make_run()
    for command, shown in (("run `x`", "`` run `x` ``"), ("``", "``` `` ```"), ("run x", "`run x`")):
        run["runs"][0]["command"] = command
        assert f"- to reproduce: {shown} (" in rendered([run])


def test_the_committed_board_is_the_one_of_the_recorded_runs() -> None:
    path = ROOT / "leaderboard.md"
    assert path.read_text(encoding="utf-8") == board.board_markdown(pooling.boards(recording.recorded()))
