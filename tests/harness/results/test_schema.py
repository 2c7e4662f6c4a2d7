"""The types of results.json and manifest.json: what is read is what would be written, and every field is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from harness.core.records import plain
from harness.methods import COMPUTING
from harness.results import recording
from harness.results.folder import as_json
from harness.results.manifest import Manifest
from harness.results.reference import _kinds
from harness.results.schema import RecordedSettings, Results
from harness.store import MANIFEST
from tests.harness.results_made import FIXED, RANKED, as_results, make_run


@pytest.mark.parametrize("folder", recording.recorded(), ids=lambda folder: folder.name)
def test_what_is_read_is_written_again_to_the_byte(folder: Path) -> None:
    text = (folder / "results.json").read_text(encoding="utf-8")
    known = json.loads(text)
    for method in known["methods"]:  # as they were recorded while these were taken for a part of a training
        method["settings"] = {key: value for key, value in method["settings"].items() if key not in COMPUTING}
    whole = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    assert as_json(Results.model_validate_json(text)) == whole
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    assert as_json(Manifest.model_validate_json(text)) == text


def test_what_a_file_leaves_out_is_not_written() -> None:
    run = make_run()
    assert "source" not in run["training"] and "overlap" not in run["prompt_sets"][0]
    assert plain(Results.model_validate(run)) == run


def test_results_cannot_be_changed_and_take_nothing_unknown() -> None:
    results = Results.model_validate(make_run())
    with pytest.raises(ValidationError):
        results.judge = "another"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="winner"):
        Results.model_validate({**make_run(), "winner": "dadpo"})
    with pytest.raises(ValidationError, match=r"rows\.0\.elo"):
        Results.model_validate({**make_run(), "rows": [{**make_run()["rows"][0], "elo": 1200}]})


def test_a_training_says_what_shaped_it_and_what_is_its_own() -> None:
    settings = RecordedSettings.model_validate({"start": "sft", "compile": True, "beta": 0.1, "tail": False})
    assert plain(settings) == {"start": "sft", "beta": 0.1, "tail": False}
    assert settings.own == {"beta": 0.1, "tail": False}


@pytest.mark.parametrize("file", [Results, Manifest])
def test_every_field_of_a_file_is_explained(file: type[BaseModel]) -> None:
    ours = [kind for kind in _kinds(file) if kind.__module__.startswith(("harness.results", "harness.statistics"))]
    for kind in ours:
        if issubclass(kind, BaseModel) and kind is not RecordedSettings:  # a method's own
            lacking = [name for name, field in kind.model_fields.items() if not field.description]
            assert kind.__doc__ and not lacking, (kind, lacking)


# ---- order


@pytest.mark.parametrize(("ranked", "order"), [(False, FIXED), (True, RANKED)])
def test_rows_stand_by_rate_where_their_set_is_ranked(ranked: bool, order: list[str]) -> None:
    run = make_run(ranked=ranked)
    assert [row.method for row in as_results(run).rows_of("far")] == order
    assert {row.judge for row in as_results(run).rows_of("far")} == {"both"}
    assert as_results(run).rows_of("nowhere") == []


def test_each_set_has_an_order_of_its_own() -> None:
    run = make_run(ranked=True)
    run["prompt_sets"][1]["unranked"] = "too few"
    assert [row.method for row in as_results(run).rows_of("near")] == RANKED
    assert [row.method for row in as_results(run).rows_of("far")] == FIXED
