"""What lies outside a run, and what is said where it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.config import resolve
from harness.core.errors import UserError
from harness.judging import Answer, Judge, JudgeFactory, judges
from harness.judging.proxies import EMBEDDING
from harness.models.hub import MissingModelError
from harness.run.jobs import JudgeJob, PromptsJob
from harness.run.sources import find
from harness.store import Store
from tests.harness.asking import FakeJudge
from tests.harness.run.roads import SERVED, Build, jsonl

ROLES = ("candidate", "reference", "samples")


def test_finding_writes_no_prompt_set_and_nothing_else_that_stays(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("text\n" + "".join(f"Count to {n}.\n" for n in range(50)))
    layer = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "prune": {"ratio": 0.2},
        "prompts": {"mine": {"path": str(table), "columns": {"prompt": "text"}, "part": "train"}},
        "train_prompts": "mine",
        "eval": ["everyday-test"],
        "limits": {"train": 3, "eval": 2},
        "judge": "typicality",
    }
    store = Store(tmp_path / "store")
    found = find(resolve([layer]), store, download=False)
    assert (len(found.train.prompts), found.train.source) == (3, "table.csv")
    assert [(len(one.prompts), one.name, inside) for one, inside in found.evaluation] == [(2, "everyday-test", False)]
    assert found.calibration and len(found.calibration.prompts) == 16
    assert {path.name for path in store.root.iterdir()} <= {"digests.json", "locks"}


def test_equal_prompts_are_one_artifact_wherever_they_come_from(build: Build, tmp_path: Path) -> None:
    texts = [f"Count to {n}." for n in range(5)]
    lines = jsonl(tmp_path / "set.jsonl", texts)
    table = tmp_path / "table.csv"
    table.write_text("id,prompt\n" + "".join(f"set-{n},{text}\n" for n, text in enumerate(texts)))
    longer = jsonl(tmp_path / "more" / "set.jsonl", [*texts, "Stop."])
    roads = [build(train_prompts=path, limits={"train": 5}) for path in (lines, str(table), longer)]
    assert len({tuple(road.jobs) for road in roads}) == 1
    jobs = [road.jobs[next(ref for ref in road.jobs if road.prompts.get(ref) is road.train)] for road in roads]
    assert len({job.source.path for job in jobs if isinstance(job, PromptsJob)}) == 3


def test_a_pruned_teacher_is_refused(build: Build) -> None:
    with pytest.raises(UserError, match="only the student may be one"):
        build(teacher="smollm2-135m-pruned20")


def test_all_missing_models_are_named_together(build: Build) -> None:
    with pytest.raises(MissingModelError, match=r"someone/teacher.*someone/student"):
        build(student="someone/student", teacher="someone/teacher")


def test_all_that_is_missing_is_named_at_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        build(student="owner/nowhere", train_prompts="ultrafeedback", eval=["alpaca-eval", "everyday-test"])
    text = str(caught.value)
    assert "\n" not in text
    assert all(name in text for name in ("ultrafeedback", "alpaca_eval", "owner/nowhere")), text


def test_a_teacher_is_here_or_behind_a_server(build: Build, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="both teacher and teacher_server are set"):
        build(teacher_server=SERVED, methods=["sft"])


# ---- judges of plug-ins


def added(monkeypatch: pytest.MonkeyPatch, *entries: Judge | JudgeFactory) -> None:
    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    for entry in entries:
        judges.add(entry.name, entry)


def test_the_measures_of_a_family_s_judge_are_made_like_those_of_any_other(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def near_by_text(name: str, *_: Any) -> Judge:
        return replace(EMBEDDING, name=name)

    added(monkeypatch, JudgeFactory("near", "by embedding", near_by_text, measures=("embedding",)))
    road = build(judge="near:mine")
    jobs = [job for job in road.jobs.values() if isinstance(job, JudgeJob)]
    assert jobs and all(set(job.measures) == {f"embedding/{role}" for role in ROLES} for job in jobs)
    assert {ref for job in jobs for ref in job.measures.values()} <= set(road.jobs)


@dataclass
class Panel(FakeJudge):
    parts: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        return self.parts


def panel(*parts: str, measures: tuple[str, ...] = ()) -> Panel:
    return Panel(lambda _: Answer("ok", 0.5), name="panel", parts=parts, measures=measures)


def test_a_part_that_reads_a_model_is_named_as_a_judge_too(
    build: Build, monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path]
) -> None:
    part = f"transformers:{checkpoints['llama']}"
    added(monkeypatch, panel(part))
    with pytest.raises(UserError, match=f"^judge 'panel' has the part '{part}', which reads a model; name that"):
        build(judge="panel")
    found = {judge.name: checkpoint for judge, checkpoint in build(judge=f"panel,{part}").judges}
    assert list(found) == ["panel", part] and found[part] and not found["panel"]


def test_a_part_reads_no_measure_that_the_whole_does_not_ask_for(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, panel("embedding", measures=("teacher_nll",)))
    with pytest.raises(UserError, match=r"^judge 'panel' does not ask for the measure 'embedding' of its part 'embedd"):
        build(judge="panel")


def test_a_part_that_cannot_be_opened_is_refused_with_all_else(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, panel("openai:m"))
    with pytest.raises(UserError, match=r"settings\.sft\.start.*; judge\.max_cost needs"):
        build(judge={"name": "panel", "max_cost": 1}, settings={"sft": {"start": "sft"}})
