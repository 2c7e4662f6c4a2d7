"""A judge's report as it is printed."""

from __future__ import annotations

from harness.judging.check.check import CheckPlan, check
from harness.judging.protocol import NO_ORDER, Answer
from harness.reports.judge_check import check_markdown
from tests.harness.checking import PAIRS, Made, failing, humans, oracle, report_of


def test_a_report_shows_every_part_with_its_intervals() -> None:
    judge = Made(failing)
    report = check(judge, judge.ask, CheckPlan(PAIRS, humans("aabt" * 5)), judge.ask)
    text = check_markdown(report)
    assert text.startswith("# Judge check: made-up\n")
    assert f"**Verdict: {report.verdict}**" in text
    assert "- model: none" in text
    assert f"verdicts: {report.verdicts}; missing: {report.statuses['failed']} failed, " in text
    for heading in ("Position", "Length", "The same questions again", "Damage", "Human labels"):
        assert f"\n## {heading}\n" in text
    assert "nan" not in text
    for number, limit in {
        "- κ of the judge's outcomes and the known ones: 1.000 [": "; limit: the lower end at least 0.60",
        "- preference for the response shown first (0.5 is unbiased): 0.500 [": "; limit: both ends from 0.4 to 0.6",
        "- flips (the orders name different winners): 0.0% [": "; limit: the upper end at most 20%",
        "- the same outcome: 100.0% [": "; limit: the lower end at least 80%",
        "- length bias (0 is unbiased, 1 is length alone): ": "; limit: 0.2, or an interval with 0",
    }.items():
        line = next(line for line in text.splitlines() if line.startswith(number))  # of the plain pairs: they are first
        assert line.endswith(limit)
    humans_part = text.partition("## Human labels")[2].partition("Brackets hold")[0]
    assert "flips" in humans_part and "limit" not in humans_part


def test_what_could_not_be_measured_is_said() -> None:
    assert "none" in check_markdown(report_of(lambda _: Answer("failed", detail="no route")))
    assert "None by construction" in check_markdown(report_of(oracle, NO_ORDER))
    judge = Made(oracle)
    assert "Not asked: it takes two responses" in check_markdown(
        check(judge, judge.ask, CheckPlan(PAIRS[:30], damaged=0))
    )


def test_kappa_comes_with_its_interval_or_with_why_there_is_none() -> None:
    judge = Made(oracle)
    rows = humans("a" * 20)
    turned = [
        row.model_copy(update={"response_a": row.response_b, "response_b": row.response_a, "label": "b"})
        for row in rows[:8]
    ]
    report = check(judge, judge.ask, CheckPlan(PAIRS, (*turned, *rows[8:]), damaged=0))
    assert "Cohen's κ: 1.000 [" in check_markdown(report)
    report = check(judge, judge.ask, CheckPlan(PAIRS, rows, damaged=0))
    assert "κ is undefined" in check_markdown(report)
