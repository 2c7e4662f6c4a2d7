"""A real run of tiny models that takes seconds, by the commands themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli import options
from harness.config import resolve
from harness.core.progress import plain_console
from harness.run.jobs import PromptsJob, RespondJob
from harness.run.launch import run_jobs
from harness.run.road import Road, build_road
from harness.store import Store


def request(root: Path, checkpoints: dict[str, Path], methods: str = "sft,ddpo", **others: Any) -> options.RunRequest:
    """A run of two tiny models on four prompts; store and prompts are below `root`."""
    root.mkdir(exist_ok=True)
    files = {"train": [f"Tell me about {n}." for n in range(4)], "test": ["Sing!", "What is rain?"]}
    for name, texts in others.pop("prompts", files).items():
        rows = [{"id": f"p{number}", "prompt": text} for number, text in enumerate(texts)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lengths = ["train_sampling.max_new_tokens=8", "eval_sampling.max_new_tokens=8"]
    given: dict[str, Any] = {
        "set": [*lengths, "training.batch_size=2", f"store={root / 'store'}"],
        "methods": methods,
        "student": str(checkpoints["llama"]),
        "teacher": str(checkpoints["llama-teacher"]),
        "judge": "typicality",
        "controls": "none",
        "train_prompts": str(root / "train.jsonl"),
        "eval": f"in:{root / 'test.jsonl'}",
        **others,
    }
    return options.RunRequest(**given)


def road_of(asked: options.RunRequest) -> tuple[Road, Store]:
    _, layers = asked.layers()
    config = resolve(layers)
    store = options.open_store(config)
    return build_road(config, store, download=False), store


def make_responses(asked: options.RunRequest, labels: Sequence[str]) -> None:
    """Of a run, its training prompts and the responses with these labels, with what they need."""
    road, store = road_of(asked)
    wanted = [job for job in road.jobs.values() if isinstance(job, PromptsJob) or job.label in labels]
    assert {job.label for job in wanted if isinstance(job, RespondJob)} <= set(labels)
    run_jobs(wanted, store, plain_console())
