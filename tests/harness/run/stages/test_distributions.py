"""A teacher's stored top k: what is in it, what is trained on it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.core.errors import UserError
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import TOP_K
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import (
    TEXTS,
    Rows,
    distributions_job,
    losses,
    make,
    model_at,
    prompt_ids,
    rows_of,
    saved,
    stock,
    train_job,
)
from tests.harness.run.stages.conftest import ROWS

TOKENS = sum(map(len, ROWS.values()))


def dense(folder: Path, vocabulary: int | None = None, kept: int | None = None) -> Tensor:
    """A stock model's log-probs at every response token, in the data's order, [TOKENS, V] float64."""
    causal_lm, tokenizer = stock(folder), load_tokenizer(folder)
    prompts = {f"p{i}": prompt_ids(tokenizer, text) for i, text in enumerate(TEXTS)}
    parts = [rows_of(causal_lm, prompts[key][-kept:] if kept else prompts[key], ROWS[key], vocabulary) for key in ROWS]
    return torch.cat(parts)


def stored(store: Store, ref: str) -> tuple[Tensor, Tensor]:
    file = np.load(store.read(ref).path / TOP_K)
    return torch.from_numpy(file["ids"]).long(), torch.from_numpy(file["log_probs"])


# ---- what is stored


@pytest.mark.parametrize("top_k", [1, 8, 512])
@pytest.mark.parametrize("batch_tokens", [40, 4096])
def test_it_is_the_top_k_of_every_response_token_in_the_data_s_order(
    store: Store, checkpoints: dict[str, Path], teacher: Model, prompts: str, ref: str, top_k: int, batch_tokens: int
) -> None:
    job = distributions_job(teacher, prompts, ref, top_k=top_k, batch_tokens=batch_tokens)
    ids, log_probs = stored(store, make(store, job))
    wanted = dense(checkpoints["llama-teacher"]).topk(top_k)
    assert ids.shape == log_probs.shape == (TOKENS, top_k) and log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.double(), wanted.values, rtol=0, atol=1e-4)
    if top_k < 512:  # among the last of all of them, rounding may turn two round
        assert torch.equal(ids, wanted.indices)
    assert all(len(set(row)) == top_k for row in ids.tolist())
    facts = store.read(job.ref).facts
    assert facts["response_tokens"] == TOKENS
    assert facts["mass"] == pytest.approx(wanted.values.exp().sum(-1).mean().item(), abs=1e-4)
    assert facts["retokenised"] is False and facts["prompts_cut"] == 0


def test_what_pads_the_teacher_s_embedding_is_no_outcome(
    store: Store, tmp_path: Path, tokenizer: Any, prompts: str, ref: str
) -> None:
    folder = saved(tmp_path / "padded", tiny_model("llama", seed=2, vocabulary=544), tokenizer)
    assert (dense(folder).topk(8).indices >= 512).any()
    ids, log_probs = stored(store, make(store, distributions_job(model_at(folder, store), prompts, ref)))
    wanted = dense(folder, 512).topk(8)
    assert torch.equal(ids, wanted.indices)
    torch.testing.assert_close(log_probs.double(), wanted.values, rtol=0, atol=1e-4)


def test_prompts_are_cut_as_in_training(
    store: Store, checkpoints: dict[str, Path], teacher: Model, prompts: str, ref: str
) -> None:
    _, log_probs = stored(store, make(store, distributions_job(teacher, prompts, ref, max_prompt_tokens=5)))
    wanted = dense(checkpoints["llama-teacher"], kept=5).topk(8).values
    torch.testing.assert_close(log_probs.double(), wanted, rtol=0, atol=1e-4)


def test_autocast_is_a_setting(store: Store, teacher: Model, prompts: str, ref: str) -> None:
    exact, rounded = (
        stored(store, make(store, distributions_job(teacher, prompts, ref, precision=precision, top_k=512)))[1]
        for precision in ("fp32", "bf16")
    )
    assert 1e-4 < (exact - rounded).abs().max() < 1


@pytest.mark.parametrize("tokens", [512, 544])
def test_more_than_the_vocabulary_is_refused(
    store: Store, tmp_path: Path, tokenizer: Any, prompts: str, ref: str, tokens: int
) -> None:
    folder = saved(tmp_path / "padded", tiny_model("llama", seed=2, vocabulary=tokens), tokenizer)
    job = distributions_job(model_at(folder, store), prompts, ref, top_k=513)
    with pytest.raises(UserError, match=r"^top_k = 513 is more than the vocabulary's 512 tokens$"):
        make(store, job)
    assert not store.has(job.ref)


# ---- what is trained on it


def train_losses(
    store: Store, student: Model, prompts: str, ref: str, settings: dict[str, Any], **teaches: Any
) -> list[float]:
    own = {"epochs": 3, "learning_rate": 0.01, **settings}
    return losses(store, make(store, train_job("kd", student, prompts, (ref,), own, **teaches)))


@pytest.mark.parametrize("support", ["tail", "renormalised", "truncated"])
@pytest.mark.parametrize("micro_batch_tokens", [64, 2048])
def test_all_of_the_vocabulary_trains_as_the_teacher_itself(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str, support: str, micro_batch_tokens: int
) -> None:
    settings = {"micro_batch_tokens": micro_batch_tokens}
    online = train_losses(store, student, prompts, ref, settings, teacher=teacher)
    made = make(store, distributions_job(teacher, prompts, ref, top_k=512))
    settings |= {"teacher_signal": "stored", "top_k": 512, "support": support}
    found = train_losses(store, student, prompts, ref, settings, distributions=made)
    assert len(online) == 6 and abs(online[-1] - online[0]) > 0.1
    assert found == pytest.approx(online, abs=1e-4)


@pytest.mark.parametrize("support", ["tail", "renormalised", "truncated"])
@pytest.mark.parametrize("top_k", [1, 8, 100])
def test_a_part_of_the_vocabulary_is_merged_renormalised_or_taken_as_it_is(
    store: Store,
    checkpoints: dict[str, Path],
    student: Model,
    teacher: Model,
    prompts: str,
    ref: str,
    top_k: int,
    support: str,
) -> None:
    made = make(store, distributions_job(teacher, prompts, ref, top_k=top_k))
    settings = {"teacher_signal": "stored", "top_k": top_k, "support": support, "batch_size": 4}
    found = train_losses(store, student, prompts, ref, settings, distributions=made)
    theirs = dense(checkpoints["llama-teacher"]).exp()
    top = theirs.topk(top_k).indices
    mine, theirs = (rows.gather(-1, top) for rows in (dense(checkpoints["llama"]).exp(), theirs))
    if support == "tail":
        mine, theirs = (torch.cat([rows, 1 - rows.sum(-1, keepdim=True)], -1) for rows in (mine, theirs))
    if support == "renormalised":
        mine, theirs = (rows / rows.sum(-1, keepdim=True) for rows in (mine, theirs))
    assert found[0] == pytest.approx((theirs * (theirs / mine).log()).sum(-1).mean().item(), abs=1e-4)
    assert found[-1] < found[0] or (top_k == 1 and support == "renormalised")  # one outcome alone teaches nothing


def test_one_outcome_alone_teaches_nothing(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str
) -> None:
    made = make(store, distributions_job(teacher, prompts, ref, top_k=1))
    settings = {"teacher_signal": "stored", "top_k": 1, "support": "renormalised"}
    assert train_losses(store, student, prompts, ref, settings, distributions=made) == pytest.approx([0] * 6, abs=1e-6)


def test_each_example_has_its_own_rows_whatever_the_order(
    store: Store, student: Model, teacher: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    """The same data in another order: its first step over all of them has the same loss."""
    first = []
    for name, rows in (("a", ROWS), ("b", dict(sorted(ROWS.items())))):
        ref = responses(name, rows)
        made = make(store, distributions_job(teacher, prompts, ref))
        settings = {"teacher_signal": "stored", "top_k": 8, "batch_size": 4, "micro_batch_tokens": 40}
        first.append(train_losses(store, student, prompts, ref, settings, distributions=made)[0])
    assert first[0] == pytest.approx(first[1], abs=1e-5)


# ---- what is refused


@pytest.mark.parametrize(
    "others",
    [{**ROWS, "p1": [17, 2]}, dict(list(ROWS.items())[:3]), dict(sorted(ROWS.items()))],
    ids=["of the same lengths", "fewer", "in another order"],
)
def test_distributions_of_other_responses_are_refused(
    store: Store,
    student: Model,
    teacher: Model,
    prompts: str,
    ref: str,
    responses: Callable[[str, Rows], str],
    others: Rows,
) -> None:
    made = make(store, distributions_job(teacher, prompts, responses("b", others)))
    job = train_job("kd", student, prompts, (ref,), {"teacher_signal": "stored"}, distributions=made)
    with pytest.raises(UserError, match=f"^{made} was computed on other responses than respond/a$"):
        make(store, job)
    assert not store.has(job.ref)


def test_a_killed_computation_leaves_no_distributions_to_train_on(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = distributions_job(teacher, prompts, ref)

    class KilledError(BaseException):
        pass

    def killed(file: Path, **_: Any) -> None:
        file.write_bytes(b"half")
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", killed)
        with pytest.raises(KilledError):
            make(store, job)
    training = train_job("kd", student, prompts, (ref,), {"teacher_signal": "stored"}, distributions=job.ref)
    with pytest.raises(UserError, match=f"the store has no {job.ref}"):
        make(store, training)
    make(store, job)
    make(store, training)
    assert store.read(job.ref).facts["resumed"] is True
    assert stored(store, job.ref)[0].shape == (TOKENS, 8)


def test_distributions_that_are_not_finite_are_refused(
    store: Store, tmp_path: Path, tokenizer: Any, prompts: str, ref: str
) -> None:
    model = tiny_model("llama", 0)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    job = distributions_job(model_at(saved(tmp_path / "broken", model, tokenizer), store), prompts, ref)
    with pytest.raises(UserError, match="weights are broken"):
        make(store, job)
    assert not store.has(job.ref)
