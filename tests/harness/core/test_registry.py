from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.core import registry
from harness.core.errors import UserError
from harness.core.registry import Registry, did_you_mean


@pytest.fixture
def colours() -> Registry[str]:
    return Registry("colour", lambda: {"red": "#f00", "green": "#0f0", "blue": "#00f"})


def plug_in(monkeypatch: pytest.MonkeyPatch, **points: str) -> list[str]:
    """Installed entry points of every group that is asked for; the groups asked for."""
    asked: list[str] = []

    def entry_points(group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return [SimpleNamespace(name=name, load=lambda value=value: value) for name, value in points.items()]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return asked


def test_an_entry_is_found_by_its_name(colours: Registry[str]) -> None:
    assert colours.get("green") == "#0f0"
    assert "green" in colours
    assert "mauve" not in colours


def test_names_and_items_are_sorted(colours: Registry[str]) -> None:
    assert colours.names() == ["blue", "green", "red"]
    assert colours.items() == [("blue", "#00f"), ("green", "#0f0"), ("red", "#f00")]


def test_a_misspelt_name_gets_the_nearest_one_suggested(colours: Registry[str]) -> None:
    with pytest.raises(UserError, match=r"^unknown colour 'gren'; did you mean 'green'\?$"):
        colours.get("gren")


def test_a_name_like_no_other_gets_all_known_ones(colours: Registry[str]) -> None:
    with pytest.raises(UserError, match=r"^unknown colour 'xyz'; known: blue, green, red$"):
        colours.get("xyz")


def test_nothing_is_suggested_where_nothing_is_known() -> None:
    assert did_you_mean("anything", []) == ""


def test_an_added_entry_is_found(colours: Registry[str]) -> None:
    colours.add("white", "#fff")
    assert colours.get("white") == "#fff"


def test_a_name_is_registered_once(colours: Registry[str]) -> None:
    with pytest.raises(UserError, match="colour 'red' is registered twice"):
        colours.add("red", "#e00")
    assert colours.get("red") == "#f00"


def test_it_loads_once_and_only_when_asked() -> None:
    loads: list[int] = []

    def load() -> dict[str, int]:
        loads.append(1)
        return {"one": 1}

    numbers = Registry("number", load)
    assert loads == []
    numbers.names()
    numbers.get("one")
    assert loads == [1]


def test_plug_ins_join_by_entry_points_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plug_in(monkeypatch, violet="#80f")
    sets = Registry("prompt set", lambda: {"red": "#f00"})
    assert sets.names() == ["red", "violet"]
    assert asked == ["dadpo_harness.prompt_sets"]


def test_a_plug_in_cannot_take_a_name_of_the_harness(monkeypatch: pytest.MonkeyPatch, colours: Registry[str]) -> None:
    plug_in(monkeypatch, red="#e00")
    with pytest.raises(UserError, match="colour 'red' is registered twice"):
        colours.names()
