"""Panels: verdicts that follow from their members', by tables worked out by hand."""

from __future__ import annotations

import pytest

from harness.core.records import IDENTICAL, Order, Status, Verdict
from harness.statistics.outcomes import outcomes_by_prompt
from harness.statistics.panel import MAJORITY, MEAN, SUMMARIES, panel_verdicts
from harness.statistics.rates import rates

Both = tuple[float | None, ...]


def verdicts(judge: str, *preferences: Both, detail: str = "said", status: Status = "failed") -> list[Verdict]:
    """Of prompts p0, p1, …: one preference for a judge without orders, two for one with; None has that status."""
    rows = []
    for number, found in enumerate(preferences):
        orders: tuple[Order, ...] = ("none",) if len(found) == 1 else ("candidate_first", "reference_first")
        for order, preference in zip(orders, found, strict=True):
            rows.append(
                Verdict(
                    prompt_set="set",
                    prompt_id=f"p{number}",
                    candidate="me",
                    reference="teacher",
                    order=order,
                    status=status if preference is None else "ok",
                    preference=preference,
                    judge=judge,
                    candidate_tokens=5,
                    reference_tokens=7,
                    candidate_characters=50,
                    reference_characters=70,
                    detail=detail,
                    raw="A",
                    input_tokens=100,
                    output_tokens=1,
                    seconds=1.0,
                )
            )
    return rows


WIN, LOSS, TIE, FLIP = (0.9, 0.8), (0.1, 0.2), (0.5, 0.5), (0.9, 0.2)


def test_a_panel_has_a_verdict_of_every_response() -> None:
    said = {"one": [(WIN, LOSS), (TIE, WIN)], "two": [(WIN, WIN), (LOSS, WIN)]}  # samples of prompts
    rows = {
        judge: [
            row.model_copy(update={"sample": sample, "turn": 1})
            for sample in (0, 1)
            for row in verdicts(judge, *(of_prompt[sample] for of_prompt in prompts))
        ]
        for judge, prompts in said.items()
    }
    found = {(row.prompt_id, row.sample): row for row in panel_verdicts(rows)[MAJORITY]}
    assert {key: row.preference for key, row in found.items()} == {
        ("p0", 0): 1.0,
        ("p1", 0): 0.5,
        ("p0", 1): 0.5,
        ("p1", 1): 1.0,
    }
    assert {row.turn for row in found.values()} == {1}


@pytest.mark.parametrize(
    ("votes", "majority", "mean"),
    [
        # two judges: more than half is both of them
        ((WIN, WIN), 1.0, 0.85),
        ((LOSS, LOSS), 0.0, 0.15),
        ((WIN, LOSS), 0.5, 0.5),
        ((WIN, TIE), 0.5, 0.675),
        ((LOSS, FLIP), 0.5, 0.35),
        ((FLIP, FLIP), 0.5, 0.55),
        # three: two of them
        ((WIN, WIN, LOSS), 1.0, 0.85 * 2 / 3 + 0.05),
        ((WIN, LOSS, LOSS), 0.0, 0.85 / 3 + 0.1),
        ((WIN, WIN, TIE), 1.0, 0.85 * 2 / 3 + 0.5 / 3),
        ((WIN, TIE, TIE), 0.5, 0.85 / 3 + 1 / 3),
        ((WIN, LOSS, TIE), 0.5, 0.5),
        ((LOSS, FLIP, LOSS), 0.0, (0.15 + 0.55 + 0.15) / 3),
        # four: half is not more than half
        ((WIN, WIN, LOSS, LOSS), 0.5, 0.5),
        ((WIN, WIN, WIN, LOSS), 1.0, (3 * 0.85 + 0.15) / 4),
        # without orders
        (((1.0,), (1.0,)), 1.0, 1.0),
        (((1.0,), (0.0,), (0.5,)), 0.5, 0.5),
        # with and without
        (((1.0,), WIN), 1.0, 0.925),
        (((0.0,), FLIP, LOSS), 0.0, (0.0 + 0.55 + 0.15) / 3),
        # one strong voice: the mean hears it, the majority does not
        (((1.0, 1.0), (0.45, 0.45), (0.45, 0.45)), 0.0, 1.9 / 3),
    ],
)
def test_a_panel_s_preference_follows_from_its_members(votes: tuple[Both, ...], majority: float, mean: float) -> None:
    members = {f"judge {number}": verdicts(f"judge {number}", vote) for number, vote in enumerate(votes)}
    found = panel_verdicts(members)
    assert [v.preference for v in found[MAJORITY]] == [majority]
    assert [v.preference for v in found[MEAN]] == [pytest.approx(mean)]
    # by seats, none counts more than another
    turned = panel_verdicts(dict(reversed(members.items())))
    assert [v.preference for v in turned[MAJORITY]] == [majority]
    assert [v.preference for v in turned[MEAN]] == [pytest.approx(mean)]


def test_a_panel_of_equal_members_says_what_they_say() -> None:
    rows = [WIN, LOSS, TIE, FLIP]
    found = panel_verdicts({name: verdicts(name, *rows) for name in "abc"})
    alone = outcomes_by_prompt(verdicts("a", *rows))
    assert outcomes_by_prompt(found[MAJORITY]) == alone == {"p0": "win", "p1": "loss", "p2": "tie", "p3": "tie"}
    assert outcomes_by_prompt(found[MEAN]) == {**alone, "p3": "win"}  # a mean of .9 and .2 is above a half


@pytest.mark.parametrize("status", ["failed", "skipped", "unparsable"])
@pytest.mark.parametrize("lost", [(None, None), (None, 0.9), (0.9, None), (None,)])
def test_where_a_member_has_no_whole_answer_the_panel_has_none(lost: Both, status: Status) -> None:
    members = {
        "one": verdicts("one", WIN, WIN),
        "two": verdicts("two", WIN, lost, status=status),
        "three": verdicts("three", WIN, WIN),
    }
    for found in panel_verdicts(members).values():
        assert [v.status for v in found] == ["ok", "failed"]
        assert (found[1].preference, found[1].detail) == (None, "no whole answer from two")
        assert (rates(found).n, rates(found).missing) == (1, 1)


def test_all_that_lack_an_answer_are_named() -> None:
    members = {"a": verdicts("a", (None, None)), "b": verdicts("b", WIN), "c": verdicts("c", (None, 1.0))}
    assert [v.detail for v in panel_verdicts(members)[MEAN]] == ["no whole answer from a, c"]


def test_a_prompt_that_a_member_was_not_asked_about_is_missing() -> None:
    found = panel_verdicts({"a": verdicts("a", WIN, WIN), "b": verdicts("b", WIN)})
    assert outcomes_by_prompt(found[MAJORITY]) == {"p0": "win", "p1": "missing"}


def test_a_panel_s_verdict_says_whose_it_is_and_was_not_paid_for_again() -> None:
    (found,) = panel_verdicts({"a": verdicts("a", WIN), "b": verdicts("b", WIN)})[MAJORITY]
    assert found == Verdict(
        prompt_set="set",
        prompt_id="p0",
        candidate="me",
        reference="teacher",
        order="none",
        status="ok",
        preference=1.0,
        judge=MAJORITY,
        candidate_tokens=5,
        reference_tokens=7,
        candidate_characters=50,
        reference_characters=70,
    )


def test_responses_that_are_identical_are_so_for_the_panel() -> None:
    same = {name: verdicts(name, TIE, detail=IDENTICAL) for name in "ab"}
    for found in panel_verdicts(same).values():
        assert [(v.detail, v.preference) for v in found] == [(IDENTICAL, 0.5)]


def test_every_panel_has_a_summary() -> None:
    assert set(panel_verdicts({"a": verdicts("a", WIN), "b": verdicts("b", WIN)})) == set(SUMMARIES)
