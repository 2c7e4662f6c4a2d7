"""How far judges differ in each row: what is drawn, what is said, and that one judge alone has nothing of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.core.records import Verdict
from harness.reports import judges_apart, tables
from harness.reports.html import _deciding
from harness.reports.panels import LEFT, RIGHT
from harness.reports.report_data import ReportData
from harness.results.declared import Declared
from harness.results.figures import RunRows, figures
from harness.results.schema import JudgeFacts, Results
from harness.statistics.agreement import judges_apart as statistic
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.panel import MAJORITY, MEAN, SUMMARIES

SYSTEMS = {"teacher (second sample)": "ceiling", "kd": "method", "dadpo": "method", "student (untrained)": "untrained"}
PROMPTS = 24


def verdicts(judges: list[str], skipped: int = 0) -> list[Verdict]:
    """Of 24 prompts, each judge with tastes of its own; the last judge has no answer to the first `skipped` of kd."""
    rng = np.random.default_rng(7)
    found = []
    for system in SYSTEMS:
        for judge in judges:
            for prompt in range(PROMPTS):
                silent = prompt < skipped and system == "kd" and judge == judges[-1]
                found.append(
                    Verdict(
                        prompt_set="near",
                        prompt_id=f"p{prompt}",
                        candidate=system,
                        reference="teacher",
                        order="none",
                        status="failed" if silent else "ok",
                        preference=None if silent else float(rng.integers(0, 3)) / 2,
                        judge=judge,
                    )
                )
    return found


def judge_facts(name: str, **more: Any) -> JudgeFacts:
    return JudgeFacts(**{"name": name, "summary": "", "misses": "", "setup": {}, "digest": "", **more})


def made(judges: list[str], said: list[Verdict], named: list[str] | None = None) -> Results:
    """Results that hold what is shown here: figures follow from the verdicts. named: the judges that decide."""
    named = named or judges[:1]
    declared = Declared({"near": True}, SYSTEMS, named, [name for name in judges if name not in named], [], measures=[])  # type: ignore[arg-type]
    found = figures(declared, {"run": RunRows(said, [])})
    panels = [judge_facts(name, setup={"judges": ", ".join(named)}) for name in SUMMARIES] if len(named) > 1 else []
    return Results.model_construct(
        **dict(found), judge=declared.judge, judges=(*panels, *map(judge_facts, judges)), methods=()
    )


def apart_of(results: Results, said: list[Verdict]) -> judges_apart.Apart:
    return judges_apart.differences(results, said, _deciding(ReportData(results, said)))


def drawn(results: Results, said: list[Verdict]) -> list[judges_apart.JudgesPanel]:
    """Of the one set."""
    ((name, found),) = judges_apart.panels(results, apart_of(results, said))
    assert name == "near"
    return found


def rate_of(said: list[Verdict], system: str, judge: str) -> dict[str, float]:
    return {
        v.prompt_id: float(np.sign(v.preference - 0.5))
        for v in said
        if (v.candidate, v.judge) == (system, judge) and v.preference is not None
    }


def test_one_judge_alone_has_no_panel() -> None:
    said = verdicts(["one"])
    results = made(["one"], said)
    assert judges_apart.panels(results, apart_of(results, said)) == [] and judges_apart.legend(results) == []


@pytest.mark.parametrize("skipped", [0, 9])
def test_differences_are_of_the_prompts_that_both_judged(skipped: int) -> None:
    said = verdicts(["one", "two", "three"], skipped)
    results = made(["one", "two", "three"], said)
    apart = apart_of(results, said)
    assert set(apart) == {("near", system, judge) for system in SYSTEMS for judge in ("two", "three")}
    table = next(found for found in tables.judges(results, apart) if found.caption == "The other judges")
    rows = {(row[0].text, row[2].text): row[4:6] for row in table.rows}
    for (_, system, judge), found in apart.items():
        mine, theirs = rate_of(said, system, judge), rate_of(said, system, "one")
        values = np.array([mine[name] - theirs[name] for name in theirs if name in mine])
        assert len(values) == PROMPTS - (skipped if (system, judge) == ("kd", "three") else 0)
        # by hand: Student's t on the differences of the prompts
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        assert (found.n, found.left_out) == (len(values), PROMPTS - len(values))
        assert found.difference == pytest.approx(values.mean(), abs=1e-12)
        assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-12)
        low, high = 100 * (values.mean() - half), 100 * (values.mean() + half)
        difference, prompts = rows[system, judge]
        assert difference.text == f"{100 * values.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        assert (difference.sort, prompts.text) == (pytest.approx(100 * values.mean()), str(len(values)))


def test_turns_and_samples_of_a_prompt_are_one_prompt() -> None:
    """Each counts as an outcome, and the interval is of prompts."""
    told = [v.model_copy(update={"turn": turn}) for turn in (1, 2) for v in verdicts(["one", "two"])]
    found = from_records([v for v in told if v.candidate == "kd"])
    apart = statistic(outcomes(found), "two", "one")
    assert apart.n == PROMPTS and apart.difference is not None
    assert apart.difference == pytest.approx(
        statistic(
            outcomes(from_records([v for v in verdicts(["one", "two"]) if v.candidate == "kd"])), "two", "one"
        ).difference
    )


def test_each_row_has_a_mark_a_judge_side_by_side() -> None:
    said = verdicts(["one", "two", "three"])
    results = made(["one", "two", "three"], said)
    rates, apart = drawn(results, said)
    assert [group.short for group in rates.groups] == ["second sample", "kd", "dadpo", "untrained"]
    assert [len(group.marks) for group in rates.groups] == [3] * 4
    assert [len(group.marks) for group in apart.groups] == [2] * 4  # that to itself is none
    for panel in (rates, apart):
        for group in panel.groups:
            assert len({mark.judge for mark in group.marks}) == len({mark.y for mark in group.marks})
            for mark in group.marks:
                assert LEFT <= float(mark.low) <= float(mark.x) <= float(mark.high) <= RIGHT
        assert LEFT <= float(panel.zero[0]) <= RIGHT and panel.x_ticks
        last = panel.groups[-1].marks[-1]
        assert float(last.y) < panel.box[3] < panel.size[1]
    # a judge has one shape on the whole page
    shapes = [shape for shape, _ in judges_apart.legend(results)]
    assert all([mark.judge for mark in group.marks] == shapes for group in rates.groups)
    assert all([mark.judge for mark in group.marks] == shapes[1:] for group in apart.groups)
    assert {group.colour for group in rates.groups} == {"ceiling", "c0", "c1", "start"}  # systems', as elsewhere
    row = next(row for row in results.rows if (row.method, row.judge) == ("kd", "two"))
    mark = next(group for group in rates.groups if group.short == "kd").marks[1]
    assert mark.title.startswith(f"kd by two: {100 * (row.preference_rate or 0):+.1f}")


def test_of_a_panel_each_member_is_set_against_what_they_decide() -> None:
    said = verdicts(["one", "two", "three"])
    results = made(["one", "two", "three"], said, named=["one", "two", "three"])
    assert results.judge == MAJORITY
    names = [name for _, name in judges_apart.legend(results)]
    assert names == [MAJORITY, "one", "two", "three"] and MEAN not in names
    votes = np.array(
        [list(rate_of(said, "kd", name).values()) for name in ("one", "two", "three")]
    )  # [judges, prompts]
    most = ((votes == 1).sum(axis=0) >= 2).astype(float) - ((votes == -1).sum(axis=0) >= 2)
    assert apart_of(results, said)["near", "kd", "one"].difference == pytest.approx(float((votes[0] - most).mean()))


def test_judges_beyond_the_shapes_are_hollow_and_the_relation_stands_in_the_legend() -> None:
    names = [f"judge-{n}" for n in range(7)]
    results = made(names, verdicts(names))
    related = results.judges[1].model_copy(update={"relation": "judge and teacher are of one family (qwen2.5)"})
    results = results.model_copy(update={"judges": (results.judges[0], related, *results.judges[2:])})
    legend = judges_apart.legend(results)
    assert [shape.hollow for shape, _ in legend] == [False] * 5 + [True] * 2
    assert len({shape for shape, _ in legend}) == 7
    assert legend[1][1] == "judge-1 (judge and teacher are of one family (qwen2.5))"


def test_without_verdicts_the_rates_alone_are_shown() -> None:
    results = made(["one", "two"], verdicts(["one", "two"]))
    assert [panel.title for panel in drawn(results, [])] == ["preference rate"]
    table = next(found for found in tables.judges(results) if found.caption == "The other judges")
    assert "difference, points" not in table.columns
