"""How the rows that measures are read from are made and read."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.records import write_jsonl
from harness.judging import judges
from harness.judging.proxies import TYPICALITY
from harness.judging.registry import whole
from harness.measures import Measure, Tokens, measures
from harness.run.jobs import EMBEDDINGS, SCORES, TOKENS, CompareJob, EmbedJob, JudgeJob, MeasureJob, ScoreJob
from harness.run.reading import ALONE, LOADERS, load_tokens
from harness.run.road import lay
from tests.harness.run.roads import made_sources

KEYS = [("a", 0), ("b", 0), ("b", 1)]


def test_every_measure_is_read_from_something() -> None:
    assert {measure.reads for _, measure in measures.items()} == {*LOADERS, "responses"}
    assert set(ALONE) < set(LOADERS)


def test_rows_go_by_the_keys_of_their_responses(tmp_path: Path) -> None:
    vectors = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / EMBEDDINGS, vectors)
    rows = LOADERS["embedding"]([tmp_path], KEYS)
    assert [rows[key].tolist() for key in KEYS] == vectors.tolist()
    with pytest.raises(ValueError, match="is longer than"):
        LOADERS["embedding"]([tmp_path], KEYS[:2])
    write_jsonl(tmp_path / SCORES, [{"prompt_id": p, "sample": s, "log_probs": [-1.0 - s]} for p, s in KEYS[::-1]])
    scores = LOADERS["log_probs"]([tmp_path], KEYS)
    assert [scores[key]["log_probs"] for key in KEYS] == [[-1.0], [-1.0], [-2.0]]


def test_pairs_are_joined_by_their_keys(tmp_path: Path) -> None:
    folders = [tmp_path / "policy", tmp_path / "reference"]
    for folder, least in zip(folders, (-1.0, -5.0), strict=True):
        folder.mkdir()
        rows = [{"prompt_id": p, "sample": s, "log_probs": [least, least - s]} for p, s in KEYS]
        write_jsonl(folder / SCORES, rows if least == -1 else rows[::-1])
    pair = LOADERS["pairs"](folders, KEYS)["b", 1]
    assert pair.policy.tolist() == [-1.0, -2.0] and pair.reference.tolist() == [-5.0, -6.0]


def write_tokens(folder: Path, lengths: list[int]) -> dict[str, Any]:
    """A CompareJob's columns of made-up numbers, for KEYS."""
    total = sum(lengths)
    names = [field.name for field in fields(Tokens) if field.name != "ended"]
    columns = {name: np.arange(total, dtype=np.float32) + 100 * place for place, name in enumerate(names)}
    where = {"prompt_ids": np.array([key[0] for key in KEYS]), "samples": np.array([key[1] for key in KEYS])}
    np.savez(folder / TOKENS, **columns, **where, lengths=np.array(lengths), ended=np.array([True, False, True]))
    return columns


def test_tokens_are_cut_into_responses(tmp_path: Path) -> None:
    columns = write_tokens(tmp_path, [2, 1, 3])
    found = load_tokens(tmp_path)
    assert list(found) == KEYS
    assert [row.ended for row in found.values()] == [True, False, True]
    for name, column in columns.items():
        assert np.concatenate([getattr(row, name) for row in found.values()]).tolist() == column.tolist()
    assert found["b", 0].forward_kl.tolist() == [2.0]


def test_a_judge_s_measure_of_another_kind_is_laid_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Any, model: Any, prompts: str, responses: str, whose: str) -> EmbedJob:
        return EmbedJob(label=whose, model=model, responses=responses)

    monkeypatch.setitem(ALONE, "third", read)
    odd = Measure("odd", "third", np.asarray, "", "")  # type: ignore[arg-type]
    monkeypatch.setattr(measures, "_entries", {**dict(measures.items()), "odd": odd})
    mine = whole(replace(TYPICALITY, name="mine", measure="odd"))
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "mine": mine})
    road = lay(*made_sources(judge="mine"))
    judgings = [job for job in road.jobs.values() if isinstance(job, JudgeJob)]
    made = {road.jobs[ref].label for job in judgings for ref in job.measures.values()}
    assert {"teacher, near", "teacher for judging, far", "dadpo, far"} <= made


def test_a_judge_shares_the_pass_in_which_the_teacher_is_compared() -> None:
    """The teacher reads nothing for typicality alone but its own further samples and its second one."""
    road = lay(*made_sources(judge="typicality"))
    judging = next(job for job in road.jobs.values() if isinstance(job, JudgeJob) and job.candidate_name == "kd")
    kinds = {role: road.jobs[ref].stage for role, ref in judging.measures.items()}
    assert kinds == {
        "teacher_nll/candidate": "compare",
        "teacher_nll/reference": "states",
        "teacher_nll/samples": "score",
    }
    alone = [job.label for job in road.jobs.values() if isinstance(job, ScoreJob) and job.label.startswith("teacher's")]
    assert len(alone) == 4  # two sets


def test_another_method_adds_no_pass_of_the_teacher_on_its_own_responses() -> None:
    road = lay(*made_sources(methods=["sft", "kd", "dadpo"]))
    compared = [job for job in road.jobs.values() if isinstance(job, CompareJob)]
    on_its_own = {job.states for job in compared if job.states}
    assert len(on_its_own) == 2 and sum(job.states is None for job in compared) == len(compared) / 2
    assert all(road.jobs[ref].stage == "states" for ref in on_its_own)


def test_what_is_not_measured_is_not_laid() -> None:
    road = lay(*made_sources(measures=[], judge="typicality"))
    assert not {job.stage for job in road.jobs.values()} & {"states", "compare", "measure"}
    assert all(not evaluation.shown.measures for evaluation in road.evaluations)
    only_text = lay(*made_sources(measures=["length"]))
    measured = [job for job in only_text.jobs.values() if isinstance(job, MeasureJob)]
    assert all(not job.readings and set(job.measures) == {"length"} for job in measured)
    assert not {job.stage for job in only_text.jobs.values()} & {"states", "compare"}


def test_pairs_are_of_methods_that_train_on_them() -> None:
    road = lay(*made_sources(methods=["sft", "ddpo"], measures=["margin_accuracy"]))
    with_pairs = {job.label.split(",")[0] for job in road.jobs.values() if isinstance(job, MeasureJob)}
    assert with_pairs == {"measure ddpo"}
    for job in road.jobs.values():
        if isinstance(job, MeasureJob):
            policy, reference = (road.jobs[ref] for ref in job.readings["pairs"])
            assert isinstance(policy, ScoreJob) and isinstance(reference, ScoreJob)
            assert policy.responses == reference.responses and len(set(policy.responses)) == 2
