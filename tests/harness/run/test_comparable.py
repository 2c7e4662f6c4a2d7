"""Why a run's student and teacher cannot be compared token by token; found out once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Message
from harness.models import tokenizers
from harness.models.reference import Model
from harness.run.comparable import why_not
from harness.run.sources import FoundModel, Sources
from harness.store import Store
from tests.conftest import CHAT_TEMPLATE
from tests.harness.run.roads import SERVED, made_sources
from tests.harness.run.test_fitting import found_at

pytestmark = pytest.mark.anew


@pytest.fixture
def sources(checkpoints: dict[str, Path]) -> Sources:
    _, made = made_sources()
    return replace(
        made, student=found_at(checkpoints["llama"], "s"), teacher=found_at(checkpoints["llama-teacher"], "t")
    )


@pytest.fixture
def foreign(tmp_path: Path, other_tokenizer: Any) -> FoundModel:
    other_tokenizer.save_pretrained(tmp_path / "foreign")
    return found_at(tmp_path / "foreign", "f")


def said(sources: Sources, store: Store, **layer: Any) -> str:
    config, _ = made_sources(**layer)
    return why_not(config, sources, store)


def with_template(checkpoint: Path, folder: Path, template: str) -> FoundModel:
    tokenizer = tokenizers.load_tokenizer(checkpoint)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return found_at(folder, folder.name)


def test_one_tokenizer_and_whole_distributions_are_compared(sources: Sources, store: Store) -> None:
    assert said(sources, store) == ""
    assert said(sources, store, eval_sampling={"temperature": 0.3}) == ""
    layer = {"teacher": None, "teacher_server": {**SERVED, "tokenizer": "large"}, "eval_sampling": {"temperature": 1}}
    assert said(sources, store, **layer, measures=["forward_kl"]) == ""
    # what it takes of a server is known late: it is asked for nothing that is not named
    assert said(sources, store, **layer).endswith("only where a run names it (--measures forward_kl,…)")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"eval_sampling": {"temperature": 0}}, "temperature is 0"),
        ({"eval_sampling": {"top_p": 0.9}}, r"top_p = 0\.9 leaves out"),
        (
            {
                "teacher": None,
                "teacher_server": {**SERVED, "tokenizer": "large"},
                "eval_sampling": {"temperature": 0.8},
                "measures": ["forward_kl"],
            },
            r"at temperature 1, and eval_sampling\.temperature = 0\.8$",
        ),
        (
            {
                "teacher": None,
                "teacher_server": SERVED,
                "eval_sampling": {"temperature": 1},
                "measures": ["forward_kl"],
            },
            r"teacher_server\.tokenizer does not say",
        ),
    ],
    ids=["greedy", "nucleus", "served at another temperature", "served, of an unknown tokenizer"],
)
def test_what_of_the_settings_stands_against_it(
    sources: Sources, store: Store, layer: dict[str, Any], reason: str
) -> None:
    why = said(sources, store, **layer)
    # nothing is said of what is not asked for
    assert said(sources, store, **{**layer, "measures": ["length"]}) == ""
    assert re.search(reason, why) and "\n" not in why and not why.endswith(".")


def test_other_tokenizers(sources: Sources, foreign: FoundModel, store: Store) -> None:
    wanted = "student and teacher have two tokenizers: 512 tokens against 400"
    assert said(replace(sources, teacher=foreign), store) == wanted
    served = {"teacher_server": {**SERVED, "tokenizer": "large"}, "eval_sampling": {"temperature": 1}}
    assert said(replace(sources, teacher=foreign), store, teacher=None, measures=["nll"], **served) == wanted


def test_templates_that_render_a_prompt_otherwise(
    sources: Sources, store: Store, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    loud = with_template(
        checkpoints["llama"], tmp_path / "loud", CHAT_TEMPLATE.replace("m['content']", "m['content']|upper")
    )
    why = said(replace(sources, teacher=loud), store)
    assert why.endswith("but the chat templates differ on prompt 'near-0'")
    # what no prompt reaches is no difference
    tools = with_template(
        checkpoints["llama"], tmp_path / "tools", "{% if tools %}{{ tools }}{% endif %}" + CHAT_TEMPLATE
    )
    assert said(replace(sources, teacher=tools), store) == ""


def test_prompts_of_several_turns_are_not_asked_about(sources: Sources, foreign: FoundModel, store: Store) -> None:
    far, in_domain = sources.evaluation[1]
    prompts = tuple(prompt.model_copy(update={"turns": ("And now?",)}) for prompt in far.prompts)
    sources = replace(sources, teacher=foreign, evaluation=((replace(far, prompts=prompts), in_domain),))
    assert said(sources, store) == ""


def test_it_is_found_out_once(
    sources: Sources, foreign: FoundModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = replace(sources, teacher=foreign)
    first = said(sources, store)
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "load_tokenizer", lambda *_: pytest.fail("loaded a tokenizer"))
        assert first and said(sources, store) == first
        assert said(replace(sources, teacher=sources.student), store) == ""  # itself
    (far, _), *_ = sources.evaluation
    asked = far.prompts[0].model_copy(update={"messages": (Message(role="user", content="Another."),)})
    changed = replace(far, prompts=(asked,))
    loaded: list[object] = []
    load = tokenizers.load_tokenizer
    monkeypatch.setattr(tokenizers, "load_tokenizer", lambda *how: (loaded.append(how), load(*how))[1])
    assert said(replace(sources, evaluation=((changed, True),)), store) == first and len(loaded) == 2


def test_a_model_that_is_not_here_yet_is_not_asked(sources: Sources, store: Store) -> None:
    elsewhere = FoundModel(Model(path="/nowhere/large", digest="x"))
    assert said(replace(sources, teacher=elsewhere), store) == ""
    assert said(replace(sources, teacher=elsewhere), store, eval_sampling={"temperature": 0}) != ""
    assert not (store.root / "kept").exists()


def test_a_tokenizer_that_cannot_be_loaded_is_left_to_those_who_read_prompts(
    sources: Sources, store: Store, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer.json").write_text("{")
    assert said(replace(sources, teacher=found_at(damaged, "x")), store) == ""
    assert not (store.root / "kept").exists()
