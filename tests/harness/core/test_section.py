"""Sections of a configuration: what they hold is typed, frozen, and says what of it is the machine's affair."""

from __future__ import annotations

import pytest

from harness.core.errors import UserError
from harness.core.section import Names, OfTheMachine, Section, machine_settings, parse_yaml, validated


class Engine(Section):
    python: OfTheMachine[str | None] = None
    length: int = 8


class Run(Section):
    store: OfTheMachine[str | None] = None
    seed: int = 0
    engine: Engine = Engine()
    other: Engine | None = None
    names: Names = ("a",)


def test_settings_of_the_machine_are_known_by_their_full_keys() -> None:
    assert machine_settings(Run) == {"store", "engine.python", "other.python"}


def test_settings_of_the_machine_are_taken_and_never_written() -> None:
    run = Run(store="/s", engine=Engine(python="/p"), other=Engine(python="/p", length=2))
    assert (run.store, run.engine.python) == ("/s", "/p")
    rest = {"seed": 0, "engine": {"length": 8}, "other": {"length": 2}, "names": ("a",)}
    assert run.model_dump() == rest
    assert "/s" not in run.model_dump_json() and "/p" not in run.model_dump_json()


@pytest.mark.parametrize(("names", "said"), [([], "at least one is needed"), (["a", "b", "a"], "one is named twice")])
def test_names_are_each_once(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"'names': Value error, {said}"):
        validated(Run, {"names": names})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nengine: {length: 2}\nseed: 3\n", r"a\.yaml:3: malformed YAML \(the key 'seed' is there twice\)"),
        ("engine: {length: 2, length: 3}", r"a\.yaml:1: malformed YAML \(the key 'length' is there twice\)"),
        ("engine: &it {other: *it}", "found unconstructable recursive node"),
        ("engine: &it [*it]", "found unconstructable recursive node"),
        ("[" * 20_000 + "]" * 20_000, "it is nested too deep"),
        ("seed: 2020-13-45", "month must be in"),
        ("seed: " + "9" * 5000, "5000 digits"),
    ],
)
def test_yaml_that_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        parse_yaml(text, "a.yaml")
    assert len(caught.value.lines) == 1


def test_yaml_may_use_what_it_has_said_before() -> None:
    text = "base: &it {seed: 1, names: [a]}\nrun: {<<: *it, seed: 2}\nagain: *it\n"
    base = {"seed": 1, "names": ["a"]}
    assert parse_yaml(text, "a.yaml") == {"base": base, "run": {**base, "seed": 2}, "again": base}


@pytest.mark.parametrize("key", ["engine", "other"])
def test_an_unknown_key_of_a_section_in_a_section_comes_with_a_suggestion(key: str) -> None:
    with pytest.raises(UserError, match=rf"unknown configuration key '{key}\.lenght'; did you mean 'length'\?"):
        validated(Run, {key: {"lenght": 1}})
