"""Which measures a run shows, and why not others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config import Config, resolve
from harness.core.errors import UserError
from harness.judging.proxies import JUDGES
from harness.measures import measures
from harness.methods import PAIR, POLICY, RESPONSE, Role, methods
from harness.prompts import PromptSet
from harness.run.measuring import (
    SEVERAL_TURNS,
    declared_first,
    ranks_pairs,
    read_in_evaluation,
    shown,
    unmeasurable,
    wanted,
)
from tests.harness.run.roads import prompt_set

FOUND = prompt_set("near", "Say four.")
WHY = "their tokenizers differ"


def config(**layer: Any) -> Config:
    return resolve([{"student": "small", "teacher": "large", **layer}])


def turned() -> PromptSet:
    (prompt,) = FOUND.prompts
    return replace(FOUND, prompts=(prompt.model_copy(update={"turns": ("And five?",)}),))


def names(found: Any) -> list[str]:
    return [measure.name for measure in found]


def test_what_is_not_named_is_all_that_is_shown_fidelity_first() -> None:
    one, two = wanted(config()), wanted(config(samples=2))
    assert names(one)[:7] == [
        "forward_kl",
        "reverse_kl",
        "acceptance",
        "accepted_length",
        "top1",
        "nll",
        "margin_accuracy",
    ]
    assert {measure.group for measure in one[7:]} == {"text"}
    # those of diversity compare several responses to a prompt
    assert set(names(two)) - set(names(one)) == {m.name for _, m in measures.items() if m.samples == 2}
    assert not {"teacher_nll", "embedding"} & set(names(two))


def test_what_is_named_is_shown_in_its_order() -> None:
    asked = config(measures=["length", "reverse_kl"])
    assert names(shown(asked, FOUND, "").measures) == ["length", "reverse_kl"]
    assert shown(config(measures=[]), FOUND, "").measures == ()
    with pytest.raises(UserError, match="unknown measure 'forward'; did you mean 'forward_kl'"):
        wanted(config(measures=["forward"]))


def test_without_a_common_tokenizer_texts_are_measured_and_the_board_says_why() -> None:
    found = shown(config(), FOUND, WHY)
    assert found.unmeasured == WHY and {measure.reads for measure in found.measures} == {"responses", "pairs"}
    assert shown(config(measures=["length"]), FOUND, WHY).unmeasured == ""


def test_what_is_read_in_evaluation_is_for_measures_and_judges() -> None:
    every = {"responses", "teacher_tokens", "own_tokens", "pairs"}
    assert read_in_evaluation(config(), FOUND, [], "") == every
    assert read_in_evaluation(config(), FOUND, [], WHY) == {"responses", "pairs"}
    assert read_in_evaluation(config(), turned(), [], "") == {"responses"}
    by_judges = {"log_probs", "embedding"}
    assert read_in_evaluation(config(measures=["length"]), FOUND, JUDGES, WHY) == {"responses", *by_judges}


def test_the_first_measure_is_said_before_the_run() -> None:
    assert declared_first(config()) == "forward_kl"
    assert declared_first(config(measures=["length", "forward_kl"])) == "length"
    assert declared_first(config(measures=[])) == ""


def test_of_answers_to_several_turns_the_texts_are_measured() -> None:
    found = shown(config(), turned(), "")
    assert found == shown(config(), turned(), WHY)
    assert found.unmeasured == SEVERAL_TURNS and {measure.reads for measure in found.measures} == {"responses"}
    assert shown(config(measures=["length"]), turned(), "").unmeasured == ""
    assert shown(config(measures=[]), turned(), "").unmeasured == ""


@pytest.mark.parametrize(
    ("roles", "found"),
    [
        (PAIR, True),
        (PAIR[::-1], True),  # by role, not by place
        ((*PAIR, ("second", "teacher", 1)), True),
        (RESPONSE, False),
        (POLICY, False),
        ((("chosen", "teacher", 0), ("rejected", "teacher", 1)), False),  # held-out pairs have the SFT student's
        ((("rejected", "teacher", 0), ("chosen", "student", 0)), False),
        ((("a", "teacher", 0), ("b", "student", 0)), False),
    ],
)
def test_held_out_pairs_are_of_methods_that_rank_such(roles: tuple[Role, ...], found: bool) -> None:
    method = replace(methods.get("kd"), responses=roles)
    assert ranks_pairs(method) is found


def test_what_cannot_be_measured_is_refused_where_it_is_named() -> None:
    def said(incomparable: str = "", found: PromptSet = FOUND, **layer: Any) -> list[str]:
        return list(unmeasurable(config(**layer), [found], incomparable))

    assert said() == said(WHY) == said(found=turned()) == said(measures=["length", "forward_kl"]) == []
    assert said(WHY, measures=["length", "forward_kl"]) == [f"measures: 'forward_kl' cannot be measured: {WHY}"]
    assert said(measures=["self_bleu"]) == [
        "measures: 'self_bleu' compares 2 responses to a prompt, and samples = 1; set samples=2, or leave it out"
    ]
    assert said(measures=["self_bleu"], samples=2) == []
    alone = said(methods=["sft", "kd"], measures=["margin_accuracy"])
    assert alone == [
        "measures: 'margin_accuracy' is of methods with a chosen response (the teacher's) and a rejected one (the SFT "
        "student's), and none is compared; leave it out"
    ]
    assert said(measures=["embedding"]) == [
        "measures: 'embedding' is no measure of its own, a judge reads it; leave it out"
    ]
    assert said(measures=["length"], found=turned()) == []
    assert said(measures=["length", "margin_accuracy"], found=turned()) == [
        f"measures: 'margin_accuracy' cannot be measured on 'near': {SEVERAL_TURNS}"
    ]
