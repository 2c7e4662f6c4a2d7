"""A task of lm-evaluation-harness in a file of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

TASK: dict[str, Any] = {
    "task": "sums",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1.0},
}
DOCUMENTS = [
    {"question": f"What is {n} and 1?", "choices": [f"{n + 1}", f"{n + 5}, I think"], "answer": n % 2} for n in range(6)
]


def task_file(folder: Path, name: str = "sums.yaml", **changed: Any) -> Path:
    """A task with six documents beside it. changed: its settings; None leaves one out."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    settings = {key: value for key, value in {**TASK, **changed}.items() if value is not None}
    (folder / name).write_text(yaml.safe_dump(settings))
    return folder / name
