"""Several responses to a prompt, and students that are judged against each other, on runs of tiny models."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import IDENTICAL, RunMeasured, RunResponse, Verdict, read_records
from harness.judging import api
from tests.cases.conftest import EVALUATION, Case, refused
from tests.serving import Server, judged

pytestmark = pytest.mark.slow
ROWS = 4  # the ceiling, the start, sft and kd
PROMPTS = len(EVALUATION)


@pytest.fixture
def case(case: Case) -> Case:
    case.methods = "sft,kd"
    return case


@pytest.fixture
def reading(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A judge that reads: the same of the same two texts in the same order, and of no opinion beside that."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    with Server(lambda call: judged(call.body)) as server:
        case.judge = "openai:stub"
        case.settings["judge.base_url"] = server.base_url
        yield server
    for session in api._sessions.values():
        session.close()
    api._sessions.clear()


def ok(ended: Any) -> str:
    assert ended.status == 0, ended.err
    return str(ended.err)


def verdicts(folder: Path) -> list[Verdict]:
    return read_records(folder / "verdicts.jsonl", Verdict)


def responses(folder: Path) -> list[RunResponse]:
    return read_records(folder / "responses.jsonl", RunResponse)


def kept(case: Case, name: str) -> Path:
    return shutil.copytree(case.out, case.root / name)


# ---- several samples


@pytest.mark.parametrize("judge", ["typicality", "openai:stub"])
def test_every_sample_is_judged_against_the_teacher_s_of_the_same_number(
    case: Case, judge: str, request: pytest.FixtureRequest
) -> None:
    server: Server | None = request.getfixturevalue("reading") if judge == "openai:stub" else None
    orders = 1 if server is None else 2
    ok(case.run())
    one, first = verdicts(case.out), responses(case.out)
    asked = len(server.calls) if server else 0
    ok(case.run("--samples", "2"))
    both, said = verdicts(case.out), responses(case.out)

    assert len(one) == ROWS * PROMPTS * orders and len(both) == 2 * len(one)
    assert Counter(row.sample for row in said) == {0: len(first), 1: len(first)}
    # the first one is what a run of one sample has: its text, and what was said of it, which is not asked again
    assert [row for row in said if row.sample == 0] == first
    anew = {"seconds": 0.0}
    again = [row.model_copy(update=anew) for row in both if row.sample == 0]
    assert again == [row.model_copy(update=anew) for row in one]
    # a verdict is of the two responses of its number; equal texts are one question
    texts = {(row.system, row.prompt_id, row.sample): row.text for row in said}
    questions = set()
    for row in both:
        ours, theirs = (texts[system, row.prompt_id, row.sample] for system in (row.candidate, row.reference))
        assert (row.candidate_characters, row.reference_characters) == (len(ours), len(theirs))
        if ours != theirs:
            questions.add((row.prompt_id, ours, theirs, row.order))
    if server:
        assert len(server.calls) == len(questions) > asked

    results = case.results()
    for row in results["rows"]:
        assert (row["n"], row["prompts"]) == (2 * PROMPTS, PROMPTS)
        assert row["components"]["within"] is not None
    (counted,) = results["judging"]
    assert counted["verdicts"] == len(both) and counted["outcomes"] == ROWS * 2 * PROMPTS
    own = [row for row in said if row.system == "kd"]
    (kd,) = (row for row in results["rows"] if row["method"] == "kd")
    assert kd["mean_tokens"] == pytest.approx(sum(row.tokens for row in own) / len(own))
    # what models say of tokens is measured of all samples too
    sums = [row.values for row in read_records(case.out / "measures.jsonl", RunMeasured) if row.system == "kd"]
    for name, read in (("reverse_kl", own), ("forward_kl", [row for row in said if row.system == "teacher"])):
        assert sum(values[name][1] for values in sums) == sum(row.tokens for row in read)
    assert {"self_bleu", "length"} <= {row["measure"] for row in results["measures"] if row["method"] == "kd"}

    assert "\n0 of " in "\n" + ok(case.cli(*case.command(), "--samples", "2"))
    ok(case.cli("verify", case.out))
    page = case.cli("report", case.out, "--out", case.root / "report.html")
    assert page.status == 0


# ---- method against method


def test_students_are_judged_against_each_other_by_a_judge_that_reads(case: Case, reading: Server) -> None:
    ok(case.run())
    before, results = len(reading.calls), case.results()
    assert results["versus"] == []
    ok(case.run("--versus", "kd:sft", "--samples", "2"))
    direct = [row for row in verdicts(case.out) if row.reference != "teacher"]
    assert {(row.candidate, row.reference) for row in direct} == {("kd", "sft")}
    assert Counter((row.order, row.sample) for row in direct) == {
        (order, sample): PROMPTS for order in ("candidate_first", "reference_first") for sample in (0, 1)
    }
    assert len(reading.calls) > before
    # it is in no rate against the teacher
    found = case.results()
    for row in found["rows"]:
        assert row["n"] == 2 * PROMPTS
    (versus,) = found["versus"]
    assert (versus["first"], versus["second"], versus["judge"]) == ("kd", "sft", "openai:stub")
    assert (versus["n"], versus["prompts"], versus["orders"]) == (2 * PROMPTS, PROMPTS, "both")
    # by hand: a win where both orders prefer the first
    sides: dict[tuple[str, int], list[float]] = {}
    for one in direct:
        sides.setdefault((one.prompt_id, one.sample), []).append(one.preference or 0.0)
    assert versus["wins"] == sum(min(pair) > 0.5 for pair in sides.values())
    assert versus["losses"] == sum(max(pair) < 0.5 for pair in sides.values())
    (counted,) = found["judging"]
    assert counted["verdicts"] == 2 * (ROWS + 1) * 2 * PROMPTS == counted["ok"]
    assert counted["outcomes"] == (ROWS + 1) * 2 * PROMPTS

    asked = len(reading.calls)
    assert "\n0 of " in "\n" + ok(case.cli(*case.command(), "--versus", "kd:sft", "--samples", "2"))
    assert len(reading.calls) == asked
    ok(case.cli("verify", case.out))
    said = case.cli("stats", case.out / "verdicts.jsonl")
    assert said.status == 0 and "sft" in said.out
    # asked anew, they are too
    ok(case.cli(*case.command(), "--versus", "kd:sft", "--samples", "2", "--refresh"))
    alike = sum(row.detail == IDENTICAL for row in verdicts(case.out))
    assert len(reading.calls) == asked + counted["verdicts"] - alike


def test_a_proxy_says_whose_responses_are_nearer_to_the_teacher_s(case: Case) -> None:
    ok(case.run("--versus", "kd:sft,sft:student (untrained)"))
    found = {(row["first"], row["second"]): row for row in case.results()["versus"]}
    assert found.keys() == {("kd", "sft"), ("sft", "student (untrained)")}
    for row in found.values():
        assert (row["n"], row["orders"]) == (PROMPTS, "none")
    # nearer than the other, whichever is the reference
    ok(case.run("--versus", "sft:kd"))
    (turned,) = case.results()["versus"]
    told = found["kd", "sft"]
    assert (turned["wins"], turned["ties"], turned["losses"]) == (told["losses"], told["ties"], told["wins"])
    ok(case.cli("verify", case.out))


def test_a_panel_judges_students_against_each_other(case: Case, reading: Server) -> None:
    case.judge = "openai:stub,typicality"
    ok(case.run("--versus", "kd:sft"))
    (versus,) = case.results()["versus"]
    assert versus["judge"] == "panel (majority)" and versus["orders"] == "mixed"
    outcomes: dict[str, list[float]] = {}
    for row in verdicts(case.out):
        if row.reference == "sft":
            outcomes.setdefault(row.prompt_id, []).append(row.preference or 0.0)
    # more than half of two are both: each by its own orders
    assert versus["wins"] == sum(min(said) > 0.5 for said in outcomes.values())
    assert versus["losses"] == sum(max(said) < 0.5 for said in outcomes.values())
    assert versus["n"] == PROMPTS and {len(said) for said in outcomes.values()} == {3}
    ok(case.cli("verify", case.out))
    assert case.cli("report", case.out, "--out", case.root / "report.html").status == 0


def test_direct_comparisons_of_several_seeds_are_pooled(case: Case) -> None:
    ok(case.run("--versus", "kd:sft"))
    first = kept(case, "first")
    ok(case.run("--versus", "kd:sft", "--seed", "1"))
    ended = case.cli("leaderboard", first, case.out, "--out", case.root / "two.json")
    assert ended.status == 0, ended.err
    (board,) = json.loads((case.root / "two.json").read_text())
    (versus,) = board["versus"]
    assert (versus["n"], versus["prompts"]) == (2 * PROMPTS, PROMPTS)
    each = [json.loads((folder / "results.json").read_text())["versus"][0] for folder in (first, case.out)]
    assert versus["wins"] == sum(row["wins"] for row in each)


def test_rows_that_are_not_there_are_refused_before_any_work(case: Case) -> None:
    said = refused(case.run("--versus", "kd:sfd"))
    assert "versus: the board has no row 'sfd'; did you mean 'sft'?" in said
    assert not case.out.exists()
