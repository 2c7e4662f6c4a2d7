"""What a training takes from a teacher behind a server is what it takes from the same one that is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.records import Response
from harness.generation.protocol import Sampling
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import TOP_K
from harness.serving.settings import ModelServer
from harness.store import Store
from tests.harness.making import TEXTS, distributions_job, losses, make, prompt_ids, put, train_job
from tests.harness.run.stages.conftest import ROWS
from tests.harness.teaching import says
from tests.serving import Call, Reply, Server, status

K = 20


@pytest.fixture
def served(checkpoints: dict[str, Path], teacher: Model) -> Iterator[tuple[Model, list[int]]]:
    """The teacher behind a server that gives K log-probs at most, and what it was asked for."""
    calls: list[int] = []
    with Server(says(checkpoints["llama-teacher"], calls, most=K)) as server:
        at = ModelServer(base_url=server.base_url, model="teacher", tokenizer="teacher", tries=1)
        yield teacher.model_copy(update={"served": at}), calls


def test_its_top_k_is_the_artifact_that_a_local_one_is_and_trains_the_same(
    store: Store, student: Model, teacher: Model, served: tuple[Model, list[int]], prompts: str, ref: str
) -> None:
    found = []
    settings = {"teacher_signal": "stored", "support": "tail", "top_k": K, "epochs": 2, "learning_rate": 0.01}
    for who in (teacher, served[0]):
        made = make(store, distributions_job(who, prompts, ref, top_k=K))
        with np.load(store.read(made).path / TOP_K) as arrays:
            top = {name: arrays[name] for name in ("ids", "log_probs")}
        trained = make(store, train_job("kd", student, prompts, (ref,), settings, distributions=made))
        found.append((top, losses(store, trained)))
    (here, own), (there, theirs) = found
    assert here["ids"].dtype == there["ids"].dtype and here["ids"].tolist() == there["ids"].tolist()
    np.testing.assert_allclose(there["log_probs"], here["log_probs"], rtol=0, atol=1e-4)
    assert theirs == pytest.approx(own, abs=1e-4) and abs(own[-1] - own[0]) > 0.01
    assert set(served[1]) == {K}


@pytest.mark.parametrize(
    ("method", "settings", "asked"),
    [
        ("kd", {"support": "tail", "top_k": K, "fresh_share": 0.5}, K),
        ("kd", {"support": "tail", "top_k": K}, K),
        ("opd", {}, 0),
    ],
    ids=["some fresh", "stored", "token by token"],
)
def test_it_is_asked_between_steps_as_one_that_is_here_is_read(
    store: Store,
    student: Model,
    teacher: Model,
    served: tuple[Model, list[int]],
    prompts: str,
    ref: str,
    method: str,
    settings: dict[str, Any],
    asked: int,
) -> None:
    own = {"epochs": 2, "learning_rate": 0.01, "max_new_tokens": 6, **settings}
    fresh = "fresh_share" in settings or method == "opd"
    more: dict[str, Any] = {"sampling": Sampling(temperature=1.0, max_new_tokens=6), "batch_size": 4} if fresh else {}
    responses: Any = (None,) if method == "opd" else (ref,)
    found = [
        losses(store, make(store, train_job(method, student, prompts, responses, own, teacher=who, **more)))
        for who in (teacher, served[0])
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert len({round(loss, 3) for loss in found[0]}) > 1 and set(served[1]) == {asked}


@pytest.fixture
def reluctant(checkpoints: dict[str, Path], store: Store, teacher: Model) -> Iterator[tuple[Model, str]]:
    """The teacher behind a server that takes no text of p1, and its responses to the others."""
    tokenizer = load_tokenizer(checkpoints["llama-teacher"])
    there, bad = says(checkpoints["llama-teacher"], []), prompt_ids(tokenizer, TEXTS[1])

    def answering(call: Call) -> Reply:
        return status(400, "refused by policy") if call.body["prompt"][: len(bad)] == bad else there(call)

    rows = [
        Response(prompt_id=name, token_ids=tuple(ids), text="x", finish="stop")
        for name, ids in ROWS.items()
        if name != "p1"
    ]
    ref = put(store, "teacher", rows, tokenizer, left_out={"p1": "refused by policy"})
    with Server(answering) as server:
        at = ModelServer(base_url=server.base_url, model="teacher", tokenizer="teacher", tries=1)
        yield teacher.model_copy(update={"served": at}), ref


@pytest.mark.parametrize(
    ("method", "settings"),
    [("opd", {}), ("opd", {"fresh_share": 0.0, "stored": "student"}), ("kd", {"support": "tail", "top_k": K})],
    ids=["fresh", "what the student wrote", "distributions"],
)
def test_it_is_not_asked_again_about_a_prompt_that_it_gives_no_answer_to(
    store: Store,
    student: Model,
    reluctant: tuple[Model, str],
    prompts: str,
    ref: str,
    method: str,
    settings: dict[str, Any],
) -> None:
    served, answered = reluctant
    fresh = method == "opd" and not settings
    more: dict[str, Any] = {"sampling": Sampling(temperature=1.0, max_new_tokens=6), "batch_size": 4} if fresh else {}
    more |= {"reference": student} if settings.get("stored") else {}
    own = {"max_new_tokens": 6, **settings}
    job = train_job(method, student, prompts, (None if fresh else ref,), own, teacher=served, answered=answered, **more)
    assert store.read(make(store, job)).facts["examples"] == 3


def test_its_top_k_of_what_the_student_wrote_is_of_prompts_that_it_answers(
    store: Store, student: Model, reluctant: tuple[Model, str], prompts: str, ref: str
) -> None:
    served, answered = reluctant
    top = make(store, distributions_job(served, prompts, ref, top_k=K, answered=answered))
    settings = {"teacher_signal": "stored", "support": "tail", "top_k": K, "stored": "student"}
    job = train_job("kd", student, prompts, (ref,), settings, distributions=top, answered=answered)
    assert store.read(make(store, job)).facts["examples"] == 3


def test_what_the_teacher_is_shown_is_of_prompts_that_it_answers(
    store: Store, student: Model, reluctant: tuple[Model, str], prompts: str, ref: str
) -> None:
    settings = {"fresh_share": 0.0, "stored": "student"}
    job = train_job("sdft", student, prompts, (ref,), settings, teacher=student, demonstrations=reluctant[1])
    assert store.read(make(store, job)).facts["examples"] == 3


def test_more_than_it_gives_is_one_line_with_its_limit(
    store: Store, served: tuple[Model, list[int]], prompts: str, ref: str
) -> None:
    job = distributions_job(served[0], prompts, ref, top_k=64)
    with pytest.raises(UserError, match=rf"gives at most {K} log-probs .* settings\.METHOD\.top_k={K}, or start"):
        make(store, job)
    assert not store.has(job.ref)


def test_more_than_the_vocabulary_is_refused_before_it_is_asked(
    store: Store, served: tuple[Model, list[int]], prompts: str, ref: str
) -> None:
    with pytest.raises(UserError, match=r"^top_k = 513 is more than the vocabulary's 512 tokens$"):
        make(store, distributions_job(served[0], prompts, ref, top_k=513))
    assert served[1] == []
