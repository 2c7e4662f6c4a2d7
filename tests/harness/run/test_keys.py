"""docs/keys.md says what is in each stage's key, as the code does."""

from __future__ import annotations

from pathlib import Path

from harness.run import jobs
from harness.run.keys import keys_table

PAGE = Path(__file__).parents[3] / "docs" / "keys.md"


def test_the_page_has_the_table_of_the_classes() -> None:
    ours = [kind for kind in jobs.stages.values() if kind.__module__ == jobs.__name__]
    assert keys_table(ours) in PAGE.read_text(encoding="utf-8"), "put what `python -m harness.run.keys` prints there"
