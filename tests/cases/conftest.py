"""A pair of tiny checkpoints that every case copies from, and the commands on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended

TRAINING = [{"id": f"t{number}", "prompt": f"Tell me of thing number {number}."} for number in range(4)]
EVALUATION = [{"id": f"e{number}", "prompt": f"What comes after step {number}?"} for number in range(4)]


def written(path: Path, rows: Any) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Case:
    """A student, a teacher and two prompt files in a folder of their own, for a case to change; and commands on them.

    settings: what is set beside the sizes that keep a run short."""

    root: Path
    cli: Any
    student: Path
    teacher: Path
    training: Path
    evaluation: Path
    methods: str = "sft"
    judge: str = "typicality"
    tokens: int = 8
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def run(self, *options: str | Path) -> Ended:
        """Make a run into `out`, which is not there before."""
        shutil.rmtree(self.out, ignore_errors=True)
        ended: Ended = self.cli(*self.command(), *options)
        return ended

    def command(self) -> list[str | Path]:
        """What makes such a run."""
        return ["run", *self._asked(), "--out", self.out]

    def plan(self, *options: str | Path) -> Ended:
        ended: Ended = self.cli("plan", *self._asked(), *options)
        return ended

    def example(self, *options: str | Path) -> Ended:
        ended: Ended = self.cli("show-example", *self._asked(), *options)
        return ended

    def results(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.out / "results.json").read_text(encoding="utf-8"))
        return data

    def _asked(self) -> list[str | Path]:
        short: Mapping[str, object] = {
            "train_sampling.max_new_tokens": self.tokens,
            "eval_sampling.max_new_tokens": self.tokens,
            "training.batch_size": 2,
        }
        sets = [part for name, value in {**short, **self.settings}.items() for part in ("--set", f"{name}={value}")]
        models: list[str | Path] = ["--student", self.student, "--teacher", self.teacher, "--methods", self.methods]
        prompts: list[str | Path] = ["--train-prompts", self.training, "--eval", f"in:{self.evaluation}"]
        return [*models, "--controls", "none", "--judge", self.judge, *prompts, *sets]


def refused(ended: Ended) -> str:
    """The lines of a command that ended as bad input does."""
    assert ended.status == 2, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert lines, ended.err
    return "\n".join(lines)


@pytest.fixture
def case(tmp_path: Path, cli: Any, checkpoints: dict[str, Path]) -> Case:
    models = {name: tmp_path / name for name in ("student", "teacher")}
    shutil.copytree(checkpoints["llama"], models["student"])
    shutil.copytree(checkpoints["llama-teacher"], models["teacher"])
    return Case(
        tmp_path,
        cli,
        models["student"],
        models["teacher"],
        written(tmp_path / "train.jsonl", TRAINING),
        written(tmp_path / "test.jsonl", EVALUATION),
    )
