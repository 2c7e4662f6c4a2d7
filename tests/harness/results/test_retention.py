"""What an artifact says of a model, and by which task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.files import canonical_hash
from harness.results.retention import said
from harness.run.jobs import RETENTION
from harness.store.artifacts import Artifact


def test_a_row_says_which_task_was_asked_for_by_its_digest(tmp_path: Path) -> None:
    """A task of a group is known by the group's; what is in a group of a group, by all that was asked for."""
    score = {"metric": "acc", "value": 0.5, "standard_error": None, "n": 4, "higher_is_better": True}
    rows = [{"task": name, **score} for name in ("alone", "leaf", "inner")]
    (tmp_path / RETENTION).write_text(json.dumps(rows), encoding="utf-8")
    tasks = {"alone": "digest of alone", "group": "digest of group"}
    asked = {"alone": {"documents": {"alone": 4}}, "group": {"documents": {"leaf": 4}}}
    manifest: dict[str, Any] = {"job": {"tasks": tasks}, "facts": {"asked": asked}}
    found = said("sft", "method", Artifact("retention/1", tmp_path, manifest))
    assert [(one.method, one.kind, one.task, one.digest) for one in found] == [
        ("sft", "method", "alone", "digest of alone"),
        ("sft", "method", "leaf", "digest of group"),
        ("sft", "method", "inner", canonical_hash(tasks)),
    ]
