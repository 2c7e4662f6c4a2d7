"""Learning rates of methods that a board sets against each other: it is to rank the methods, and not the rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import preset_layer, resolve
from harness.methods import Method, methods

REPOSITORY = Path(__file__).parents[2]
# sequence-level losses that raise a response's likelihood by itself
LIKELIHOODS = ("sft", "orpo")


def kind_of(method: Method) -> str:
    if "token" in method.levels():
        return "policy gradient"
    return "likelihood or divergence" if method.level == "distribution" or method.name in LIKELIHOODS else "preference"


@pytest.mark.parametrize("preset", ["embedded", "quick"])
def test_methods_of_one_kind_have_one_rate_in_a_preset(preset: str) -> None:
    settings = resolve([preset_layer(preset), {"methods": list(methods.names())}]).settings
    names = set(preset_layer(preset)["settings"])
    assert names == set(settings)  # each by name, and none by what suits a healthy model
    rates: dict[str, set[float]] = {}
    for name in names:
        rates.setdefault(kind_of(methods.get(name)), set()).add(settings[name]["learning_rate"])
    assert rates == {"likelihood or divergence": {2e-4}, "policy gradient": {5e-5}, "preference": {1e-5}}
    preferences = {name for name in names if kind_of(methods.get(name)) == "preference"}
    assert {settings[name]["epochs"] for name in preferences} == {1}


def test_the_page_of_training_names_the_rates_of_all() -> None:
    page = (REPOSITORY / "docs" / "training.md").read_text("utf-8")
    part = page.split("\n## Learning rates\n")[1].split("\n## ")[0]
    assert [name for name in methods.names() if f"`{name}`" not in part] == []
