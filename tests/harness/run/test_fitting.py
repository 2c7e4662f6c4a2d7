"""Prompts are read by student and teacher before anything is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.models import rendering
from harness.models.reference import ChatTemplate, Model
from harness.run import fitting
from harness.run.fitting import unreadable
from harness.run.sources import FoundModel, Sources
from harness.store import Store
from tests.harness.run.roads import SERVED, Build, made_sources

pytestmark = pytest.mark.anew

SYSTEM = Message(role="system", content="Be brief.")
REFUSING = "{{ raise_exception('System role not supported') if messages[0]['role'] == 'system' }}"


def found_at(folder: Path, digest: str = "d", template: str | None = None) -> FoundModel:
    return FoundModel(
        Model(path=str(folder), digest=digest, chat_template=template and ChatTemplate(name="t", text=template))
    )


@pytest.fixture
def sources(checkpoints: dict[str, Path]) -> Sources:
    """Prompts that are in no file, and two models of 512 positions."""
    _, made = made_sources()
    return replace(
        made, student=found_at(checkpoints["llama"], "s"), teacher=found_at(checkpoints["llama-teacher"], "t")
    )


@pytest.fixture
def untemplated(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A student without a chat template of its own."""
    folder = tmp_path / "untemplated"
    folder.mkdir()
    for file in checkpoints["llama"].iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    return folder


def said(sources: Sources, store: Path, **layer: Any) -> list[str]:
    config, _ = made_sources(**layer)
    return list(unreadable(config, sources, Store(store)))


def with_prompts(sources: Sources, *prompts: Prompt) -> Sources:
    return replace(sources, train=replace(sources.train, prompts=(*sources.train.prompts, *prompts)))


def asked(id_: str, text: str, *before: Message, turns: tuple[str, ...] = ()) -> Prompt:
    return Prompt(id=id_, messages=(*before, Message(role="user", content=text)), turns=turns)


def test_prompts_that_fit_are_not_spoken_of(sources: Sources, own_store: Path) -> None:
    assert said(sources, own_store) == []


def test_all_that_a_template_refuses_is_named_in_one_line(sources: Sources, own_store: Path, untemplated: Path) -> None:
    found = with_prompts(sources, *(asked(f"s{n}", "Hi!", SYSTEM) for n in range(3)))
    found = replace(found, student=found_at(untemplated, template=REFUSING + "{{ messages[-1]['content'] }}"))
    assert said(found, own_store) == [
        "student small: its chat template refuses 3 prompts of 'train' (System role not supported): s0, s1, s2"
    ]


def test_of_very_many_the_first_are_named(sources: Sources, own_store: Path, untemplated: Path) -> None:
    found = with_prompts(sources, *(asked(f"s{n}", "Hi!", SYSTEM) for n in range(fitting.NAMED + 5)))
    found = replace(found, student=found_at(untemplated, template=REFUSING + "{{ messages[-1]['content'] }}"))
    (line,) = said(found, own_store)
    assert line.endswith(f"s{fitting.NAMED - 1} and 5 more") and f"{fitting.NAMED + 5} prompts" in line


def test_a_message_that_a_template_leaves_out_is_refused(sources: Sources, own_store: Path, untemplated: Path) -> None:
    found = with_prompts(sources, asked("s", "Hi!", SYSTEM))
    found = replace(found, student=found_at(untemplated, template="{{ messages[-1]['content'] }}"))
    (line,) = said(found, own_store)
    assert "leaves out the system message of 1 prompt of 'train': s;" in line


def test_a_template_that_makes_nothing_of_a_prompt_is_refused(
    sources: Sources, own_store: Path, untemplated: Path
) -> None:
    template = "{% if messages[-1]['content'] | trim != '' %}{{ messages[-1]['content'] }}{% endif %}"
    found = with_prompts(sources, asked("blank", " "))
    found = replace(found, student=found_at(untemplated, template=template))
    assert said(found, own_store) == ["student small: its chat template makes nothing of 1 prompt of 'train': blank"]


def test_a_prompt_and_its_answer_fit_the_model(sources: Sources, own_store: Path) -> None:
    found = with_prompts(sources, asked("long", "No. " * 200))
    rows = said(found, own_store, train_sampling={"max_new_tokens": 100})
    assert [
        line.split(" takes 512 tokens at once, and 1 prompt of 'train' may be longer with an answer ")[0]
        for line in rows
    ] == [
        "teacher large",
        "student small",
    ]
    assert all(
        line.endswith("train_sampling.max_new_tokens = 100): long; lower that, or take these out") for line in rows
    )


def test_an_answer_that_may_not_fit_is_too_long(sources: Sources, own_store: Path) -> None:
    tokens = len("Say one.")  # at most
    assert said(sources, own_store, train_sampling={"max_new_tokens": 512 - tokens - 30}) == []
    rows = said(sources, own_store, train_sampling={"max_new_tokens": 512})
    assert len(rows) == 2 and all("3 prompts of 'train'" in line for line in rows)


@pytest.mark.parametrize(("method", "of"), [("opd", ["teacher large", "student small"]), ("sdft", ["student small"])])
def test_a_fresh_response_that_may_not_fit_is_too_long(
    sources: Sources, own_store: Path, method: str, of: list[str]
) -> None:
    layer: dict[str, Any] = {"methods": [method], "controls": "none", "train_sampling": {"max_new_tokens": 200}}
    assert said(sources, own_store, **layer, settings={method: {"max_new_tokens": 100}}) == []
    rows = said(sources, own_store, **layer, settings={method: {"max_new_tokens": 512}})
    own = [row for row in rows if "demonstration" not in row]
    assert [row.split(" takes")[0] for row in own] == of
    assert all(f"settings.{method}.max_new_tokens = 512): train-0, train-1, train-2; lower that" in row for row in own)
    stored = {"max_new_tokens": 512, "fresh_share": 0.0}
    refused = said(sources, own_store, **layer, settings={method: {**stored, "stored": "student"}})
    assert refused == []


def test_a_teacher_that_is_shown_a_demonstration_takes_it_with_the_prompt(sources: Sources, own_store: Path) -> None:
    layer: dict[str, Any] = {"methods": ["sdft"], "controls": "none"}
    assert said(sources, own_store, **layer, train_sampling={"max_new_tokens": 200}) == []
    (row,) = said(sources, own_store, **layer, train_sampling={"max_new_tokens": 240})
    start = "student small as the teacher of sdft takes 512 tokens at once, and 3 prompts of 'train' may be longer with"
    assert row.startswith(f"{start} a demonstration and an answer ('train-")
    assert row.endswith(
        "train_sampling.max_new_tokens = 240): train-0, train-1, train-2; lower that, or take these out"
    )
    both = said(sources, own_store, **layer, settings={"sdft": {"max_new_tokens": 400}})
    assert "train_sampling.max_new_tokens = 256, settings.sdft.max_new_tokens = 400)" in "".join(both)


def test_every_answer_of_a_conversation_counts(sources: Sources, own_store: Path) -> None:
    asking = asked("talk", "Hi!", turns=("More?", "More still?"))
    found = replace(sources, evaluation=((replace(sources.evaluation[0][0], prompts=(asking,)), True),))
    assert said(found, own_store, eval_sampling={"max_new_tokens": 140}) == []
    rows = said(found, own_store, eval_sampling={"max_new_tokens": 160})
    assert len(rows) == 2 and all("with its answers ('talk'" in line for line in rows)


def test_vllm_takes_no_more_than_it_was_told(sources: Sources, own_store: Path) -> None:
    """Be it named, or what `auto` has found."""
    sizes = {"eval_sampling": {"max_new_tokens": 8}, "train_sampling": {"max_new_tokens": 8}}
    least = {"vllm": {"max_model_len": 16}}
    assert said(sources, own_store, **sizes, **least) == []
    fast = replace(sources, generator="vllm")
    assert said(fast, own_store, **sizes) == []
    rows = said(fast, own_store, **sizes, **least)
    assert rows and all("takes 16 tokens at once" in line for line in rows)


SMALL: dict[str, Any] = {
    "training": {"micro_batch_tokens": 64},
    "scoring_batch_tokens": 80,
    "train_sampling": {"max_new_tokens": 8},
    "eval_sampling": {"max_new_tokens": 8},
}


def too_large(rows: list[str]) -> list[tuple[str, str]]:
    """By whom, and by which setting."""
    assert all(": long; raise " in line for line in rows)
    return [(line.split()[0], line.split(" = ")[0].rpartition(" ")[2]) for line in rows]


def test_a_prompt_that_fills_a_micro_batch_is_refused_unless_it_is_cut(sources: Sources, own_store: Path) -> None:
    found = with_prompts(sources, asked("long", "No. " * 80))
    small = {**SMALL, "methods": ["dadpo"], "controls": "none"}
    rows = said(found, own_store, **small)
    assert all("1 prompt of 'train'" in line for line in rows)
    assert too_large(rows) == [
        ("teacher", "scoring_batch_tokens"),
        ("student", "micro_batch_tokens"),
        ("student", "scoring_batch_tokens"),
    ]
    assert said(found, own_store, **small, max_prompt_tokens=60) == []


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ({"methods": ["sft"]}, []),
        ({"methods": ["ddpo"]}, ["student"]),
        ({"methods": ["kd"]}, []),
        ({"methods": ["kd"], "settings": {"kd": {"teacher_signal": "stored"}}}, ["teacher"]),
        ({"methods": ["dadpo"], "teacher_server": SERVED}, ["student"]),
    ],
    ids=["sft", "ddpo", "kd", "stored", "served"],
)
def test_only_who_says_log_probs_of_a_set_is_asked_whether_it_can(
    sources: Sources, own_store: Path, method: dict[str, Any], scores: list[str]
) -> None:
    found = with_prompts(sources, asked("long", "No. " * 80))
    rows = too_large(said(found, own_store, **SMALL, controls="none", **method))
    assert [who for who, setting in rows if setting == "scoring_batch_tokens"] == scores
    assert [who for who, setting in rows if setting == "micro_batch_tokens"] == ["student"]


def test_an_evaluation_prompt_whose_responses_are_scored_is_measured_too(sources: Sources, own_store: Path) -> None:
    """By the teacher's log-probs for a judge, and by both models' for what is compared; by no other judge."""
    long = replace(sources.evaluation[0][0], prompts=(asked("long", "No. " * 80),))
    found = replace(sources, evaluation=((long, True), sources.evaluation[1]))
    small = {**SMALL, "methods": ["sft"], "measures": []}
    rows = said(found, own_store, **small)
    assert too_large(rows) == [("teacher", "scoring_batch_tokens")] and "1 prompt of 'near'" in rows[0]
    # they are drawn after whole prompts, and read after them
    assert said(found, own_store, **small, max_prompt_tokens=60) == rows and rows[0].endswith(" or take these out")
    assert said(found, own_store, **small, teacher_server=SERVED) == []
    assert said(replace(found, judges=()), own_store, **small) == []
    turned = replace(long, prompts=(long.prompts[0].model_copy(update={"turns": ("And?",)}),))
    of_turns = replace(found, evaluation=((turned, True),), judges=())
    assert said(of_turns, own_store, **small | {"measures": ["length", "reverse_kl"]}) == []
    compared = said(replace(found, judges=()), own_store, **small | {"measures": ["reverse_kl"]})
    assert too_large(compared) == [("teacher", "scoring_batch_tokens"), ("student", "scoring_batch_tokens")]


def test_a_server_reads_by_its_own_limits(sources: Sources, own_store: Path) -> None:
    rows = said(sources, own_store, teacher_server=SERVED, train_sampling={"max_new_tokens": 512})
    assert [line.split(" takes")[0] for line in rows] == ["student small"]


def test_of_a_server_a_tokenizer_that_is_its_own_is_asked(sources: Sources, own_store: Path, untemplated: Path) -> None:
    """One that is the student's says nothing of the teacher."""
    one, other = (found_at(untemplated, template=REFUSING + "{{ messages[-1]['content'] }}") for _ in range(2))
    found = with_prompts(sources, asked("s", "Hi!", SYSTEM))
    rows = said(replace(found, teacher=one, student=other), own_store, teacher_server=SERVED)
    assert [line.split(":")[0] for line in rows] == ["student small"]
    rows = said(replace(found, teacher=one), own_store, teacher_server={**SERVED, "tokenizer": "large"})
    assert [line.split(":")[0] for line in rows] == ["teacher large"]


def test_what_was_found_out_is_kept(sources: Sources, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    whole = rendering.rendered

    def counting(tokenizer: Any, prompts: Any) -> rendering.Rendered:
        counted.append(len(prompts))
        return whole(tokenizer, prompts)

    monkeypatch.setattr(fitting, "rendered", counting)
    said(sources, own_store)
    before = len(counted)
    assert before == 6  # three sets, by two models
    assert said(sources, own_store, train_sampling={"max_new_tokens": 512}) != []  # limits are compared anew
    assert len(counted) == before
    other = replace(
        sources, student=replace(sources.student, here=sources.student.here.model_copy(update={"digest": "u"}))
    )
    said(other, own_store)
    assert len(counted) == before + 3


def test_a_damaged_note_is_made_again(sources: Sources, own_store: Path) -> None:
    assert said(sources, own_store) == []
    for file in (own_store / "kept" / "rendered").iterdir():
        file.write_text("{")
    assert said(sources, own_store) == []
    assert all(json.loads(file.read_text())["tokens"] for file in (own_store / "kept" / "rendered").iterdir())


def test_a_model_that_is_not_here_is_passed_over(own_store: Path) -> None:
    config, made = made_sources(train_sampling={"max_new_tokens": 10**6})
    assert list(unreadable(config, made, Store(own_store))) == []


def test_a_plan_says_the_same_as_a_run(build: Build) -> None:
    build()
    with pytest.raises(UserError, match="takes 512 tokens at once, and 3 prompts of 'train'"):
        build(train_sampling={"max_new_tokens": 512})
