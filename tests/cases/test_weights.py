"""What was loaded is looked at."""

from __future__ import annotations

from tests.cases.conftest import Case


def test_a_plain_run_ends_well(case: Case) -> None:
    """What the cases change something of."""
    ended = case.run()
    assert ended.status == 0, ended.err
    assert {row["method"] for row in case.results()["rows"]} >= {"sft", "student (untrained)"}
