"""The options of commands, as given and as configuration; and the checks of output files that commands share."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from harness.config import (
    MACHINE,
    Config,
    JudgeConfig,
    parse_assignments,
    preset_layer,
    read_config_file,
    resolve_judging,
)
from harness.core.errors import UserError
from harness.core.secrets import hide
from harness.core.section import Layer
from harness.store import STORE_VARIABLE, Store

DEFAULT_STORE = "~/.cache/dadpo-harness"


DEFAULT_PRESET, DEFAULT_ON_A_GPU = "embedded", "single-gpu"


MARK = "harness-run.json"


DOUBTFUL = 3  # the status of `verify` where something does not follow


@dataclass(frozen=True)
class RunRequest:
    """The arguments of `run` and `plan`, as given."""

    preset: str | None
    config: Path | None
    assignments: list[str]
    methods: str | None
    student: str | None
    teacher: str | None
    judge: str | None
    template: str | None
    max_cost: float | None
    controls: str | None
    train_prompts: str | None
    eval: str | None
    limit: int | None
    seed: int | None

    def options(self) -> Layer:
        """The command-line options as a layer of configuration."""
        layer: Layer = {
            "methods": _split(self.methods),
            "student": self.student,
            "teacher": self.teacher,
            "judge": judge_options(self.judge, self.template, self.max_cost),
            "controls": self.controls,
            "train_prompts": self.train_prompts,
            "eval": _split(self.eval),
            "limits": None if self.limit is None else {"train": self.limit, "eval": self.limit},
            "seed": self.seed,
        }
        return {key: value for key, value in layer.items() if value is not None}

    def layers(self) -> tuple[str | None, list[Layer]]:
        """The preset's name and all layers, weakest first. With nothing that names a student, this machine's."""
        above = [read_config_file(self.config)] if self.config else []
        above.append(parse_assignments(self.assignments))
        above.append(self.options())
        preset = self.preset
        if preset is None and not any("student" in layer for layer in above):
            preset = default_preset()
        below = [preset_layer(preset)] if preset else []
        for layer in below:  # how a preset prunes is said of its own student: nobody asked for it of another
            if any(one.get("student", layer.get("student")) != layer.get("student") for one in above):
                layer.pop("prune", None)
        return preset, below + above

    def command(self, preset: str | None) -> str:
        """The command that reproduces the run."""
        parts = ["python", "-m", "harness", "run"]
        if preset:
            parts += ["--preset", preset]
        if self.config:
            parts += ["--config", str(self.config)]
        for text in self.assignments:
            if text.partition("=")[0] not in MACHINE:
                parts += ["--set", text]
        for name in [field.name for field in fields(self)][3:]:  # after preset, config and assignments
            value = getattr(self, name)
            if value is not None and name != "max_cost":  # how much may be spent shapes nothing
                parts += [f"--{name.replace('_', '-')}", str(value)]
        return hide(shlex.join(parts))


def default_preset() -> str:
    """The preset of a run that names no student."""
    import torch

    return DEFAULT_ON_A_GPU if torch.cuda.is_available() else DEFAULT_PRESET


def judge_options(judge: str | None, template: str | None, max_cost: float | None) -> Layer | None:
    """What the command line says of the judge, as the `judge` part of a layer."""
    said = {"name": judge, "template": template, "max_cost": max_cost}
    return {key: value for key, value in said.items() if value is not None} or None


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def open_store(config: Config | JudgeConfig | None = None) -> Store:
    named = config.store if config else None
    return Store(Path(named or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE).expanduser())


def check_file(path: Path, option: str) -> None:
    """A file that can be written: no folder, and below no file."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    check_parents(path, option)


def check_parents(path: Path, option: str) -> None:
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise UserError(f"{option} {path}: {parent} is a file, not a folder")
            return


def check_ours(out: Path) -> None:
    """An output folder is new, empty, or one that a run made."""
    check_parents(out, "--out")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    foreign = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if foreign and not (out / MARK).is_file():
        raise UserError(f"--out {out} holds files that no run made; name a new folder")


ASK_AGAIN = 3  # the status of `judge` where too many verdicts are not ok, and of `run` where judgings lack verdicts


@dataclass(frozen=True)
class JudgeRequest:
    """The arguments that `judge` and `judge-check` share, as given."""

    judge: str
    template: str | None
    max_cost: float | None
    config: Path | None
    assignments: list[str]
    refresh: bool

    def resolve(self) -> JudgeConfig:
        layers = [read_config_file(self.config)] if self.config else []
        layers.append(parse_assignments(self.assignments))
        layers.append({"judge": judge_options(self.judge, self.template, self.max_cost)})
        return resolve_judging(layers)
