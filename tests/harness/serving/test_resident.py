"""One place for the models in memory: what the running job declares stays, all else is let go of before it loads."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.models import loading
from harness.models.loading import load_model
from harness.models.reference import Model
from harness.run.jobs import Job
from harness.serving.resident import hold, let_go_of_all, only
from harness.store import Store
from tests.harness.making import (
    TEXTS,
    distributions_job,
    make,
    model_at,
    prompt_file,
    read_job,
    respond_job,
    score_job,
    train_job,
)


class Thing:
    """What is held. happened: takes what is done to it, in order."""

    def __init__(self, name: str, happened: list[str]) -> None:
        self.name, self.happened = name, happened
        happened.append(f"{name} opened")

    def close(self) -> None:
        self.happened.append(f"{self.name} closed")


@pytest.fixture
def happened() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    let_go_of_all()
    yield
    let_go_of_all()


def held(name: str, happened: list[str], how: str = "") -> Thing:
    return hold(name, how, lambda: Thing(name + how, happened), Thing.close)


def test_what_is_opened_once_is_there_the_next_time(happened: list[str]) -> None:
    assert held("a", happened) is held("a", happened)
    assert happened == ["a opened"]


def test_what_no_job_declares_gives_way_before_another_is_opened(happened: list[str]) -> None:
    held("a", happened)
    held("b", happened)
    held("b", happened, " otherwise")
    assert happened == ["a opened", "a closed", "b opened", "b closed", "b otherwise opened"]


def test_a_job_s_models_are_there_together_and_stay_for_the_next_one(happened: list[str]) -> None:
    with only(["a", "b"]):
        first = held("a", happened)
        held("b", happened)
        assert held("a", happened) is first
    assert happened == ["a opened", "b opened"]
    with only(["a", "c"]):
        assert happened[2:] == ["b closed"]  # before the job has asked for anything
        assert held("a", happened) is first
        held("c", happened)
        held("d", happened)  # not declared: room is made for it, and not by what is
        held("e", happened)
    assert happened[3:] == ["c opened", "d opened", "d closed", "e opened"]
    with only([]):
        assert set(happened[7:]) == {"a closed", "c closed", "e closed"}


def test_a_declared_one_that_is_opened_otherwise_is_not_there_twice(happened: list[str]) -> None:
    with only(["a"]):
        held("a", happened)
        held("a", happened, " otherwise")
    assert happened == ["a opened", "a closed", "a otherwise opened"]


def test_after_a_job_within_another_the_outer_one_s_models_are_declared_again(happened: list[str]) -> None:
    with only(["a", "b"]):
        with only(["c"]):
            held("c", happened)
        held("a", happened)
        held("b", happened)
        held("a", happened)
    assert happened == ["c opened", "c closed", "a opened", "b opened"]


def test_a_job_that_fails_declares_nothing_any_more(happened: list[str]) -> None:
    with pytest.raises(ValueError, match="broken"), only(["a"]):
        held("a", happened)
        raise ValueError("broken")
    held("b", happened)
    assert happened == ["a opened", "a closed", "b opened"]


def test_one_that_is_of_no_more_use_is_opened_anew(happened: list[str]) -> None:
    def alive() -> Thing:
        return hold("a", "", lambda: Thing("a", happened), Thing.close, lambda thing: "dead" not in thing.name)

    first = alive()
    assert alive() is first
    first.name = "dead"
    assert alive() is not first
    assert happened == ["a opened", "dead closed", "a opened"]


def test_one_that_cannot_be_opened_leaves_nothing(happened: list[str]) -> None:
    def fail() -> Thing:
        raise OSError("no room")

    held("a", happened)
    with pytest.raises(OSError, match="no room"):
        hold("b", "", fail)
    held("b", happened)
    assert happened == ["a opened", "a closed", "b opened"]


def test_what_refers_to_itself_is_gone_when_the_next_one_is_opened() -> None:
    class Circle:
        pass

    def circle() -> Circle:
        made = Circle()
        made.me = made  # type: ignore[attr-defined]
        return made

    first = weakref.ref(hold("a", "", circle))
    assert first() is not None
    assert hold("b", "", lambda: first()) is None


def test_all_are_closed_when_the_process_ends() -> None:
    program = (
        "from harness.serving.resident import hold\n"
        "hold('a', '', lambda: 'a', lambda held: print(held, 'closed'))\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "done\na closed\n"


def test_it_imports_no_torch() -> None:
    program = "import sys, harness.serving.resident; print({'torch', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- jobs


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def prompts(store: Store, tmp_path: Path) -> str:
    return make(store, read_job(prompt_file(tmp_path / "p.jsonl", TEXTS[:2])))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Each load of a model: its folder's name, and the names of the models that were alive when it began."""
    began: list[tuple[str, list[str]]] = []
    models: list[tuple[str, weakref.ref[Any]]] = []

    def load(folder: Path, *args: Any, **others: Any) -> Any:
        began.append((folder.name, [name for name, model in models if model() is not None]))
        model = load_model(folder, *args, **others)
        models.append((folder.name, weakref.ref(model)))
        return model

    monkeypatch.setattr(loading, "load_model", load)
    return began


def test_consecutive_jobs_of_one_model_load_it_once_and_those_of_two_never_hold_both(
    store: Store, prompts: str, checkpoints: dict[str, Path], loads: list[tuple[str, list[str]]]
) -> None:
    student, teacher = (model_at(checkpoints[name], store) for name in ("llama", "llama-teacher"))
    responses = make(store, respond_job(student, prompts))
    make(store, score_job(student, prompts, responses))
    make(store, score_job(student, prompts, responses, batch_tokens=128))
    make(store, distributions_job(student, prompts, responses))
    make(store, score_job(teacher, prompts, responses))
    # to sample it is loaded otherwise than to be read
    assert loads == [("llama", []), ("llama", []), ("llama-teacher", [])]


def test_a_training_keeps_its_teacher_and_nothing_else(
    store: Store, prompts: str, checkpoints: dict[str, Path], loads: list[tuple[str, list[str]]]
) -> None:
    student, teacher = (model_at(checkpoints[name], store) for name in ("llama", "llama-teacher"))
    responses = make(store, respond_job(teacher, prompts))
    make(store, score_job(teacher, prompts, responses))
    online = {"teacher_signal": "online"}
    make(store, train_job("kd", student, prompts, (responses,), online, teacher=teacher))
    make(store, train_job("sft", student, prompts, (responses,)))
    names = [name for name, _ in loads]
    assert names == ["llama-teacher", "llama-teacher", "llama", "llama"]
    assert [alive for _, alive in loads[2:]] == [["llama-teacher"], []]


@pytest.mark.parametrize(
    ("job", "holds"),
    [
        (respond_job(Model(artifact="train/1"), "prompts/1"), (Model(artifact="train/1"),)),
        (score_job(Model(artifact="train/1"), "prompts/1", "respond/1"), (Model(artifact="train/1"),)),
        (train_job("sft", Model(artifact="train/1"), "prompts/1", ("respond/1",)), ()),
        (
            train_job("kd", Model(artifact="train/1"), "prompts/1", ("respond/1",), teacher=Model(artifact="train/2")),
            (Model(artifact="train/2"),),
        ),
    ],
    ids=["respond", "score", "sft", "kd"],
)
def test_a_job_holds_the_frozen_models_that_it_loads(job: Job, holds: tuple[Model, ...]) -> None:
    assert job.holds == holds
