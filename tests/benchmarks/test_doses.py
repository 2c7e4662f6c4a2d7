"""The recorded picture of measures against a dose is made of a run's own stages, and of no more than it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.measures import doses
from harness.config import resolve
from harness.run.jobs import MeasureJob, TrainJob
from harness.run.road import build_road, lay
from harness.run.rows import UNTRAINED
from harness.store import Store
from tests.harness.run.roads import jsonl, made_sources

SVG = "{http://www.w3.org/2000/svg}"


def test_what_a_measure_needs_is_no_training() -> None:
    config, sources = made_sources(measures=["forward_kl", "reverse_kl", "nll"], methods=["sft"])
    road = lay(config, replace(sources, prune=None, calibration=None))
    (evaluation, _) = road.evaluations
    untrained = next(c for c in evaluation.candidates if c.name == UNTRAINED)
    assert untrained.measured is not None and evaluation.measured is not None
    jobs = doses.needed(road, [untrained.measured, evaluation.measured])
    kinds = [job.stage for job in jobs]
    assert kinds.count("measure") == 2 and kinds.count("compare") == 2 and kinds.count("states") == 1
    # with the teacher, which is none that can be loaded as it lies there
    assert kinds.count("respond") == 2 and kinds.count("prompts") == 1 and kinds.count("convert") == 1
    assert len(kinds) == 9
    assert not any(isinstance(job, TrainJob) for job in jobs) and isinstance(jobs[-1], MeasureJob)
    # in the road's order: whatever a job reads stands before it
    assert [job.ref for job in jobs] == [ref for ref in road.jobs if ref in {job.ref for job in jobs}]


def test_a_tiny_model_beside_itself_has_a_row_a_measure(
    own_store: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    layer = {
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama"]),
        "methods": ["sft"],
        "judge": "typicality",
        "train_prompts": jsonl(tmp_path / "train.jsonl", ["Say one."]),
        "eval": [jsonl(tmp_path / "near.jsonl", ["Say four.", "Hi!"]), jsonl(tmp_path / "far.jsonl", ["Sing!"])],
        "eval_sampling": {"max_new_tokens": 8},
        "measures": list(doses.MEASURES),
    }
    store = Store(own_store)
    rows = doses.measured(build_road(resolve([layer]), store, download=False), store)
    assert [row["measure"] for row in rows] == list(doses.MEASURES)
    found = {row["measure"]: float(row["value"]) for row in rows}
    exact = {"forward_kl": 0, "reverse_kl": 0, "acceptance": 1, "accepted_length": 4, "top1": 1}
    assert {name: found[name] for name in exact} == pytest.approx(exact, abs=1e-5)
    assert {row["prompts"] for row in rows} == {3} and rows[-1]["teacher"]
    assert ElementTree.fromstring(doses.figure([{"pruned": 0.0, **row} for row in rows])) is not None


def row(pruned: float, value: str, **more: Any) -> dict[str, Any]:
    ends = {"low": "", "high": "", "teacher": "", "unit": "", "count": 4, "prompts": 2}
    return {"pruned": pruned, "measure": "forward_kl", "value": value, **ends, **more}


@pytest.mark.parametrize("flat", [True, False])
def test_the_picture_has_a_panel_a_measure_and_a_point_a_dose(flat: bool) -> None:
    rows = [row(0.0, "0"), row(0.1, "0" if flat else "0.5", low="0" if flat else "0.4", high="0" if flat else "0.6")]
    rows += [{**each, "measure": "nll", "teacher": "0.1"} for each in rows]
    drawn = ElementTree.fromstring(doses.figure(rows))
    assert len(drawn.findall(f"{SVG}g")) == 2
    circles = list(drawn.iter(f"{SVG}circle"))
    assert len(circles) == 4
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert {"forward KL", "NLL", "the teacher's own"} <= set(texts)


def test_the_committed_figures_are_of_these_doses_and_measures() -> None:
    file = Path(doses.HERE) / "doses.csv"
    head, *lines = file.read_text(encoding="utf-8").splitlines()
    assert head == ",".join(doses.FIELDS)
    assert [tuple(line.split(",")[:2]) for line in lines] == [
        (str(dose), name) for dose in doses.DOSES for name in doses.MEASURES
    ]
    assert doses.FIGURE.is_file()
