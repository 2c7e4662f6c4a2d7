"""Tasks that models are asked at the end are looked at before any work."""

from __future__ import annotations

from importlib import metadata

import pytest

from tests.cases.conftest import Case, refused
from tests.harness.measures.task_files import task_file


def test_a_plan_has_a_stage_for_each_model_that_is_asked(case: Case) -> None:
    ended = case.plan("--retention", task_file(case.root / "tasks"), "--set", "retention_limit=4")
    assert ended.status == 0, ended.err
    for row in ("teacher", "student (untrained)", "sft"):
        assert f"retention: {row}" in ended.out


def test_all_that_is_wrong_with_tasks_is_said_in_a_line_each(case: Case) -> None:
    lines = refused(case.plan("--retention", task_file(case.root / "tasks", test_split="tset")))
    assert lines.count("\n") == 0 and "cannot be asked (KeyError: 'tset')" in lines
    assert "there is no file none.yaml" in refused(case.plan("--retention", "none.yaml"))
    assert "names neither a task nor a group" in refused(
        case.plan("--retention", task_file(case.root / "tasks", task=None))
    )
    assert "one is named twice" in refused(case.plan("--retention", "arc_easy,arc_easy"))
    assert "'retention_limit': Value error, no task is named" in refused(case.plan("--set", "retention_limit=4"))


def test_a_package_that_is_missing_is_named_before_any_work(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(package: str) -> str:
        if package == "lm_eval":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without)
    assert "pip install '.[lm-eval]'" in refused(case.plan("--retention", "arc_easy"))
