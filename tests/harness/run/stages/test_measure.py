"""Values of one system's responses, prompt by prompt."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.records import Measured, Message, Prompt, Response, read_records, write_jsonl
from harness.measures import Measure, Tokens, measures
from harness.run.jobs import MEASURED, PROMPTS, RESPONSES, TOKENS, MeasureJob
from harness.run.stages.measure import measure_stage
from harness.store import Store


def artifact(store: Store, ref: str) -> Path:
    work = store.workspace(ref)
    work.mkdir(parents=True, exist_ok=True)
    return work


@pytest.fixture
def store(own_store: Path) -> Store:
    """Two prompts with a response each, a second one to the first, and a comparison on those of the first sample."""
    store = Store(own_store)
    prompts = [Prompt(id=name, messages=(Message(role="user", content="Say!"),)) for name in ("a", "b")]
    write_jsonl(artifact(store, "prompts/1") / PROMPTS, prompts)
    said = [
        Response(prompt_id=name, sample=sample, token_ids=(1,) * n, text="so " * n, finish="stop")
        for name, sample, n in (("a", 0, 2), ("b", 0, 3), ("a", 1, 4))
    ]
    write_jsonl(artifact(store, "respond/1") / RESPONSES, said)
    columns: dict[str, Any] = {
        field.name: np.arange(5, dtype=np.float32) for field in fields(Tokens) if field.name != "ended"
    }
    columns["teacher_entropy"] = np.full(5, 7, np.float32)
    where = {"prompt_ids": np.array(["a", "b"]), "samples": np.array([0, 0]), "lengths": np.array([2, 3])}
    np.savez(artifact(store, "compare/1") / TOKENS, **columns, **where, ended=np.array([True, True]))
    for ref in ("prompts/1", "respond/1", "compare/1"):
        store.commit(ref, store.workspace(ref), {}, {}, 0.1)
    return store


def measured(store: Store, tmp_path: Path, *names: str, **more: Any) -> dict[str, dict[str, tuple[float, int]]]:
    job = MeasureJob(
        prompts="prompts/1",
        responses="respond/1",
        readings={"teacher_tokens": ("compare/1",)},
        measures=dict.fromkeys(names, "digest"),
        **more,
    )
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    assert measure_stage(job, store, work, lambda *_: None) == {"prompts": 2}
    return {row.prompt_id: row.values for row in read_records(work / MEASURED, Measured)}


def test_a_value_is_a_sum_and_how_many(store: Store, tmp_path: Path) -> None:
    assert measured(store, tmp_path, "forward_kl") == {"a": {"forward_kl": (1.0, 2)}, "b": {"forward_kl": (9.0, 3)}}


def test_texts_are_all_responses_and_comparisons_the_first(store: Store, tmp_path: Path) -> None:
    found = measured(store, tmp_path, "length", "forward_kl")
    assert found["a"] == {"length": (6.0, 2), "forward_kl": (1.0, 2)}
    assert found["b"]["length"] == (3.0, 1)


def test_the_teacher_has_a_value_of_its_own(store: Store, tmp_path: Path) -> None:
    assert measured(store, tmp_path, "nll", of_teacher=True)["b"] == {"nll": (21.0, 3)}
    assert measured(store, tmp_path, "nll")["b"] == {"nll": (-9.0, 3)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    odd = Measure("odd", "responses", lambda _: np.array([1.0, value]), "s", "m", group="text")
    monkeypatch.setattr(measures, "_entries", {**dict(measures.items()), "odd": odd})
    with pytest.raises(UserError, match=r"measure 'odd' of prompt 'a': \[1.0, (nan|inf)\] is not a row of numbers"):
        measured(store, tmp_path, "odd")
