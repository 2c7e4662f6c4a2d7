"""Roads of tiny models, and what tests ask of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.config import Config, resolve
from harness.core.records import Message, Prompt
from harness.models.reference import Model
from harness.models.specs import Pair, Prune
from harness.prompts import PromptSet
from harness.prompts.settings import PromptSource
from harness.run.jobs import ConvertJob
from harness.run.road import Road
from harness.run.sources import FoundModel, Sources, open_judges

Build = Callable[..., Road]
SERVED = {"base_url": "http://host:8000/v1", "model": "teacher-7b"}


URL = "http://127.0.0.1:9/v1"


def jsonl(path: Path, prompts: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"{path.stem}-{i}", "prompt": text} for i, text in enumerate(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_by(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "base_url": URL, **more}


def prompt_set(name: str, *texts: str) -> PromptSet:
    """A set that is in no file."""
    messages = ((Message(role="user", content=text),) for text in texts)
    prompts = tuple(Prompt(id=f"{name}-{number}", messages=said) for number, said in enumerate(messages))
    return PromptSet(name, prompts, PromptSource(path=Path(f"/nowhere/{name}.jsonl")), f"{name}.jsonl")


def made_sources(**layer: Any) -> tuple[Config, Sources]:
    """A configuration, and sources that were found nowhere."""
    config = resolve(
        [{"student": "small", "teacher": "large", "judge": "typicality", "eval": ["near", "far"], **layer}]
    )
    opened, unopened = open_judges(config, dict.fromkeys(config.judge.names))
    return config, Sources(
        pair=Pair(student="small", teacher="large"),
        train=prompt_set("train", "Say one.", "Say two.", "Say three."),
        validation=None,
        evaluation=((prompt_set("near", "Say four."), True), (prompt_set("far", "Sing!"), False)),
        student=FoundModel(Model(path="/nowhere/small", digest="s")),
        teacher=FoundModel(
            Model(path="/nowhere/large.gguf", digest="t"),
            ConvertJob(label="convert large", path="/nowhere/large.gguf", digest="t"),
        ),
        generator="transformers",
        judges=opened,
        unopened=unopened,
        prune=Prune(ratio=0.2),
        calibration=prompt_set("calibration", "Count.").first(1),
    )
