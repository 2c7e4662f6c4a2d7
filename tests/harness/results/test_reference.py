"""The page that explains the files of a run."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from harness.results.reference import reference

PAGE = Path(str(resources.files("benchmarks"))).parent / "docs" / "results-schema.md"


def test_the_page_is_what_the_types_say() -> None:
    again = "python -m harness.results.reference > docs/results-schema.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), f"out of date; {again}"


def test_names_types_and_meanings_are_in_it() -> None:
    text = reference()
    assert "| `schema` | integer | version of this schema |" in text
    assert "| `preference_interval` | [number, number] or null | its interval, of these checkpoints |" in text
    assert "| `kind` | `ceiling`, `untrained`, `method`, `control` | which of these it is |" in text
    assert "| `rows` | list of [Row](#row) |" in text and "### Row\n" in text
    assert text.count("### Sampling\n") == 1
    assert "`micro_batch_tokens`" not in text  # only says how a training is computed
