"""Whether a student can be compared with its teacher token by token, asked before anything is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.models import tokenizers
from harness.models.reference import Model
from harness.run.comparable import why_not
from harness.run.sources import FoundModel
from harness.store import Store
from tests.harness.run.roads import SERVED, made_sources


def said(store: Path, student: Path | None = None, teacher: Path | None = None, **layer: Any) -> str:
    config, sources = made_sources(**layer)
    for role, folder in (("student", student), ("teacher", teacher)):
        if folder:
            sources = replace(sources, **{role: FoundModel(Model(path=str(folder), digest=str(folder)))})
    return why_not(config, sources, Store(store))


def test_where_nothing_stands_against_it_nothing_is_said(own_store: Path, checkpoints: dict[str, Path]) -> None:
    assert said(own_store, checkpoints["llama"], checkpoints["llama-teacher"]) == ""
    assert said(own_store) == ""  # models that are not here yet


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ({"eval_sampling": {"temperature": 0}}, "temperature 0, at which a distribution is one token"),
        ({"eval_sampling": {"top_p": 0.9}}, "top-p 0.9, which cuts both distributions; set eval_sampling.top_p=1"),
        ({"teacher": None, "teacher_server": SERVED}, "only where a run names it (--measures forward_kl,…)"),
        (
            {"teacher": None, "teacher_server": SERVED, "measures": ["forward_kl"]},
            "log-probs at temperature 1, and responses are drawn at 0.8; set eval_sampling.temperature=1",
        ),
    ],
)
def test_what_the_sampling_or_a_server_rules_out(own_store: Path, layer: dict[str, Any], why: str) -> None:
    assert said(own_store, **layer).endswith(why)
    # nothing is said of what is not asked for
    assert said(own_store, **{**layer, "measures": ["length"]}) == ""


def test_a_server_that_is_asked_at_its_temperature_is_compared(own_store: Path) -> None:
    layer = {"teacher": None, "teacher_server": SERVED, "measures": ["forward_kl"], "eval_sampling": {"temperature": 1}}
    assert said(own_store, **layer) == ""


@pytest.mark.anew
def test_two_tokenizers_are_found_out_once(
    own_store: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = said(own_store, checkpoints["llama"], checkpoints["qwen2"])
    assert found.startswith("student and teacher have two tokenizers: ")

    def refuse(*_: Any) -> Any:
        raise RuntimeError("a tokenizer is loaded")

    monkeypatch.setattr(tokenizers, "load_tokenizer", refuse)
    assert said(own_store, checkpoints["llama"], checkpoints["qwen2"]) == found
