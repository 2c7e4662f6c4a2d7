"""What people's labels say, on the board and on pages."""

from __future__ import annotations

from typing import Any

from harness.reports import labels
from harness.reports.board import board_markdown
from harness.reports.html import render_leaderboard
from harness.results.labelled import LabelledResults
from harness.results.schema import Results
from tests.harness.results_made import make_run

SHARE = {"count": 30, "n": 50, "share": 0.6, "interval": [0.45, 0.73]}
KAPPA = {
    "n": 50,
    "missing": 0,
    "table": [[10, 5, 5], [2, 10, 3], [2, 3, 10]],
    "agreement": SHARE,
    "kappa": 0.4,
    "kappa_interval": [0.2, 0.6],
    "undefined_resamples": 0,
    "note": "",
}


def rate(**values: Any) -> dict[str, Any]:
    return {
        "scope": "near",
        "method": "dadpo",
        "agreement": KAPPA,
        "labels": 50,
        "labelled_prompts": 50,
        "judged": 400,
        "by_people": -0.5,
        "people_interval": [-0.7, -0.25],
        "by_judge": -0.125,
        "judge_interval": [-0.2, -0.05],
        "corrected": -0.45,
        "corrected_interval": [-0.6, -0.3],
        "slope": 0.7,
        "reason": "",
        **values,
    }


def uncorrected(**values: Any) -> dict[str, Any]:
    none = {"corrected": None, "corrected_interval": None, "slope": None}
    return rate(**none, reason="labels of 12 prompts, and 30 are needed", **values)


def labelled(**values: Any) -> LabelledResults:
    difference = rate(first="dadpo", second="kd", by_judge=-0.4)
    for name in ("method", "agreement"):
        del difference[name]
    found = {
        "people": ["ana"],
        "labels": 62,
        "runs": ["small-seed4-abc"],
        "rates": [rate(), uncorrected(method="kd")],
        "contrasts": [difference],
        "agreement": {"first": "both", "second": "people", **KAPPA},
        "between": [],
        **values,
    }
    return LabelledResults.model_validate({**make_run(), "labels": found})


def test_a_board_has_the_three_side_by_side() -> None:
    text = board_markdown([labelled()])
    section = text.split("### By people's labels\n\n")[1].split("\n### ")[0]
    assert section.startswith("62 outcomes were labelled by ana, blind. ")
    assert "both and people: Cohen's κ 0.40 [0.20, 0.60] over 50 outcomes." in section
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    heads = ["method", "on", "labels", "labels alone", "judge alone", "corrected", "κ with people", "of the judge"]
    assert lines[0] == heads
    assert lines[2] == [
        "dadpo",
        "near",
        "50 of 400",
        "-50.0% [-70.0, -25.0]",
        "-12.5% [-20.0, -5.0]",
        "-45.0% [-60.0, -30.0]",
        "0.40 [0.20, 0.60]",
        "off: its -12.5 lies outside the corrected interval",
    ]
    assert lines[3][5:] == ["", "0.40 [0.20, 0.60]", "not corrected: labels of 12 prompts, and 30 are needed"]
    assert lines[6][:2] + lines[6][-1:] == ["dadpo − kd", "near", "within the corrected interval"]
    assert lines[6][5] == "-45.0 [-60.0, -30.0]"


def test_people_who_labelled_the_same_are_compared() -> None:
    between = [{"first": "ana", "second": "ben", **KAPPA, "kappa": None, "note": "no prompt was judged by both"}]
    said = labels.lead(labelled(people=["ana", "ben"], between=between))
    assert "labelled by ana, ben (2 people; what several labelled counts by its mean), blind" in said
    assert said.endswith("ana and ben: Cohen's κ undefined over 50 outcomes (no prompt was judged by both).")


def test_a_page_has_them_too() -> None:
    page = render_leaderboard([labelled()])
    assert "<h3>By people&#39;s labels</h3>" in page
    assert "off: its -12.5 lies outside the corrected interval" in page
    assert page.count("-45.0% [-60.0, -30.0]") == 1


def test_without_labels_there_is_nothing() -> None:
    run = Results.model_validate(make_run())
    assert (labels.section(run), labels.tables(run), labels.lead(run)) == ("", [], "")
    assert "people" not in board_markdown([run])
    assert "people&#39;s" not in render_leaderboard([run])


def test_names_of_files_are_data() -> None:
    nasty = labelled(people=["<script>x</script>"])
    assert "<script>x" not in board_markdown([nasty]).replace("\\<script>", "")
    assert "<script>x" not in render_leaderboard([nasty])
