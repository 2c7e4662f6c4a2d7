"""How the rows that measures are read from are made and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.records import write_jsonl
from harness.judging import judges
from harness.judging.proxies import TYPICALITY
from harness.judging.registry import whole
from harness.measures import Measure, measures
from harness.run.jobs import EMBEDDINGS, SCORES, EmbedJob, JudgeJob
from harness.run.reading import MEASURING, Measuring
from harness.run.road import lay
from tests.harness.run.roads import made_sources

KEYS = [("a", 0), ("b", 0), ("b", 1)]


def test_every_measure_s_rows_are_made_by_something() -> None:
    assert {measure.stage for _, measure in measures.items()} == set(MEASURING)


def test_rows_go_by_the_keys_of_their_responses(tmp_path: Path) -> None:
    vectors = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / EMBEDDINGS, vectors)
    rows = MEASURING["embed"].rows(tmp_path, KEYS)
    assert [rows[key].tolist() for key in KEYS] == vectors.tolist()
    with pytest.raises(ValueError, match="is longer than"):
        MEASURING["embed"].rows(tmp_path, KEYS[:2])
    write_jsonl(tmp_path / SCORES, [{"prompt_id": p, "sample": s, "log_probs": [-1.0 - s]} for p, s in KEYS[::-1]])
    scores = MEASURING["score"].rows(tmp_path, KEYS)
    assert [scores[key]["log_probs"] for key in KEYS] == [[-1.0], [-1.0], [-2.0]]


def test_rows_of_a_third_kind_are_laid_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    third = Measuring(lambda _, model, prompts, refs, whose: EmbedJob(label=whose, model=model, responses=refs), dict)
    monkeypatch.setitem(MEASURING, "third", third)
    monkeypatch.setattr(measures, "_entries", {**dict(measures.items()), "odd": Measure("odd", "third", np.asarray)})
    mine = whole(replace(TYPICALITY, name="mine", measure="odd"))
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "mine": mine})
    road = lay(*made_sources(judge="mine"))
    judgings = [job for job in road.jobs.values() if isinstance(job, JudgeJob)]
    made = {road.jobs[ref].label for job in judgings for ref in job.measures.values()}
    assert {"teacher, near", "teacher for judging, far", "dadpo, far"} <= made
