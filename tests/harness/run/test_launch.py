"""Jobs run in order, once; a judging with failures is not an artifact, and only its failures are asked again."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.core.progress import Tick
from harness.core.records import Order, Response, Status, Verdict, read_records, write_jsonl
from harness.judging import Answer, Judge, Question, judges
from harness.judging.cache import CACHE
from harness.judging.protocol import BOTH_ORDERS, Arrived
from harness.judging.registry import whole
from harness.run.jobs import RESPONSES, UNANSWERED, VERDICTS, Job, JudgeJob, PromptsJob
from harness.run.launch import run_job, run_jobs
from harness.store import Store
from tests.harness.making import quiet, read_job

IDS = ("p0", "p1", "p2")


@dataclass
class FakeJudge(Judge):
    """Prefers the candidate, save where `failing` names the prompt, the prompt and order, or the candidate's text."""

    name: str = "fake"
    summary: str = "a judge"
    asked: list[tuple[str, Order]] = field(default_factory=list)
    failing: dict[str | tuple[str, Order], Status] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        for question in questions:
            comparison = question.comparison
            key = (comparison.prompt.id, question.order)
            self.asked.append(key)
            status = next((s for k, s in self.failing.items() if k in (key[0], key, comparison.candidate.text)), "ok")
            arrived(question, Answer(status, 1.0 if status == "ok" else None, f"call {len(self.asked)}"))


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> FakeJudge:
    fake = FakeJudge()
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "fake": whole(fake)})
    return fake


@pytest.fixture
def job(store: Store, tmp_path: Path) -> JudgeJob:
    """A judging of three comparisons, everything that it reads being there."""
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps({"id": name, "prompt": f"Say {name}."}) + "\n" for name in IDS))
    prompts = read_job(path)
    run_job(prompts, store, quiet)
    for name, tokens in (("candidate", (3, 2)), ("reference", (4, 5, 2))):
        with store.making(f"respond/{name}") as work:
            rows = [Response(prompt_id=p, token_ids=tokens, text=f"{name} {p}", finish="stop") for p in IDS]
            write_jsonl(work / RESPONSES, rows)
            store.commit(f"respond/{name}", work, {"stage": "respond"}, {"tokens": 6}, 0.0)
    return JudgeJob(
        label="judge fake: me, set",
        judge="fake",
        judge_source="s",
        prompt_set="set",
        candidate_name="me",
        reference_name="teacher",
        prompts=prompts.ref,
        candidate="respond/candidate",
        reference="respond/reference",
        samples=None,
        measures={},
    )


def both(*names: str) -> list[tuple[str, Order]]:
    return [(name, order) for name in names for order in BOTH_ORDERS]


def verdicts(folder: Path) -> list[Verdict]:
    return read_records(folder / VERDICTS, Verdict)


@pytest.fixture
def run(store: Store) -> Callable[..., tuple[int, str]]:
    """run_jobs on some jobs: how many were made, and what was printed."""

    def run_now(*jobs: JudgeJob | PromptsJob) -> tuple[int, str]:
        printed = io.StringIO()
        return run_jobs(jobs, store, Console(file=printed, width=200)), printed.getvalue()

    return run_now


def test_a_judging_without_failures_is_an_artifact_with_every_verdict(
    judge: FakeJudge, store: Store, job: JudgeJob
) -> None:
    assert run_job(job, store, quiet)
    found = verdicts(store.read(job.ref).path)
    assert judge.asked == both(*IDS) == [(verdict.prompt_id, verdict.order) for verdict in found]
    assert {(verdict.status, verdict.preference, verdict.candidate) for verdict in found} == {("ok", 1.0, "me")}
    facts = store.read(job.ref).facts
    assert {name: facts[name] for name in ("verdicts", "ok", "asked", "cached", UNANSWERED)} == {
        **dict.fromkeys(("verdicts", "ok", "asked"), 6),
        **dict.fromkeys(("cached", UNANSWERED), 0),
    }
    assert not run_job(job, store, quiet) and len(judge.asked) == 6


@pytest.mark.parametrize("status", ["failed", "skipped"])
@pytest.mark.parametrize("key", ["p1", ("p1", "candidate_first"), ("p1", "reference_first")], ids=str)
def test_only_what_failed_is_asked_again(
    judge: FakeJudge, store: Store, job: JudgeJob, status: Status, key: str | tuple[str, Order]
) -> None:
    judge.failing = {key: status}
    assert not run_job(job, store, quiet)
    assert not store.has(job.ref)
    before = verdicts(store.workspace(job.ref))
    assert len(before) == 6 and any(verdict.status == status for verdict in before)

    judge.failing, judge.asked = {}, []
    assert run_job(job, store, quiet)
    assert judge.asked == [k for k in both("p1") if key in k or key == k]
    after = verdicts(store.read(job.ref).path)
    assert [(verdict.prompt_id, verdict.order) for verdict in after] == both(*IDS)
    assert [v for v in after if v.status == "ok" and v in before] == [v for v in before if v.status == "ok"]
    assert store.read(job.ref).facts[UNANSWERED] == 0 and not store.workspace(job.ref).exists()


def test_failures_may_last_and_what_arrives_is_kept_each_time(judge: FakeJudge, store: Store, job: JudgeJob) -> None:
    left: tuple[str, ...] = IDS
    while left:
        judge.failing, judge.asked = dict.fromkeys(left[1:], "failed"), []
        assert run_job(job, store, quiet) == (len(left) == 1)
        assert judge.asked == both(*left)
        left = left[1:]
    assert {verdict.status for verdict in verdicts(store.read(job.ref).path)} == {"ok"}


def test_an_answer_that_cannot_be_read_is_final(judge: FakeJudge, store: Store, job: JudgeJob) -> None:
    judge.failing = {"p0": "unparsable"}
    assert run_job(job, store, quiet)
    found = verdicts(store.read(job.ref).path)
    assert [verdict.status for verdict in found] == ["unparsable", "unparsable", "ok", "ok", "ok", "ok"]
    assert found[0].preference is None
    assert not run_job(job, store, quiet) and len(judge.asked) == 6


def test_an_unreadable_answer_beside_a_failure_is_not_asked_again(
    judge: FakeJudge, store: Store, job: JudgeJob
) -> None:
    judge.failing = {"p0": "unparsable", "p2": "failed"}
    assert not run_job(job, store, quiet)
    judge.failing, judge.asked = {}, []
    assert run_job(job, store, quiet) and judge.asked == both("p2")


@pytest.mark.parametrize("extra", [-1, 1], ids=["one too few", "one too many"])
def test_a_judge_that_miscounts_leaves_no_artifact(
    judge: FakeJudge, store: Store, job: JudgeJob, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    def miscounts(questions: Iterable[Question], arrived: Arrived) -> None:
        asked = list(questions)
        for question in asked[:-1] if extra < 0 else [*asked, asked[0]]:
            arrived(question, Answer("ok", 0.5))

    monkeypatch.setattr(judge, "answer", miscounts)
    with pytest.raises(RuntimeError, match="judge fake gave"):
        run_job(job, store, quiet)
    assert not store.has(job.ref)


def test_what_another_run_was_told_is_not_asked_again(judge: FakeJudge, store: Store, job: JudgeJob) -> None:
    run_job(job, store, quiet)
    other = job.model_copy(update={"candidate_name": "the same under another name", "prompt_set": "elsewhere"})
    judge.asked = []
    assert run_job(other, store, quiet) and judge.asked == []
    found = verdicts(store.read(other.ref).path)
    assert {(v.candidate, v.prompt_set) for v in found} == {("the same under another name", "elsewhere")}
    assert store.read(other.ref).facts["cached"] == 6
    assert (store.root / CACHE).is_file()


def test_a_refreshed_judging_asks_anew(judge: FakeJudge, store: Store, job: JudgeJob) -> None:
    run_job(job, store, quiet)
    store.discard(job.ref)
    judge.asked = []
    again = job.model_copy(update={"refresh": True})
    assert again.ref == job.ref
    assert run_job(again, store, quiet) and judge.asked == both(*IDS)


def test_an_interrupted_judging_goes_on_where_it_was(
    judge: FakeJudge, store: Store, job: JudgeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: int, total: int, note: str = "") -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, store, interrupted)
    assert not store.has(job.ref)
    judge.asked = []
    assert run_job(job, store, quiet) and judge.asked == both(*IDS)[4:]
    assert {verdict.status for verdict in verdicts(store.read(job.ref).path)} == {"ok"}


# ---- several jobs


def test_what_was_made_is_counted_and_what_is_there_is_not(
    judge: FakeJudge, store: Store, job: JudgeJob, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    there, cut = (read_job(tmp_path / "set.jsonl", limit) for limit in (None, 1))
    assert store.has(there.ref)
    assert run(there, cut, job)[0] == 2
    assert run(there, cut, job) == (0, "")


def test_a_judging_with_failures_is_not_counted_and_says_what_to_do(
    judge: FakeJudge, job: JudgeJob, run: Callable[..., tuple[int, str]]
) -> None:
    judge.failing = {"p1": "failed"}
    count, printed = run(job)
    assert count == 0
    assert "judge fake: me, set: done" in printed and "run the same command again" in printed
    judge.failing = {}
    assert run(job)[0] == 1


def test_a_judging_with_failures_does_not_keep_the_next_from_being_made(
    judge: FakeJudge, store: Store, job: JudgeJob, run: Callable[..., tuple[int, str]]
) -> None:
    turned = job.model_copy(update={"candidate": job.reference, "candidate_name": "again"})
    judge.failing = {"candidate p0": "failed"}
    assert run(job, turned)[0] == 1
    assert not store.has(job.ref)
    assert {verdict.candidate for verdict in verdicts(store.read(turned.ref).path)} == {"again"}


def test_a_damaged_artifact_is_made_again_with_one_line_of_warning(
    judge: FakeJudge, store: Store, job: JudgeJob, run: Callable[..., tuple[int, str]]
) -> None:
    run(job)
    file = store.path(job.ref) / VERDICTS
    before = file.read_bytes()
    file.write_bytes(before.replace(b"p1", b"p3"))
    judge.asked = []
    count, printed = run(job)
    assert count == 1 and file.read_bytes() == before and store.intact(job.ref)
    aside = store.root / "corrupt" / f"{job.ref.replace('/', '-')}-1"
    assert (aside / VERDICTS).read_bytes() == before.replace(b"p1", b"p3")
    assert printed == (
        f"warning: {job.label} is made again: {VERDICTS} is not what was written; the artifact is now in {aside}\n"
    )
    assert run(job) == (0, "")


def test_a_damaged_artifact_is_noticed_by_a_single_job_too(
    judge: FakeJudge, store: Store, job: JudgeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(job, store, quiet)
    (store.path(job.ref) / VERDICTS).unlink()
    assert run_job(job, store, quiet) and store.intact(job.ref)
    assert capsys.readouterr().err.startswith("warning: judge fake: me, set is made again: ")


def test_another_launcher_performs_what_is_missing_and_no_more(store: Store, job: JudgeJob) -> None:
    asked: list[str] = []

    def perform(job: Job, store: Store, work: Path, tick: Tick) -> dict[str, object]:
        asked.append(job.label)
        return {"verdicts": 0, "spent": ""}

    for made in (1, 0):
        assert run_jobs([job], store, Console(file=io.StringIO()), perform) == made
    assert asked == [job.label]


def test_an_artifact_made_by_another_process_meanwhile_is_taken(
    judge: FakeJudge, store: Store, job: JudgeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(job, store, quiet)
    answers = iter([False, True])  # not there before the lock is had, there after
    monkeypatch.setattr(store, "has", lambda ref: next(answers))
    assert not run_job(job, store, quiet)
    assert len(judge.asked) == 6 and not store.workspace(job.ref).exists()
