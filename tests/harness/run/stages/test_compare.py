"""Comparisons of a student and its teacher as artifacts: what is in them, whatever the teacher is read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.core.errors import UserError
from harness.core.records import Response
from harness.logprobs.model import LogProbModel
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import DEPARTURES, PIECES, SCORES, STATES, TOKENS
from harness.run.stages import score
from harness.serving.settings import ModelServer
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import (
    TEXTS,
    Rows,
    compare_job,
    distributions_job,
    jsonl,
    make,
    model_at,
    prompt_ids,
    put,
    respond_job,
    rows_of,
    saved,
    score_job,
    scored,
    states_job,
    stock,
)
from tests.harness.run.stages.conftest import ROWS
from tests.harness.teaching import says
from tests.serving import Server

COUNT = sum(map(len, ROWS.values()))
FLOATS = ("forward_kl", "reverse_kl", "overlap", "teacher_entropy", "teacher_log_prob", "student_log_prob")
LLAMA, TEACHER = "llama", "llama-teacher"


def dense(folder: Path, temperature: float = 1.0, vocabulary: int = 512) -> Tensor:
    """A stock model's log-probs at every response token, in the data's order, [COUNT, V] float64."""
    causal_lm, tokenizer = stock(folder), load_tokenizer(folder)
    prompts = {f"p{i}": prompt_ids(tokenizer, text) for i, text in enumerate(TEXTS)}
    rows = torch.cat([rows_of(causal_lm, prompts[key], ROWS[key], vocabulary) for key in ROWS])
    return torch.log_softmax(rows / temperature, -1)


def kls(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1)


def tokens(store: Store, ref: str) -> dict[str, Any]:
    return dict(np.load(store.read(ref).path / TOKENS))


def assert_near(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if name in FLOATS:
            np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance, err_msg=name)
        else:
            assert found[name].tolist() == values.tolist(), name


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_every_token_of_every_response_in_the_data_s_order(
    store: Store,
    checkpoints: dict[str, Path],
    student: Model,
    teacher: Model,
    prompts: str,
    ref: str,
    temperature: float,
) -> None:
    made = make(store, compare_job(student, teacher, prompts, ref, temperature=temperature))
    found = tokens(store, made)
    p, q = (dense(checkpoints[name], temperature) for name in (TEACHER, LLAMA))
    labels = torch.tensor([token for row in ROWS.values() for token in row])[:, None]
    wanted = {
        "forward_kl": kls(p, q),
        "reverse_kl": kls(q, p),
        "overlap": torch.minimum(p, q).exp().sum(-1),
        "teacher_entropy": -(p.exp() * p).sum(-1),
        "teacher_log_prob": p.gather(-1, labels)[:, 0],
        "student_log_prob": q.gather(-1, labels)[:, 0],
    }
    for name, values in wanted.items():
        assert found[name].dtype == np.float32 and found[name].shape == (COUNT,)
        np.testing.assert_allclose(found[name], values.numpy(), rtol=0, atol=1e-4, err_msg=name)
    for name, rows in {"teacher_top": p, "student_top": q}.items():
        assert found[name].dtype == np.int32 and found[name].tolist() == rows.argmax(-1).tolist()
    assert found["prompt_ids"].tolist() == list(ROWS) and found["samples"].tolist() == [0] * 4
    assert found["lengths"].tolist() == [5, 3, 2, 7] and found["ended"].tolist() == [True] * 4
    facts = store.read(made).facts
    assert facts["temperature"] == temperature and facts["vocabulary"] == 512
    assert facts["response_tokens"] == COUNT and "top_k" not in facts


def test_what_the_teacher_says_of_whole_responses_is_there_where_it_was_read(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str
) -> None:
    wanted = scored(store, make(store, score_job(teacher, prompts, ref)))
    by_states = make(store, states_job(teacher, prompts, ref))
    for made in (by_states, make(store, compare_job(student, teacher, prompts, ref, temperature=0.6))):
        found = scored(store, made)
        assert found.keys() == wanted.keys()
        for key, row in wanted.items():
            assert found[key]["log_probs"] == pytest.approx(row["log_probs"], abs=1e-5)
            assert {**found[key], "log_probs": 0} == {**row, "log_probs": 0}
    compared = make(store, compare_job(student, teacher, prompts, ref, states=by_states))
    assert not (store.read(compared).path / SCORES).exists()


def test_stored_states_add_no_forward_pass_of_the_teacher(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tokens(store, make(store, compare_job(student, teacher, prompts, ref, temperature=0.6)))
    states = make(store, states_job(teacher, prompts, ref, batch_tokens=40))
    stored = load_file(store.read(states).path / STATES)["states"]
    assert stored.shape == (COUNT, 48) and stored.dtype == torch.float32
    assert store.read(states).facts["states"] is True
    read: list[int] = []
    hidden = LogProbModel.hidden
    monkeypatch.setattr(
        LogProbModel, "hidden", lambda self, batch: (read.append(len(self.head[0])), hidden(self, batch))[1]
    )
    job = compare_job(student, teacher, prompts, ref, temperature=0.6, states=states)
    assert_near(tokens(store, make(store, job)), live)
    assert set(read) == {32}


@pytest.mark.parametrize("padded", ["teacher", "student", "both"])
def test_a_padded_model_is_compared_as_any(
    store: Store, checkpoints: dict[str, Path], tmp_path: Path, tokenizer: Any, prompts: str, ref: str, padded: str
) -> None:
    folders = [
        saved(tmp_path / role, tiny_model("gemma2", seed=seed), tokenizer) if padded in (role, "both") else plain
        for role, seed, plain in (("student", 0, checkpoints[LLAMA]), ("teacher", 2, checkpoints[TEACHER]))
    ]
    student, teacher = (model_at(folder, store) for folder in folders)
    states = make(store, states_job(teacher, prompts, ref))
    assert store.read(states).facts["states"] is (padded == "student")
    assert (store.read(states).path / STATES).exists() is (padded == "student")
    assert len(scored(store, states)) == len(ROWS)
    q, p = (dense(folder) for folder in folders)
    made = make(store, compare_job(student, teacher, prompts, ref, states=states))
    np.testing.assert_allclose(tokens(store, made)["forward_kl"], kls(p, q).numpy(), rtol=0, atol=1e-4)
    assert (store.read(made).path / SCORES).exists() is (padded != "student")


def test_embeddings_that_are_padded_otherwise_are_compared_on_the_tokenizer_s_ids(
    store: Store, checkpoints: dict[str, Path], tmp_path: Path, tokenizer: Any, prompts: str, ref: str
) -> None:
    folder = saved(tmp_path / "padded", tiny_model("llama", seed=2, vocabulary=544), tokenizer)
    student, teacher = model_at(checkpoints[LLAMA], store), model_at(folder, store)
    wanted = kls(dense(folder), dense(checkpoints[LLAMA])).numpy()
    states = make(store, states_job(teacher, prompts, ref))
    for more in ({}, {"states": states}):
        made = make(store, compare_job(student, teacher, prompts, ref, **more))
        np.testing.assert_allclose(tokens(store, made)["forward_kl"], wanted, rtol=0, atol=1e-4)
        assert store.read(made).facts["vocabulary"] == 512


# ---- for people


def test_the_text_of_every_token(store: Store, student: Model, teacher: Model, prompts: str, tokenizer: Any) -> None:
    said = "Why, it’s 7 o’clock 🙂!"
    ids = [*tokenizer(said, add_special_tokens=False).input_ids, 2]
    own = put(store, "b", [Response(prompt_id="p0", token_ids=tuple(ids), text=said, finish="stop")], tokenizer)
    made = make(store, compare_job(student, teacher, prompts, own))
    (row,) = jsonl(store.read(made).path / PIECES)
    assert (row["prompt_id"], row["sample"], len(row["pieces"])) == ("p0", 0, len(ids))
    text = "".join(row["pieces"])
    assert text == said + "<|im_end|>" and "\N{REPLACEMENT CHARACTER}" not in text


def test_the_tokens_on_which_the_two_differ_most(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str
) -> None:
    made = make(store, compare_job(student, teacher, prompts, ref))
    rows, found = jsonl(store.read(made).path / DEPARTURES), tokens(store, made)
    order = np.argsort(-found["forward_kl"])
    assert [row["kl"] for row in rows] == pytest.approx(found["forward_kl"][order[:20]].tolist())
    starts = np.cumsum([0, *found["lengths"]])
    texts = {row["prompt_id"]: row["pieces"] for row in jsonl(store.read(made).path / PIECES)}
    for row in rows:
        place = starts[list(ROWS).index(row["prompt_id"])] + row["position"]
        assert found["forward_kl"][place] == pytest.approx(row["kl"])
        assert row["before"] == "".join(texts[row["prompt_id"]][: row["position"]])[-60:]
        assert row.keys() == {
            "prompt_id", "sample", "position", "kl", "before", "token", "teacher_top", "student_top"
        }  # fmt: skip


def test_of_a_student_s_own_responses_they_are_those_of_the_reverse_kl(
    store: Store, student: Model, teacher: Model, prompts: str
) -> None:
    for author, name in ((student, "reverse_kl"), (teacher, "forward_kl")):
        own = make(store, respond_job(author, prompts))
        made = make(store, compare_job(student, teacher, prompts, own))
        rows, found = jsonl(store.read(made).path / DEPARTURES), tokens(store, made)
        assert [row["kl"] for row in rows] == pytest.approx(sorted(found[name].tolist(), reverse=True)[:20])


# ---- what is refused


def test_another_tokenizer_is_refused(
    store: Store, student: Model, tmp_path: Path, other_tokenizer: Any, prompts: str, ref: str
) -> None:
    foreign = model_at(saved(tmp_path / "other", tiny_model("llama", seed=2, vocabulary=400), other_tokenizer), store)
    job = compare_job(student, foreign, prompts, ref)
    with pytest.raises(UserError, match=r"token by token, as their tokenizers differ: 512 tokens against 400$"):
        make(store, job)
    assert not store.has(job.ref)


def test_responses_of_another_tokenizer_are_refused(
    store: Store, student: Model, teacher: Model, other_tokenizer: Any, prompts: str
) -> None:
    ref = put(store, "b", [Response(prompt_id="p0", token_ids=(5, 2), text="x", finish="stop")], other_tokenizer)
    with pytest.raises(UserError, match=r"^respond/b has ids of another tokenizer than .*llama, and"):
        make(store, compare_job(student, teacher, prompts, ref))


def test_states_of_other_responses_are_refused(
    store: Store,
    student: Model,
    teacher: Model,
    prompts: str,
    ref: str,
    responses: Callable[[str, Rows], str],
) -> None:
    states = make(store, states_job(teacher, prompts, responses("b", {**ROWS, "p1": [17, 2]})))
    with pytest.raises(UserError, match=f"^{states} was computed on other responses than respond/a$"):
        make(store, compare_job(student, teacher, prompts, ref, states=states))


def test_broken_weights_are_refused(
    store: Store, student: Model, teacher: Model, tmp_path: Path, tokenizer: Any, prompts: str, ref: str
) -> None:
    model = tiny_model("llama", 0)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    broken = model_at(saved(tmp_path / "broken", model, tokenizer), store)
    jobs = [
        compare_job(broken, teacher, prompts, ref),
        compare_job(student, broken, prompts, ref),
        states_job(broken, prompts, ref),
    ]
    for job in jobs:
        with pytest.raises(UserError, match=r"prompt p2.* weights .*are broken"):
            make(store, job)
        assert not store.has(job.ref)


def test_a_top_k_without_the_responses_own_tokens_is_refused(
    store: Store, student: Model, teacher: Model, prompts: str, ref: str
) -> None:
    stored = make(store, distributions_job(teacher, prompts, ref))
    with pytest.raises(UserError, match=f"^{stored} has no log-probs of the responses' own tokens$"):
        make(store, compare_job(student, None, prompts, ref, distributions=stored))


# ---- a teacher behind a server


@pytest.fixture
def served(checkpoints: dict[str, Path], teacher: Model) -> Iterator[tuple[Model, list[int]]]:
    """The teacher behind a server, and what it was asked for."""
    calls: list[int] = []
    with Server(says(checkpoints[TEACHER], calls)) as server:
        at = ModelServer(base_url=server.base_url, model="teacher", tokenizer="teacher", tries=1)
        yield teacher.model_copy(update={"served": at}), calls


def test_a_served_teacher_is_compared_by_its_top_k(
    store: Store,
    checkpoints: dict[str, Path],
    student: Model,
    teacher: Model,
    served: tuple[Model, list[int]],
    prompts: str,
    ref: str,
) -> None:
    whole = tokens(store, make(store, compare_job(student, teacher, prompts, ref)))
    stored = make(store, distributions_job(served[0], prompts, ref, top_k=20))
    made = make(store, compare_job(student, None, prompts, ref, distributions=stored))
    found = tokens(store, made)
    assert store.read(made).facts["top_k"] == 20 and not (store.read(made).path / SCORES).exists()
    for name in ("teacher_log_prob", "student_log_prob"):
        np.testing.assert_allclose(found[name], whole[name], rtol=0, atol=1e-4, err_msg=name)
    for name in ("teacher_top", "student_top", "prompt_ids", "lengths", "ended"):
        assert found[name].tolist() == whole[name].tolist()
    for name, sign in {"forward_kl": 1, "reverse_kl": 1, "overlap": -1, "teacher_entropy": 1}.items():
        assert (sign * (whole[name] - found[name])).min() > -1e-4, name
    p, q = (dense(checkpoints[name]) for name in (TEACHER, LLAMA))
    top = p.topk(20).indices
    a, b = (
        torch.cat([x, (1 - x.sum(-1, keepdim=True))], -1) for x in (p.exp().gather(-1, top), q.exp().gather(-1, top))
    )
    np.testing.assert_allclose(found["forward_kl"], (a * (a / b).log()).sum(-1).numpy(), rtol=0, atol=1e-4)
    # its sums are there, as a scoring has them
    wanted = scored(store, make(store, score_job(served[0], prompts, ref)))
    for key, row in scored(store, stored).items():
        assert row["log_probs"] == pytest.approx(wanted[key]["log_probs"], abs=1e-5)
        assert row["tokens"] == wanted[key]["tokens"]


def test_what_a_server_said_before_a_kill_is_not_asked_for_again(
    store: Store, served: tuple[Model, list[int]], prompts: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SERVED_TOP_AT_ONCE", 2)
    ask, parts = score.served_top, []

    def asking(*arguments: Any) -> Any:
        if len(parts) == 1:
            raise KeyboardInterrupt
        parts.append(1)
        return ask(*arguments)

    job, calls = distributions_job(served[0], prompts, ref, top_k=5), served[1]
    with monkeypatch.context() as patch:
        patch.setattr(score, "served_top", asking)
        with pytest.raises(KeyboardInterrupt):
            make(store, job)
    assert not store.has(job.ref) and calls == [5, 5]
    artifact = store.read(make(store, job))
    assert calls == [5] * 4 and sorted(path.name for path in artifact.path.iterdir()) == [
        "manifest.json",
        "scores.jsonl",
        "top_k.npz",
    ]
    assert artifact.facts["response_tokens"] == COUNT and 0 < artifact.facts["mass"] < 1


def test_a_top_k_stands_at_temperature_1_alone(
    store: Store, student: Model, served: tuple[Model, list[int]], prompts: str, ref: str
) -> None:
    stored = make(store, distributions_job(served[0], prompts, ref, top_k=5))
    with pytest.raises(UserError, match=r"^a stored top k is the teacher's at temperature 1, and not at 0\.7$"):
        make(store, compare_job(student, None, prompts, ref, distributions=stored, temperature=0.7))
