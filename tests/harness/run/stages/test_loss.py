"""A method's own loss on held-out prompts, held against stock models in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.records import Measured, read_records
from harness.generation.protocol import Sampling
from harness.methods import methods
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import MEASURED, OWN_LOSS, LossJob
from harness.run.searching import valued
from harness.store import Store
from tests.harness.making import TEXTS, Rows, log_prob, make, prompt_ids, rows_of, score_job, stock
from tests.harness.run.stages.conftest import ROWS

REJECTED: Rows = {"p0": [8, 9, 2], "p1": [11, 12, 13, 2], "p2": [7, 2], "p3": [5, 2]}


def loss_job(method: str, start: Model, prompts: str, responses: tuple[str | None, ...], **more: Any) -> LossJob:
    """In float32, one prompt of a micro-batch or two at a time."""
    settings = {"precision": "fp32", **more.pop("settings", {})}
    return LossJob(
        method=method,
        method_source="s",
        settings=methods.get(method).settings(**settings).model_dump(mode="json"),
        start=start,
        prompts=prompts,
        responses=responses,
        **{"max_prompt_tokens": None, "seed": 0, **more},
    )


def by_prompt(store: Store, ref: str) -> dict[str, tuple[float, int]]:
    return {row.prompt_id: row.values[OWN_LOSS] for row in read_records(store.read(ref).path / MEASURED, Measured)}


def test_of_a_sequence_level_method(
    store: Store,
    student: Model,
    teacher: Model,
    prompts: str,
    responses: Callable[[str, Rows], str],
    checkpoints: dict[str, Path],
) -> None:
    pair = (responses("chosen", ROWS), responses("rejected", REJECTED))
    reference = make(store, score_job(teacher, prompts, *pair))
    ref = make(store, loss_job("ddpo", student, prompts, pair, signals={"reference": reference}))
    policy, other = stock(checkpoints["llama"]), stock(checkpoints["llama-teacher"])
    tokenizer = load_tokenizer(checkpoints["llama"])
    wanted = {}
    for name, text in ((f"p{number}", text) for number, text in enumerate(TEXTS[:4])):
        prompt = prompt_ids(tokenizer, text)
        margins = [
            log_prob(policy, prompt, rows[name]) - log_prob(other, prompt, rows[name]) for rows in (ROWS, REJECTED)
        ]
        wanted[name] = float(np.log1p(np.exp(-0.1 * (margins[0] - margins[1]))))
    found = by_prompt(store, ref)
    assert {name: count for name, (_, count) in found.items()} == dict.fromkeys(wanted, 1)
    for name, value in wanted.items():
        assert found[name][0] == pytest.approx(value, rel=1e-4)
    said = valued(store.read(ref), OWN_LOSS)
    assert said.value == pytest.approx(np.mean(list(wanted.values())), rel=1e-4)
    assert said.standard_error == pytest.approx(np.std(list(wanted.values()), ddof=1) / 2, rel=1e-3)


def test_of_a_distribution_level_method(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str, checkpoints: dict[str, Path]
) -> None:
    made = make(store, loss_job("kd", student, prompts, (ref,), teacher=teacher))
    policy, other = stock(checkpoints["llama"]), stock(checkpoints["llama-teacher"])
    tokenizer = load_tokenizer(checkpoints["llama"])
    found, total, tokens = by_prompt(store, made), 0.0, 0
    for name, text in ((f"p{number}", text) for number, text in enumerate(TEXTS[:4])):
        prompt = prompt_ids(tokenizer, text)
        p, q = (rows_of(one, prompt, ROWS[name], len(tokenizer)) for one in (other, policy))
        kl = float((p.exp() * (p - q)).sum())
        assert found[name] == (pytest.approx(kl, rel=1e-4), len(ROWS[name]))
        total, tokens = total + kl, tokens + len(ROWS[name])
    # the mean that training minimises is over tokens, and not over prompts
    assert valued(store.read(made), OWN_LOSS).value == pytest.approx(total / tokens, rel=1e-4)


def test_of_responses_that_the_policy_writes_for_it(store: Store, student: Model, teacher: Model, prompts: str) -> None:
    def job(seed: int) -> LossJob:
        return loss_job(
            "rkl",
            student,
            prompts,
            (None,),
            teacher=teacher,
            settings={"fresh_share": 1.0},
            sampling=Sampling(max_new_tokens=5),
            batch_size=2,
            seed=seed,
        )

    one, other = (store.read(make(store, job(seed))) for seed in (0, 1))
    assert one.facts["fresh_tokens"] > 0 and one.facts["not_finite"] == []
    values = [valued(made, OWN_LOSS).value for made in (one, other)]
    assert all(value > 0 for value in values) and values[0] != values[1]  # by the seed


def test_no_dropout_and_no_gradient(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.training import micro_batch

    seen = []
    whole = micro_batch.MicroBatch.loss

    def loss(self: Any, model: Any, autocast: Any) -> Any:
        seen.append((model.training, torch.is_grad_enabled(), self.shared["progress"], self.shared["state"]))
        return whole(self, model, autocast)

    monkeypatch.setattr(micro_batch.MicroBatch, "loss", loss)
    make(store, loss_job("kd", student, prompts, (ref,), teacher=teacher, settings={"dropout": True}))
    assert set(map(str, seen)) == {str((False, False, 1.0, {}))}
