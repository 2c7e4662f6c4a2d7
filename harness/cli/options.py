"""The options that several commands take, each written once; and the checks of output files that commands share.

A command takes a record of options as one parameter (`RunRequest`, `JudgeRequest`), which `spread` gives to typer
option by option. An option is named as its field, and says for itself what it sets in the configuration (`Sets`) and,
where that is not simply its value, how it stands in the command that reproduces a run (`Reproduced`). `--help` imports
the modules of all commands: what takes longer to import than typer is imported where it is used.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, get_type_hints

import typer

from harness.core.errors import UserError
from harness.core.files import check_writable, leads_to_stdout
from harness.core.secrets import hide

if TYPE_CHECKING:
    from harness.config import Config, JudgeConfig
    from harness.core.section import Layer
    from harness.store import Store

DEFAULT_STORE = "~/.cache/dadpo-harness"
DEFAULT_PRESET, DEFAULT_ON_A_GPU = "embedded", "single-gpu"
MARK = "harness-run.json"

DOUBTFUL = 3  # the status of `verify` where something does not follow
ASK_AGAIN = 3  # the status of `judge` where too many verdicts are not ok, and of `run` where judgings lack verdicts


# ---- what an option means


class Sets:
    """The settings that an option sets; `several`: to the list that its text is, with commas between; `pairs`: what is
    named is two rows, with a colon between; `axes`: each of its texts is settings with their values."""

    def __init__(self, *keys: str, several: bool = False, pairs: bool = False, axes: bool = False) -> None:
        self.keys, self.several, self.pairs, self.axes = keys, several, pairs, axes

    def value(self, given: Any) -> Any:
        if self.axes:
            from harness.config.study import parse_axis

            return [parse_axis(f"--{self.keys[0]}", text) for text in given]
        parts = [part.strip() for part in given.split(",") if part.strip()] if self.several else [given]
        found = [_pair(self.keys[0], part) for part in parts] if self.pairs else parts
        return found if self.several else found[0]


def _pair(key: str, text: str) -> list[str]:
    first, colon, second = (part.strip() for part in str(text).partition(":"))
    if not (first and colon and second):
        raise UserError(f"--{key} {text}: expected two rows with a colon between them, such as dadpo:ddpo")
    return [first, second]


@dataclass(frozen=True)
class Reproduced:
    """What of an option's value stands in the command that reproduces a run."""

    part: Callable[[Any], Sequence[Any]] = lambda value: [value]


def _not_of_the_machine(assignments: list[str]) -> list[str]:
    from harness.config import MACHINE

    return [text for text in assignments if text.partition("=")[0] not in MACHINE]


# ---- options that several commands take

ConfigFile = Annotated[Path | None, typer.Option(help="A YAML file of settings.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="One setting, e.g. training.epochs=2. Repeatable."),
    Reproduced(_not_of_the_machine),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE.py", help="A method of yours; docs/adding-a-method.md. Repeatable."),
    Sets("plugins"),
    Reproduced(lambda value: value),
]
Template = Annotated[
    str | None,
    typer.Option(help="How the judge is asked: a named template, or a file of yours; docs/judges.md."),
    Sets("judge.template"),
]
MaxCost = Annotated[
    float | None,
    typer.Option(min=0, help="Stop asking before this has been spent; needs prices."),
    Sets("judge.max_cost"),
    Reproduced(lambda value: []),  # how much may be spent shapes nothing
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the judge anew for what it was asked before.")]
RankIncomplete = Annotated[
    bool, typer.Option("--rank-incomplete", help="Rank sets where more than 10% of a row's prompts are missing.")
]


@dataclass(frozen=True)
class Options:
    """Options as given; None is one that was not."""

    def given(self) -> dict[str, tuple[Any, dict[type, Any]]]:
        """By name: the value of each option that was given, and what the option says of itself, by its class."""
        hints = get_type_hints(type(self), include_extras=True)
        return {
            name: (value, {type(said): said for said in hints[name].__metadata__})
            for name, value in vars(self).items()
            if value is not None
        }

    def layer(self) -> Layer:
        """Those that set something, as a layer of configuration."""
        from harness.config import merge, nested

        layer: Layer = {}
        for value, said in self.given().values():
            sets = said.get(Sets, Sets())
            for key in sets.keys:
                layer = merge(layer, nested(key, sets.value(value)))
        return layer


def _layers(options: RunRequest | JudgeRequest) -> list[Layer]:
    """The configuration file, `--set` and the options that set something, weakest first."""
    from harness.config import parse_assignments, read_config_file

    return [
        *([read_config_file(options.config)] if options.config else []),
        parse_assignments(options.set or ()),
        options.layer(),
    ]


@dataclass(frozen=True)
class RunRequest(Options):
    """What `run`, `plan` and `show-example` share."""

    preset: Annotated[str | None, typer.Option(help="A named set of settings; see `list presets`.")] = None
    config: ConfigFile = None
    set: Assignments = None
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, comma-separated; see `list methods`. `all`: every one."),
        Sets("methods", several=True),
    ] = None
    plugin: Plugins = None
    student: Annotated[
        str | None,
        typer.Option(help="A pair or model of `list`, a pair's file, a local folder, or a hub id."),
        Sets("student"),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(help="The same; by default the pair's teacher."),
        Sets("teacher"),
    ] = None
    judge: Annotated[
        str | None,
        typer.Option(metavar="JUDGE,JUDGE", help="proxy, openai:MODEL, pairrm, …; several are a panel."),
        Sets("judge.name"),
    ] = None
    template: Template = None
    max_cost: MaxCost = None
    measures: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="What is measured without a judge; see `list measures`. Default: all."),
        Sets("measures", several=True),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Responses a prompt in evaluation: less noise where there are no more prompts."),
        Sets("samples"),
    ] = None
    primary: Annotated[
        str | None,
        typer.Option(metavar="ROW:ROW", help="The one contrast that is corrected for no other."),
        Sets("primary", pairs=True),
    ] = None
    margin: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Say of each contrast whether it is smaller than this."),
        Sets("margin"),
    ] = None
    versus: Annotated[
        str | None,
        typer.Option(metavar="ROW:ROW,…", help="Ask the judge about two students' responses directly."),
        Sets("versus", several=True, pairs=True),
    ] = None
    controls: Annotated[
        str | None,
        typer.Option(help="none, basic or full: rows that a method's claim travels with."),
        Sets("controls"),
    ] = None
    train_prompts: Annotated[
        str | None,
        typer.Option(metavar="SET", help="A prompt set of `list`, or a file or folder of prompts."),
        Sets("train_prompts"),
    ] = None
    eval: Annotated[
        str | None,
        typer.Option(
            metavar="SET,SET", help="Prompt sets of `list`, or files; a file is out-of-domain unless in:PATH."
        ),
        Sets("eval", several=True),
    ] = None
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,TASK", help="Tasks of lm-evaluation-harness, or YAML files of yours; docs/results.md."
        ),
        Sets("retention", several=True),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts per set, training included."),
        Sets("limits.train", "limits.eval"),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Moves SFT, student responses, training and evaluation."),
        Sets("seed"),
    ] = None
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="A run of each, on one board; docs/studies.md."),
        Sets("seeds", several=True),
    ] = None
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V", help="A run with each value; several are their product, `KEY=…; KEY=…` goes together."
        ),
        Sets("grid", axes=True),
        Reproduced(lambda value: value),
    ] = None
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V", help="Values that each method is tried with, on held-out training prompts; as --grid."
        ),
        Sets("tune", axes=True),
        Reproduced(lambda value: value),
    ] = None
    tune_by: Annotated[
        str | None,
        typer.Option(metavar="MEASURE", help="By which the best is taken: a measure of `list measures`, or `loss`."),
        Sets("tune_by"),
    ] = None
    match: Annotated[
        str | None,
        typer.Option(
            metavar="tokens[:METHOD]",
            help="Train each row, its start included, on as many tokens as this method; by default the first.",
        ),
        Sets("match"),
    ] = None

    def layers(self) -> tuple[str | None, list[Layer]]:
        """The preset's name and all layers, weakest first. With nothing that names a student, this machine's."""
        from harness.config import preset_layer

        above = _layers(self)
        preset = self.preset
        if preset is None and not any("student" in layer for layer in above):
            preset = default_preset()
        below = [preset_layer(preset)] if preset else []
        for layer in below:  # how a preset prunes is said of its own student: nobody asked for it of another
            if any(one.get("student", layer.get("student")) != layer.get("student") for one in above):
                layer.pop("prune", None)
        return preset, below + above

    def command(self, preset: str | None) -> str:
        """The command that reproduces the run, which went by `preset`."""
        parts = ["python", "-m", "harness", "run"]
        for name, (value, said) in replace(self, preset=preset).given().items():
            for text in said.get(Reproduced, Reproduced()).part(value):
                parts += [f"--{name.replace('_', '-')}", str(text)]
        return hide(shlex.join(parts))


@dataclass(frozen=True)
class JudgeRequest(Options):
    """What `judge` and `judge-check` share."""

    judge: Annotated[
        str, typer.Option(metavar="JUDGE,JUDGE", help="See `list judges`; several are a panel."), Sets("judge.name")
    ]
    template: Template = None
    max_cost: MaxCost = None
    config: ConfigFile = None
    set: Assignments = None
    refresh: Refresh = False

    def resolve(self) -> JudgeConfig:
        from harness.config import resolve_judging

        return resolve_judging(_layers(self))


def default_preset() -> str:
    """The preset of a run that names no student."""
    import torch

    return DEFAULT_ON_A_GPU if torch.cuda.is_available() else DEFAULT_PRESET


Status = TypeVar("Status")


def spread(command: Callable[..., Status]) -> Callable[..., Status]:
    """`command` as typer takes it: a parameter that is a record of options gives way to the options themselves."""
    hints = get_type_hints(command, include_extras=True)
    records = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Options)}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in records:
            hints |= get_type_hints(records[name], include_extras=True)
            parameters += inspect.signature(records[name]).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def called(**given: Any) -> Status:
        for name, record in records.items():
            given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
        return command(**given)

    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)  # required ones first
    typed = [one.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in parameters]
    called.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined]
    return called


# ---- where commands read and write


def open_store(config: Config | JudgeConfig | None = None) -> Store:
    from harness.store import STORE_VARIABLE, Store

    named = config.store if config else None
    return Store(Path(named or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE).expanduser())


def check_file(path: Path, option: str) -> None:
    """A file that can be written: no folder, below no file, and where this user may write. Devices and pipes are."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    check_parents(path, option)
    check_writable(path)


def beside(out: Path | None) -> TextIO:
    """Where a command says what it has to say beside its output: not among it, where that goes to standard output."""
    return sys.stderr if leads_to_stdout(out) else sys.stdout


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
    check_writable(out / MARK)
    foreign = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if foreign and not (out / MARK).is_file():
        raise UserError(f"--out {out} holds files that no run made; name a new folder")
