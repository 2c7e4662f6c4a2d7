"""What the commands do, between the command line and the harness."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from harness import config as configuration
from harness.config import MACHINE, Config, Layer
from harness.errors import UserError
from harness.registry import did_you_mean
from harness.store import STORE_VARIABLE, Store, canonical_hash, write_atomically

DEFAULT_STORE = "~/.cache/dadpo-harness"
DEFAULT_PRESET = "embedded"
MARK = "harness-run.json"


@dataclass(frozen=True)
class Request:
    """The arguments of `run` and `plan`, as given."""

    preset: str | None
    config: Path | None
    assignments: list[str]
    methods: str | None
    student: str | None
    teacher: str | None
    judge: str | None
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
            "judge": self.judge,
            "controls": self.controls,
            "train_prompts": self.train_prompts,
            "eval": _split(self.eval),
            "limits": None if self.limit is None else {"train": self.limit, "eval": self.limit},
            "seed": self.seed,
        }
        return {key: value for key, value in layer.items() if value is not None}

    def layers(self) -> tuple[str | None, list[Layer]]:
        """The preset's name and all layers, weakest first. With nothing that names a student, `embedded`."""
        above = [configuration.read_config_file(self.config)] if self.config else []
        above.append(configuration.parse_assignments(self.assignments))
        above.append(self.options())
        preset = self.preset
        if preset is None and not any("student" in layer for layer in above):
            preset = DEFAULT_PRESET
        below = [configuration.preset_layer(preset)] if preset else []
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
            if value is not None:
                parts += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(parts)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def open_store(config: Config | None = None) -> Store:
    named = config.store if config else None
    return Store(Path(named or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE).expanduser())


def run(request: Request, out: Path | None, copy: Path | None) -> None:
    from harness.launch import run_jobs
    from harness.launchers import launcher
    from harness.pipeline import build_road
    from harness.reporting import board, results

    preset, layers = request.layers()
    config = configuration.resolve(layers)
    if out:
        _check_ours(out)
    if copy:
        _check_file(copy, "--leaderboard")
    store = open_store(config)
    road = build_road(config, store, download=True)
    out = out or _default_out(preset, road.config)
    _check_ours(out)
    command = request.command(preset)
    write_atomically(out / MARK, json.dumps({"command": command}, ensure_ascii=False) + "\n")
    console = Console(stderr=True)
    made = run_jobs(road.jobs.values(), store, console, launcher(config))
    found, verdicts = results.collect(road, store, command)
    text = board.render([found])
    results.write_run(out, road, store, found, verdicts, text)
    if copy:
        write_atomically(copy, text)
    print(text)
    unanswered = sum(not store.has(ref) for ref in road.jobs)
    rest = f"{unanswered} judgings lack verdicts: run it again to ask for them" if unanswered else "the rest were there"
    console.print(f"{made} of {len(road.jobs)} artifacts made, {rest}; written to {out}", markup=False, soft_wrap=True)


def _default_out(preset: str | None, config: Config) -> Path:
    """A folder under runs/ named after the run; where another configuration's results lie there, one beside it."""
    from harness.reporting.results import CONFIG, as_file_name

    name = "-".join(filter(None, [preset, as_file_name(config.student), f"seed{config.seed}"]))
    out, text = Path("runs") / name, configuration.to_yaml(config)
    if (out / CONFIG).is_file() and (out / CONFIG).read_text(encoding="utf-8") != text:
        return out.with_name(f"{name}-{canonical_hash(text)[:6]}")
    return out


def _check_file(path: Path, option: str) -> None:
    """A file that can be written: no folder, and below no file."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    _check_parents(path, option)


def _check_parents(path: Path, option: str) -> None:
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise UserError(f"{option} {path}: {parent} is a file, not a folder")
            return


def _check_ours(out: Path) -> None:
    """An output folder is new, empty, or one that a run made."""
    _check_parents(out, "--out")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    foreign = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if foreign and not (out / MARK).is_file():
        raise UserError(f"--out {out} holds files that no run made; name a new folder")


def plan(request: Request) -> None:
    from harness.estimate import estimate, grouped
    from harness.pipeline import build_road

    _, layers = request.layers()
    config = configuration.resolve(layers)
    store = open_store(config)
    road = build_road(config, store, download=False)
    table = Table(title=f"{road.pair.student}, taught by {road.pair.teacher}; judge: {config.judge}")
    for name in ("stages", "there", "to do", "tokens", "seconds"):
        table.add_column(name, justify="left" if name == "stages" else "right")
    groups = grouped(estimate(road, store))
    for group in groups:
        seconds_left = "unknown" if group.seconds is None else f"{group.seconds:.0f}"
        table.add_row(
            group.label,
            str(group.there or ""),
            str(group.to_do or ""),
            f"{group.tokens:,}" if group.tokens else "",
            seconds_left if group.to_do else "",
        )
    tokens = sum(group.tokens for group in groups)
    seconds = sum(group.seconds or 0 for group in groups)
    missing = sum(group.to_do for group in groups)
    unknown = any(group.seconds is None for group in groups)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    rest = " and stages whose speed on this model is not known yet" if unknown else ""
    console.print(
        f"{missing} of {len(road.jobs)} stages to do: at most {tokens:,} tokens, about {seconds / 60:.0f} minutes"
        f"{rest}. Estimates: responses are counted at their limit unless they are there; speeds are those of this "
        "store's last stages of the kind, else of a two-core machine with the embedded pair.",
        markup=False,
    )


def list_names(kind: str | None) -> None:
    from harness.judging import judges
    from harness.methods import methods
    from harness.models.catalog import models, pairs
    from harness.prompts import prompt_sets

    known: dict[str, Callable[[], dict[str, str]]] = {
        "methods": lambda: {name: f"{method.summary} ({method.source})" for name, method in methods.items()},
        "models": lambda: {name: spec.summary for name, spec in models.items()},
        "pairs": lambda: {n: f"{p.student}, taught by {p.teacher}; {p.summary}" for n, p in pairs.items()},
        "judges": lambda: {name: judge.summary for name, judge in judges.items()},
        "prompts": lambda: {name: found.summary for name, found in prompt_sets.items()},
        "presets": lambda: {name: str(layer.get("summary", "")) for name, layer in configuration.presets.items()},
    }
    if kind is not None and kind not in known:
        raise UserError(f"unknown kind '{kind}'{did_you_mean(kind, known)}")
    for title in [kind] if kind else known:
        print(f"{title}:")
        summaries = known[title]()
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            print(f"  {name:{width}}  {summary}")


def record(run_dir: Path) -> None:
    from harness.reporting import results

    target = results.record(run_dir)
    print(f"recorded in {target}; now: python -m harness leaderboard")


def leaderboard(run_dirs: list[Path], out: Path | None) -> None:
    from harness.reporting import board, results

    if out:
        _check_file(out, "--out")
    text = board.render([results.read_results(folder) for folder in run_dirs or results.recorded()])
    if out is None and not run_dirs:
        out = Path(str(resources.files("benchmarks"))).parent / results.BOARD
    if out is None:
        print(text)
    else:
        write_atomically(out, text)
        print(f"written to {out}")


def stage(path: Path, work: Path | None) -> None:
    """Do a job and commit it; in `work`, only do it, for the process that holds that workspace."""
    from harness.jobs import job_from_json
    from harness.launch import run_jobs
    from harness.launchers import end_with_parent, perform_for_parent

    if work is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("ranks of one stage are started by `run` alone: add --set launcher=accelerate to it")
    try:
        job = job_from_json.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: not a job ({where}: {first['msg']})") from error
    store = open_store()
    if work is not None:
        end_with_parent()
        perform_for_parent(job, path, store, work)
        return
    made = run_jobs([job], store, Console(stderr=True))
    if not store.has(job.ref):
        raise UserError(f"{job.ref} lacks verdicts; run it again to ask for them")
    print(f"{job.ref} {'made' if made else 'was there'}")
