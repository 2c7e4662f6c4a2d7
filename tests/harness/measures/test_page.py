"""docs/measures.md has every measure, and its example works."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core import registry as core
from harness.judging.proxies import MeasureJudge
from harness.measures import measures
from harness.measures.registry import MeasureRegistry, fault, load_measures
from tests.harness.measures.made import answered, talk

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "measures.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##)", PAGE, re.M | re.S))


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_every_measure_has_a_section_and_every_section_a_measure() -> None:
    assert set(SECTIONS) == set(measures.names())


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_says_what_the_measure_s_own_words_are(name: str) -> None:
    measure, section = measures.get(name), squeezed(SECTIONS[name])
    assert f"- Unit: {measure.unit}" in section
    assert "- Misses: " in section
    if measure.group:
        directions = {"lower": "lower is better", "higher": "higher is better", "neither": "held against the teacher's"}
        assert directions[measure.better] in section
        assert [better for better, words in directions.items() if words in section] == [measure.better]
        assert "- To read it: " in section
    for bound, mark in (("lower", "Bound: ≥"), ("upper", "Bound: ≤")):
        assert (mark in section) == (measure.bound == bound)


def block(page: str, language: str, begins: str) -> str:
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", page, re.S) if begins in code]
    return str(found)


def test_the_example_is_a_measure_as_soon_as_its_file_is_there(more_measures: Path) -> None:
    code = block(PAGE, "python", "# harness/measures/questions.py")
    (more_measures / "questions.py").write_text(code, encoding="utf-8")
    found = load_measures()
    assert set(found) == {*measures.names(), "questions"}
    own = found["questions"]
    assert fault(own) == ""
    assert own.values(answered("Why?", "So.", "")).tolist() == [1, 0, 0]
    assert own.values(talk(["Who?", "And who?"], ["One.", "Two."], ["One?", "Two."])).tolist() == [0, 1]


def test_the_example_of_a_plug_in_names_the_group_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tomllib.loads(block(PAGE, "toml", "measures"))["project"]["entry-points"]
    asked: list[str] = []

    def entry_points(group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return []

    monkeypatch.setattr(core, "entry_points", entry_points)
    MeasureRegistry("measure", load_measures).names()
    assert asked == list(groups) == ["dadpo_harness.measures"]


def test_the_example_of_a_proxy_judge_is_a_judge_of_a_measure_that_there_is() -> None:
    code = block((DOCS / "judges.md").read_text(encoding="utf-8"), "python", "MeasureJudge(")
    made: dict[str, object] = {}
    exec(compile(code, "judges.md", "exec"), made)
    (judge,) = [value for value in made.values() if isinstance(value, MeasureJudge)]
    assert judge.measure in measures and judge.summary and judge.misses
