"""What results and boards say of prompt sets beside their figures."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.cells import provenance
from harness.results.schema import SetFacts

OVERLAP = {"prompts": 16, "exact": 1, "shared": 3, "most": 0.5, "examples": ["a"]}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, ""),
        ({"source": "set.jsonl", "duplicates": 0}, "from set.jsonl"),
        ({"source": "a/b@c", "duplicates": 2}, "from a/b@c; 2 duplicates removed"),
        (
            {"source": "", "overlap": OVERLAP},
            "1 of its prompts are training prompts, 3 share eight words in a row with them",
        ),
    ],
)
def test_where_a_prompt_set_is_from_and_what_training_saw_of_it(entry: dict[str, Any], said: str) -> None:
    teacher = {"mean_tokens": 1, "cut_share": 0}
    figures = {"name": "s", "in_domain": True, "prompts": 1, "teacher": teacher, "unranked": "", "detectable": None}
    assert provenance(SetFacts.model_validate({**figures, "digest": "", **entry})) == said
