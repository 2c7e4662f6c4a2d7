"""What `judge` prints: every judge's rates, their agreement, and what to do about verdicts that are missing."""

from __future__ import annotations

import pytest

from harness.core.records import Order, Status, Verdict
from harness.judging.collect import Tally
from harness.judging.settings import Prices
from harness.reports.judge import NAMED_AT_MOST, summary
from harness.statistics.rates import rates

BOTH: tuple[Order, ...] = ("candidate_first", "reference_first")
Said = float | Status


def verdicts(judge: str, *said: tuple[Said, ...], detail: str = "why") -> list[Verdict]:
    """Of p0, p1, …: a preference or a status in each order."""
    return [
        Verdict(
            prompt_set="files",
            prompt_id=f"p{number}",
            candidate="me",
            reference="them",
            order=order,
            status=found if isinstance(found, str) else "ok",
            preference=None if isinstance(found, str) else found,
            judge=judge,
            detail=detail,
        )
        for number, both in enumerate(said)
        for order, found in zip(BOTH if len(both) == 2 else ("none",), both, strict=True)
    ]


def tally(rows: list[Verdict], **counts: int) -> Tally:
    return Tally(len(rows), sum(row.status == "ok" for row in rows), **counts)


def table(text: str) -> dict[str, dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


WIN, LOSS, FLIP = (1.0, 0.9), (0.0, 0.1), (0.9, 0.1)


def test_a_judge_s_row_has_the_rates_of_its_verdicts() -> None:
    rows = verdicts("one", WIN, WIN, LOSS, FLIP, ("failed", 1.0))
    text = summary(rows, {"one": tally(rows, asked=10)})
    found = rates(rows)
    assert found.preference_rate == 0.25 and found.win_rate == 0.5
    row = table(text)["one"]
    assert row["preference rate"].startswith("+25.0% [") and row["win rate"].startswith("50.0% [")
    assert (row["W / T / L"], row["N"], row["missing"], row["flips"]) == ("2 / 1 / 1", "4", "1", "1 of 4")


def test_one_judge_is_no_panel_and_agrees_with_no_one() -> None:
    rows = verdicts("one", WIN)
    text = summary(rows, {"one": tally(rows)})
    assert "panel" not in text and "κ" not in text
    assert list(table(text)) == ["one"]


def test_a_judge_without_orders_has_no_flips() -> None:
    rows = verdicts("one", (1.0,), (0.0,))
    assert table(summary(rows, {"one": tally(rows)}))["one"]["flips"] == "no orders"


def test_several_judges_stand_below_their_panels_with_their_agreement() -> None:
    rows = [*verdicts("one", WIN, WIN, LOSS, LOSS), *verdicts("two", WIN, LOSS, LOSS, LOSS)]
    halves = [rows[:8], rows[8:]]
    text = summary(rows, {name: tally(half) for name, half in zip(("one", "two"), halves, strict=True)})
    found = table(text)
    assert list(found) == ["panel (majority)", "panel (mean)", "one", "two"]
    assert [found[name]["W / T / L"] for name in ("panel (majority)", "one", "two")] == [
        "1 / 1 / 2", "2 / 0 / 2", "1 / 0 / 3"
    ]  # fmt: skip
    # p_o = 3/4, p_e = 2/4 · 1/4 + 2/4 · 3/4 = 1/2
    assert "one and two: Cohen's κ 0.50 [" in text and "over 4 prompts" in text


def test_an_agreement_without_a_number_says_why() -> None:
    rows = [*verdicts("one", WIN), *verdicts("two", WIN)]
    text = summary(rows, {"one": tally(rows[:2]), "two": tally(rows[2:])})
    assert "one and two: Cohen's κ undefined over 1 prompts (both gave one and the same outcome throughout" in text


def test_what_was_asked_and_spent_is_said() -> None:
    rows = verdicts("one", WIN, WIN, LOSS)
    spent = {"input_tokens": 400, "output_tokens": 4}
    counted = Tally(6, 6, identical=1, cached=1, asked=4, **spent, prices=Prices(input=1.0, output=1.0))
    expected = "one: 6 of 6 verdicts ok (100.0%); 1 of identical responses, 1 from the cache, 4 asked for now"
    assert f"{expected}: 400 tokens in, 4 out, cost 0.000404" in summary(rows, {"one": counted}).splitlines()
    free = Tally(6, 6, identical=1, cached=1, asked=4, **spent)
    assert expected in summary(rows, {"one": free}).splitlines()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("failed", "run the same command again to ask for them"),
        ("skipped", "run the same command again"),
        ("unparsable", "an answer without a verdict; --refresh asks anew"),
    ],
)
def test_verdicts_that_are_missing_are_named_once_with_the_reason_and_what_to_do(status: Status, advice: str) -> None:
    rows = verdicts("one", (status, status), WIN, (1.0, status), detail="it timed out")
    lines = summary(rows, {"one": tally(rows, asked=6)}).splitlines()
    assert f"- {status} (it timed out): p0, p2; {advice}" in lines
    assert sum(line.startswith("- ") for line in lines) == 1
    assert "one: 3 of 6 verdicts ok (50.0%)" in lines[-2]


def test_of_many_that_are_missing_some_are_named() -> None:
    rows = verdicts("one", *[("failed", "failed")] * (NAMED_AT_MOST + 3))
    text = summary(rows, {"one": tally(rows)})
    assert f"p{NAMED_AT_MOST - 1} and 3 more; run" in text and f"p{NAMED_AT_MOST}," not in text
    assert table(text)["one"]["preference rate"] == "none judged"


def test_each_judge_s_failures_are_its_own() -> None:
    rows = [*verdicts("one", ("failed", 1.0), WIN), *verdicts("two", WIN, ("unparsable", 0.0))]
    text = summary(rows, {"one": tally(rows[:4]), "two": tally(rows[4:])})
    assert text.index("- failed (why): p0") < text.index("two: 3 of 4") < text.index("- unparsable (why): p1")
    assert table(text)["panel (mean)"]["missing"] == "2"
