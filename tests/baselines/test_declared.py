"""What METHOD.defines and a method's page say against what the method has: the normaliser against `per`, and numbers
against defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.methods import methods
from tests.baselines.test_pages import rows

PAGES = Path(__file__).parents[2] / "docs" / "methods"

# what a step's sum is divided by, in the words of a definition
WORDS = {
    "token": ("response tokens",),
    "response": ("each response's tokens, then responses",),
    "example": ("pairs", "prompts"),
}

# the words of each definition that say a default, with the setting in its place
SAYS = {
    "akl": ["mass μ {mu}"],
    "distillm2": ["α {alpha}; ", "b from 1 to {rejected_weight}"],
    "dpkd-token": ["; {nll} of the likelihood"],
    "gkd": ["β {beta}"],
    "gopd": ["L {extrapolation}"],
    "iw-opd": ["γ {gamma}"],
    "jsd": ["β {beta}"],
    "minillm": ["γ {gamma}"],
    "pad": ["β {beta} times"],
    "sdft": ["the {top_k_of}'s {top_k} most likely tokens, {support}"],
    "skl": ["α {alpha}"],
    "srkl": ["α {alpha}"],
    "taid": ["from {t_start} towards {t_end}"],
}


def words(name: str) -> str:
    defines = methods.get(name).defines
    return "; ".join((defines.direction, defines.weight, defines.support, defines.normaliser))


def written(value: Any) -> str:
    """As definitions write it: .5 for 0.5."""
    return re.sub(r"^0(?=\.)", "", f"{value:g}") if isinstance(value, int | float) else str(value)


@pytest.mark.parametrize("name", methods.names())
def test_the_normaliser_is_what_per_divides_by(name: str) -> None:
    method = methods.get(name)
    assert method.defines.normaliser.split(";")[0] in WORDS[method.per]
    assert {term.per for term in method.terms} == {method.per}


@pytest.mark.parametrize("name", methods.names())
def test_numbers_of_a_definition_are_defaults(name: str) -> None:
    defaults = {key: written(value) for key, value in methods.get(name).settings().model_dump().items()}
    said = [text.format_map(defaults) for text in SAYS.get(name, [])]
    assert [text for text in said if text not in words(name)] == []
    # and each number with a point in it is one of them
    assert set(re.findall(r"\d*\.\d+", words(name))) <= set(re.findall(r"\d*\.\d+", " ".join(said)))


@pytest.mark.parametrize("name", methods.names())
def test_defaults_on_a_page_are_those_that_the_method_has(name: str) -> None:
    """Of a page's rows of settings, `a`, `b` | 1, 2 | …: each that says a value."""
    defaults = methods.get(name).settings().model_dump()
    wrong = {}
    for head, said in rows((PAGES / f"{name}.md").read_text(encoding="utf-8")).items():
        names, values = re.findall(r"`(\w+)`", head), re.sub(r"\([^)]*\)", "", said).split(";")[0].split(",")
        if not set(names) <= set(defaults) or len(names) != len(values) or said == "outcomes":
            continue
        for key, value in zip(names, (value.strip() for value in values), strict=True):
            default = defaults[key]
            same = float(value) == default if re.fullmatch(r"[\d.e-]+", value) else value == str(default).lower()
            if default is not None and not same:  # None is left to something else, in words
                wrong[key] = (value, default)
    assert wrong == {}
