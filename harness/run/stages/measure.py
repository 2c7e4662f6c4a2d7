"""Measures of one system's responses, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import NotFiniteError
from harness.core.progress import Tick
from harness.core.records import Facts, Measured, Prompt, Response, write_jsonl
from harness.measures import Answered, Measure, Values, measures
from harness.run.jobs import MEASURED, MeasureJob
from harness.run.reading import LOADERS
from harness.run.stages.inputs import load_prompts, load_responses
from harness.store import Store


def measure_stage(job: MeasureJob, store: Store, work: Path, tick: Tick) -> Facts:
    shown = [measures.get(name) for name in job.measures]
    responses = load_responses(job.responses, store)
    keys = [(row.prompt_id, row.sample) for row in responses]
    read = {
        reads: _by_prompt(LOADERS[reads]([store.read(ref).path for ref in refs], keys))
        for reads, refs in job.readings.items()
    }
    answered = _answered(load_prompts(job.prompts, store), responses)
    rows = []
    for number, (name, said) in enumerate(answered.items()):
        tick(number, len(answered))
        values = {}
        for measure in shown:
            given = [said] if measure.reads == "responses" else read[measure.reads].get(name, [])
            found = [value for one in given for value in _values(measure, one, job.of_teacher, name)]
            if found:
                values[measure.name] = (float(np.sum(np.asarray(found, dtype=np.float64))), len(found))
        rows.append(Measured(prompt_id=name, values=values))
    write_jsonl(work / MEASURED, rows)
    return {"prompts": len(rows)}


def _answered(prompts: list[Prompt], responses: list[Response]) -> dict[str, Answered]:
    """By prompt id, all of a system's responses to it."""
    said: dict[str, list[Response]] = {}
    for row in responses:
        said.setdefault(row.prompt_id, []).append(row)
    return {prompt.id: Answered(prompt, tuple(said[prompt.id])) for prompt in prompts if prompt.id in said}


def _by_prompt(rows: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for (name, _), row in rows.items():
        found.setdefault(name, []).append(row)
    return found


def _values(measure: Measure, given: Any, of_teacher: bool, prompt: str) -> Iterator[float]:
    """A measure's values of what it is given.

    Raises:
        NotFiniteError: one of them is not a finite number.
    """
    of = measure.teacher if of_teacher and measure.teacher else measure.values
    values: Values = np.asarray(of(given), dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise NotFiniteError(
            f"measure '{measure.name}' of prompt '{prompt}': {values.tolist()!s:.80} is not a row of numbers"
        )
    yield from values.tolist()
