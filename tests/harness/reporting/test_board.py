from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.reporting import board
from harness.reporting.results import read_results, recorded

ROOT = Path(__file__).parents[3]
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "max_new_tokens": 96}
TRAINING = {
    "start": "sft",
    "learning_rate": 1e-5,
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_tokens": 2048,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "precision": "bf16",
    "checkpoint_steps": 25,
}


def row(prompt_set: str, method: str, kind: str, judge: str, n: int, rate: float | None, **more: Any) -> dict[str, Any]:
    interval = None if rate is None else [rate - 0.125, rate + 0.125]
    return {
        "prompt_set": prompt_set,
        "in_domain": prompt_set == "near",
        "method": method,
        "kind": kind,
        "judge": judge,
        "n": n,
        "wins": 7,
        "ties": 11,
        "losses": 13,
        "missing": 0,
        "failed_verdicts": 0,
        "preference_rate": rate,
        "preference_interval": interval,
        "win_rate": None if rate is None else 0.219,
        "win_interval": None if rate is None else [0.1, 0.4],
        "mean_tokens": 61.4,
        "cut_share": 0.25,
        **more,
    }


def make_run(n: int = 32, proxy: bool = True) -> dict[str, Any]:
    """Two prompt sets, two methods and a control, a judge of two parts; every figure is another one."""
    misses = "grammar" if proxy else ""
    rates = {
        "teacher (second sample)": -0.031,
        "kd": -0.406,
        "dadpo": -0.203,
        "ddpo-beta0.15": -0.305,
        "untrained": -0.508,
    }
    kinds = {"teacher (second sample)": "ceiling", "ddpo-beta0.15": "control", "untrained": "untrained"}
    rows = [
        row(prompt_set, method, kinds.get(method, "method"), judge, n, round(rate - shift - part, 4))
        for prompt_set, shift in (("near", 0.0), ("far", 0.05))
        for method, rate in rates.items()
        for judge, part in (("both", 0.0), ("part-one", 0.01), ("part-two", 0.02))
    ]
    return {
        "schema": 1,
        "harness": "0.1.0",
        "name": "small-seed4-abc",
        "date": "2025-02-03",
        "command": "python -m harness run --student small",
        "pair": {"student": "small", "teacher": "large"},
        "pruning": {"parameters_before": 1000, "parameters": 800},
        "seed": 4,
        "judge": "both",
        "judges": [
            {"name": "both", "summary": "two parts together", "misses": misses},
            {"name": "part-one", "summary": "the first part", "misses": misses},
            {"name": "part-two", "summary": "the second part", "misses": misses},
        ],
        "judge_samples": 2 if proxy else 0,
        "prompt_sets": [
            {"name": "near", "in_domain": True, "prompts": 144, "teacher": {"mean_tokens": 71.6, "cut_share": 0.34}},
            {"name": "far", "in_domain": False, "prompts": 88, "teacher": {"mean_tokens": 82.3, "cut_share": 0.45}},
        ],
        "training": {
            "prompt_set": "everyday",
            "prompts": 640,
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 128},
            "mean_tokens": 93.6,
            "cut_share": 0.57,
        },
        "evaluation": {"sampling": SAMPLING},
        "methods": [
            {
                "name": "kd",
                "method": "kd",
                "controls": "",
                "token_matched": False,
                "why": "",
                "settings": {**TRAINING, "start": "student", "learning_rate": 2e-4, "epochs": 3, "batch_size": 16},
                "facts": {"steps": 120, "tokens": 98765},
            },
            {
                "name": "dadpo",
                "method": "dadpo",
                "controls": "",
                "token_matched": False,
                "why": "",
                "settings": {**TRAINING, "beta_reference": 0.1, "beta_teacher": 0.05, "teacher_margin": "own"},
                "facts": {"steps": 160, "tokens": 123456},
            },
            {
                "name": "ddpo-beta0.15",
                "method": "ddpo",
                "controls": "dadpo",
                "token_matched": False,
                "why": "the larger beta alone",
                "settings": {**TRAINING, "beta": 0.15},
                "facts": {"steps": 161, "tokens": 123457},
            },
        ],
        "rows": rows,
    }


def with_rows(run: dict[str, Any], method: str, **values: Any) -> dict[str, Any]:
    for found in run["rows"]:
        if found["method"] == method:
            found.update(values)
    return run


def section(text: str, title: str) -> str:
    """The text under a heading, to the next one."""
    return re.split(r"^#+ ", text.split(title, 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str, title: str) -> list[dict[str, str]]:
    """The rows of the first table under a heading, by column."""
    lines = [line for line in section(text, title).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], found, strict=True)) for found in cells[2:]]


def test_a_board_without_runs_says_how_to_record_one() -> None:
    assert "python -m harness record RUN_DIR" in board.render([])


def test_the_head_says_what_was_run_and_how_to_run_it_again() -> None:
    text = board.render([make_run()])
    for figure in (
        "## small, taught by large",
        "judge: both; 2 further teacher samples a prompt",
        "seed: 4",
        "2025-02-03",
        "harness 0.1.0",
        "small-seed4-abc",
        "640 prompts of everyday",
        "temperature 1, at most 128 tokens",
        "temperature 0.8, top-p 0.95, at most 96 tokens",
        "`python -m harness run --student small`",
    ):
        assert figure in text


def test_a_set_is_shown_with_its_judge_and_the_teacher_s_responses() -> None:
    text = board.render([make_run()])
    for figure in (
        "### near (in-domain, 144 prompts)",
        "72 tokens, 34% cut",
        "### far (out-of-domain, 88 prompts)",
        "82 tokens, 45% cut",
    ):
        assert figure in text
    assert text.count("Judge: both, a proxy") == 2


def test_every_figure_of_a_row_is_shown() -> None:
    rows = {found["method"]: found for found in table(board.render([make_run()]), "### far")}
    assert rows["dadpo"] == {
        "": "method",
        "method": "dadpo",
        "preference rate": "-25.3% [-37.8, -12.8]",
        "win rate": "21.9% [10.0, 40.0]",
        "W / T / L": "7 / 11 / 13",
        "N": "32",
        "missing": "0",
        "failed verdicts": "0",
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
    text = board.render([with_rows(make_run(), "kd", preference_rate=0.125, preference_interval=[0.0, 0.25])])
    assert "+12.5% [+0.0, +25.0]" in text


def test_missing_prompts_and_failed_verdicts_are_shown() -> None:
    text = board.render([with_rows(make_run(), "kd", n=27, missing=5, failed_verdicts=9)])
    found = next(found for found in table(text, "### near") if found["method"] == "kd")
    assert (found["N"], found["missing"], found["failed verdicts"]) == ("27", "5", "9")


@pytest.mark.parametrize("n", [32, 144])
def test_a_method_that_was_never_judged_is_shown_as_such(n: int) -> None:
    none = dict.fromkeys(("preference_rate", "preference_interval", "win_rate", "win_interval"))
    run = with_rows(make_run(n), "kd", n=0, wins=0, ties=0, losses=0, missing=n, failed_verdicts=n, **none)
    found = next(found for found in table(board.render([run]), "### near") if found["method"] == "kd")
    assert found["preference rate"] == found["win rate"] == "none judged"
    assert (found["N"], found["missing"]) == ("0", str(n))


def test_each_part_of_a_judge_is_shown_alone() -> None:
    rows = {found["method"]: found for found in table(board.render([make_run()]), "### The judges")}
    assert rows["dadpo"] == {
        "method": "dadpo",
        "part-one, near": "-21.3% [-33.8, -8.8]",
        "part-two, near": "-22.3% [-34.8, -9.8]",
        "part-one, far": "-26.3% [-38.8, -13.8]",
        "part-two, far": "-27.3% [-39.8, -14.8]",
    }


def test_what_was_trained_is_shown_with_its_settings_and_what_it_controls() -> None:
    rows = {found["method"]: found for found in table(board.render([make_run()]), "### What was trained")}
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
    text = board.render([reading(make_run(proxy=False))])
    assert text.count("Judge: both (judges part-one, part-two). The teacher") == 2
    said = "model gpt, server https://api/v1, template default (0a1b2c), form auto, temperature 0"
    assert f"- **part-one** ({said}): the first part." in text
    alone = reading(make_run(proxy=False))
    alone["judge"] = "part-one"
    assert f"Judge: part-one ({said}). The teacher" in board.render([alone])


def test_flips_and_identical_responses_are_shown() -> None:
    rows = {found["method"]: found for found in table(board.render([reading(make_run())]), "### far")}
    assert {(found["flips"], found["identical"]) for found in rows.values()} == {("3 of 31", "4")}


def test_a_row_that_was_never_judged_whole_has_its_flips_too() -> None:
    nothing = {"count": 0, "n": 0, "share": None, "interval": None}
    for method in ("teacher (second sample)", "untrained"):  # the first row and the last
        text = board.render([with_rows(reading(make_run()), method, flips=nothing)])
        rows = table(text, "### near")
        assert list(rows[0]) == list(rows[1])
        assert {found["method"]: found["flips"] for found in rows}[method] == "0 of 0"


def test_a_judge_without_orders_has_no_column_of_flips() -> None:
    run = reading(make_run())
    for found in run["rows"]:
        found["flips"] = {"count": 0, "n": 0, "share": None, "interval": None}
    assert "flips" not in table(board.render([run]), "### far")[0]


def test_results_that_did_not_count_identical_responses_show_no_count() -> None:
    assert "identical" not in table(board.render([make_run()]), "### far")[0]


def test_the_agreement_of_judges_is_shown() -> None:
    text = board.render([reading(make_run())])
    assert "| part-one, part-two | 0.85 [0.50, 1.00] | 9 of 10        | 2         |        |" in text
    run = reading(make_run())
    run["agreement"][0].update(kappa=None, kappa_interval=None, note="no prompt was judged by both")
    text = board.render([run])
    assert "| undefined | " in text and "no prompt was judged by both" in text
    assert "Agreement of the judges" not in board.render([make_run()])


# ---- banners


@pytest.mark.parametrize("n", [1, 79])
def test_a_run_that_is_too_small_to_rank_says_so(n: int) -> None:
    text = board.render([make_run(n)])
    assert "**Too small to rank.**" in text
    assert f"{n} judged prompts" in text


@pytest.mark.parametrize("n", [80, 144])
def test_a_run_that_is_large_enough_has_no_such_banner(n: int) -> None:
    assert "Too small to rank" not in board.render([make_run(n)])


def test_one_small_set_is_enough_for_the_banner() -> None:
    run = make_run(144)
    for found in run["rows"]:
        if found["prompt_set"] == "far":
            found["n"] = 60
    assert "The smallest set has 60 judged prompts" in board.render([run])


def test_proxies_are_declared_with_what_they_miss() -> None:
    text = board.render([make_run()])
    assert "**The judge is a declared proxy** (both, part-one, part-two)" in text
    assert text.count("A proxy; it misses grammar.") == 3
    assert text.count("Judge: both, a proxy: it misses grammar.") == 2  # above the table of each set


def test_a_judge_that_reads_is_not_called_a_proxy() -> None:
    text = board.render([make_run(proxy=False)])
    assert "declared proxy" not in text
    assert "A proxy" not in text
    assert "further teacher samples" not in text


# ---- order

FIXED = ["teacher (second sample)", "kd", "dadpo", "ddpo-beta0.15", "untrained"]
RANKED = ["teacher (second sample)", "dadpo", "ddpo-beta0.15", "kd", "untrained"]


@pytest.mark.parametrize(("n", "order"), [(79, FIXED), (80, RANKED)])
def test_rows_are_ranked_only_where_there_is_enough_to_rank(n: int, order: list[str]) -> None:
    text = board.render([make_run(n)])
    for title in ("### near", "### far", "### The judges"):
        assert [found["method"] for found in table(text, title)] == order


def test_a_board_that_says_its_order_is_fixed_has_every_table_in_it() -> None:
    run = make_run(144)
    for found in run["rows"]:
        if found["prompt_set"] == "far":
            found["n"] = 60
    text = board.render([run])
    assert "rows stand in a fixed order" in text
    assert [found["method"] for found in table(text, "### near")] == FIXED


# ---- several runs, and the same twice


def test_rows_of_different_runs_share_no_table() -> None:
    other = make_run()
    other["pair"] = {"student": "tiny", "teacher": "large"}
    text = board.render([make_run(), other])
    assert text.index("## small, taught by large") < text.index("## tiny, taught by large")
    assert text.count("### near") == 2
    assert [found["method"] for found in table(text, "### near")] == FIXED


def test_rendering_is_deterministic_and_leaves_the_results_alone() -> None:
    run = make_run()
    before = copy.deepcopy(run)
    assert board.render([run]) == board.render([json.loads(json.dumps(run))])
    assert run == before


def test_a_bar_in_a_name_does_not_add_a_column() -> None:
    run = make_run()
    run["methods"][2]["why"] = "a | b"
    rows = section(board.render([run]), "### What was trained").splitlines()
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in rows if line.startswith("|")}
    assert len(bars) == 1


def test_the_committed_board_is_the_one_of_the_recorded_runs() -> None:
    path = ROOT / "leaderboard.md"
    assert path.read_text(encoding="utf-8") == board.render([read_results(folder) for folder in recorded()])
