"""The rows that a claim travels with, whichever settings make a training one on the policy's own responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.methods import POLICY, Control, methods, selected_controls

ON_POLICY = [name for name, method in methods.items() if method.responses == POLICY]
FRESH = {"fresh_share": 0.5}


def controls_of(name: str, **settings: Any) -> dict[str, Control]:
    method = methods.get(name)
    found = selected_controls(method, method.settings.model_validate(settings), "basic")
    return {control.name: control for control in found}


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize("start", ["student", "sft"])
def test_every_training_with_fresh_responses_has_both_controls_from_where_it_starts(name: str, start: str) -> None:
    found = controls_of(name, start=start, **FRESH)
    sft, stored = found[f"sft-as-many-tokens-{name}"], found[f"{name}-stored"]
    assert (sft.method, sft.overrides, sft.match_tokens) == ("sft", {"start": start}, True)
    method = methods.get(name)
    settings = method.settings.model_validate({"start": start, **FRESH, **stored.overrides})
    assert (stored.method, stored.match_tokens) == (name, False)
    assert method.fresh_share(settings) == 0
    assert method.written(settings) == (("response", "student", 0),)
    assert next(iter(found.values())) == sft  # what the claim is against


@pytest.mark.parametrize("name", ON_POLICY)
def test_a_training_on_stored_responses_has_neither(name: str) -> None:
    assert not {f"sft-as-many-tokens-{name}", f"{name}-stored"} & controls_of(name, fresh_share=0.0).keys()


def test_a_control_that_a_method_has_itself_is_not_there_twice() -> None:
    own = Control("opd-stored", "opd", {"fresh_share": 0.0}, "its own")
    method = replace(methods.get("opd"), controls=lambda settings: [own])
    found = selected_controls(method, method.settings(), "basic")
    assert [control.name for control in found] == ["sft-as-many-tokens-opd", "opd-stored"] and found[1] is own


def test_a_likelihood_of_what_the_teacher_wrote_is_not_in_the_control_that_has_none_of_it() -> None:
    stored = controls_of("rkl", nll=0.5, **FRESH)["rkl-stored"]
    assert (
        methods.get("rkl").settings.model_validate({"nll": 0.5, **FRESH, **stored.overrides}).model_dump()["nll"] == 0
    )


def test_the_temperature_that_a_control_does_not_share_is_said() -> None:
    assert "fresh ones at temperature 0.9" in controls_of("gkd")["gkd-stored"].why
